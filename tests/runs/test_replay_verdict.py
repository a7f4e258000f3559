"""The verdict on a repetition: over raw journals and weights that torch saved."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.runs.replay_verdict import TOLERANCE, judge

WEIGHTS = {"layer.weight": torch.tensor([[0.5, -2.0]]), "steps": torch.tensor([3])}


def run(folder: Path, *epochs: dict[str, float], **weights: Any) -> Path:
    """A run's journal and weights, written as they are."""
    folder.mkdir()
    events: list[dict[str, Any]] = [{"event": "start", "time": 0, "id": "x", "tags": {}}]
    events += [{"event": "metrics", "time": 1, "step": step, "values": values} for step, values in enumerate(epochs)]
    (folder / "journal.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events), encoding="utf-8")
    torch.save(WEIGHTS | weights, folder / "weights.pt")
    return folder


def epoch(loss: float = 0.25, **more: float) -> dict[str, float]:
    return {"train/loss": 0.5, "valid/loss": loss, "best/valid_loss": loss, **more}


def test_the_same_but_for_time_is_identical(tmp_path: Path) -> None:
    one = run(tmp_path / "one", epoch(**{"time/epoch_seconds": 1.0, "throughput/samples_per_second": 2.0}))
    other = run(tmp_path / "other", epoch(**{"time/epoch_seconds": 9.0, "throughput/samples_per_second": 8.0}))
    assert judge(one, other).word == "identical"


def test_nan_is_nan(tmp_path: Path) -> None:
    assert judge(run(tmp_path / "one", epoch(math.nan)), run(tmp_path / "other", epoch(math.nan))).word == "identical"


@pytest.mark.parametrize(("apart", "word"), [(TOLERANCE / 2, "equal"), (TOLERANCE * 2, "differs")])
def test_the_tolerance_parts_equal_from_different(apart: float, word: str, tmp_path: Path) -> None:
    one, other = run(tmp_path / "one", epoch(0.25)), run(tmp_path / "other", epoch(0.25 + apart))
    verdict = judge(one, other)
    assert verdict.word == word and verdict.largest == pytest.approx(apart)


def test_the_first_difference_is_named(tmp_path: Path) -> None:
    one = run(tmp_path / "one", epoch(), epoch(0.125), epoch(0.5))
    other = run(tmp_path / "other", epoch(), epoch(0.75), epoch(9.0))
    assert str(judge(one, other)).startswith("differs from epoch 1, first in valid/loss: 0.125, then 0.75; ")


def test_a_difference_of_one_bit_is_none_of_the_identical(tmp_path: Path) -> None:
    one, other = run(tmp_path / "one", epoch(0.25)), run(tmp_path / "other", epoch(math.nextafter(0.25, 1)))
    assert judge(one, other).word == "equal"


def test_a_metric_that_one_lacks_differs(tmp_path: Path) -> None:
    verdict = judge(run(tmp_path / "one", epoch(own=1.0)), run(tmp_path / "other", epoch()))
    assert (verdict.word, str(verdict)) == ("differs", str(verdict))
    assert "first in own: 1.0, then nothing" in str(verdict)


def test_an_epoch_that_one_lacks_differs(tmp_path: Path) -> None:
    verdict = judge(run(tmp_path / "one", epoch(), epoch()), run(tmp_path / "other", epoch()))
    assert str(verdict).startswith("differs from epoch 1, first in train/loss: 0.5, then nothing")


def test_weights_count_where_no_metric_differs(tmp_path: Path) -> None:
    changed = torch.tensor([[0.5, -2.5]])
    verdict = judge(run(tmp_path / "one", epoch()), run(tmp_path / "other", epoch(), **{"layer.weight": changed}))
    expected = (
        "differs after the last epoch, first in weights of layer.weight: -2.0, then -2.5; largest difference 0.25"
    )
    assert str(verdict) == expected


def test_weights_that_are_missing_or_of_another_shape_differ(tmp_path: Path) -> None:
    one = run(tmp_path / "one", epoch())
    assert judge(one, run(tmp_path / "more", epoch(), more=torch.zeros(1))).word == "differs"
    assert judge(one, run(tmp_path / "shape", epoch(), steps=torch.zeros(2))).word == "differs"
