"""docs/json.md and docs/schema.json, made from the records that commands give.

python -m tests.support.json_reference
"""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter

from experiments import answer, evaluate, lr_find, predict, sync
from experiments.compare.answers import ComparisonAnswer
from experiments.doctor.__main__ import Examination
from experiments.parity.report import ParityAnswer
from experiments.runs.prediction import PictureAnswer
from experiments.runs.replay import Replay
from experiments.runs.run_answer import RunAnswer
from experiments.sweeps.preview import Plan
from experiments.sweeps.sweep_answer import SweepAnswer
from tests.support.places import ROOT

DOCS, SCHEMA, BEGIN = ROOT / "docs" / "json.md", ROOT / "docs" / "schema.json", "<!-- made from the records -->\n"

# What the commands give; `resume` gives what the run or the sweep gives.
ANSWERS: dict[str, tuple[type, ...]] = {
    "run": (RunAnswer, SweepAnswer, Plan),
    "resume": (RunAnswer, SweepAnswer, Plan),
    "compare": (ComparisonAnswer,),
    "doctor": (Examination,),
    "evaluate": (evaluate.Evaluation,),
    "predict": (predict.Predictions,),
    "lr_find": (lr_find.RangeAnswer,),
    "parity": (ParityAnswer,),
    "replay": (Replay,),
    "sync": (sync.Synced,),
}
predict.PictureAnswer = PictureAnswer  # type: ignore[attr-defined]  # imported late there, and named in the annotation


def schema() -> dict[str, Any]:
    """The JSON schema of the document of every command."""
    found: list[dict[str, Any]] = []
    definitions: dict[str, Any] = {}
    for name, kinds in ANSWERS.items():
        made = TypeAdapter(Any if not kinds else nullable(kinds)).json_schema(ref_template="#/$defs/{model}")
        for kind, definition in made.pop("$defs", {}).items():
            assert definitions.setdefault(kind, definition) == definition, f"two records are named {kind}"
        found.append({"properties": {"command": {"const": name}, "answer": made}})
    properties = {"schema": {"const": answer.SCHEMA}, "command": {"enum": list(ANSWERS)}, "answer": True}
    properties |= {"exit_code": {"type": "integer"}, "error": {"type": ["string", "null"]}}
    for definition in definitions.values():
        definition["additionalProperties"] = False
        _allow_null(definition)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        "oneOf": found,
        "$defs": dict(sorted(definitions.items())),
    }


def _allow_null(part: Any) -> None:
    """Let every number be null, as one that is not finite is."""
    if isinstance(part, dict):
        if part.get("type") == "number":
            part["type"] = ["number", "null"]
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        _allow_null(inner)


def nullable(kinds: tuple[type, ...]) -> Any:
    union: Any = kinds[0]
    for kind in kinds[1:]:
        union |= kind
    return union | None


def reference() -> str:
    """The page: its own text, and a table for each record."""
    lines = [DOCS.read_text(encoding="utf-8").partition(BEGIN)[0].rstrip(), "", BEGIN.rstrip(), ""]
    lines += ["| command | `answer` |", "|---|---|"]
    for name, kinds in ANSWERS.items():
        lines.append(f"| `{name}` | {' or '.join(f'[{kind.__name__}](#{kind.__name__.lower()})' for kind in kinds)} |")
    for kind in records():
        text = inspect.cleandoc(kind.__doc__ or "")
        about, _, listed = text.partition("Args:\n")
        said = {
            name: " ".join(told.split()) for name, told in re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", listed, re.M)
        }
        lines += [
            "",
            f"## {kind.__name__}",
            "",
            " ".join(about.split()),
            "",
            "| field | type | what it is |",
            "|---|---|---|",
        ]
        lines += [f"| `{field.name}` | {shown(field.type)} | {said.get(field.name, '')} |" for field in fields(kind)]
    return "\n".join(lines) + "\n"


def records() -> list[type]:
    """All records, each before those within it."""
    found: list[type] = []

    def add(kind: Any) -> None:
        if is_dataclass(kind) and isinstance(kind, type) and kind not in found:
            found.append(kind)
            for hint in get_type_hints(kind, localns={"PictureAnswer": PictureAnswer}).values():
                add(hint)
        for part in get_args(kind):
            add(part)

    for kinds in ANSWERS.values():
        for kind in kinds:
            add(kind)
    return found


def shown(annotation: Any) -> str:
    """A type as JSON has it."""
    text = re.sub(r"\bSequence\[(.+?)\]", r"list of \1", str(annotation))
    text = re.sub(r"\btuple\[(.+?), \.\.\.\]", r"list of \1", text)
    text = re.sub(r"\bLiteral\[(.+?)\]", lambda match: match[1].replace("'", "`").replace(", ", " or "), text)
    text = re.sub(r"\bMapping\[str, (.+?)\]", r"object of \1", text)
    for ours, theirs in (
        ("str", "text"),
        ("Path", "text"),
        ("float", "number or null"),
        ("int", "whole number"),
        ("bool", "true or false"),
        ("Any", "any value"),
    ):
        text = re.sub(rf"\b{ours}\b", theirs, text)
    return text.replace("number or null | None", "number or null").replace(" | None", " or null")


if __name__ == "__main__":
    DOCS.write_text(reference(), encoding="utf-8")
    SCHEMA.write_text(json.dumps(schema(), indent=1) + "\n", encoding="utf-8")
    print(f"{DOCS.relative_to(ROOT)}, {Path(SCHEMA).relative_to(ROOT)}")
