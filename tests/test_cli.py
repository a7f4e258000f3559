"""What every command does around its work: here, with its output when the reader of it is gone."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from experiments.cli import _Output, report

WORK = """
import sys
from experiments import cli

def action():
    for line in range(20_000):
        print(line)
    print("on standard error", file=sys.stderr)
    sys.exit(3)

cli.guarded(action)
"""


def test_what_is_written_to_a_closed_pipe_is_dropped() -> None:
    reader, writer = os.pipe()
    with _Output(writer, "wb") as output:
        assert output.write(b"abc") == 3 and os.read(reader, 9) == b"abc"
        os.close(reader)
        assert output.write(b"abcd") == 4


def test_what_is_written_to_a_closed_terminal_is_dropped() -> None:
    pty = pytest.importorskip("pty", reason="Windows has no such terminals")
    master, slave = pty.openpty()
    os.close(master)
    with _Output(slave, "wb") as output:
        assert output.write(b"abcd") == 4


def test_any_other_error_is_not() -> None:
    with _Output("/dev/full", "wb") as output, pytest.raises(OSError, match="No space"):
        output.write(b"abc")


@pytest.mark.parametrize(("file", "told"), [("a.txt", "a.txt"), (None, "output")])
def test_a_full_disk_is_one_line(file: str | None, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(OSError(errno.ENOSPC, "No space left on device", file)) == 1
    assert capsys.readouterr().err == f"error: {told}: No space left on device\n"


@pytest.mark.parametrize("options", [[], ["-u"]], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_command_whose_reader_is_gone_ends_as_it_would_have(options: list[str], closed: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {closed: writer}
    done = subprocess.run([sys.executable, *options, "-c", WORK], **streams, text=True, check=False)  # type: ignore[call-overload]
    os.close(writer)
    assert done.returncode == 3
    if closed == "stdout":
        assert done.stderr == "on standard error\n"
    else:
        assert len(done.stdout.splitlines()) == 20_000
