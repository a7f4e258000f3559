"""Callbacks and random streams: early stopping, weight pictures, the tutorial's figures; init, order, noise."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from torch.utils.data import Dataset

from experiments import seeds
from experiments.components.callbacks import WEIGHT_IMAGES, EarlyStopping, TutorialFigures, WeightImages, first_layer
from experiments.components.datasets.synthetic import synthetic
from experiments.config.check import configured
from experiments.config.registry import Component, register
from experiments.data.batches import Order
from experiments.errors import ConfigError
from experiments.training import build
from experiments.training.callback import Callback, Training
from experiments.training.result import Metrics, figure_names
from experiments.training.runner import Runner, weights_of
from experiments.training.serializable import find_unserializable
from tests.support.models import IMAGES
from tests.support.training import (
    BATCH,
    SPLITS,
    STEPS,
    TRAIN,
    batches,
    fresh_model,
    make,
    one_thread,  # noqa: F401  # a fixture of every test here
    same,
)


class Scripted(Callback):
    """Puts figures of a script in place of an epoch's own, and keeps the weights of each epoch."""

    def __init__(self, name: str, values: list[float]) -> None:
        self.name, self.values = name, values
        self.weights: list[dict[str, Tensor]] = []

    def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:
        figures[self.name] = self.values[epoch]
        self.weights.append(weights_of(runner.model))


def early(script: Scripted, epochs: int = 9, **arguments: Any) -> Runner:
    runner = make(callbacks=[script, EarlyStopping(**arguments)], limit_batches=1)
    runner.fit(epochs)
    return runner


NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "epochs"),
    [
        ([3, 2, 1, 4, 5, 6, 7, 8, 9], 2, 0.0, 5),
        ([3, 2, 1, 4, 5, 6, 7, 8, 9], 1, 0.0, 4),
        ([3, 3, 3, 3, 3, 3, 3, 3, 3], 3, 0.0, 4),
        ([9, 8.9, 8.8, 8.7, 1, 1, 1, 1, 1], 2, 0.5, 3),
        ([3, 4, 2, 4, 1, 4, 0, 4, -1], 2, 0.0, 9),
        ([NAN, NAN, NAN, 1, 1, 1, 1, 1, 1], 2, 0.0, 3),
        ([2, NAN, 1, NAN, NAN, 9, 9, 9, 9], 2, 0.0, 5),
    ],
)
def test_it_stops_after_so_many_epochs_without_improvement(
    values: list[float], patience: int, min_delta: float, epochs: int
) -> None:
    runner = early(Scripted("valid/loss", values), patience=patience, min_delta=min_delta)
    assert len(runner.history) == epochs


def test_it_goes_back_to_the_best_weights_bit_for_bit() -> None:
    script = Scripted("valid/loss", [3, 1, 2, 4])
    runner = early(script, patience=2)
    assert same(weights_of(runner.model), script.weights[1])
    assert not same(script.weights[1], script.weights[3])


def test_it_goes_back_to_the_best_weights_though_it_did_not_stop() -> None:
    script = Scripted("valid/loss", [1, 2, 3])
    assert same(weights_of(early(script, 3, patience=9).model), script.weights[0])


def test_of_an_accuracy_the_largest_is_the_best() -> None:
    script = Scripted("valid/accuracy", [0.1, 0.9, 0.8, 0.7])
    runner = early(script, monitor="valid/accuracy", patience=2)
    assert len(runner.history) == 4
    assert same(weights_of(runner.model), script.weights[1])


@pytest.mark.parametrize(("mode", "best"), [("max", 1), ("min", 0), (None, 0)])
def test_which_end_of_a_figure_is_the_best_can_be_said(mode: Any, best: int) -> None:
    script = Scripted("valid/loss", [0.1, 0.9, 0.8])
    runner = early(script, 3, mode=mode, patience=9)
    assert same(weights_of(runner.model), script.weights[best])


def test_a_best_figure_of_numpy_can_be_kept_in_a_checkpoint() -> None:
    stopping = EarlyStopping()
    stopping.on_epoch_end(make(), 0, {"valid/loss": np.float64(0.5)})
    assert find_unserializable(stopping.state_dict()) is None


def test_why_it_stopped_is_told() -> None:
    runner = make(callbacks=[Scripted("valid/loss", [1, 2, 3]), EarlyStopping(patience=1)])
    assert runner.fit(3).stopped == "valid/loss has not improved since epoch 0"


def test_a_training_that_reached_its_last_epoch_was_not_stopped() -> None:
    runner = make(callbacks=[Scripted("valid/loss", [1, 2]), EarlyStopping(patience=1)])
    assert runner.fit(2).stopped == ""


def assembled(*overrides: str) -> Runner:
    root = configured(["dataset=synthetic", "device=cpu", *overrides]).root
    splits, streams = synthetic(train=40, valid=10), seeds.derive(0, {})
    model = build.build_model(root, splits.spec, streams)
    return build.assemble(root, splits=splits, model=model, device=torch.device("cpu"), seeds=streams, folder=None)


def test_a_figure_that_is_not_there_is_told_before_the_run_with_those_that_are() -> None:
    with pytest.raises(ConfigError) as caught:
        assembled("callbacks=early_stopping", "callbacks.early_stopping.monitor=valid/los", "~metrics.accuracy")
    figures = "best/valid_loss, throughput/samples_per_second, time/epoch_seconds, train/loss, valid/loss"
    problem = f"watches 'valid/los', which is not a metric of this run; did you mean 'valid/loss'? available: {figures}"
    assert str(caught.value) == f"callbacks.early_stopping: {problem}"


def test_a_figure_that_a_callback_before_it_adds_can_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register.callback, "_components", dict(register.callback._components))

    @register.callback("drift")
    class Drift(Callback):
        adds = ("drift/weights",)

    watched = "+callbacks.early_stopping={monitor: drift/weights, patience: 1, min_delta: 0.0}"
    assert len(assembled("+callbacks.drift={}", watched).callbacks) == 2
    with pytest.raises(ConfigError, match="watches 'drift/weights', which is not a metric of this run"):
        assembled(watched, "+callbacks.drift={}")


def test_the_figures_of_an_epoch_are_those_that_are_foretold() -> None:
    runner = assembled("epochs=1")
    runner.fit(1)
    assert sorted(runner.history[0]) == sorted(figure_names(runner.metrics))


def test_weight_images_keep_the_first_layer_of_each_epoch(tmp_path: Path) -> None:
    script = Scripted("own", [0, 0])
    make(callbacks=[script, WeightImages()], folder=tmp_path).fit(2)
    with np.load(tmp_path / WEIGHT_IMAGES) as archive:
        images = archive["images"]
    states = [weights_of(fresh_model()), *script.weights]
    assert np.array_equal(images, np.stack([state["0.weight"].numpy() for state in states]))


def test_weight_images_leave_nothing_without_a_folder(workplace: Path) -> None:
    make(callbacks=[WeightImages()]).fit(1)
    assert not list(workplace.iterdir())


@pytest.mark.parametrize("name", IMAGES)
def test_the_first_layer_of_every_model_is_pictures(name: str) -> None:
    spec = synthetic(shape=[1, 28, 28], train=2, valid=2).spec
    layer = first_layer(register.model.bind(name, {})(spec))
    assert layer is not None
    assert layer.shape[1:] in [(784,), (1, 3, 3), (1, 5, 5), (1, 1, 1)]


def tutorial(shuffle: bool, **changes: Any) -> tuple[dict[str, float], Runner]:
    found: dict[str, float] = {}

    def record(figures: Mapping[str, float], step: int) -> None:
        found.update({f"{name} @{step}": value for name, value in figures.items() if name.startswith("tutorial/")})

    train = batches(SPLITS.train, shuffle=shuffle)
    runner = make(train=train, callbacks=[TutorialFigures()], record=record, **changes)
    runner.fit(2)
    return found, runner


def plainly(model: Any, start: int, end: int) -> tuple[float, float]:
    x, y = SPLITS.train.floats()
    with torch.no_grad():
        pred = model(x[start:end])
    right = sum(int(row.argmax()) == int(label) for row, label in zip(pred, y[start:end], strict=True))
    return F.cross_entropy(pred, y[start:end]).item(), right / len(pred)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("limit", "start", "end"), [(None, (STEPS - 1) * BATCH, TRAIN), (3, 2 * BATCH, 3 * BATCH)])
def test_the_tutorials_figures_are_those_of_the_first_and_last_rows(
    shuffle: bool, limit: int | None, start: int, end: int
) -> None:
    found, runner = tutorial(shuffle, limit_batches=limit)
    loss, accuracy = plainly(fresh_model(), 0, BATCH)
    last_loss, last_accuracy = plainly(runner.model, start, end)
    assert found == {
        "tutorial/untrained_first_batch_loss @0": loss,
        "tutorial/untrained_first_batch_accuracy @0": pytest.approx(accuracy),
        "tutorial/untrained_last_batch_loss @0": plainly(fresh_model(), start, end)[0],
        "tutorial/last_batch_loss @1": last_loss,
        "tutorial/last_batch_accuracy @1": pytest.approx(last_accuracy),
    }


def test_the_tutorials_figures_leave_the_training_alone() -> None:
    plain = make()
    plain.fit(2)
    assert same(weights_of(tutorial(True)[1].model), weights_of(plain.model))


def test_the_order_is_a_pure_function_of_seed_and_epoch() -> None:
    first, second = (Order(40, shuffle=True, seed=7) for _ in range(2))
    torch.manual_seed(1)
    epochs = []
    for first.epoch in range(3):
        epochs.append(list(first))
    torch.manual_seed(2)
    for second.epoch in reversed(range(3)):
        assert list(second) == epochs[second.epoch]
    assert sorted(epochs[0]) == list(range(40))
    assert epochs[0] != epochs[1] != epochs[2]
    assert list(Order(40, shuffle=True, seed=8)) != epochs[0]


def test_an_order_without_shuffling_is_the_rows_as_they_lie() -> None:
    order = Order(5, shuffle=False, seed=7)
    assert order.indices() is None
    assert list(order) == [0, 1, 2, 3, 4]


def test_the_order_does_not_touch_the_noise_stream() -> None:
    state = torch.get_rng_state()
    list(Order(40, shuffle=True, seed=7))
    assert torch.equal(state, torch.get_rng_state())


def test_three_streams_of_one_seed_differ_and_repeat() -> None:
    streams = seeds.derive(0, {})
    assert streams == seeds.derive(0, {}) != seeds.derive(1, {})
    assert len({streams.init, streams.data_order, streams.noise}) == 3


def test_a_stream_set_to_zero_is_set() -> None:
    assert seeds.derive(5, {"init": 0}).init == 0


@pytest.mark.parametrize("stream", ["init", "data_order", "noise"])
def test_a_stream_of_its_own_changes_that_stream_alone(stream: str) -> None:
    splits = synthetic(train=40, valid=10)

    def observed(own: dict[str, int]) -> dict[str, Any]:
        overrides = ["dataset=synthetic", "model=mlp", "model.dropout=0.5", "optim=sgd", "device=cpu"]
        root = configured(overrides).root
        streams = seeds.derive(root.seed, own)
        model = build.build_model(root, splits.spec, streams)
        weights = weights_of(model)
        runner = build.assemble(
            root, splits=splits, model=model, device=torch.device("cpu"), seeds=streams, folder=None
        )
        return {"init": weights["0.weight"].tolist(), "data_order": list(runner.train.order), "noise": torch.rand(3)}

    one, other = observed({}), observed({stream: 77})
    one["noise"], other["noise"] = one["noise"].tolist(), other["noise"].tolist()
    assert [name for name in one if one[name] != other[name]] == [stream]


class Drawn(Dataset[Any]):
    """A user's own, whose items differ each time they are read."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.rand(1, 2, 2) + np.random.rand() + random.random(), index % 2


def another_state() -> None:
    torch.manual_seed(int(torch.randint(1_000_000, ())))
    np.random.seed(int(torch.randint(1_000_000, ())))
    random.seed(int(torch.randint(1_000_000, ())))


@pytest.mark.parametrize(
    "made",
    [
        lambda: {"train": Drawn(), "valid": Drawn()},
        lambda: {"train": Drawn(), "valid": Drawn(), "classes": 2, "digest": "mine"},
        lambda: {"train": (torch.rand(6, 1, 2, 2) + np.random.rand(), [0, 1, 0, 1, 0, 1]), "valid": Drawn()},
    ],
    ids=["read at once", "read later", "arrays"],
)
def test_a_dataset_that_draws_is_the_same_whatever_came_before(
    made: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(register.dataset._components, "mine", Component("dataset", "mine", made, {}))
    found = []
    for _ in range(2):
        another_state()
        build.forget_dataset()
        splits = build.load_dataset({"name": "mine"})
        another_state()
        found.append((splits.spec.digest, splits.train.tensors[0]))
    assert found[0][0] == found[1][0] and torch.equal(found[0][1], found[1][1])


def test_weights_that_numpy_and_python_draw_are_of_the_stream_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.Parameter(torch.full((1,), np.random.rand() + random.random()))

    monkeypatch.setitem(register.model._components, "mine", Component("model", "mine", lambda data: Net(), {}))
    root = configured(["dataset=synthetic"]).root
    root = root.model_copy(update={"model": {"name": "mine"}})
    made = []
    for seed in (0, 0, 1):
        another_state()
        model = build.build_model(root, synthetic(train=4, valid=4).spec, seeds.derive(seed, {}))
        made.append(model.weights.item())
    assert made[0] == made[1] != made[2]
