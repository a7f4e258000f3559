"""A run's code, laid out again: its commit and its `code.patch`, in a temporary worktree."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.config import discovery
from experiments.errors import ConfigError, Fault, first_line
from experiments.files import expanded
from experiments.runs import code_patch, git
from experiments.runs.terminal import relative
from experiments.tracking.record import RunRecord

TODAY = "--here trains it with today's code"


@dataclass(frozen=True)
class Worktree:
    """A run's code in a folder, `top`, which was `then` when the run was started."""

    top: Path
    then: Path

    def place(self, path: Path) -> Path:
        """Return where a file or folder of the run's repository is here; one that is not here stays as it is."""
        path = Path(os.path.normpath(path))
        here = self.top / path.relative_to(self.then) if path.is_relative_to(self.then) else path
        return here if here.exists() else path

    def environment(self, run: RunRecord, working: Path) -> dict[str, str]:
        """Return the variables with which a process in the folder `working` has the run's code and commit."""
        then = run.start.place
        package = [self.top / "src"] if (self.top / "src" / "experiments" / "__init__.py").is_file() else []
        places = [*package, self.place(Path(then.folder)), working, os.environ.get("PYTHONPATH", "")]
        own = [entry.strip() for entry in then.components.split(os.pathsep)]
        own = [str(self.place(Path(then.folder) / expanded(one))) if one.endswith(".py") else one for one in own]
        return {
            "PYTHONPATH": os.pathsep.join(filter(None, map(str, places))),
            "PYTHONSAFEPATH": "1",  # the working folder, where today's code is, would come first
            discovery.SETTING: os.pathsep.join(own),
            "GIT_DIR": git.asked("rev-parse", "--absolute-git-dir", cwd=self.top),
            "GIT_WORK_TREE": str(self.top),
        }


@contextlib.contextmanager
def laid_out(run: RunRecord) -> Iterator[Worktree]:
    """Yield a worktree with the code that a run was trained with; it is removed in any case.

    Raises:
        ConfigError: that code was not kept whole, or no repository here has its commit.
    """
    tags, folder = run.start.tags, Path(run.start.place.folder)
    if problem := _lacking(run):
        raise ConfigError(Fault(relative(run.folder), f"{problem}; {TODAY}"))
    places = [place for place in (Path.cwd(), folder) if place.is_dir()]
    having = [place for place in places if git.asked("cat-file", "-t", tags[git.COMMIT], cwd=place) == "commit"]
    if not having:
        problem = f"no repository in {' or '.join(map(str, places))} has its commit {tags[git.COMMIT]}; fetch it"
        raise ConfigError(Fault(relative(run.folder), f"{problem}, or {TODAY}"))
    below = Path(tags.get(git.BELOW, "")).parts
    with tempfile.TemporaryDirectory(prefix="experiments-replay-") as temporary:
        top, patch = Path(temporary).resolve() / "code", run.folder / code_patch.FILE
        try:
            _git(run, "worktree", "add", "--quiet", "--detach", str(top), tags[git.COMMIT], cwd=having[0])
            if code_patch.TAG in tags:
                _git(run, "apply", "--whitespace=nowarn", str(patch.resolve()), cwd=top)
            yield Worktree(top, folder.parents[len(below) - 1] if below else folder)
        finally:
            git.run("worktree", "remove", "--force", str(top), cwd=having[0])


def _lacking(run: RunRecord) -> str:
    """Return what was not kept of a run's code; empty where all was."""
    tags, patch = run.start.tags, run.start.tags.get(code_patch.TAG)
    if git.COMMIT not in tags:
        return "it was not started in a git repository, so its code was not kept"
    before = "tracking.patch" not in run.start.params and tags.get(git.DIRTY) == "true"  # such runs had no patch yet
    if before or patch not in (None, code_patch.KEPT, code_patch.MASKED):
        return f"the changes of its code since its commit were not kept whole ({patch or f'no {code_patch.FILE}'})"
    return ""


def _git(run: RunRecord, *arguments: str, cwd: Path) -> None:
    done = git.run(*arguments, cwd=cwd)
    if done.returncode:
        problem = f"its code cannot be laid out: {first_line(done.stderr.decode(errors='replace'))}"
        raise ConfigError(Fault(relative(run.folder), f"{problem}; {TODAY}"))
