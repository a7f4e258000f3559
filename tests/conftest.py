"""What several test files share: a working folder of its own, and the command line in a process of its own."""

from __future__ import annotations

import os

# Tiny trainings side by side, in this process and in those it starts: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.config import discovery
from experiments.tracking import client
from tests.support.places import Cli


@pytest.fixture(scope="session", autouse=True)
def components() -> Iterator[None]:
    """Every test sees all registered components; no uploader outlives the tests."""
    discovery.load()
    yield
    client.close_all()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's own MLflow or components reaches a test."""
    for name in list(os.environ):
        if name.startswith("MLFLOW_") or name in (discovery.SETTING, "HYDRA_FULL_ERROR"):
            monkeypatch.delenv(name)


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
