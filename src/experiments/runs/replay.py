"""Train a run again, in a process of its own, and compare the two: with the code it had then, or with today's."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments import answer
from experiments.config import discovery
from experiments.config.overrides import quoted
from experiments.errors import ConfigError, Fault, TrainingError, command
from experiments.files import folder_fault, replacing
from experiments.runs import code_patch, git, worktree
from experiments.runs.find import find_run, run_in
from experiments.runs.overrides import key, replaced
from experiments.runs.replay_verdict import Verdict, judge
from experiments.runs.settings_diff import changed
from experiments.runs.terminal import relative
from experiments.tracking import journal, record
from experiments.tracking.pending import Pending
from experiments.tracking.record import FINISHED, PAUSED, RunRecord
from experiments.training import signals

FILE, TAG = "replay.json", "experiments.replay"
FOLDER = Path("outputs", "replays")
ENVIRONMENT = ("python", "platform", "device_name")
MACHINE = ("machine.", "version of ", *ENVIRONMENT)


@dataclass(frozen=True)
class Difference:
    """What determines a result and is not as it was.

    Args:
        what: a setting, a version, or another part of the identity.
        then: of the run; None where it had none.
        now: of the repetition, likewise.
    """

    what: str
    then: Any
    now: Any

    def __str__(self) -> str:
        then, now = ("nothing" if value is None else repr(value) for value in (self.then, self.now))
        return f"{'warning' if self.what.startswith(MACHINE) else 'changed'}: {self.what}: {then} then, {now} now"


@dataclass(frozen=True)
class Replay:
    """A run's repetition.

    Args:
        run: the folder of the run.
        again: that of the repetition.
        code: `then`, that of the run's commit and `code.patch`, or `today`.
        differences: what is not as it was.
        verdict: whether the two came to the same.
    """

    run: Path
    again: Path
    code: str
    differences: tuple[Difference, ...]
    verdict: Verdict


def replay(folder: Path, *, here: bool) -> Replay:
    """Train the run in a folder again, printing what differs before its first epoch, and compare the two.

    With `here` it is trained with today's code, and not with that of its commit and patch.

    Raises:
        ConfigError: it did not end with weights, or its code cannot be laid out.
        TrainingError: its repetition did not end as the run did.
    """
    run = run_in(folder)
    if run.status not in (FINISHED, PAUSED):
        problem = f"it is {run.status}, so there is nothing to compare with; to finish it: {command('resume')}"
        raise ConfigError(Fault(relative(folder), f"{problem} {relative(folder)}"))
    if fault := folder_fault(FOLDER):
        raise ConfigError(Fault(str(FOLDER), fault))
    again = (FOLDER / f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}" / "run").absolute()
    with signals.raised(), contextlib.nullcontext() if here else worktree.laid_out(run) as tree:
        if tree and run.start.tags.get(code_patch.TAG) == code_patch.MASKED:
            print(f"warning: secrets in {code_patch.FILE} are masked, so files that held one differ", flush=True)
        differences = _train(run, again, tree)
    ended = Replay(folder, again, "then" if tree else "today", tuple(differences), judge(folder, again))
    for kept in (folder, again):
        with replacing(kept / FILE) as temporary:
            temporary.write_text(json.dumps(answer.plain(ended), indent=2), encoding="utf-8")
        journal.tag(kept, {TAG: ended.verdict.word})
    if run.start.store:  # the next run, or `sync`, brings it
        Pending(Path(run.start.params["output_root"])).add(folder)
    return ended


def _train(run: RunRecord, again: Path, tree: worktree.Worktree | None) -> list[Difference]:
    """Train a run again; return what differs, which is printed before anything of the training."""
    then = run.start.place
    working = Path(then.folder) if then.folder and Path(then.folder).is_dir() else Path.cwd()
    own = {discovery.SETTING: then.components, **os.environ}
    own |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"} | (tree.environment(run, working) if tree else {})
    words = [sys.executable, "-m", "experiments", *_overrides(run, again, tree)]
    found: list[Difference] | None = None
    out: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "errors": "replace"}
    with subprocess.Popen(words, cwd=working, env=own, **out) as process:  # noqa: S603  # the run's own, no shell
        try:
            for line in process.stdout or ():  # its journal starts before its first line on the training
                if found is None and record.start_of(again).id:
                    found = list(_differences(run, again))
                    print("\n".join(map(str, found)) or "nothing differs from the run", flush=True)
                print(line, end="", flush=True)
        except BaseException:
            process.terminate()
            raise
    if process.returncode or found is None or record.read(again).status != run.status:
        raise TrainingError(f"the repetition did not end as the run did: exit code {process.returncode}")
    return found


def _overrides(run: RunRecord, again: Path, tree: worktree.Worktree | None) -> list[str]:
    """Return a run's overrides for its repetition, which is taken from no earlier run and found by no later one."""
    more = ["tracking=none", "reuse=never", "hydra.mode=RUN", f"hydra.run.dir={quoted(str(again))}"]
    more += [f"output_root={quoted(str(again.parent))}"]
    if re.fullmatch(r"[0-9a-f]{32}", source := run.start.params.get("init_from", "")):  # searched in the output_root
        more += [f"init_from={quoted(str(find_run(Path(run.start.params['output_root']), source)))}"]
    more += [f"pause_after={len(run.history)}"] if run.status == PAUSED else []
    kept = [override for override in run.overrides if key(override) != "pause_after"]
    if tree is not None:  # folders of own options
        kept = [re.sub(r"(?<=file://)[^',\]]+", lambda at: str(tree.place(Path(at[0]))), one) for one in kept]
    return replaced(kept, more)


def _differences(run: RunRecord, again: Path) -> Iterator[Difference]:
    """Yield in what the repetition differs from the run: code, data, settings, seeds, device, versions, machine."""
    before, now = (_determining(folder) for folder in (run.folder, again))
    for what in sorted(changed([before, now])):
        longer = what == "epochs" and run.resumed  # than it was started for, as the overrides of both have it
        other = what.startswith("version of ") and not (what in before and what in now)  # and is not imported
        if not (longer or other):
            yield Difference(what, before.get(what), now.get(what))


def _determining(folder: Path) -> dict[str, Any]:
    start, patch = record.start_of(folder), folder / code_patch.FILE
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    versions = environment.get("installed", environment["packages"])  # runs of before have no more
    found = {name: environment.get(name) for name in ENVIRONMENT} | dict(start.identity)
    found |= {f"version of {name}": version for name, version in versions.items()}
    digest = hashlib.sha256(patch.read_bytes()).hexdigest()[:16] if patch.is_file() else None
    return found | {"commit": start.tags.get(git.COMMIT), "changes since the commit": digest}
