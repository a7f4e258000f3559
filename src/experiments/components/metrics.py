"""Metrics: `(pred, target)` returns a sum over the batch's rows, on the device; the run divides by the rows.

What is no such sum is registered with `over="pass"`: a function (pred, target) of all rows of a pass, or a class, or a
function of `data`, that makes an object with update(pred, target) and compute(), as torchmetrics has them.
A metric declares at its registration which targets it takes: `targets="classes"` or `targets="reals"`; of classes, it
returns a sum over labels (n, ...). An own metric may have the name of one that `yields`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

from torch import Tensor

from experiments.config.registry import register
from experiments.data.splits import DataSpec
from experiments.errors import ConfigError, Fault

Average = Literal["macro", "micro", "weighted", "binary"]  # the last of the second of two classes
Label = int | None
Pair = tuple[Tensor, Tensor]
INSTALL = "torchmetrics is not installed: pip install 'experiments[metrics]'"


@register.metric("accuracy", targets="classes")
def accuracy(pred: Tensor, target: Tensor) -> Tensor:
    """Return the number of rows whose largest prediction (batch, classes) is at the right class (batch,)."""
    return (pred.argmax(dim=1) == target).sum()


@register.metric("f1", over="pass", yields=True)
def f1(data: DataSpec, *, average: Average = "macro", logits: bool = True, ignore_index: Label = None) -> Any:
    """Return the harmonic mean of precision and recall.

    Args:
        data: what the dataset declares.
        average: macro, the mean over classes; micro, over all rows; weighted, by rows of a class; binary, of class 1.
        logits: whether the model returns logits; false for probabilities.
        ignore_index: a label whose places do not count; null for none.
    """
    return _classified("F1Score", data, average, logits, ignore_index)


@register.metric("precision", over="pass", yields=True)
def precision(data: DataSpec, *, average: Average = "macro", logits: bool = True, ignore_index: Label = None) -> Any:
    """Return the share of right labels among those predicted as a class.

    Args:
        data: what the dataset declares.
        average: macro, the mean over classes; micro, over all rows; weighted, by rows of a class; binary, of class 1.
        logits: whether the model returns logits; false for probabilities.
        ignore_index: a label whose places do not count; null for none.
    """
    return _classified("Precision", data, average, logits, ignore_index)


@register.metric("recall", over="pass", yields=True)
def recall(data: DataSpec, *, average: Average = "macro", logits: bool = True, ignore_index: Label = None) -> Any:
    """Return the share of a class's labels that are predicted as it.

    Args:
        data: what the dataset declares.
        average: macro, the mean over classes; micro, over all rows; weighted, by rows of a class; binary, of class 1.
        logits: whether the model returns logits; false for probabilities.
        ignore_index: a label whose places do not count; null for none.
    """
    return _classified("Recall", data, average, logits, ignore_index)


@register.metric("iou", over="pass", yields=True)
def iou(data: DataSpec, *, average: Average = "macro", logits: bool = True, ignore_index: Label = None) -> Any:
    """Return the intersection over the union of predicted and right labels, the Jaccard index.

    Args:
        data: what the dataset declares.
        average: macro, the mean over classes; micro, over all rows; weighted, by rows of a class; binary, of class 1.
        logits: whether the model returns logits; false for probabilities.
        ignore_index: a label whose places do not count; null for none.
    """
    return _classified("JaccardIndex", data, average, logits, ignore_index)


@register.metric("auroc", over="pass", yields=True)
def auroc(data: DataSpec, *, average: Average = "macro", logits: bool = True, thresholds: Label = None) -> Any:
    """Return the area under the ROC curve: exact, with all predictions kept on the device, or by some thresholds.

    Args:
        data: what the dataset declares.
        average: macro, the mean over classes; micro, over all rows; weighted, by rows of a class; binary, of class 1.
        logits: whether the model returns logits; false for probabilities.
        thresholds: how many thresholds approximate it; null for the exact area.
    """
    return _classified("AUROC", data, average, logits, None, thresholds=thresholds)


@register.metric("r2", over="pass", targets="reals", yields=True)
def r2(*, average: Literal["uniform_average", "variance_weighted"] = "uniform_average") -> Any:
    """Return the coefficient of determination, averaged over the columns.

    Args:
        average: uniform_average, all columns alike; variance_weighted, by a column's variance.
    """
    # In float64, since squares of large numbers cancel.
    return Prepared(
        _torchmetrics().R2Score(multioutput=average),
        lambda pred, target: (pred.double().reshape(len(pred), -1), target.double().reshape(len(pred), -1)),
    )


@register.metric("perplexity", over="pass", targets="classes", yields=True)
def perplexity(*, ignore_index: Label = None) -> Any:
    """Return the exponential of the labels' mean negative log-likelihood, from logits (n, classes, ...).

    Args:
        ignore_index: a label whose places do not count; null for none.
    """
    return Prepared(
        _torchmetrics(".text").Perplexity(ignore_index=ignore_index),
        lambda pred, target: (pred.movedim(1, -1).reshape(1, -1, pred.shape[1]), target.reshape(1, -1)),
    )


class Prepared:
    """A metric of torchmetrics, of what `prepare` returns for predictions and targets."""

    def __init__(self, metric: Any, prepare: Callable[[Tensor, Tensor], Pair]) -> None:
        self.metric, self.prepare = metric, prepare

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Add a batch; only the first of a pass is validated, since that waits for the device."""
        self.metric.update(*self.prepare(pred, target))
        self.metric.validate_args = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.metric, name)


def _classified(kind: str, data: DataSpec, average: str, logits: bool, ignore_index: Label, **options: Any) -> Any:
    """Return a metric of classes (n, ...) or, for real targets, of 0 and 1 in columns, each a class of its own."""
    task = "binary" if average == "binary" or data.outputs == 1 else "multiclass" if data.classes else "multilabel"
    if task != "binary":
        options |= {"average": average, "num_classes" if data.classes else "num_labels": data.outputs}
    metric = getattr(_torchmetrics(), kind)(task=task, ignore_index=ignore_index, **options)

    def prepare(pred: Tensor, target: Tensor) -> Pair:
        if data.classes:
            pred = pred.softmax(dim=1) if logits and (task == "binary" or kind == "AUROC") else pred
            return (pred[:, 1] if task == "binary" else pred), target
        if metric.validate_args and bool((target != target.long()).any()):
            raise ValueError("the targets are real numbers, not 0 and 1")
        return pred.sigmoid() if logits else pred, target.reshape(pred.shape).long()

    return Prepared(metric, prepare)


def _torchmetrics(module: str = "") -> Any:
    try:
        return import_module(f"torchmetrics{module}")  # late: it takes half a second
    except ModuleNotFoundError as error:
        raise ConfigError(Fault("metrics", INSTALL)) from error
