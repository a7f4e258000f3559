"""A command on a terminal: what it writes, when, and what stays on the screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\]8;[^\x1b]*\x1b\\")


@dataclass(frozen=True)
class Shown:
    """A recording: the exit code, all that was written, and the longest times without a sign of life, in seconds.

    `busy` is the command's processor time between two signs, which a busy machine hardly makes longer; `silent` is the
    time on the clock.
    """

    code: int
    text: str
    busy: float
    silent: float

    @property
    def screen(self) -> list[str]:
        """The lines that stay, of a terminal wider than any of them; it knows what the live lines use."""
        rows, row, column, at = [""], 0, 0, 0
        while at < len(self.text):
            if found := CONTROL.match(self.text, at):
                amount, kind = found.groups()
                if kind == "A":
                    row -= int(amount or 1)
                if kind == "K":
                    rows[row] = "" if amount == "2" else rows[row][:column]
                at = found.end()
                continue
            letter, at = self.text[at], at + 1
            if letter == "\r":
                column = 0
            elif letter == "\n":
                row += 1
                rows += [""] * (row == len(rows))
            else:
                rows[row] = rows[row].ljust(column)[:column] + letter + rows[row][column + 1 :]
                column += 1
        return [line.rstrip() for line in rows]


def run(folder: Path, *arguments: str, columns: int = 80, **environment: str) -> Shown:
    """Run `python -m experiments` in a folder on a terminal of so many columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", *arguments],
        cwd=folder, stdin=its, stdout=its, stderr=its, env=kept | {"TERM": "xterm-256color"} | environment,
    )  # fmt: skip
    os.close(its)
    written, signs = b"", [(time.monotonic(), 0.0)]
    while part := _read(ours):
        written += part
        signs.append((time.monotonic(), _used(process, signs[-1][1])))
    os.close(ours)
    code = process.wait()
    signs.append((time.monotonic(), signs[-1][1]))
    gaps = [(now - last, used - before) for (last, before), (now, used) in pairwise(signs)]
    return Shown(code, written.decode(), busy=max(used for _, used in gaps), silent=max(clock for clock, _ in gaps))


def _used(process: subprocess.Popen[bytes], before: float) -> float:
    """Return the processor time of a process so far; `before` where it has ended."""
    try:
        times = psutil.Process(process.pid).cpu_times()
    except psutil.NoSuchProcess:
        return before
    return max(before, float(times.user + times.system))


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # Linux's end of a terminal
        return b""
