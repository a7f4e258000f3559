"""What several test files share: a working folder of its own, and the command line in a process of its own."""

from __future__ import annotations

import os
import platform
import signal

# Tiny trainings side by side, in this process and in those it starts: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import subprocess
import sys

# As in an active environment: `python` is the interpreter that runs the tests.
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore

from experiments.config import discovery
from experiments.tracking import client
from tests.support import guard, kinds
from tests.support.places import Cli

# A shell's job in the background ignores Ctrl-C, and so would what is started here, and is sent it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collectstart() -> None:
    """Register the components before a test file asks a registry for its names, whichever file comes first."""
    import experiments.components  # noqa: F401  # late: the process that only hands out the tests needs no torch


@pytest.hookimpl(tryfirst=True)  # before any is left out for its marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what its code does; leave out those that cannot be run here."""
    from tests.support.forked import no_fork  # with torch, which who only hands out the tests has no need of

    reason = no_fork()
    for item in items:
        for mark in kinds.WAYS:
            if kinds.does(item, mark) and not (mark == "long" and _has(item, "quick")):
                item.add_marker(mark)
        if _has(item, "fork") and reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have a test fail that starts a process and is not marked so."""
    with guard.any_process() if _has(item, "process", "slow") else guard.no_process():
        return (yield)


def _has(item: pytest.Item, *marks: str) -> bool:
    return any(item.get_closest_marker(mark) for mark in marks)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how many tests were not run, and why."""
    for line in kinds.not_run(report.longrepr for report in terminalreporter.getreports("skipped")):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def components() -> Iterator[None]:
    """Every test sees all registered components; no uploader outlives the tests."""
    from experiments.runs import metadata

    discovery.load()
    discovery.register_with_hydra()
    with guard.any_process():  # what is asked of git and of the system is asked once, before them all
        metadata.git_tags()
        platform.processor()
    yield
    client.close_all()


@pytest.fixture(autouse=True)
def hydra_options(components: None) -> Iterator[None]:  # the product's own options stay
    """Hydra forgets after each test the options that the test stored."""
    store = ConfigStore.instance()
    before = _copied(store.repo)
    yield
    store.repo = before


def _copied(node: Any) -> Any:
    return {name: _copied(below) for name, below in node.items()} if isinstance(node, dict) else node


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's own MLflow or components reaches a test."""
    for name in list(os.environ):
        if name.startswith("MLFLOW_") or name in (discovery.SETTING, "HYDRA_FULL_ERROR"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def ordinary_signals() -> Iterator[None]:
    """Ctrl-C and SIGHUP are not ignored, as they are where the tests are started in the background or under nohup."""
    ordinary: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}
    if hasattr(signal, "SIGHUP"):  # Windows has none
        ordinary[signal.SIGHUP] = signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number, handler in ordinary.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the test works in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(workplace: Path) -> Cli:
    """`python -m experiments ...` in the test's folder; `module` for another command, `env` for more variables."""

    def call(
        *arguments: str, module: str = "experiments", env: dict[str, str] | None = None, options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *options, "-m", module, *arguments],
            cwd=workplace,
            env=os.environ | (env or {}),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return call
