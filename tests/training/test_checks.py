"""What components return and whether they fit together: one message before a run starts, never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import experiments
from experiments.config.check import configured
from experiments.config.compose import compose
from experiments.config.registry import Component, Registry, register
from experiments.config.root import RootConfig
from experiments.data.splits import DataSpec
from experiments.runs import preparation
from experiments.tracking.metric_names import drop_invalid, is_valid
from experiments.training import build
from experiments.training.callback import Callback

SMALL = ["dataset=synthetic", "dataset.shape=[1,4,4]", "dataset.classes=3", "dataset.train=16", "dataset.valid=6"]
SMALL += ["model=mlp", "model.width=6", "device=cpu", "tracking=none", "figures=false"]


@pytest.fixture(scope="module")
def root(request: pytest.FixtureRequest) -> RootConfig:
    return configured([*SMALL, *getattr(request, "param", [])]).root


Told = Callable[..., str]


@pytest.fixture
def told(root: RootConfig, monkeypatch: pytest.MonkeyPatch) -> Told:
    """The one message where a factory, chosen as `mine`, does not do."""

    def message(kind: Registry, factory: Any, name: str = "mine", folder: Path | None = None, **facts: Any) -> str:
        monkeypatch.setitem(kind._components, name, Component(kind.kind, name, factory, facts))
        mine = {name: {}} if kind.many else {**kind.common, "name": name}
        changed = root.model_copy(update={kind.group: mine})
        build.forget_dataset()
        with pytest.raises(experiments.ConfigError) as caught:
            preparation.prepare(changed, ()).runner(folder)
        return str(caught.value)

    return message


class Giving(nn.Module):
    """A model that gives whatever it is told to."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.change = nn.Linear(16, 3), change

    def forward(self, xb: Tensor) -> Any:
        return self.change(self.linear(xb.flatten(1)))


@pytest.mark.parametrize("made", [None, ([], []), 3, TensorDataset])
def test_a_dataset_that_is_none(made: Any, told: Told) -> None:
    kind = "None" if made is None else f"a {type(made).__name__}"
    message = told(register.dataset, lambda: made)
    assert message == f"dataset: mine returned {kind}; expected a mapping with train and valid"


def test_a_dataset_with_a_misspelt_part_is_told_with_the_nearest(told: Told) -> None:
    lines = told(register.dataset, lambda: {"train": None, "vaild": None}).splitlines()
    assert lines[1].startswith("  dataset: mine returned 'vaild'; did you mean 'valid'? available: ")
    assert lines[2] == "  dataset: mine returned no 'valid'"


@pytest.mark.parametrize(("made", "kind"), [(None, "None"), (iter([]), "a list_iterator"), (DataLoader, "a type")])
def test_a_loader_that_is_none(made: Any, kind: str, told: Told) -> None:
    message = told(register.loader, lambda split, batch_size, order, shape: made)
    assert message == f"loader: mine returned {kind}; expected an iterable of batches (xb, yb) with a length"


def test_a_loader_without_batches_is_refused_with_the_rows_that_it_has(told: Told) -> None:
    message = told(register.loader, lambda split, batch_size, order, shape: [])
    assert message == "loader.batch_size: mine yields no batch of the 16 train rows; try 16"


class Forgetting:
    """An optimiser without a state."""

    def __init__(self, params: Any) -> None:
        self.params = list(params)

    def step(self) -> None: ...

    def zero_grad(self) -> None: ...


class Own(Forgetting):
    """An optimiser that is not torch's."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None: ...


@pytest.mark.parametrize("root", [["scheduler=step"], ["scheduler=cosine"]], indirect=True)
def test_a_scheduler_of_torch_for_an_optimiser_that_is_not(root: RootConfig, told: Told) -> None:
    message = told(register.optim, Own)
    told_so = f"scheduler: {root.scheduler['name']} needs a torch optimiser, optim mine is not one (Own is not an "
    assert message.startswith(told_so) and message.endswith("; use a constant learning rate")


@pytest.mark.parametrize(
    ("value", "kind"), [(np.float64(1), "numpy.float64"), (Path("a"), "pathlib.PosixPath"), ({1: [Own([])]}, None)]
)
def test_a_state_that_could_not_be_read_again(value: Any, kind: str | None, told: Told) -> None:
    class Keeping(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"best": value}

    where = "['best']" if kind else "['best'][1][0]"
    found = f"a {kind or f'{Own.__module__}.Own'} at {where}; only tensors and plain values can be loaded"
    assert told(register.callback, Keeping) == f"callbacks.mine: its state_dict() holds {found}"


@pytest.mark.parametrize("root", [["scheduler=constant"]], indirect=True)
def test_a_part_without_a_state(told: Told) -> None:
    message = told(register.optim, Forgetting)
    assert message == "optim: Forgetting must define state_dict() and load_state_dict() to be resumable"


EXPECTED = "expected an nn.Module, or a callable with parameters(), train(), eval(), to(), state_dict()"


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (None, "None"),
        (3, "a int"),
        (nn.Linear, "a type"),
        (lambda xb: xb, "a function"),
        (SimpleNamespace(), "a Simpl"),
    ],
)
def test_a_model_that_is_none(made: Any, kind: str, told: Told) -> None:
    message = told(register.model, lambda data: made)
    assert message.startswith(f"model: mine returned {kind}") and message.endswith(EXPECTED)


def test_a_model_without_parameters(told: Told) -> None:
    message = told(register.model, lambda data: nn.Flatten())
    assert message == "model: mine has no parameters, so there is nothing to train"


def test_a_model_that_is_frozen(told: Told) -> None:
    message = told(register.model, lambda data: nn.Linear(16, 3).requires_grad_(False))
    assert message == "model: mine has only frozen parameters, so there is nothing to train"


def test_a_model_whose_output_has_no_gradient(told: Told) -> None:
    message = told(register.model, lambda data: Giving(Tensor.detach), input="flat")
    assert message.startswith("model: mine has an output without a gradient (detached, or of frozen parameters)")


class DetachedInEvaluation(Giving):
    def forward(self, xb: Tensor) -> Tensor:
        pred: Tensor = super().forward(xb)
        return pred if self.training else pred.detach()


def test_a_model_may_detach_its_output_in_evaluation(root: RootConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Component("model", "mine", lambda data: DetachedInEvaluation(lambda pred: pred), {})
    monkeypatch.setitem(register.model._components, "mine", mine)
    model = preparation.prepare(root.model_copy(update={"model": {"name": "mine"}}), ()).runner(None).model
    assert isinstance(model, DetachedInEvaluation)


def test_an_optimiser_that_gets_no_parameters(told: Told) -> None:
    message = told(register.optim, lambda params: torch.optim.SGD([p for p in params if p.ndim > 9]))
    assert message == "optim: mine cannot be made: optimizer got an empty parameter list"


class Normalised(nn.Sequential):
    def __init__(self, _data: Any) -> None:
        super().__init__(nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3))


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"batch_size": 5}, True),
        ({"batch_size": 1}, True),
        ({"batch_size": 6}, False),
        ({"batch_size": 16}, False),
    ],
)
def test_a_last_batch_of_one_row_with_batch_norm_is_refused_with_the_next_size(
    settings: dict[str, int], refused: bool, root: RootConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(register.model._components, "mine", Component("model", "mine", Normalised, {}))
    changed = root.model_copy(update={"model": {"name": "mine"}, "loader": dict(root.loader) | settings})
    prepared = preparation.prepare(changed, ())
    before = prepared.runner(None).model.state_dict()
    if not refused:
        runner = prepared.runner(tmp_path)
        assert all(torch.equal(value, before[name]) for name, value in runner.model.state_dict().items())
        return
    size = settings["batch_size"]
    message = (
        rf"loader\.batch_size: 16 training rows in batches of {size} leave one row .* mine .*\(try {size + 1}, or "
    )
    with pytest.raises(experiments.ConfigError, match=message):
        prepared.runner(tmp_path)


def test_batches_that_are_not_trained_on_are_not_refused(
    root: RootConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(register.model._components, "mine", Component("model", "mine", Normalised, {}))
    update = {"model": {"name": "mine"}, "loader": dict(root.loader) | {"batch_size": 5}, "limit_batches": 3}
    assert len(preparation.prepare(root.model_copy(update=update), ()).runner(tmp_path).train) == 3


@pytest.mark.parametrize(
    ("change", "given", "expected"),
    [
        (lambda pred: None, "None", "tensors, of 6 rows"),
        (lambda pred: (pred, pred), "a tuple of the shapes ((6, 3), (6, 3))", "takes predictions of the shape (6, 3)"),
        (lambda pred: pred.tolist(), "a list", "tensors, of 6 rows"),
        (lambda pred: pred.sum(), "a tensor of the shape ()", "tensors, of 6 rows"),
        (lambda pred: pred[:, :2], "a tensor of the shape (6, 2)", "end the model with 3 outputs (data.outputs)"),
    ],
)
def test_an_output_that_is_none(change: Any, given: str, expected: str, told: Told) -> None:
    message = told(register.model, lambda data: Giving(change))
    assert message is not None and message.startswith(f"model: mine returned {given}") and expected in message


@pytest.mark.parametrize(
    ("value", "kind"),
    [(1, "a int"), (0.5, "a float"), (None, "None"), (torch.ones(6), "a tensor of the shape (6,)")],
)
def test_losses_and_metrics_that_are_no_scalars(value: Any, kind: str, told: Told) -> None:
    assert told(register.loss, lambda pred, target: value) == f"loss: mine returned {kind}; expected a scalar mean"
    if not isinstance(value, int | float):
        message = told(register.metric, lambda pred, target: value)
        assert message == f"metrics.mine: mine returned {kind}; expected a scalar sum over rows"


def test_a_metric_that_cannot_take_the_targets(told: Told) -> None:
    message = told(register.metric, lambda pred, target: (pred - target[:, None, None, :2]).view(5))
    assert message.startswith("metrics.mine: mine cannot take predictions (6, 3), targets (6,): ")


@pytest.mark.parametrize(("made", "kind"), [(None, "None"), (Callback, "a type"), (lambda: 1, "a function")])
def test_a_callback_that_is_none(made: Any, kind: str, told: Told) -> None:
    message = told(register.callback, lambda: made)
    assert message == f"callbacks.mine: mine returned {kind}; expected an experiments.Callback"


@pytest.mark.parametrize(("made", "kind"), [(None, "None"), (torch.optim.SGD, "a type")])
def test_an_optimiser_that_is_none(made: Any, kind: str, told: Told) -> None:
    message = told(register.optim, lambda params: made)
    assert message == f"optim: mine returned {kind}; expected an optimiser with step() and zero_grad()"


# Figures that MLflow would refuse, and with them the run


class Delegating:
    """An optimiser that has its methods from another one."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)


def test_an_optimiser_may_have_its_methods_by_delegation(root: RootConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(params: Any, *, lr: float = 0.1) -> Delegating:
        return Delegating(torch.optim.SGD(params, lr))

    monkeypatch.setitem(register.optim._components, "mine", Component("optim", "mine", mine, {}))
    changed = root.model_copy(update={"optim": {"name": "mine", "lr": 0.1}})
    assert len(preparation.prepare(changed, ()).runner(None).fit(1).history) == 1


def test_an_optimiser_whose_step_cannot_be_called(told: Told) -> None:
    made = SimpleNamespace(step=None, zero_grad=print)
    assert told(register.optim, lambda params: made).startswith("optim: mine returned a SimpleNamespace")


def test_a_metric_of_a_name_that_mlflow_refuses_is_refused_before_the_run(told: Told) -> None:
    message = told(register.metric, lambda pred, target: pred.sum(), name="top@5")
    assert message.startswith(
        "metrics.top@5: 'top@5' is not allowed as a metric's name: a metric's name may have only letters"
    )


def test_a_callback_that_adds_such_a_name_is_refused_before_the_run(told: Told) -> None:
    class Adding(Callback):
        adds = ("train/top@5",)

    assert told(register.callback, Adding).startswith("callbacks.mine: 'train/top@5' is not allowed as a metric's name")


@pytest.mark.parametrize("name", ["valid/loss", "top-5", "a b", "F1.macro", "x:y", "\u0443\u0440\u043e\u043d"])
def test_names_that_mlflow_takes(name: str) -> None:
    assert is_valid(name)


@pytest.mark.parametrize("name", ["", "a@b", "a%", "a(b)", "/a", "a/", "a//b", "../a", "a/./b", "a\nb", "a\n"])
def test_names_that_it_does_not_take(name: str) -> None:
    assert not is_valid(name)


def test_figures_that_are_none_are_told_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    given = {"a": 1, "b": "two", "c": torch.tensor(3.0), "d": torch.ones(2), "e@": 1.0, "f": None, "g": float("nan")}
    with caplog.at_level(logging.WARNING):
        kept = drop_invalid(given)
    assert list(kept) == ["a", "c", "g"] and all(type(value) is float for value in kept.values())
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "the metric 'b' is left out, since it is not a number",
        "the metric 'd' is left out, since it is not a number",
        "the metric 'e@' is left out",
        "the metric 'f' is left out, since it is not a number",
    ]


# What is composed


@pytest.mark.parametrize("option", ["callbacks=[early_stoping]", "callbacks=[weight_images,early_stoping]"])
def test_an_unknown_name_in_a_list_is_told_with_the_nearest(option: str) -> None:
    with pytest.raises(experiments.ConfigError) as caught:
        compose([option])
    told = "callbacks=early_stoping: there is no such option; did you mean 'early_stopping'? available: "
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["tutorial={a:1}"], "tutorial.title: a value is required"),
        (["stage=03_module", "~tutorial.why"], "tutorial.why: a value is required"),
        (["stage=03_module", "tutorial.number=x"], "tutorial.number: 'x' is not allowed"),
        (["stage=03_module", "~tutorial.title.uz"], "tutorial.title.uz: a value is required"),
    ],
)
def test_a_stages_words_that_are_missing_are_told(overrides: list[str], told: str) -> None:
    with pytest.raises(experiments.ConfigError) as caught:
        configured(overrides)
    assert told in str(caught.value)


# Remedies


class Tokens(nn.Module):
    """Predictions (rows, places, 4) of tokens."""

    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        self.table = nn.Embedding(60, 4)

    def forward(self, xb: Tensor) -> Tensor:
        pred: Tensor = self.table(xb)
        return pred


@pytest.fixture
def tokens(root: RootConfig, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return what refuses a model of tokens (12, 5), with the configured loss or another one."""
    x = torch.arange(60).reshape(12, 5)
    components: dict[str, Any] = {
        "model": (Tokens, {"input": "tokens"}),
        "dataset": (lambda: {"train": (x, x % 4), "valid": (x, x % 4), "classes": 4}, {}),
        "loss": (lambda pred, target: nn.functional.cross_entropy(pred.flatten(0, 1), target.flatten()), {}),
    }

    build.forget_dataset()

    def refused(*kinds: str) -> str:
        for kind in kinds:
            component = Component(kind, "own", *components[kind])
            monkeypatch.setitem(vars(register)[kind]._components, "own", component)
        with pytest.raises(experiments.ConfigError) as caught:
            preparation.prepare(root.model_copy(update={kind: {"name": "own"} for kind in kinds}), ()).runner(None)
        return str(caught.value)

    return refused


def test_a_loss_that_the_model_does_not_suit_has_a_remedy(tokens: Callable[..., str]) -> None:
    told = tokens("model", "dataset")
    assert told.endswith("; return them with .movedim(-1, 1), and take loss=cross_entropy"), told


def test_a_metric_that_the_model_does_not_suit_may_be_left_out(tokens: Callable[..., str]) -> None:
    told = tokens("model", "dataset", "loss")
    assert "; ~metrics.accuracy leaves it out; return them with " in told, told


def test_one_training_row_trains(root: RootConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.ones(1, 3), torch.ones(1, 1)
    own = Component("dataset", "own", lambda: {"train": (x, y), "valid": (x, y)}, {})
    monkeypatch.setitem(register.dataset._components, "own", own)
    build.forget_dataset()
    update: dict[str, Any] = {"dataset": {"name": "own"}, "model": {"name": "logistic"}, "loss": {"name": "mse"}}
    runner = preparation.prepare(root.model_copy(update=update | {"metrics": {}}), ()).runner(None)
    assert len(runner.fit(1).history) == 1


def test_a_missing_key_of_own_code_is_one_line(told: Told) -> None:
    message = told(register.loss, lambda pred, target: dict[str, Tensor]()["box"])
    assert message.endswith("targets (6,): KeyError: 'box'")


def test_a_file_that_a_dataset_lacks_is_one_line(told: Told) -> None:
    message = told(register.dataset, lambda: np.load("nowhere.npy"))
    assert message == "dataset: mine failed: [Errno 2] No such file or directory: 'nowhere.npy'"


# What a checkpoint would lack


class Queued(nn.Module):
    """Keeps the last rows: as a buffer, as one that is not saved, or as an attribute."""

    def __init__(self, kept: str) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 3)
        if kept == "attribute":
            self.queue = torch.zeros(3)
        else:
            self.register_buffer("queue", torch.zeros(3), persistent=kept == "buffer")

    def forward(self, xb: Tensor) -> Tensor:
        pred: Tensor = self.linear(xb.flatten(1))
        if self.training:
            self.queue = pred.detach()[0]
        return pred


@pytest.mark.parametrize("kept", ["attribute", "unsaved buffer"])
def test_a_tensor_of_a_model_that_training_changes_has_to_be_saved(kept: str, told: Told, tmp_path: Path) -> None:
    message = told(register.model, lambda data: Queued(kept), folder=tmp_path)
    assert message.startswith("model: Queued.queue is changed by the training, and no state_dict() has it, so that")


def test_a_tensor_that_is_saved_may_change(root: RootConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = Component("model", "own", lambda data: Queued("buffer"), {})
    monkeypatch.setitem(register.model._components, "own", own)
    preparation.prepare(root.model_copy(update={"model": {"name": "own"}}), ()).runner(tmp_path)


class Stateless(Callback):
    def state_dict(self) -> Any:
        return None

    def load_state_dict(self, state: Any) -> None: ...


class Late(Callback):
    def on_begin(self, runner: Any) -> None:
        self.average = {"a": torch.ones(1)}

    def state_dict(self) -> Any:
        return self.average

    def load_state_dict(self, state: Any) -> None: ...


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (Stateless, "its state_dict() returned None; expected a dict"),
        (
            Late,
            "its state_dict() or load_state_dict() raises AttributeError: 'Late' object has no attribute 'average'; ",
        ),
    ],
)
def test_the_state_of_a_callback_is_tried(made: Any, problem: str, told: Told) -> None:
    assert told(register.callback, made).startswith(f"callbacks.mine: {problem}")


def test_sparse_gradients_that_an_optimiser_cannot_take_are_one_line(
    root: RootConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Sparse(Tokens):
        def __init__(self, data: DataSpec) -> None:
            super().__init__(data)
            self.table = nn.Embedding(60, 4, sparse=True)

        def forward(self, xb: Tensor) -> Tensor:
            return super().forward(xb).movedim(-1, 1)

    x = torch.arange(60).reshape(12, 5)
    for kind, factory in (
        ("model", Sparse),
        ("dataset", lambda: {"train": (x, x % 4), "valid": (x, x % 4), "classes": 4}),
    ):
        component = Component(kind, "own", factory, {"input": "tokens"} if kind == "model" else {})
        monkeypatch.setitem(vars(register)[kind]._components, "own", component)
    update: dict[str, Any] = {"model": {"name": "own"}, "dataset": {"name": "own"}, "optim": {"name": "adam"}}
    build.forget_dataset()
    prepared = preparation.prepare(root.model_copy(update=update), ())
    with pytest.raises(experiments.ConfigError, match=r"^optim: adam cannot take its sparse gradients; the model has"):
        prepared.runner(tmp_path)
