"""What a component may declare beside its signature: `@register.loss("mine", targets="classes")`.

A registration that declares another name or value is refused.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.errors import suggestion

READS = ("LOAD_FAST", "LOAD_DEREF", "LOAD_CLOSURE")  # instructions


class Declaration(NamedTuple):
    """One thing that the components of a group may declare."""

    allowed: tuple[Any, ...]  # its texts, or the types of its values
    meaning: str
    needed_with: str = ""  # a value that the run passes: a factory that reads it must declare this

    def fault(self, value: object) -> str | None:
        """Return why it cannot have this value; None where it can. True is not a number here."""
        if isinstance(self.allowed[0], str):
            return None if value in self.allowed else suggestion(value, self.allowed)
        if isinstance(value, self.allowed) and (bool in self.allowed or not isinstance(value, bool)):
            return None
        return f"; it should be {' or '.join(each.__name__ for each in self.allowed)}"


def fault(factory: Callable[..., Any], takes: Sequence[str], declared: Mapping[str, Any], group: str) -> str | None:
    """Return what is wrong with what a factory of a group declares; None if nothing is.

    `takes` are the names of the values that the run passes first.
    """
    known = BY_GROUP.get(group, {})
    for name, value in declared.items():
        if name not in known:
            return f"declares {name!r}, which does not exist{suggestion(name, known)}"
        if problem := known[name].fault(value):
            return f"declares {name}={value!r:.100}{problem}"
    for name in known.keys() - declared.keys():
        if (needed := known[name].needed_with) and _reads(factory, takes.index(needed)):
            options = [f"{name}={each!r}" for each in known[name].allowed]
            return f"reads {needed}, so it must declare {name}: {' or '.join(options)}"
    return None


def _reads(factory: Callable[..., Any], position: int) -> bool:
    """Return whether the code of a factory reads the parameter at this position."""
    code = getattr(inspect.unwrap(factory.__init__ if inspect.isclass(factory) else factory), "__code__", None)
    name = list(inspect.signature(factory).parameters)[position]
    reads = [each.argrepr for each in dis.get_instructions(code) if each.opname.startswith(READS)] if code else []
    return any(name in read.split(", ") for read in reads)  # one instruction may read two


TARGETS = Declaration(("classes", "reals", "input"), "the targets it takes; undeclared: any")
PLAIN = Declaration((str, Callable), "its form in an exported script; undeclared: its own source")

BY_GROUP: dict[str, dict[str, Declaration]] = {
    "dataset": {
        "plain": PLAIN,
        "packed": Declaration((str,), "the file below the dataset's folder that exported scripts read"),
        "light_on_dark": Declaration((bool,), "its images are light on a dark ground; predict inverts others"),
        "centred": Declaration((int, float), "predict centres an image's ink in this part of the width, 0 to 1"),
        "prepare": Declaration((Callable,), "makes a row of an image as the dataset does, for predict"),
        "places": Declaration((tuple,), "names of its arguments that do not change the content"),
    },
    "model": {
        "input": Declaration(
            ("image", "flat", "tokens", "any"),
            "a batch as images, as (n, features), as integers or, as undeclared, as the data has it",
        ),
        "output": Declaration(("log_probabilities",), "its predictions; undeclared: logits or real numbers"),
        "shape": Declaration((tuple,), "the one shape of a row that it takes; undeclared: any"),
        "channels_last": Declaration((bool,), "it trains faster with channels last in memory"),
        "gradients": Declaration((bool,), "it needs gradients in evaluation too"),
    },
    "loss": {
        "targets": TARGETS,
        "input": Declaration(("log_probabilities",), "the predictions it takes; undeclared: any"),
    },
    "optim": {
        "capturable": Declaration((bool,), "device.graph can capture its step"),
        "schedulable": Declaration((bool,), "False: no scheduler can steer it"),
        "closure": Declaration((bool,), "its step() takes a function that evaluates the loss again, as LBFGS does"),
        "named": Declaration((bool,), "it takes (name, parameter) pairs instead of parameters"),
    },
    "loader": {
        "plain": PLAIN,
        "views": Declaration((bool,), "its batches are views of the rows, not copies"),
        "reads_once": Declaration((bool,), "it reads each item once, not in each epoch"),
        "on_device": Declaration((bool,), "it keeps the rows on the device"),
    },
    "scheduler": {
        "per": Declaration(("epoch", "step"), "after which step() is called; undeclared: epoch", needed_with="steps"),
        "any_length": Declaration((bool,), "it does not depend on the training's length: a resumed run may be longer"),
        "steers": Declaration((bool,), "False: it leaves the optimiser unchanged"),
        "watches": Declaration((str,), "the metric of each epoch that its step() gets, for example valid/loss"),
    },
    "step": {},
    "transforms": {
        "training_only": Declaration((bool,), "it is left out in evaluation; undeclared: applied there too"),
        "pairs": Declaration((bool,), "it takes and returns inputs and targets, in training only"),
    },
    "metrics": {
        "targets": TARGETS,
        "over": Declaration(("rows", "pass"), "a sum over rows, or a value of a whole pass; undeclared: rows"),
        "yields": Declaration((bool,), "an own metric of its name takes its place"),
    },
    "callbacks": {
        "targets": TARGETS,
        "watches_only": Declaration((bool,), "it does not change a training"),
        "stops_early": Declaration((bool,), "it may stop a training before its last epoch"),
    },
}
