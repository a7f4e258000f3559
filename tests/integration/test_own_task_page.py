"""docs/your-own-task.md: each block of code trains with the commands below it, and the tables list what is checked."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import experiments
from experiments.config import discovery
from experiments.config.declarations import BY_GROUP
from experiments.config.registry import register
from tests.support.places import ROOT, Cli

PAGE = (ROOT / "docs" / "your-own-task.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TYPES = {"str": "text", "bool": "`True`, `False`", "Callable": "a function", "tuple": "a tuple", "int": "a number"}
HEAD = "| name | values | |\n|---|---|---|\n"
QUICK = ["tracking=none", "figures=false", "epochs=1", "device=cpu", "device.threads=1"]


def pairs() -> list[tuple[str, str]]:
    """Return each block of commands with the code right above it, which may be none."""
    blocks = [(match[1], match[2], match.start(), match.end()) for match in BLOCK.finditer(PAGE)]
    found = []
    for before, (language, text, start, _) in zip([("", "", 0, 0), *blocks], blocks, strict=False):
        if language == "bash":
            code = before[1] if before[0] == "python" and not PAGE[before[3] : start].strip() else ""
            found.append((code, text))
    return found


def declared(group: str) -> list[str]:
    """Return the rows of a group's table."""
    rows = []
    for name, each in BY_GROUP[group].items():
        values = [f'`"{value}"`' if isinstance(value, str) else TYPES.get(value.__name__, "") for value in each.allowed]
        rows.append(f"| `{name}` | {', '.join(filter(None, values))} | {each.meaning} |")
    return rows


@pytest.fixture
def own_file(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An own.py whose components are forgotten after the test."""
    for registry in register:
        monkeypatch.setattr(registry, "_components", dict(registry._components))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield workplace / "own.py"
    sys.modules.pop(f"{discovery.OWN}.own", None)


@pytest.mark.parametrize("group", BY_GROUP)
def test_a_kind_lists_what_it_may_declare(group: str) -> None:
    (section,) = re.findall(rf"^### {group}\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    table = section.partition(HEAD)[2].split("\n\n")[0]
    assert table.splitlines() == declared(group)


def test_each_block_of_code_has_its_commands() -> None:
    assert sum(bool(code) for code, _ in pairs()) == PAGE.count("```python\n")


@pytest.mark.slow
@pytest.mark.parametrize(("code", "commands"), pairs(), ids=[text.splitlines()[0][22:62] for _, text in pairs()])
def test_code_trains_with_its_commands(
    code: str, commands: str, own_file: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    own_file.write_text(code, encoding="utf-8")
    (own_file.parent / "book.txt").write_text("the cat sat on the mat. " * 40, encoding="utf-8")
    monkeypatch.setenv(discovery.SETTING, str(own_file))
    for command in commands.splitlines():
        _, _, module, *arguments = shlex.split(command)
        if module == "experiments" and "-m" not in arguments:
            result = experiments.run([*arguments, *QUICK])
            assert len(result.history) == 1
        else:
            done = cli(*arguments, *(QUICK if module == "experiments" else ()), module=module)
            assert done.returncode == 0, done.stderr
