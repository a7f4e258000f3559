"""Compare a stage's script with that of the stage before, for the run's description."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.config import check, stages
from experiments.config.language import Language
from experiments.config.root import RootConfig
from experiments.errors import UserError
from experiments.export_script.exporting import COMMAND, of
from experiments.runs.preparation import unchosen
from experiments.tracking.markdown import shown

SCRIPT = "plain.py"
DIFF = "refactoring.diff.txt"  # MLflow shows a .txt
# The last script, for a sweep's next stage. Of the module: a sweep's jobs share a process and nothing else.
_latest: dict[tuple[str, ...], str] = {}


@dataclass(frozen=True)
class Refactoring:
    """A stage's script, its diff against the stage before, and why one of them is missing; each may be empty."""

    script: str = ""
    diff: str = ""
    problem: str = ""

    def keep(self, folder: Path) -> None:
        """Write both into a run's folder."""
        for name, content in ((SCRIPT, self.script), (DIFF, self.diff)):
            if content:
                (folder / name).write_text(content, encoding="utf-8")

    def described(self, note: str, language: str) -> str:
        """Return a stage's note with the diff after it, within what MLflow shows."""
        say = Language(language)
        heading = f"{note}\n\n### {say('What changes in the code')}\n\n"
        whole = say("The whole script is the artifact `script/plain.py`.")
        if self.problem:
            return f"{heading}{say('There is no script to set against the stage before:')} {self.problem}"
        if not self.diff:
            return f"{heading}{whole}"
        cut = say("The rest is in the artifact `script/refactoring.diff.txt`.")
        return shown(self.diff.rstrip(), cut, before=f"{heading}```diff\n", after=f"\n```\n\n{whole}")


def refactoring(stage: str, root: RootConfig, overrides: Sequence[str]) -> Refactoring:
    """Compare a stage with the one before it, both under the overrides of the command line."""
    others = unchosen(overrides)
    try:
        before = stages.before(stage)
        earlier = _text(before, None, others) if before else ""
        script = _text(stage, root, others)
    except UserError as error:  # for example a setting that only this stage has
        return Refactoring(problem=str(error))
    if before is None:
        return Refactoring(script)
    # The first line names the stage: it always differs.
    lines = difflib.unified_diff(earlier.splitlines()[1:], script.splitlines()[1:], before, stage, lineterm="", n=2)
    return Refactoring(script, "\n".join(lines) + "\n")


def _text(stage: str, root: RootConfig | None, others: Sequence[str]) -> str:
    """Return the script of a stage; that of the stage before may have just been made."""
    key = (stage, *others)
    if root is None and key in _latest:
        return _latest[key]
    overrides = [f"stage={stage}", *others]
    root = root or check.configured(overrides).root
    text = of(root, overrides, origin=shlex.join([*COMMAND, *overrides])).text
    _latest.clear()
    _latest[key] = text
    return text
