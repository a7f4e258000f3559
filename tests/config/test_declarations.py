"""What components declare at their registration: names and values that exist, and those that must be."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from experiments.config.declarations import BY_GROUP
from experiments.config.registry import Register
from experiments.errors import RegistrationError

Schedule = Callable[..., Any]


def refusal(kind: str, factory: Callable[..., Any], **declared: Any) -> str:
    with pytest.raises(RegistrationError) as caught:
        getattr(Register(), kind)("mine", **declared)(factory)
    return str(caught.value)


def two(one: Any, other: Any) -> None: ...


@pytest.mark.parametrize(
    ("kind", "declared", "expected"),
    [
        ("loss", {"target": "classes"}, "declares 'target', which does not exist; did you mean 'targets'?"),
        ("transform", {"train_only": True}, "did you mean 'training_only'? available: pairs, training_only"),
        (
            "loss",
            {"targets": "labels"},
            "declares targets='labels'; did you mean 'classes'? available: ",
        ),
        ("metric", {"over": "epoch"}, "declares over='epoch'; available: pass, rows"),
        ("transform", {"training_only": "yes"}, "declares training_only='yes'; it should be bool"),
        ("transform", {"training_only": 1}, "declares training_only=1; it should be bool"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_nearest(kind: str, declared: Any, expected: str) -> None:
    text = refusal(kind, two, **declared)
    assert expected in text
    assert text.startswith(f"{kind} 'mine' in {__file__}:{inspect.getsourcelines(two)[1]} declares ")


@pytest.mark.parametrize(
    "declared", [{"centred": 1}, {"centred": 0.5}, {"plain": two}, {"plain": "x = 1"}, {"light_on_dark": False}]
)
def test_each_value_of_a_type_is_allowed(declared: Any) -> None:
    Register().dataset("mine", **declared)(lambda: None)


def test_a_number_is_not_true() -> None:
    assert "declares centred=True; it should be int or float" in refusal("dataset", lambda: None, centred=True)


def test_every_group_has_its_declarations() -> None:
    assert {registry.group for registry in Register()} <= BY_GROUP.keys()


class Stepped:
    """A scheduler as a class."""

    def __init__(self, optimizer: Any, epochs: int, steps: int) -> None:
        self.total = epochs * steps


def nested(optimizer: Any, epochs: int, steps: int) -> Any:
    return lambda step: step / steps


@functools.wraps(nested)
def wrapped(*given: Any) -> Any:
    return nested(*given)


READERS: list[Schedule] = [
    lambda optimizer, epochs, steps: steps,
    lambda o, e, per_epoch: per_epoch,
    Stepped,
    nested,
    wrapped,
]


@pytest.mark.parametrize("factory", READERS)
def test_a_scheduler_that_reads_the_steps_must_declare_when_it_is_called(factory: Schedule) -> None:
    text = refusal("scheduler", factory)
    assert text.endswith("reads steps, so it must declare per: per='epoch' or per='step'")
    Register().scheduler("mine", per="epoch")(factory)


@pytest.mark.parametrize(
    "factory", [lambda optimizer, epochs, steps: epochs, lambda optimizer, epochs, steps: optimizer["steps"]]
)
def test_a_scheduler_that_does_not_read_the_steps_is_called_after_each_epoch(factory: Schedule) -> None:
    Register().scheduler("mine")(factory)
