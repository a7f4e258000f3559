"""The process that a learner's scripts run in, begun before there are any, since its imports of torch take seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.exercise.tracing import Trace

SECONDS = 60
TRACING = Path(__file__).with_name("tracing.py")


class Learner:
    """A process that traces scripts once; it is ended with its block."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(  # noqa: S603  # the learner's own code
            [sys.executable, str(TRACING)], stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, text=True
        )

    def __enter__(self) -> Learner:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def traces(self, jobs: Sequence[tuple[Path, Path]], folder: Path) -> list[Trace]:
        """Trace scripts, each with its rows, all within a time limit; what is missing then is an error."""
        import torch

        from experiments.exercise.tracing import Trace

        result = folder / "traces.pt"
        asked = json.dumps({"jobs": [[str(file) for file in job] for job in jobs], "result": str(result)})
        try:
            _, said = self._process.communicate(f"{asked}\n", timeout=SECONDS)
            reason = (said.strip().splitlines() or [f"exit code {self._process.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            reason = f"it did not end within {SECONDS} s"
        found = [_traced(each) for each in torch.load(result, weights_only=True)] if result.is_file() else []
        return found + [Trace(error=reason)] * (len(jobs) - len(found))


def _traced(plain: dict[str, Any]) -> Trace:
    from experiments.exercise.tracing import Epoch, Step, Trace

    steps, epochs = [Step(**each) for each in plain["steps"]], [Epoch(**each) for each in plain["epochs"]]
    return Trace(steps, epochs, plain["error"], plain["line"])
