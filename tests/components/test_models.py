"""Every registered model keeps the contract of models; the stages' models are one function written in many ways."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.config.registry import register
from experiments.data.splits import DataSpec
from experiments.errors import ConfigError
from experiments.seeds import Seeds
from experiments.training.build import build_model
from tests.support.models import PIXELS, SEQUENCES

MODELS = register.model
STAGES = ["logistic_tensors", "logistic_logits", "logistic_parameters", "logistic"]
CNNS = ["cnn", "cnn_sequential", "cnn_adaptive"]
SHAPES = [(1, 28, 28), (1, 8, 8), (3, 17, 23)]


SEQUENCE_SPECS: list[dict[str, Any]] = [
    {"shape": (6,), "dtype": "int64", "extra": {"vocabulary": 9}},
    {"shape": (6,), "dtype": "int64", "extra": {"vocabulary": 9}, "places": (6,)},
    {"shape": (6, 3)},
]


def spec(shape: tuple[int, int, int] = (1, 28, 28), outputs: int = 10) -> DataSpec:
    return DataSpec(name="some", shape=shape, outputs=outputs, classes=True, sizes={}, digest="")


def build(name: str, data: DataSpec, *, seed: int = 0, **arguments: Any) -> Any:
    torch.manual_seed(seed)
    return MODELS.bind(name, arguments)(data)


def fitting(name: str) -> list[DataSpec]:
    """The specs that a model accepts, out of several shapes."""
    only = MODELS.get(name).metadata.get("shape")
    if name in SEQUENCES:
        return [replace(spec(outputs=4), **given) for given in SEQUENCE_SPECS]
    specs = [spec(shape, outputs=4) for shape in SHAPES if only in (None, shape)]
    return [replace(one, places=one.shape[1:]) for one in specs] if name in PIXELS else specs


def inputs(name: str, data: DataSpec, size: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (data.features,) if MODELS.get(name).metadata.get("input") == "flat" else data.shape
    if data.dtype == "int64":
        return torch.randint(0, 9, (size, *shape), generator=generator)
    return torch.rand(size, *shape, generator=generator)


def cases() -> list[Any]:
    return [
        pytest.param(name, data, id=f"{name}-{data.shape}-{data.places}")
        for name in MODELS.names
        for data in fitting(name)
    ]


every_model = pytest.mark.parametrize(("name", "data"), cases())


def test_every_model_takes_at_least_one_of_the_shapes() -> None:
    assert {case.values[0] for case in cases()} == set(MODELS.names)


@every_model
def test_a_model_says_which_input_it_takes(name: str, data: DataSpec) -> None:
    assert MODELS.get(name).metadata.get("input", "image") in ("flat", "image", "any")


@every_model
def test_a_model_gives_one_row_of_outputs_for_each_input(name: str, data: DataSpec) -> None:
    assert build(name, data)(inputs(name, data)).shape == (5, 4, *data.places)


@every_model
def test_the_same_seed_gives_the_same_weights(name: str, data: DataSpec) -> None:
    one, two, other = (build(name, data, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@every_model
def test_weights_go_from_one_model_to_another_bit_for_bit(name: str, data: DataSpec) -> None:
    one, other = build(name, data, seed=1).eval(), build(name, data, seed=2).eval()
    x = inputs(name, data)
    assert not torch.equal(one(x), other(x))
    other.load_state_dict({key: tensor.clone() for key, tensor in one.state_dict().items()})
    assert torch.equal(one(x), other(x))


@every_model
def test_loading_weights_keeps_the_parameters_themselves(name: str, data: DataSpec) -> None:
    model = build(name, data)
    before = [id(p) for p in model.parameters()]
    model.load_state_dict(build(name, data, seed=9).state_dict())
    assert [id(p) for p in model.parameters()] == before


@every_model
@pytest.mark.parametrize("change", ["missing", "repeated column"])
def test_weights_that_do_not_fit_are_refused(name: str, data: DataSpec, change: str) -> None:
    state = dict(build(name, data).state_dict())
    key = next(iter(state))
    if change == "missing":
        del state[key]
    else:
        state[key] = state[key][..., :1]
    with pytest.raises(RuntimeError):
        build(name, data).load_state_dict(state)


@every_model
def test_every_parameter_is_a_leaf_that_gets_a_gradient(name: str, data: DataSpec) -> None:
    model = build(name, data).to(torch.device("cpu")).train()
    # ReLU at the end of a CNN may silence one output of one picture, but not all of many.
    model(inputs(name, data, 64)).square().sum().backward()
    parameters = list(model.parameters())
    assert parameters
    assert all(p.is_leaf and p.requires_grad and p.grad is not None for p in parameters)


@every_model
def test_the_state_holds_every_parameter(name: str, data: DataSpec) -> None:
    model = build(name, data)
    assert sum(t.numel() for t in model.state_dict().values()) >= sum(p.numel() for p in model.parameters())


@every_model
def test_train_eval_and_to_give_the_model_back(name: str, data: DataSpec) -> None:
    model = build(name, data)
    assert model.train() is model and model.eval() is model and model.to(torch.device("cpu")) is model


@every_model
def test_evaluation_draws_nothing(name: str, data: DataSpec) -> None:
    model, state = build(name, data).eval(), torch.get_rng_state()
    assert torch.equal(model(inputs(name, data)), model(inputs(name, data)))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", ["logistic_tensors", "logistic_logits", "logistic_parameters"])
def test_hand_made_weights_are_scaled_normal_numbers_and_biases_zero(name: str) -> None:
    state = build(name, spec(), seed=5).state_dict()
    torch.manual_seed(5)
    assert torch.equal(state["weights"], torch.randn(784, 10) / math.sqrt(784))
    assert torch.equal(state["bias"], torch.zeros(10))


def stages() -> dict[str, Any]:
    """The four logistic models with the same weights."""
    models = {name: build(name, spec()) for name in STAGES}
    weights, bias = torch.randn(784, 10) / 28, torch.randn(10)
    for name, model in models.items():
        pair = (weights, bias) if name != "logistic" else (weights.T, bias)
        model.load_state_dict(dict(zip(model.state_dict(), pair, strict=True)))
    return models


@pytest.mark.parametrize("name", STAGES[1:])
def test_the_logistic_stages_give_the_same_logits_from_the_same_weights(name: str) -> None:
    models, x = stages(), inputs("logistic", spec())
    torch.testing.assert_close(models[name](x), models["logistic_logits"](x))


def test_the_first_stage_gives_the_log_softmax_of_those_logits() -> None:
    models, x = stages(), inputs("logistic", spec())
    torch.testing.assert_close(models["logistic_tensors"](x), torch.log_softmax(models["logistic_logits"](x), dim=1))
    assert MODELS.get("logistic_tensors").metadata["output"] == "log_probabilities"


def test_logits_are_a_sum_of_products_and_the_bias() -> None:
    model, x = stages()["logistic_logits"], inputs("logistic", spec())
    weights, bias = model.state_dict()["weights"].tolist(), model.state_dict()["bias"].tolist()
    row = x[0].tolist()
    plain = [sum(row[i] * weights[i][j] for i in range(784)) + bias[j] for j in range(10)]
    torch.testing.assert_close(model(x)[0].tolist(), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CNNS[1:])
def test_the_cnns_give_the_same_logits_from_the_same_weights(name: str) -> None:
    first, other = build("cnn", spec()), build(name, spec(), seed=1)
    other.load_state_dict(dict(zip(other.state_dict(), first.state_dict().values(), strict=True)))
    x = inputs("cnn", spec())
    torch.testing.assert_close(other(inputs(name, spec())), first(x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CNNS[1:])
def test_the_cnns_have_the_same_initial_weights(name: str) -> None:
    first, other = build("cnn", spec()).state_dict(), build(name, spec()).state_dict()
    assert all(torch.equal(a, b) for a, b in zip(first.values(), other.values(), strict=True))


@pytest.mark.parametrize("name", CNNS[:2])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (1, 28, 27)])
def test_a_fixed_cnn_refuses_other_pictures_and_names_the_one_that_fits(name: str, shape: tuple[int, int, int]) -> None:
    root: Any = SimpleNamespace(model={"name": name})
    with pytest.raises(ConfigError) as caught:
        build_model(root, spec(shape), Seeds(0, 0, 0))
    told = f"model: {name} takes images of shape (1, 28, 28), dataset some has {shape}; models of any shape: "
    assert str(caught.value).startswith(told) and "cnn_adaptive, " in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 17, 23), (1, 28, 28), (2, 1, 1), (1, 100, 3)])
def test_the_adaptive_cnn_takes_any_picture(shape: tuple[int, int, int]) -> None:
    data = spec(shape)
    assert build("cnn_adaptive", data)(inputs("cnn_adaptive", data)).shape == (5, 10)


@pytest.mark.parametrize(("depth", "dropout", "layers"), [(1, 0.0, 3), (2, 0.0, 5), (2, 0.5, 7)])
def test_an_mlp_has_the_layers_that_were_asked_for(depth: int, dropout: float, layers: int) -> None:
    model = build("mlp", spec(), width=7, depth=depth, dropout=dropout)
    assert len(model) == layers
    assert [tuple(p.shape) for p in model.parameters() if p.ndim == 2] == [(7, 784), *[(7, 7)] * (depth - 1), (10, 7)]


def test_dropout_acts_in_training_only() -> None:
    model, x = build("mlp", spec(), dropout=0.5), inputs("mlp", spec())
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))
