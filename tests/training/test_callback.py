"""Callbacks: hooks that exist, with the arguments that they are passed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experiments import Callback
from experiments.errors import RegistrationError


def a_callback(name: str, hook: Any) -> type[Callback]:
    return type("Mine", (Callback,), {name: hook})


def no_hook(self: Any, *given: Any) -> None: ...


@pytest.mark.parametrize("name", ["on_batch_end", "on_epoch_begin", "on_train_start", "on_"])
def test_a_hook_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(RegistrationError, match=f"^callback Mine has no hook called {name};.*: .*on_epoch_end"):
        a_callback(name, no_hook)


def test_the_nearest_hook_is_named_though_it_is_called_otherwise_elsewhere() -> None:
    with pytest.raises(RegistrationError, match="did you mean 'on_fit_start'"):
        a_callback("on_train_start", no_hook)


def test_a_hook_of_another_base_is_checked_too() -> None:
    class Mixin:
        def on_batch(self) -> None: ...

    with pytest.raises(RegistrationError, match="no hook called on_batch"):
        type("Mine", (Mixin, Callback), {})


@pytest.mark.parametrize(
    "hook", [lambda self, runner, epoch: None, lambda self, runner, epoch, figures, more: None, lambda: None]
)
def test_a_hook_with_other_arguments_is_refused(hook: Callable[..., None]) -> None:
    expected = r"^callback Mine has on_epoch_end, which should take \(self, runner, epoch, figures\)$"
    with pytest.raises(RegistrationError, match=expected):
        a_callback("on_epoch_end", hook)


@pytest.mark.parametrize("hook", [no_hook, lambda self, run, number, metrics, more=1: None, staticmethod(no_hook)])
def test_a_hook_that_can_be_called_is_taken(hook: Any) -> None:
    assert a_callback("on_epoch_end", hook)
