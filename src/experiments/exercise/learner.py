"""The process that a learner's scripts run in, begun before there are any, since its imports of torch take seconds."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.exercise.tracing import Trace

SECONDS = 60.0
POLL_SECONDS = 0.02
TRACING = Path(__file__).with_name("tracing.py")


class Learner:
    """A process that traces scripts; it is ended with its block."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # closed with the block
        self._process = subprocess.Popen(  # noqa: S603  # the learner's own code
            [sys.executable, str(TRACING)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._errors, text=True,
        )  # fmt: skip

    def __enter__(self) -> Learner:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def traces(self, jobs: Sequence[tuple[Path, Path]], folder: Path) -> list[Trace]:
        """Trace scripts, each with its rows, all within a time limit; what is missing then is an error."""
        import torch

        from experiments.exercise.tracing import Trace

        result, done = folder / "traces.pt", folder / "done"
        asked = {"jobs": [[str(file) for file in job] for job in jobs], "result": str(result), "done": str(done)}
        reason = self._waited(json.dumps(asked), done)
        found = [_traced(each) for each in torch.load(result, weights_only=True)] if result.is_file() else []
        return found + [Trace(error=reason)] * (len(jobs) - len(found))

    def _waited(self, asked: str, done: Path) -> str:
        """Have the process do a line of its input; return why it did not, or an empty text."""
        stdin, until = self._process.stdin, time.monotonic() + SECONDS
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which is told below
            stdin.write(f"{asked}\n")
            stdin.flush()
        while not done.is_file():
            if self._process.poll() is not None:
                self._errors.seek(0)
                return (self._errors.read().strip().splitlines() or [f"exit code {self._process.returncode}"])[-1]
            if time.monotonic() > until:
                return f"it did not end within {SECONDS:.0f} s"
            time.sleep(POLL_SECONDS)
        return ""


def _traced(plain: dict[str, Any]) -> Trace:
    from experiments.exercise.tracing import Epoch, Step, Trace

    steps, epochs = [Step(**each) for each in plain["steps"]], [Epoch(**each) for each in plain["epochs"]]
    return Trace(steps, epochs, plain["error"], plain["line"])
