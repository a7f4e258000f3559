"""What comes after a job that failed: it is told at once, and the sweep goes on or stops (`sweep.on_failure`).

A job that fails leaves a note in the sweep's folder, whichever launcher, process or machine has run it. The sweep's own
process tells each note when it comes; a job that is about to begin counts them, and is not run where they are enough.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from hydra.core.utils import JobReturn, JobStatus

from experiments.errors import TrainingError, UserError
from experiments.files import replacing
from experiments.runs import sweep_plan
from experiments.runs.folder import ERROR, TRACEBACK
from experiments.runs.terminal import relative

log = logging.getLogger(__name__)

FOLDER = ".failures"
POLL_SECONDS = 0.5
LONGEST = 300  # characters of a reason that stands in one line

Policy = str | int


class NotRun(UserError):  # noqa: N818  # it is no error
    """A job that was not begun, since the sweep had stopped."""


class Stopped(BaseException):
    """Ends a launcher that runs one job after the other in the sweep's own process."""


def limit(policy: Policy) -> int | None:
    """After how many failures no further job begins; None where all are run."""
    return None if policy == "continue" else 1 if policy == "stop" else int(policy)


def require_going_on(sweep: Path, policy: Policy) -> None:
    """See that a sweep has not stopped before one of its jobs begins.

    Raises:
        NotRun: it has.
    """
    stops_after = limit(policy)
    if stops_after is not None and (count := len(_notes(sweep))) >= stops_after:
        raise NotRun(f"not run: the sweep stopped after {count} failures (sweep.on_failure={policy})")


def note(sweep: Path, number: int, text: str) -> None:
    """Leave word of a job that failed; once, whoever else leaves word of it."""
    path = sweep / FOLDER / f"{number}.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if watching is not None and watching.here:
        watching.look()
        if watching.enough:  # no other job runs in this process, so the sweep ends right here
            raise Stopped


def failure_message(
    sweep: Path, number: int, overrides: Sequence[str], error: BaseException, folder: Path | None = None
) -> str:
    """One line on a failed job: which, with what, why, and where the rest of it stands.

    Args:
        sweep: the sweep's folder.
        number: the job's.
        overrides: its.
        error: what it raised.
        folder: its own; None for the one that the plan names.
    """
    plan = sweep_plan.read(sweep)
    settings = [one.lstrip("+") for one in overrides if one.lstrip("+").split("=")[0] in plan.varied]
    folder = folder or sweep / dict(enumerate(plan.listed)).get(number, str(number))
    reason = " ".join(str(error).split()) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    reason = (reason.splitlines() or [""])[0]
    reason = f"{reason[:LONGEST]} ..." if len(reason) > LONGEST else reason
    line = " ".join([f"job {number}", *([f"({', '.join(settings)})"] if settings else []), f"failed: {reason}"])
    if (folder / ERROR).is_file():
        whole = (folder / ERROR).read_text(encoding="utf-8").startswith(TRACEBACK)
        line += f"; {'traceback in ' if whole else ''}{relative(folder / ERROR)}"
    return line


class Watch:
    """Tells a sweep's failures in its own process as they come, as long as its jobs run.

    Args:
        sweep: the sweep's folder.
        policy: the configured `sweep.on_failure`.
        elsewhere: its jobs run in other processes, so that somebody has to look.
    """

    def __init__(self, sweep: Path, policy: Policy, *, elsewhere: bool) -> None:
        self.sweep, self.limit, self.elsewhere = sweep, limit(policy), elsewhere
        self.pid, self.seen = os.getpid(), set[str]()
        self.first: BaseException | None = None
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._look_again, daemon=True)

    @property
    def here(self) -> bool:
        """Whether the jobs run in this process."""
        return not self.elsewhere and self.pid == os.getpid()

    @property
    def enough(self) -> bool:
        """Whether no further job may begin."""
        return self.limit is not None and len(self.seen) >= self.limit

    def look(self) -> None:
        """Tell what is new."""
        with self._lock:
            for path in _notes(self.sweep):
                if path.name not in self.seen:
                    self.seen.add(path.name)
                    log.error("%s", path.read_text(encoding="utf-8"))

    def take(self, returned: Sequence[JobReturn], first: int, batch: Sequence[Sequence[str]]) -> None:
        """Note what a launcher says has failed, and could not tell by itself."""
        for number, (given, job) in enumerate(zip(batch, returned, strict=True), first):
            error = job._return_value  # Hydra's property would raise it
            if job.status == JobStatus.FAILED and not isinstance(error, NotRun):
                self.first = self.first or error
                note(self.sweep, number, failure_message(self.sweep, number, given, error))
        self.look()

    def raise_if_failed(self) -> None:
        """End the sweep as one of which jobs failed.

        Raises:
            TrainingError: they did.
        """
        if self.seen:
            problem = f"{len(self.seen)} {'job' if len(self.seen) == 1 else 'jobs'} failed"
            problem += "; the sweep stopped there" if self.enough else ""
            again = f"python -m experiments.resume {relative(self.sweep)}"
            raise TrainingError(f"{problem}; what did not finish is tried again by {again}") from self.first

    def __enter__(self) -> Watch:
        """Begin, with no failure so far: those of an earlier start are tried again."""
        global watching  # noqa: PLW0603  # one process has one sweep; Hydra hands nothing of ours on to its callbacks
        for path in _notes(self.sweep):
            path.unlink()
        watching = self
        if self.elsewhere:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Tell the last ones, and end; a sweep that stopped is no error yet."""
        global watching  # noqa: PLW0603  # as above
        self._over.set()
        if self.elsewhere:
            self._thread.join()
        self.look()
        watching = None
        return isinstance(error, Stopped)

    def _look_again(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            self.look()


watching: Watch | None = None


def _notes(sweep: Path) -> list[Path]:
    return sorted((sweep / FOLDER).glob("*.txt"), key=lambda path: (path.stat().st_mtime_ns, path.name))
