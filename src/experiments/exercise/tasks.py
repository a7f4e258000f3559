"""The exercises by number: whose script, what is cut out of it or planted in it, and what its reader is told."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import yaml

from experiments.config.language import Language
from experiments.errors import ConfigError, Fault

WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class Task:
    """An exercise.

    Args:
        number: from 1.
        stage: whose script.
        todo: what is to be done, by language.
        hints: from the vaguest on, likewise.
        overrides: more of the stage's configuration.
        within: of a hole, the line before which it does not begin, as a pattern; empty for a fault.
        first: its first line, likewise.
        last: its last line, likewise.
        old: of a fault, what is replaced.
        new: what it is replaced by.
    """

    number: int
    stage: str
    todo: Mapping[str, str]
    hints: Sequence[Mapping[str, str]]
    overrides: Sequence[str] = field(default=())
    within: str = ""
    first: str = ""
    last: str = ""
    old: str = ""
    new: str = ""

    @property
    def name(self) -> str:
        """Its file's name."""
        return f"{self.number:02}_{'fault' if self.old else self.stage[3:]}"

    @property
    def marks(self) -> tuple[str, str]:
        """The comments around a hole."""
        return f"# ----- exercise {self.number:02}: your code -----", f"# ----- end of exercise {self.number:02} -----"

    def begun(self, script: str, language: Language) -> str:
        """Return a stage's script with the hole, or the fault."""
        title = textwrap.fill(f'"""{self.number:02}. {self.todo[language.name]}', WIDTH)
        commands = (
            f"python exercises/{self.name}.py exercises/rows.npz\npython -m experiments.exercise check {self.number:02}"
        )
        heading = f'{title}\n\n{commands}\n"""'
        body = script[script.index('"""', 3) + 3 :]
        if self.old:
            return heading + body.replace(self.old, self.new)
        todo = textwrap.wrap(self.todo[language.name], WIDTH)
        return heading + self.filled(body, [*(f"# {line}" for line in todo), "raise NotImplementedError"])

    def filled(self, script: str, code: Sequence[str]) -> str:
        """Return a stage's script with other lines, indented by nothing, in place of those of the hole."""
        lines, (start, end) = script.splitlines(), self._place(script)
        indent = re.match(" *", lines[start])
        marked = [self.marks[0], *code, self.marks[1]]
        lines[start:end] = [f"{indent[0]}{line}".rstrip() for line in marked] if indent else marked
        return "\n".join(lines) + "\n"

    def solution(self, script: str) -> str:
        """Return what was cut out of a stage's script, or what the fault took the place of."""
        start, end = self._place(script) if self.first else (0, 0)
        return textwrap.dedent("\n".join(script.splitlines()[start:end])) or self.old.strip("\n")

    def answer(self, text: str) -> list[str] | None:
        """Return a learner's lines between the comments, indented by nothing; None where those are gone."""
        lines = [line.strip() for line in text.splitlines()]
        if any(lines.count(mark) != 1 for mark in self.marks):
            return None
        start, end = (lines.index(mark) for mark in self.marks)
        return textwrap.dedent("\n".join(text.splitlines()[start + 1 : end])).splitlines()

    def _place(self, script: str) -> tuple[int, int]:
        lines = script.splitlines()
        numbers = iter(range(len(lines)))
        patterns = (self.within, self.first)
        _, start = [next(n for n in numbers if re.search(_plain(pattern), lines[n])) for pattern in patterns]
        end = next(n for n in range(start, len(lines)) if re.search(_plain(self.last), lines[n]))
        return start, end + 1


def _plain(pattern: str) -> str:
    return pattern if pattern.startswith("^") else re.escape(pattern)


@cache
def tasks() -> tuple[Task, ...]:
    """Return all exercises, in order."""
    given = yaml.safe_load((resources.files(__package__) / "tasks.yaml").read_text(encoding="utf-8"))
    return tuple(Task(number=number, **each) for number, each in enumerate(given, 1))


def task(number: str) -> Task:
    """Return the exercise of a number.

    Raises:
        ConfigError: there is none.
    """
    found = [each for each in tasks() if number.isdecimal() and each.number == int(number)]
    if not found:
        raise ConfigError(Fault("exercise", f"there is no exercise {number!r}; they are 1 .. {len(tasks())}"))
    return found[0]
