"""`--json` of every command: its document is alone on standard output, and is as docs/schema.json says."""

from __future__ import annotations

import json
import os
import runpy
import sys
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from tests.support import json_reference
from tests.support.forked import forked

RUN = ("dataset=digits", "model=mlp", "limit_batches=2", "epochs=2", "device.threads=1", "tracking=none")
# By command: what is asked of it, the exit code, and what its answer has; RUN, SWEEP and PICTURE are put in.
ASKED: dict[str, list[tuple[list[str], int, dict[str, Any]]]] = {
    "run": [
        ([*RUN, "hydra.run.dir=NEW"], 0, {"status": "FINISHED", "epochs": 2, "reused": False}),
        ([*RUN, "hydra.run.dir=NEW", "pause_after=1"], 0, {"status": "PAUSED", "epochs": 1}),
        ([*RUN, "-m", "seed=0,1", "hydra.sweep.dir=NEW", "model.width=4"], 0, {"status": "FINISHED", "best": "ANY"}),
        ([*RUN, "-m", "optim.lr=0.1,1e30", "hydra.sweep.dir=NEW"], 1, {"status": "FAILED", "best": "0"}),
        ([*RUN, "-m", "seed=0,1,2", "sweep.preview=true"], 0, {"unknown": 3}),
        ([*RUN, "model=mlpp"], 2, {}),
        ([*RUN, "--what"], 2, {}),
    ],
    "resume": [
        (["RUN"], 0, {"status": "FINISHED", "epochs": 2}),
        (["SWEEP"], 0, {"status": "FINISHED", "varied": ["seed"]}),
        (["SWEEP", "sweep.preview=true"], 0, {"seconds": 0, "unknown": 0}),
        (["nowhere"], 2, {}),
    ],
    "doctor": [([*RUN, "model.dropout=0.95"], 1, {}), ([*RUN], 0, {"findings": []}), (["nowhere"], 2, {})],
    "evaluate": [(["RUN", "--split", "train"], 0, {"split": "train"}), (["nowhere"], 2, {})],
    "predict": [(["RUN", "PICTURE"], 0, {"unreadable": []}), (["RUN", "nowhere.png"], 1, {"pictures": []})],
    "parity": [
        (["", "optim.lr=0.2", *RUN, "--steps", "2"], 1, {}),
        (["", "", *RUN, "--steps", "2"], 0, {}),
        ([""], 2, {}),
    ],
    "compare": [
        (["SWEEP"], 0, {"candidates": []}),
        (["RUN", "--baseline", "SWEEP"], 2, {}),
        (["nowhere"], 2, {}),
    ],
    "lr_find": [([*RUN, "--steps", "20"], 0, {"left_out": []}), ([*RUN, "--steps", "0"], 2, {})],
    "replay": [(["RUN", "--here"], 0, {"code": "today"}), (["nowhere"], 2, {})],
    "sync": [(["RUN"], 0, {"runs": [{"folder": "RUN", "outcome": "not tracked"}]}), (["nowhere"], 2, {})],
}
ALL = [(name, *asked) for name, cases in ASKED.items() for asked in cases]


def asked(name: str, arguments: list[str], where: Path) -> tuple[int, dict[str, Any]]:
    """The exit code and the document of a command in a folder."""

    def action() -> None:
        os.chdir(where)
        sys.argv = [name, "--json", *arguments]
        warnings.simplefilter("ignore", RuntimeWarning)  # that the tests have imported the module before
        runpy.run_module("experiments" if name == "run" else f"experiments.{name}", run_name="__main__")

    done = forked(action, seconds=240)
    document: dict[str, Any] = json.loads(done.out)
    return done.code, document


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A run, a sweep and an image."""
    folder = tmp_path_factory.mktemp("json")
    places = {"RUN": str(folder / "run"), "SWEEP": str(folder / "sweep"), "PICTURE": str(folder / "a.png")}
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(places["PICTURE"])
    assert asked("run", [*RUN, f"hydra.run.dir={places['RUN']}"], folder)[0] == 0
    assert asked("run", ["-m", *RUN, "seed=0,1", f"hydra.sweep.dir={places['SWEEP']}"], folder)[0] == 0
    return places


@pytest.mark.parametrize(("name", "arguments", "code", "expected"), ALL)
def test_a_document_is_as_the_schema_says(
    name: str, arguments: list[str], code: int, expected: dict[str, Any], names: dict[str, str], tmp_path: Path
) -> None:
    def put(text: str) -> str:
        for word, place in {**names, "NEW": str(tmp_path / "new")}.items():
            text = text.replace(word, place)
        return text

    ended, document = asked(name, [put(word) for word in arguments], tmp_path)
    jsonschema.validate(document, json_reference.schema())
    assert (document["command"], document["exit_code"], ended) == (name, code, code)
    assert (document["error"] is None) == (code == 0) or document["answer"] is not None
    for key, value in json.loads(put(json.dumps(expected))).items():
        assert document["answer"][key] == value or (value == "ANY" and document["answer"][key])


def test_every_command_that_answers_is_asked() -> None:
    assert set(ASKED) == set(json_reference.ANSWERS)


def test_the_page_and_the_schema_are_those_of_the_records() -> None:
    again = "python -m tests.support.json_reference writes it"
    assert json_reference.DOCS.read_text(encoding="utf-8") == json_reference.reference(), again
    assert json.loads(json_reference.SCHEMA.read_text(encoding="utf-8")) == json_reference.schema(), again


def test_each_field_has_a_text() -> None:
    lines = json_reference.DOCS.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("| `") and line.endswith("|  |")] == []
