"""The memory format of a model's weights: a fixed rule, the same training but for rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments import parity
from experiments.config.check import configured
from experiments.config.registry import register
from experiments.config.root import RootConfig, channels_last
from experiments.config.stages import names
from experiments.errors import ConfigError
from experiments.runs import preparation
from tests.support.models import IMAGES
from tests.support.planted import SMALL
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

CNN = ["model=cnn_adaptive", *SMALL]
SUITED = [name for name in register.model.names if register.model.get(name).metadata.get("channels_last")]


def root_of(overrides: list[str]) -> RootConfig:
    return configured(overrides).root


def weights_of(overrides: list[str]) -> list[torch.Tensor]:
    runner = preparation.prepare(root_of(overrides), overrides).runner(None)
    return [p for p in runner.step.update.params if p.ndim == 4]


@pytest.mark.parametrize("model", SUITED)
def test_a_model_that_it_suits_has_its_weights_channels_last(model: str) -> None:
    found = weights_of([*SMALL, "dataset.shape=[1,28,28]", f"model={model}"])
    assert found and all(p.is_contiguous(memory_format=torch.channels_last) for p in found)


def test_a_model_that_does_not_say_so_keeps_its_own() -> None:
    others = set(IMAGES) - set(SUITED)
    assert others and not any(channels_last(root_of([*SMALL, f"model={model}"])) for model in others)


@pytest.mark.parametrize("stage", names())
def test_the_stages_are_as_the_tutorial_has_them(stage: str) -> None:
    assert not channels_last(root_of([f"stage={stage}", "dataset=mnist_5k"]))


def test_it_can_be_chosen() -> None:
    assert not any(
        p.is_contiguous(memory_format=torch.channels_last)
        for p in weights_of([*CNN, "model.width=4", "device.channels_last=false"])
        if p.shape[1] > 1  # one channel lies the same in both
    )


@pytest.mark.parametrize("optim", ["sgd", "sgd_momentum", "adam"])
def test_it_is_the_same_training_but_for_rounding(optim: str) -> None:
    common = [*CNN, f"optim={optim}", "optim.lr=0.01"]
    verdict = parity.compare([*common, "device.channels_last=false"], common, steps=12)
    assert verdict.verdict == "equal"


@pytest.mark.parametrize("optim", ["sgd_momentum", "adam"])
def test_a_training_goes_on_with_the_same_bits(optim: str, tmp_path: Path) -> None:
    overrides = [*CNN, f"optim={optim}", "optim.lr=0.01", f"output_root={tmp_path}"]
    assert parity.resumed(overrides, at=7, steps=12).verdict == "identical"


def test_a_model_of_bare_tensors_cannot_have_it() -> None:
    with pytest.raises(
        ConfigError, match=r"device.channels_last: needs an nn.Module; model logistic_tensors is not one"
    ):
        weights_of([*SMALL, "model=logistic_tensors", "device.channels_last=true"])


def test_it_is_part_of_what_determines_a_result() -> None:
    keys = [preparation.prepare(root_of([*CNN, *more]), CNN).key for more in ([], ["device.channels_last=false"])]
    assert keys[0] != keys[1]
