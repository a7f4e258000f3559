"""A sweep's failed jobs: each is reported at once, and the sweep continues or stops (`sweep.on_failure`).

A job that fails leaves a marker file in the sweep's folder, whichever launcher, process or machine ran it. The sweep's
own process reports each; a job that is about to start counts them, and is not run where they are enough.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from omegaconf import DictConfig

from experiments import live
from experiments.config.hydra_internals import JobReturn, JobStatus, outcome
from experiments.errors import TrainingError, UserError, command, first_line
from experiments.files import replacing
from experiments.runs import sweep_plan
from experiments.runs.folder import ERROR, TRACEBACK
from experiments.runs.terminal import relative
from experiments.sweeps.tally import Tally

log = logging.getLogger(__name__)

FOLDER = ".failures"
POLL_SECONDS = 0.5
LONGEST = 300  # characters of a reason that is shown in one line

Policy = str | int


class NotRun(UserError):  # noqa: N818  # not an error
    """A job that was not started, since the sweep had stopped."""


class Stopped(BaseException):
    """Ends a launcher that runs one job after the other in the sweep's own process."""


def job_number(config: DictConfig) -> int:
    """Return a job's number: its folder's name, since a launcher gives jobs that resume others."""
    name = Path(config.hydra.runtime.output_dir).name
    return int(name) if name.isdecimal() else int(config.hydra.job.num)


def limit(policy: Policy) -> int | None:
    """Return after how many failures no further job starts; None where all are run."""
    return None if policy == "continue" else 1 if policy == "stop" else int(policy)


def require_going_on(sweep: Path, policy: Policy) -> None:
    """Check, before a job starts, that its sweep has not stopped.

    Raises:
        NotRun: it has.
    """
    stops_after = limit(policy)
    if stops_after is not None and (count := len(_notes(sweep))) >= stops_after:
        raise NotRun(f"not run: the sweep stopped after {count} failures (sweep.on_failure={policy})")


def note(sweep: Path, number: int, text: str) -> None:
    """Write the marker file of a failed job, unless it exists."""
    path = sweep / FOLDER / f"{number}.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def failure_message(
    sweep: Path, number: int, overrides: Sequence[str], error: BaseException, folder: Path | None = None
) -> str:
    """Return one line on a failed job: its number, settings and reason, and where its traceback is.

    Without its `folder` that is the one that the plan names.
    """
    plan = sweep_plan.read(sweep)
    settings = [one.lstrip("+") for one in overrides if one.lstrip("+").split("=")[0] in plan.varied]
    folder = folder or sweep / dict(enumerate(plan.listed)).get(number, str(number))
    reason = " ".join(str(error).split()) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    reason = first_line(reason)
    reason = f"{reason[:LONGEST]} ..." if len(reason) > LONGEST else reason
    line = " ".join([f"job {number}", *([f"({', '.join(settings)})"] if settings else []), f"failed: {reason}"])
    if (folder / ERROR).is_file():
        whole = (folder / ERROR).read_text(encoding="utf-8").startswith(TRACEBACK)
        line += f"; {'traceback in ' if whole else ''}{relative(folder / ERROR)}"
    return line


class Watch:
    """Reports a sweep's failures in its own process while its jobs run.

    The folder of a sweep whose jobs run `elsewhere`, in other processes, is polled.
    """

    def __init__(self, sweep: Path, policy: Policy, *, elsewhere: bool, jobs: int = 0, word: str = "job") -> None:
        self.tally, self._shown = Tally(sweep, jobs, word), live.phase("", jobs)
        self.sweep, self.limit, self.elsewhere = sweep, limit(policy), elsewhere
        self.seen = set[str]()
        self.first: BaseException | None = None
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    @property
    def enough(self) -> bool:
        """Return whether no further job may start."""
        return self.limit is not None and len(self.seen) >= self.limit

    def look(self) -> None:
        """Report the failures that are new."""
        with self._lock:
            for path in _notes(self.sweep):
                if path.name not in self.seen:
                    self.seen.add(path.name)
                    self.tally.done(int(path.stem))
                    log.error("%s", path.read_text(encoding="utf-8"))

    def look_at_own(self) -> None:
        """Report at once a job that failed in this process.

        Raises:
            Stopped: no further job may start; as no other runs in this process, the sweep ends right here.
        """
        if not self.elsewhere:
            self.look()
            if self.enough:
                raise Stopped

    def take(self, returned: Sequence[JobReturn], numbers: Sequence[int], batch: Sequence[Sequence[str]]) -> None:
        """Note the jobs that a launcher returned as failed and that could not write their marker file."""
        for number, given, job in zip(numbers, batch, returned, strict=True):
            error = outcome(job)
            if job.status == JobStatus.COMPLETED:
                self.tally.done(number, error)
            if job.status == JobStatus.FAILED and not isinstance(error, NotRun):
                self.first = self.first or error
                note(self.sweep, number, failure_message(self.sweep, number, given, error))
        self.look()

    def raise_if_failed(self) -> None:
        """End the sweep with an error where jobs failed.

        Raises:
            TrainingError: they did.
        """
        if self.seen:
            problem = f"{len(self.seen)} {'job' if len(self.seen) == 1 else 'jobs'} failed"
            problem += "; the sweep stopped there" if self.enough else ""
            again = f"{command('resume')} {relative(self.sweep)}"
            raise TrainingError(f"{problem}; what did not finish is tried again by {again}") from self.first

    def __enter__(self) -> Watch:
        """Start without failures: those of an earlier start are tried again."""
        for path in _notes(self.sweep):
            path.unlink()
        self.tally.bar = self._shown.__enter__()
        self.tally.count()
        if self.elsewhere:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Report the last failures; a sweep that stopped is not an error yet."""
        self._shown.__exit__(None, None, None)
        self._over.set()
        if self.elsewhere:
            self._thread.join()
        self.look()
        return isinstance(error, Stopped)

    def _poll(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            self.look()
            self.tally.count()


def _notes(sweep: Path) -> list[Path]:
    return sorted((sweep / FOLDER).glob("*.txt"), key=lambda path: (path.stat().st_mtime_ns, path.name))
