"""The verdicts of a sweep over the stages, kept in its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import experiments
from experiments.parity.stage_sweep import judged
from experiments.runs.job_record import JobRecord
from experiments.tracking import record
from tests.support import small_mnist

QUIET = ["tracking=none", "figures=false", "dataset.source=mnist.pkl.gz", "loader.batch_size=8"]


def trained(stage: str) -> JobRecord:
    folder = experiments.run([f"stage={stage}", *QUIET]).folder
    assert folder is not None
    return JobRecord.of(record.read(folder), folder.name)


def test_each_stage_of_a_sweep_is_compared_with_the_one_before(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_mnist.install(monkeypatch.setattr)
    (workplace / "mnist.pkl.gz").write_bytes(small_mnist.packed())
    found = judged(workplace, [trained("04_linear"), trained("05_optim")], 3)
    assert [(pair["pair"], pair["verdict"]) for pair in found] == [
        (["03_module", "04_linear"], "equal"),
        (["04_linear", "05_optim"], "identical"),
    ]
    assert json.loads((workplace / "parity.json").read_text()) == found


def test_no_verdicts_where_none_are_wanted(tmp_path: Path) -> None:
    assert judged(tmp_path, [], None) == [] and not (tmp_path / "parity.json").exists()
