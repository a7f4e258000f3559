"""A random stream of another seed is a difference in that stream, if the training draws from it, and only then."""

from __future__ import annotations

from dataclasses import asdict, fields

import pytest

from experiments import parity
from experiments.config.language import Language
from experiments.parity.verdict import Verdict
from experiments.seeds import Seeds, derive
from tests.support.planted import FLAT
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

STEPS = 4
STREAMS = [stream.name for stream in fields(Seeds)]
DRAWING = ["model=mlp", "model.dropout=0.5", "transforms=[random_shift]", "loader.shuffle=true"]
# What draws from one stream alone, and what draws from all others.
ALONE = {
    "init": ["model=mlp", "loader.shuffle=false"],
    "data_order": ["model=mlp", "loader.shuffle=true"],
    "noise": ["model=mlp", "model.dropout=0.5", "loader.shuffle=false"],
}
WITHOUT = {
    "data_order": [*DRAWING, "loader.shuffle=false"],
    "noise": ["model=mlp", "loader.shuffle=true"],
}


def compare(stream: str, settings: list[str], one: int = 1, other: int = 2) -> Verdict:
    a, b = ([*FLAT, *settings, f"seeds.{stream}={number}"] for number in (one, other))
    return parity.compare(a, b, steps=STEPS)


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_that_differs_is_a_difference_in_that_stream(stream: str) -> None:
    verdict = compare(stream, DRAWING)
    assert (verdict.verdict, verdict.where) == ("differs", f"random stream seeds.{stream}")
    assert verdict.found is not None and str(verdict.found.detail) == "1 and 2"
    assert f"differs from step {verdict.step} on, in random stream seeds.{stream}\n  1 and 2" in str(verdict)


@pytest.mark.parametrize("stream", STREAMS)
def test_it_is_one_where_nothing_else_is_random(stream: str) -> None:
    verdict = compare(stream, ALONE[stream])
    assert (verdict.verdict, verdict.where) == ("differs", f"random stream seeds.{stream}")


@pytest.mark.parametrize("stream", STREAMS)
def test_the_same_number_is_no_difference(stream: str) -> None:
    assert compare(stream, DRAWING, 5, 5).verdict == "identical"


@pytest.mark.parametrize("stream", WITHOUT)
def test_a_stream_that_nothing_draws_from_is_no_difference(stream: str) -> None:
    verdict = compare(stream, WITHOUT[stream])
    assert (verdict.verdict, verdict.notes) == ("identical", ())


def test_another_seed_names_every_stream() -> None:
    verdict = parity.compare([*FLAT, *DRAWING, "seed=1"], [*FLAT, *DRAWING, "seed=2"], steps=STEPS)
    first, *others = STREAMS
    assert verdict.where == f"random stream seeds.{first}"
    assert [note.split()[0] for note in verdict.notes] == [f"seeds.{name}" for name in others]
    numbers = [asdict(derive(seed, {}))[first] for seed in (1, 2)]
    assert verdict.found is not None and verdict.found.detail == "{} and {}".format(*numbers)


def test_how_far_the_losses_part_is_told_in_either_language() -> None:
    verdict = compare("noise", ALONE["noise"])
    assert verdict.drift is not None and verdict.drift.loss > 0.01
    assert "each on its own, bits part at step 0 (loss)" in str(verdict)
    assert "tasodifiy oqim seeds.noise" in verdict.text(Language("uz"))


def test_a_stream_that_differs_beside_another_model_is_told_by_the_parameters() -> None:
    a, b = [*FLAT, "model=logistic", "seeds.noise=1"], [*FLAT, "model=mlp", "seeds.noise=2"]
    assert parity.compare(a, b, steps=STEPS).where == "parameters"
