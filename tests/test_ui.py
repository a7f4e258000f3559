"""`python -m experiments.ui` refuses what it cannot serve, before it announces an address."""

from __future__ import annotations

import socket
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
