"""Downloads against a server that fails in every way it can; nothing here leaves this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.components.datasets.mnist import mnist
from experiments.data import download
from experiments.data.download import Limits
from experiments.errors import DataError
from tests.support import small_mnist
from tests.support.fault_server import Answer, FaultServer, running
from tests.support.places import ROOT

GOOD = b"0123456789" * 50
CAP = 1000
QUICK = Limits(pause=0.01)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    with running(tmp_path_factory.mktemp("server"), monkeypatch.setenv) as faults:
        yield faults


def fetched(url: str, folder: Path, limits: Limits = QUICK) -> bytes:
    """What `url` gives, downloaded as the sources do it."""
    with download.exclusive(folder), download.replacing(folder / "data.gz") as temporary:
        download.download(url, temporary, cap=CAP, limits=limits)
    return (folder / "data.gz").read_bytes()


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# Each failure: the answers, how many requests are made, and what is said.
FAILURES = {
    "not found": ([Answer(404)], 1, "the server answers 404"),
    "forbidden": ([Answer(403)], 1, "the server answers 403"),
    "server error": ([Answer(500)], 3, r"the server answers 500 \(3 attempts\)"),
    "too many requests": ([Answer(429)], 3, r"the server answers 429 \(3 attempts\)"),
    "short body": ([Answer(body=GOOD, cut_at=100)], 3, "the connection broke off"),
    "dropped before the answer": ([Answer(0)], 3, "the connection broke off"),
    "silent before the answer": ([Answer(delay=5)], 3, "the server does not answer in time"),
    "silent within the body": ([Answer(body=GOOD, silent_at=100)], 3, "the server stopped sending"),
    "empty": ([Answer()], 1, "the answer is empty"),
    "web page": ([Answer(body=b"\n <!doctype html>", headers={"Content-Type": "x/y"})], 1, "looks like a web page"),
    "web page by its type": (
        [Answer(body=b"no", headers={"Content-Type": "text/html; a"})],
        1,
        "looks like a web page",
    ),
    "endless": ([Answer(body=GOOD, endless=True)], 1, "more than 1,000 bytes; stopped"),
    "too long as announced": (
        [Answer(headers={"Content-Length": "1001"})],
        1,
        "1,001 bytes are announced, at most 1,000",
    ),
    "redirect to http": (
        [Answer(302, headers={"Location": "http://127.0.0.1/x"})],
        1,
        "http://127.0.0.1/x: only https",
    ),
    "redirect to a host": ([Answer(302, headers={"Location": "https://a.example/"})], 1, "another host, a.example"),
    "redirect to nonsense": ([Answer(302, headers={"Location": "https://[::1"})], 1, "the answer is not HTTP"),
    "redirect in a circle": ([Answer(302, headers={"Location": "/data.gz"})], 6, "more than 5 redirects"),
}


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.long if name.startswith("silent") else ()) for name in FAILURES]
)
def failure(request: pytest.FixtureRequest) -> str:
    """Each failure in turn."""
    return str(request.param)


def patience(failure: str) -> Limits:
    """Little patience where the server is silent."""
    return Limits(pause=0.01, read=0.2 if failure.startswith("silent") else 30)


def test_a_failure_is_told_with_the_address_and_its_reason(failure: str, server: FaultServer, tmp_path: Path) -> None:
    answers, _, reason = FAILURES[failure]
    url = server.script(*answers)
    with pytest.raises(DataError, match=reason) as caught:
        fetched(url, tmp_path, patience(failure))
    assert "https://" in str(caught.value) or "http://" in str(caught.value)


def test_only_what_may_pass_is_tried_again_and_three_times_at_most(
    failure: str, server: FaultServer, tmp_path: Path
) -> None:
    answers, requests, _ = FAILURES[failure]
    url = server.script(*answers)
    with pytest.raises(DataError):
        fetched(url, tmp_path, patience(failure))
    assert len(server.requests) == requests


def test_no_file_is_left_by_a_failure(failure: str, server: FaultServer, tmp_path: Path) -> None:
    url = server.script(*FAILURES[failure][0])
    with pytest.raises(DataError):
        fetched(url, tmp_path, patience(failure))
    assert list(tmp_path.iterdir()) == []


def test_503_twice_and_then_good_is_three_requests(server: FaultServer, tmp_path: Path) -> None:
    url = server.script(Answer(503), Answer(503), Answer(body=GOOD))
    assert fetched(url, tmp_path) == GOOD
    assert len(server.requests) == 3


def test_a_second_attempt_starts_the_file_anew(server: FaultServer, tmp_path: Path) -> None:
    url = server.script(Answer(body=b"x" * 900, cut_at=800), Answer(body=GOOD))
    assert fetched(url, tmp_path) == GOOD


def test_a_redirect_on_the_same_host_is_followed(server: FaultServer, tmp_path: Path) -> None:
    target = server.script(Answer(body=GOOD), path="/there.gz")
    assert fetched(server.script(Answer(302, headers={"Location": target})), tmp_path) == GOOD


def test_bytes_are_kept_as_sent_whatever_their_content_encoding_says(server: FaultServer, tmp_path: Path) -> None:
    """Some servers declare a .gz file to be an encoding, and a client that unpacks it changes the file."""
    url = server.script(Answer(body=GOOD, headers={"Content-Encoding": "gzip"}))
    assert fetched(url, tmp_path) == GOOD


def test_a_length_that_is_no_number_is_ignored(server: FaultServer, tmp_path: Path) -> None:
    assert fetched(server.script(Answer(body=GOOD, headers={"Content-Length": "many"})), tmp_path) == GOOD


def test_a_server_that_drips_is_stopped_at_the_deadline(server: FaultServer, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(DataError, match=r"not done after 0\.4 s"):
        fetched(server.script(Answer(body=GOOD, drip=0.05)), tmp_path, Limits(total=0.4))
    assert time.monotonic() - start < 5


def test_a_refused_connection_is_told(server: FaultServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="connection refused"):
        fetched(f"https://127.0.0.1:{closed_port()}/data.gz", tmp_path)


def test_an_unknown_host_is_told(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_where: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DataError, match="the host's name cannot be resolved"):
        fetched("https://nowhere.invalid/data.gz", tmp_path)


def test_a_certificate_of_an_unknown_authority_is_refused(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.script(Answer(body=GOOD))
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    with pytest.raises(DataError, match="certificate is not trusted"):
        fetched(url, tmp_path)
    assert server.requests == []


@pytest.mark.parametrize("url", ["http://127.0.0.1/a", "ftp://127.0.0.1/a", "file:///etc/hostname", "https://[::1"])
def test_only_https_addresses_are_read(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only https:// addresses are read|not an address"):
        fetched(url, tmp_path)


def test_temporary_files_are_the_owners_alone(tmp_path: Path) -> None:
    with download.replacing(tmp_path / "data.gz") as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        assert temporary.parent == tmp_path


def test_a_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / "data.gz").symlink_to(tmp_path / "victim")
    with pytest.raises(DataError, match="is a link"), download.replacing(tmp_path / "data.gz") as temporary:
        temporary.write_bytes(GOOD)
    assert (tmp_path / "victim").read_bytes() == b"mine"


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Python code in a process of its own, with the small data set in the place of MNIST."""
    setup = f"import sys\nfrom tests.support import small_mnist\nsmall_mnist.install(setattr)\n{code}"
    command = [sys.executable, "-c", setup, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True)


LOAD = """
from experiments.components.datasets.mnist import mnist
mnist(root=sys.argv[1], source=sys.argv[2])
"""
LOAD_FOUR_TIMES = """
import multiprocessing
from experiments.components.datasets.mnist import mnist
context = multiprocessing.get_context("fork")
barrier = context.Barrier(4)
def load():
    barrier.wait()
    assert len(mnist(root=sys.argv[1], source=sys.argv[2]).train) == 50
processes = [context.Process(target=load) for _ in range(4)]
for process in processes:
    process.start()
for process in processes:
    process.join()
print([process.exitcode for process in processes])
"""
HOLD = """
from pathlib import Path
from experiments.data import download as fetch
with fetch.exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_after_a_kill_in_the_middle_of_a_download_the_next_start_recovers(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small_mnist.packed()
    url = server.script(Answer(body=data, silent_at=len(data) // 2), Answer(body=data), path="/mnist.pkl.gz")
    process = start(LOAD, tmp_path, url)
    folder = tmp_path / "mnist"
    wait_for(lambda: any(path.stat().st_size for path in folder.glob("*.part")))
    kill(process)
    assert list(folder.glob("*.part"))
    small_mnist.install(monkeypatch.setattr)
    assert len(mnist(root=str(tmp_path), source=url).train) == 50
    assert not list(folder.glob("*.part"))


def test_a_folder_left_by_a_killed_process_is_removed(tmp_path: Path) -> None:
    leftover = tmp_path / "wheel.abc.part"
    leftover.mkdir()
    (leftover / "some.whl").write_bytes(GOOD)
    with download.exclusive(tmp_path):
        assert not leftover.exists()


def test_four_processes_at_first_use_download_once_and_all_succeed(server: FaultServer, tmp_path: Path) -> None:
    url = server.script(Answer(body=small_mnist.packed(), delay=0.1), path="/mnist.pkl.gz")
    with start(LOAD_FOUR_TIMES, tmp_path, url) as processes:
        assert processes.communicate()[0] == "[0, 0, 0, 0]\n"
    assert server.requests == ["/mnist.pkl.gz"]


def test_a_lock_of_a_killed_process_does_not_block(tmp_path: Path) -> None:
    process = start(HOLD, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    kill(process)
    with download.exclusive(tmp_path):
        pass


def test_a_folder_that_was_there_stays_and_one_that_was_made_does_not(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "mine", tmp_path / "a" / "b"):
        with pytest.raises(DataError), download.exclusive(folder):
            raise DataError("refused")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"] and list((tmp_path / "mine").iterdir()) == []


def test_who_waits_for_a_folder_that_goes_away_makes_it_again(tmp_path: Path) -> None:
    folder, had = tmp_path / "a", threading.Event()

    def refused() -> None:
        with contextlib.suppress(DataError), download.exclusive(folder):
            had.set()
            time.sleep(0.3)
            raise DataError("refused")

    other = threading.Thread(target=refused)
    other.start()
    had.wait()
    with download.exclusive(folder):
        (folder / "kept").touch()
    other.join()
    assert (folder / "kept").exists()
