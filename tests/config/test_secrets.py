"""Planted secrets, and everything that a command leaves searched for them: files, the store, output, command lines."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
import requests
from hydra._internal.grammar.utils import escape_special_characters
from omegaconf import OmegaConf

import experiments
from experiments.config import secrets
from experiments.config.store_uri import masked as masked_address
from experiments.config.store_uri import uri_fault
from experiments.runs import place, sweep_plan
from experiments.runs.sweep_plan import SweepPlan
from experiments.tracking import delivered, journal
from experiments.tracking.client import UploaderProcess
from experiments.tracking.mlflow_store import Store

MINE = """
import experiments
from torch import nn

@experiments.register.model("locked")
def locked(data, *, token: str = "none", note: str = "none"):
    return nn.Sequential(nn.Flatten(), nn.Linear(data.features, data.outputs))

@experiments.register.metric("locked_out")
def locked_out(pred, target, *, password: str = "none"):
    if len(pred) > 50:  # the training rows; on the validation rows it is tried before there is a run
        raise RuntimeError(f"no access with {password}")
    return target.sum()
"""
TINY = ["dataset=synthetic", "dataset.train=200", "dataset.valid=50", "epochs=1", "figures=false", "model=locked"]
# Where MLflow is out of reach, quickly.
NOWHERE = ["tracking.uri=http://me:canary-address@127.0.0.1:1", "tracking.wait_seconds=0"]
FROM_ENVIRONMENT = ["name=of ${oc.env:CANARY}", "model.note=${oc.env:CANARY}"]
FAILING = ["metrics=locked_out", "metrics.locked_out.password=canary-password"]

# Each command, and the variables that it has beside the others'.
COMMANDS: dict[str, tuple[list[str], dict[str, str]]] = {
    "run": ([*TINY, *FROM_ENVIRONMENT, "model.token=canary-token"], {}),
    "failing run": ([*TINY, *FROM_ENVIRONMENT, *FAILING, "tracking=none"], {"HYDRA_FULL_ERROR": "1"}),
    "failing sweep": (
        ["-m", *TINY, FROM_ENVIRONMENT[1], "model.token=canary-first,canary-second", *FAILING, *NOWHERE],
        {},
    ),
    "rejected": ([*TINY, "model.token=canary-token[", "tracking=none"], {}),
}
CODES = {"run": 0, "failing run": 1, "failing sweep": 1, "rejected": 2}


@dataclass
class Left:
    """What a command left."""

    folder: Path
    output: str
    code: int
    files: dict[str, bytes] = field(default_factory=dict)

    def holding(self, what: str) -> list[str]:
        """The files that hold a text; the components that it was written into are not what the command left."""
        return [name for name, content in self.files.items() if what.encode() in content]


def wait_for_uploaders(place: Path) -> None:
    """Until every run is in its store, or its uploader has said that there is none."""
    waiting = time.monotonic() + 90
    while time.monotonic() < waiting:
        states = [delivered.state(path.parent) for path in place.rglob(journal.FILE)]
        if all(state.complete or state.error for state in states):
            return
        time.sleep(0.1)
    raise AssertionError(states)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Left]:
    """Every command, each in a folder of its own; side by side, since most of each is importing."""
    place = tmp_path_factory.mktemp("commands")
    (place / "mine.py").write_text(MINE, encoding="utf-8")
    own = {"EXPERIMENTS_COMPONENTS": str(place / "mine.py"), "PYTHONDONTWRITEBYTECODE": "1", "CANARY": "canary-value"}
    own["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    started = {}
    for name, (arguments, more) in COMMANDS.items():
        (place / name).mkdir()
        started[name] = subprocess.Popen(
            [sys.executable, "-m", "experiments", *arguments], cwd=place / name, env=os.environ | own | more,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    found = {}
    for name, command in started.items():
        output, _ = command.communicate(timeout=240)
        found[name] = Left(place / name, output, command.returncode)
    for name, known in found.items():
        if "tracking=none" not in COMMANDS[name][0]:
            wait_for_uploaders(known.folder)
        paths = [path for path in known.folder.rglob("*") if path.is_file()]
        known.files = {str(path.relative_to(known.folder)): path.read_bytes() for path in paths}
    return found


@pytest.fixture(params=COMMANDS)
def one(request: pytest.FixtureRequest, left: dict[str, Left]) -> Left:
    """What each command left, in turn."""
    return left[str(request.param)]


@pytest.mark.slow
def test_the_commands_do_what_they_are_here_for(left: dict[str, Left]) -> None:
    assert {name: known.code for name, known in left.items()} == CODES
    assert all(name in str(left["run"].files) for name in ("mlflow.db", "uploader.log", "environment.json"))
    assert all(name in str(left["failing sweep"].files) for name in ("multirun.yaml", "sweep.json", "summary.md"))
    for name in ("failing run", "failing sweep"):
        assert "RuntimeError: no access with ***" in left[name].output
        assert "error.txt" in str(left[name].files)


@pytest.mark.slow
def test_no_output_holds_a_secret(one: Left) -> None:
    assert "canary" not in one.output
    assert "***" in one.output or one.code == 0


@pytest.mark.slow
def test_no_file_holds_a_secret(one: Left) -> None:
    assert one.holding("canary") == []


@pytest.mark.slow
def test_what_comes_from_the_environment_is_told_by_its_name(left: dict[str, Left]) -> None:
    (name,) = (name for name in left["run"].files if name.endswith(journal.FILE))
    start = json.loads(left["run"].files[name].splitlines()[0])
    assert start["name"] == "of ${oc.env:CANARY}"
    assert start["params"]["model.note"] == "${oc.env:CANARY}"
    assert start["params"]["model.token"] == "***"


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known to be a secret yet, and nothing of a test is afterwards."""
    monkeypatch.setattr(secrets, "_known", {})


def learn(**settings: object) -> None:
    secrets.learn(OmegaConf.create(settings))


def test_a_run_from_python_leaves_no_secret(fresh: None, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-value")
    experiments.run([*TINY[:-1], FROM_ENVIRONMENT[0], "tracking=none"])
    files = [path for path in workplace.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if b"canary" in path.read_bytes()] == []


TRICKY = ['it\'s "se\\cret"', "p@ss/w:rd%1", "schl\u00fcssel-\u20ac", "a b  c d e f", "two\nlines", "many words " * 20]


@pytest.mark.parametrize("secret", TRICKY)
def test_a_secret_is_found_however_it_is_written_down(secret: str, fresh: None) -> None:
    learn(token=secret)
    written = {
        "plain": secret,
        "yaml": OmegaConf.to_yaml({"note": secret, "list": [secret]}),
        "json": json.dumps({"note": secret}),
        "python": repr({"note": secret}),
        "override": f"model.note={escape_special_characters(secret)}",
        "address": f"https://host/?note={quote(secret)}",
    }
    for kind, text in written.items():
        masked = secrets.masked(text)
        assert "***" in masked, kind
        assert len(masked) < 40, (kind, masked)


@pytest.mark.parametrize(
    "settings",
    [
        {"api_token": "canary-value"},
        {"hf-token": "canary-value"},
        {"Password": "canary-value"},
        {"deep": [{"secret_key": ["canary-value"]}]},
        {"credentials": {"user": "me-myself", "key": "canary-value"}},
        {"source": "https://me:canary-value@host/"},
        {"source": "https://me:${oc.env:NONE}@host/ https://me:canary-value@host/"},
    ],
)
def test_a_secret_is_known_by_its_key_or_its_address(settings: dict[str, object], fresh: None) -> None:
    learn(**settings)
    assert secrets.masked("with canary-value") == "with ***"


def test_a_number_can_be_a_secret(fresh: None) -> None:
    learn(password=12345678)
    assert secrets.masked_deep({"model.password": 12345678, "seed": 1}) == {"model.password": "***", "seed": 1}
    assert secrets.masked("12345678 is not allowed") == "*** is not allowed"


def test_a_value_too_short_to_be_told_from_others_is_left(fresh: None) -> None:
    learn(token="cls", password="1")
    assert secrets.masked("cls 1") == "cls 1"


def test_the_longer_of_two_secrets_is_masked_whole(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONG", "canary-value-and-more")
    learn(token="canary-value", name="${oc.env:LONG}")
    assert secrets.masked("canary-value-and-more") == "${oc.env:LONG}"


def test_a_command_lines_secrets_are_known_before_there_is_a_configuration(fresh: None) -> None:
    secrets.learn_arguments(["-m", "model.token='canary-value',canary-other", "tracking.uri=http://me:canary-pw@host"])
    assert secrets.masked("canary-value canary-other canary-pw") == "*** *** ***"


def test_a_folder_named_by_the_environment_is_left_to_be_found_again(
    fresh: None, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", str(workplace))
    monkeypatch.setenv("WORK", workplace.name)
    learn(output_root="${oc.env:SCRATCH}/out", name="${oc.env:WORK}")
    details = {"parent": str(workplace), "tags": {"experiments.folder": str(workplace)}, "name": workplace.name}
    kept = {"parent": str(workplace), "tags": {"experiments.folder": str(workplace)}, "name": "${oc.env:WORK}"}
    assert secrets.masked_deep(details) == kept
    sweep_plan.keep(workplace, SweepPlan(overrides=["name=${oc.env:WORK}"], place=place.current()))
    assert json.loads((workplace / sweep_plan.PLAN).read_text(encoding="utf-8"))["place"]["folder"] == str(workplace)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:p@ss/w:rd@host/db", "postgresql://me:***@host/db"),
        ("https://ghp_token@github.com/me/it.git", "https://***@github.com/me/it.git"),
        ("https://host/a?access_token=abc&b=1", "https://host/a?access_token=***&b=1"),
        ("https://host/a?X-Amz-Signature=abc&sig=def", "https://host/a?X-Amz-Signature=***&sig=***"),
        ("http://host:5000/a and http://me:pw@host", "http://host:5000/a and http://me:***@host"),
        ("mysql://me:${oc.env:PW}@host", "mysql://me:${oc.env:PW}@host"),
        ("ssh://git@host/it.git", "ssh://git@host/it.git"),
        ("sqlite:////home/me@work/a:b/mlflow.db", "sqlite:////home/me@work/a:b/mlflow.db"),
    ],
)
def test_an_address_is_shown_without_what_is_secret_in_it(address: str, shown: str) -> None:
    assert masked_address(address) == shown
    assert masked_address(shown) == shown


def test_an_address_that_is_none_is_a_fault_like_any_other() -> None:
    assert "names no host" in str(uri_fault("http://[::1"))


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[logging.LogRecord]]:
    """What is logged while the process is masked, as it reaches a handler."""
    before, found = logging.getLogRecordFactory(), list[logging.LogRecord]()
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    handler = logging.Handler()
    handler.emit = found.append  # type: ignore[assignment,method-assign]  # all that a handler is here
    logging.getLogger("somebody.else").addHandler(handler)
    secrets.mask_process()
    yield found
    logging.setLogRecordFactory(before)
    logging.getLogger("somebody.else").removeHandler(handler)


def test_what_others_log_is_masked_with_its_traceback(fresh: None, records: list[logging.LogRecord]) -> None:
    learn(token="canary-value")
    try:
        int("canary-value")
    except ValueError:
        logging.getLogger("somebody.else").exception("failed with %s", "canary-value")
    text = logging.Formatter().format(records[0])
    assert text.startswith("failed with ***\nTraceback")
    assert text.endswith("ValueError: invalid literal for int() with base 10: '***'")


def test_a_log_line_that_does_not_fit_its_arguments_is_left_to_logging(fresh: None) -> None:
    record = secrets._masked_record("somebody.else", logging.INFO, __file__, 1, "%d", ("x",), None)
    assert (record.msg, record.args) == ("%d", ("x",))


def words(pid: int) -> str:
    """A process's command line, as everybody on the machine can read it; empty while it starts."""
    waiting = time.monotonic() + 30
    while not (found := Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")):
        assert time.monotonic() < waiting
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").is_file(), reason="there is no /proc")


@pytest.mark.process
@needs_proc
def test_the_uploaders_command_line_has_no_password(workplace: Path) -> None:
    uploader = UploaderProcess("http://me:canary-address@127.0.0.1:1", workplace)
    try:
        assert "experiments.tracking.uploader" in words(uploader._process.pid)
        assert "canary" not in words(uploader._process.pid)
    finally:
        uploader._process.kill()
        uploader.close()


@needs_proc
@pytest.mark.slow
def test_the_ui_has_the_store_and_no_command_line_of_it_names_it(workplace: Path) -> None:
    Store(f"sqlite:///{workplace}/canary.db").experiment("of the canary")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{workplace}/canary.db"}
    server = subprocess.Popen(
        [sys.executable, "-m", "experiments.ui", "--port", str(port)], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        waiting = time.monotonic() + 90
        while True:
            try:
                asked = {"max_results": 10}
                answer = requests.post(
                    f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search", json=asked, timeout=9
                )
                break
            except requests.ConnectionError:
                assert time.monotonic() < waiting
                time.sleep(0.3)
        assert "of the canary" in [found["name"] for found in answer.json()["experiments"]]
        own = [server.pid, *(child.pid for child in psutil.Process(server.pid).children(recursive=True))]
        assert len(own) >= 2
        assert not any("canary" in words(pid) for pid in own)
    finally:
        os.killpg(server.pid, 15)
        server.wait()
