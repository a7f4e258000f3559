"""Write the tutorial's stages yourself, and find faults: `python -m experiments.exercise list`.

  list          the exercises, and which are done
  start NN      write the script of one to exercises/, with a hole or a fault
  check NN      train it beside the stage, and say where it first differs
  hint NN       the next hint
  solution NN   what was cut out
  watch NN      check whenever the file is saved

`language=uz` speaks Uzbek. Your script runs as your own code, on this machine, for at most a minute.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from experiments import cli, live
from experiments.config.language import NAMES, Language
from experiments.errors import ConfigError, Fault
from experiments.exercise.learner import Learner
from experiments.exercise.tasks import Task, task, tasks
from experiments.files import replacing

FOLDER = Path("exercises")
PROGRESS = FOLDER / "progress.json"
ROWS = FOLDER / "rows.npz"
POLL_SECONDS = 0.5
ACTIONS = ("list", "start", "check", "hint", "solution", "watch")


@dataclass
class Progress:
    """Which exercises are done, and how many hints of each were read."""

    done: list[int] = field(default_factory=list)
    hints: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Progress:
        """Return that of the working folder."""
        if not PROGRESS.is_file():
            return cls()
        try:
            return cls(**json.loads(PROGRESS.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ConfigError(Fault(str(PROGRESS), f"it cannot be read ({error}); delete it to start again")) from None

    def write(self) -> None:
        """Keep it."""
        FOLDER.mkdir(exist_ok=True)
        with replacing(PROGRESS) as temporary:
            temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Do what is asked for; exit code 1 where an answer is not right yet."""
    parser = cli.parser("exercise", __doc__)
    parser.add_argument("action", choices=ACTIONS, help="see above")
    parser.add_argument("number", nargs="?", help="of the exercise")
    parser.add_argument("--language", choices=NAMES, default="en", help="of the texts (default: %(default)s)")
    words = sys.argv[1:] if arguments is None else arguments
    given = parser.parse_args([f"--{word}" if word.startswith("language=") else word for word in words])
    cli.guarded(lambda: _act(given))


def _act(given: argparse.Namespace) -> int:
    say, progress = Language(given.language), Progress.read()
    if given.action == "list":
        return _list(progress, say)
    if given.number is None:
        raise ConfigError(Fault("exercise", f"{given.action} needs a number: 1 .. {len(tasks())}"))
    chosen = task(given.number)
    match given.action:
        case "start":
            _start(chosen, say)
        case "check":
            return _check(chosen, progress, say)
        case "hint":
            _hint(chosen, progress, say)
        case "solution":
            _solution(chosen)
        case "watch":
            _watch(chosen, progress, say)
    return 0


def _file(chosen: Task) -> Path:
    return FOLDER / f"{chosen.name}.py"


def _list(progress: Progress, say: Language) -> int:
    for each in tasks():
        mark = "x" if each.number in progress.done else " "
        print(f"[{mark}] {each.number:02}  {each.stage[3:] if each.first else say('find the fault')}")
    print(say("{done} of {count} done", done=len(progress.done), count=len(tasks())))
    return 0


def _start(chosen: Task, say: Language) -> None:
    from experiments.exercise.checking import exported, write_rows  # late, with torch

    path = _file(chosen)
    if path.exists():
        raise ConfigError(Fault(str(path), "it exists; delete it to start again"))
    with live.phase("writing"):
        script = exported(chosen)
        FOLDER.mkdir(exist_ok=True)
        write_rows(script, ROWS)
        path.write_text(chosen.begun(script.text, say), encoding="utf-8")
    command = f"python -m experiments.exercise check {chosen.number:02}"
    print(chosen.todo[say.name])
    print(say("Edit {file}, then: {command}", file=path, command=command))


def _check(chosen: Task, progress: Progress, say: Language) -> int:
    path = _file(chosen)
    if not path.is_file():
        raise ConfigError(
            Fault(str(path), f"there is none; first: python -m experiments.exercise start {chosen.number:02}")
        )
    with live.phase("checking"), Learner() as learner:
        import torch  # while the process imports it as well

        from experiments.exercise.checking import check

        torch.set_num_threads(1)  # small tensors, beside the process
        found = check(chosen, path.read_text(encoding="utf-8"), learner.traces)
    if not found.rung:
        print(say("Right: every step, both means and the modes are the stage's."))
        if chosen.number not in progress.done:
            progress.done = sorted([*progress.done, chosen.number])
            progress.write()
        if left := [each.number for each in tasks() if each.number not in progress.done]:
            print(say("Next: {command}", command=f"python -m experiments.exercise start {left[0]:02}"))
        return 0
    if found.variant:
        print(say("Right with these numbers, but not with others ({variant}).", variant=found.variant))
    print(say(found.said))
    print(say("Hint: {hint}", hint=found.hint))
    return 1


def _hint(chosen: Task, progress: Progress, say: Language) -> None:
    number = min(progress.hints.get(str(chosen.number), 0), len(chosen.hints) - 1)
    print(chosen.hints[number][say.name])
    progress.hints[str(chosen.number)] = number + 1
    progress.write()


def _solution(chosen: Task) -> None:
    from experiments.exercise.checking import exported  # late, with torch

    print(chosen.solution(exported(chosen).text))


def _watch(chosen: Task, progress: Progress, say: Language) -> None:
    path, seen = _file(chosen), None
    print(say("Waiting for {file} to be saved; Ctrl-C ends it.", file=path), flush=True)
    while True:
        now = path.stat().st_mtime_ns if path.is_file() else None
        if now is not None and now != seen and not _check(chosen, progress, say):
            return
        seen = now
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
