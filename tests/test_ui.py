"""`python -m experiments.ui` refuses what it cannot serve, before it announces an address."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments import ui


@pytest.fixture
def store(workplace: Path) -> Path:
    path = workplace / "mlflow.db"
    path.touch()
    return path


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of this machine that another program listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_in_use_is_refused_with_a_free_one(store: Path, taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.main(["--port", str(taken), "--uri", f"sqlite:///{store}"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    start = f"error: port {taken} is in use; use a free one: python -m experiments.ui --port "
    assert printed.err.startswith(start)
    with socket.socket() as free:
        free.bind(("127.0.0.1", int(printed.err.removeprefix(start))))


@pytest.mark.parametrize("port", ["0", "-1", "70000"])
def test_a_number_that_is_not_a_port_is_refused(port: str, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.main(["--port", port, "--uri", f"sqlite:///{store}"]) == 2
    assert f"error: port {port} is not a port (1 to 65535)" in capsys.readouterr().err


def test_a_server_that_ends_at_its_start_is_one_line(workplace: Path, taken: int) -> None:
    (workplace / "mlflow.db").write_text("not a database")
    command = [sys.executable, "-m", "experiments.ui", "--port", str(taken + 1 if taken < 65535 else taken - 1)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done
    assert done.stderr.startswith("error: the MLflow server ended: ")
    assert "file is not a database" in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("ordinary_signals")
def test_ctrl_c_ends_the_ui_without_a_word(workplace: Path, taken: int) -> None:
    sqlite3.connect(workplace / "mlflow.db").close()
    port = taken + 1 if taken < 65535 else taken - 1
    command = [sys.executable, "-m", "experiments.ui", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not (line := process.stdout.readline()).startswith("http"):
            assert line, process.communicate()
        assert line == f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert (workplace / "mlflow.db.ui-port").read_text() == f"{port}\n"
