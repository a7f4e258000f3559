"""Transforms against plain loops, and the options of conf/ against the signatures they are presets of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from experiments import seeds
from experiments.components.datasets.synthetic import synthetic
from experiments.config.check import COMMON, configured
from experiments.config.registry import Registry, register
from experiments.data.splits import DataSpec
from experiments.training import build
from tests.components.test_components import option, options

SPEC = DataSpec(name="some", shape=(2, 5, 4), outputs=3, classes=True, sizes={}, digest="")
PICTURES = torch.rand(6, 2, 5, 4, generator=torch.Generator().manual_seed(0))


def transform(name: str, xb: Tensor, **arguments: Any) -> Tensor:
    torch.manual_seed(3)
    found: Tensor = register.transform.bind(name, arguments)(xb, SPEC)
    return found


every_transform = pytest.mark.parametrize("name", register.transform.names)


@every_transform
def test_flat_rows_and_pictures_are_transformed_alike(name: str) -> None:
    assert torch.equal(transform(name, PICTURES.view(6, 40)).view(6, 2, 5, 4), transform(name, PICTURES))


@every_transform
def test_a_transform_keeps_shape_and_type_and_leaves_its_input_alone(name: str) -> None:
    before = PICTURES.clone()
    found = transform(name, PICTURES)
    assert (found.shape, found.dtype) == (PICTURES.shape, PICTURES.dtype)
    assert torch.equal(PICTURES, before) and not torch.equal(found, before)


def test_normalize_is_its_formula() -> None:
    plain = [(value - 0.5) / 0.25 for value in PICTURES.flatten().tolist()]
    found = transform("normalize", PICTURES, mean=0.5, std=0.25).flatten().tolist()
    assert found == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("pixels", [1, 2, 6])
def test_random_shift_moves_each_picture_as_a_plain_loop_does(pixels: int) -> None:
    found = transform("random_shift", PICTURES, pixels=pixels)
    torch.manual_seed(3)
    down, right = torch.randint(0, 2 * pixels + 1, (2, 6, 1)).view(2, 6).tolist()
    expected = torch.zeros_like(PICTURES)
    for picture in range(6):
        for row in range(5):
            for column in range(4):
                source = row + down[picture] - pixels, column + right[picture] - pixels
                if 0 <= source[0] < 5 and 0 <= source[1] < 4:
                    expected[picture, :, row, column] = PICTURES[picture, :, source[0], source[1]]
    assert torch.equal(found, expected)


def test_random_shift_moves_both_ways_and_stays_within_its_pixels() -> None:
    point = torch.zeros(400, 2, 5, 4)
    point[:, :, 2, 2] = 1
    places = transform("random_shift", point, pixels=1).nonzero()
    assert set(places[:, 2].tolist()) == {1, 2, 3} and set(places[:, 3].tolist()) == {1, 2, 3}
    assert len(places) == 800


def test_a_transform_of_the_training_only_stays_from_validation() -> None:
    splits = synthetic(train=40, valid=10)
    overrides = ["dataset=synthetic", "device=cpu", "transforms=[normalize,random_shift]"]
    root = configured(overrides).root
    streams = seeds.derive(0, {})
    model = build.build_model(root, splits.spec, streams)
    runner = build.assemble(root, splits=splits, model=model, device=torch.device("cpu"), seeds=streams, folder=None)
    xb = torch.rand(3, 784)
    normalized = (xb - 0.1307) / 0.3081
    assert len(runner.step.forward.train_transforms) == 2
    assert [torch.equal(function(xb), normalized) for function in runner.step.forward.valid_transforms] == [True]


# Where an option differs from its component's own defaults, it is on purpose.
ON_PURPOSE = {("optim", "sgd_momentum"): {"lr": 0.1, "momentum": 0.9}}


def option_cases() -> list[Any]:
    return [
        pytest.param(registry, name, id=f"{registry.group}={name}")
        for registry in register
        for name in options(registry.group)
    ]


def chosen(registry: Registry, name: str) -> dict[str, dict[str, Any]]:
    """The components that an option names, each with its arguments; without what all of the group have."""
    values = option(registry.group, name)
    if registry.many:
        return values
    if registry.common:
        COMMON[registry.group].model_validate({key: values[key] for key in registry.common})
    return {values["name"]: registry.own(values)}


every_option = pytest.mark.parametrize(("registry", "name"), option_cases())


@every_option
def test_an_option_names_registered_components_with_arguments_that_pass(registry: Registry, name: str) -> None:
    for component, arguments in chosen(registry, name).items():
        given = {key: value if value != "???" else "a value" for key, value in arguments.items()}
        assert registry.faults(component, given) == []


@every_option
def test_an_option_writes_out_every_argument_as_the_signature_has_it(registry: Registry, name: str) -> None:
    for component, arguments in chosen(registry, name).items():
        preset = registry.preset(component)
        defaults = (
            preset[component]
            if registry.many
            else {k: v for k, v in preset.items() if k not in ("name", *registry.common)}
        )
        assert arguments == defaults | ON_PURPOSE.get((registry.group, name), {})


@pytest.mark.parametrize("registry", list(register), ids=lambda registry: registry.group)
def test_every_component_of_the_product_has_an_option(registry: Registry) -> None:
    named = {component for name in options(registry.group) for component in chosen(registry, name)}
    shipped = [name for name in registry.names if registry.get(name).factory.__module__.startswith("experiments.")]
    own = {name for name in shipped if "yields" not in registry.get(name).metadata}  # those have no file
    assert own <= named


@pytest.mark.parametrize("name", options("loader"))
def test_every_loader_has_the_tutorials_batch_sizes(name: str) -> None:
    values = option("loader", name)
    assert (values["batch_size"], values["valid_batch_size"], values["valid_shuffle"]) == (64, 128, False)
