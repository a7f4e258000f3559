"""Layer c: rules over the first steps of a training, taken with fresh copies of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from experiments.config.registry import register
from experiments.doctor.batch import OVERFIT_STEPS, STEPS, Batch
from experiments.doctor.finding import Found, Rules

rule: Rules[Batch] = Rules()


def _listed(names: Sequence[str], batch: Batch) -> str:
    return f"{len(names)} of {len(batch.weights)} parameters ({', '.join(names[:3])}{', ...' if names[3:] else ''})"


def _apart(one: Tensor | None, other: Tensor | None) -> float:
    """Return the largest difference, in parts of the largest number; 0 where there is nothing to compare."""
    if one is None or other is None or not one.numel():
        return 0.0
    return float((one - other).abs().max() / one.abs().max().clamp_min(1e-12))


@rule("not-finite")
def _not_finite(batch: Batch) -> Found:
    return (batch.failed, "a lower optim.lr, or max_grad_norm=1.0") if batch.failed else None


@rule("probabilities-before-loss")
def _probabilities(batch: Batch) -> Found:
    loss, pred = batch.root.loss["name"], batch.pred
    if loss not in ("cross_entropy", "weighted_cross_entropy") or pred is None or min(pred.shape[:2]) < 2:
        return None
    declared = register.model.get(batch.root.model["name"]).metadata.get("output") == "log_probabilities"  # harmless
    for kind, values in {"probabilities": pred, "log-probabilities": pred.exp()}.items():
        dims = [d for d in range(pred.ndim) if bool(((values.sum(d) - 1).abs() < 1e-3).all() and (values >= 0).all())]
        if dims and not (declared and kind != "probabilities"):  # logits sum to 1 in every row by no accident
            return f"the model returns {kind} over dimension {dims[-1]}, and {loss} takes logits over dimension 1", (
                "leave out the model's last softmax"
            )
    return None


@rule("dead-relu")
def _dead(batch: Batch) -> Found:
    worst = max(batch.dead, default=0.0)  # of an initial layer, about half the units are 0 in a row, few in all rows
    said = f"{worst:.0%} of the units of ReLU {[*batch.dead, worst].index(worst) + 1} are 0 in every row of a batch"
    return (said, "initial biases of 0, inputs around 0 (transforms=normalize), or LeakyReLU") if worst > 0.95 else None


@rule("no-gradient")
def _no_gradient(batch: Batch) -> Found:
    names = [weight.name for weight in batch.weights if weight.trained and not weight.graded]
    said = f"{_listed(names, batch)} had no gradient in {STEPS} steps"
    supervised = batch.root.step["name"] == "supervised" and not batch.failed
    return (said, "use them in forward(), without detach() or torch.no_grad()") if names and supervised else None


@rule("frozen")
def _frozen(batch: Batch) -> Found:
    names = [weight.name for weight in batch.weights if not weight.trained and weight.axes > 1]
    said = f"{_listed(names, batch)} are frozen by the model itself, at their initial values"
    remedy = "leave out requires_grad_(False); freeze=[NAME] with init_from=RUN trains the rest of a trained model"
    return (said, remedy) if names and not batch.root.freeze else None


@rule("gradients-kept")
def _kept(batch: Batch) -> Found:
    said = f"after {STEPS} steps gradients are left, which add up over the batches"
    return (said, "clear them in the optimiser's zero_grad()") if batch.kept else None


@rule("constant-output")
def _constant(batch: Batch) -> Found:
    pred = batch.later
    same = pred is not None and len(pred) > 1 and not batch.failed and _apart(pred, pred[:1]) < 1e-6
    said = f"all rows of a batch have the same output, after {STEPS} steps too"
    return (said, "check that forward() uses its input and that units are alive") if same else None


@rule("mode-left")
def _modes(batch: Batch) -> Found:
    said = f"{len(batch.modes)} times a module ignores its mode: {''.join(batch.modes[:1])} after the other was set"
    return (said, "leave train() and eval() to the framework, also in forward()") if batch.modes else None


@rule("noise-in-evaluation")
def _noise(batch: Batch) -> Found:
    apart = _apart(batch.pred, batch.again)
    said = f"a batch that is evaluated twice differs by {apart:.2g} of its largest output"
    remedy = "nn.Dropout or F.dropout(x, p, self.training), no noise in evaluation"
    return (said, remedy) if apart > 1e-6 and not batch.modes else None


@rule("rows-mixed")
def _mixed(batch: Batch) -> Found:
    apart = 0.0 if batch.alone is None or batch.pred is None else _apart(batch.pred[: len(batch.alone)], batch.alone)
    said = f"with other rows in its batch, a row's output differs by {apart:.2g} of the largest, in evaluation"
    # Another batch size rounds by 1e-6 in float32, and by 1e-2 in bf16.
    noise = batch.modes or _apart(batch.pred, batch.again) > 1e-6
    return (
        (said, "keep dimension 0 for rows: reshape, transpose, means, batch_first")
        if apart > 0.02 and not noise
        else None
    )


@rule("small-batch-norm")
def _batch_norm(batch: Batch) -> Found:
    norms, rows = sum(isinstance(module, _BatchNorm) for module in batch.modules), batch.root.loader["batch_size"]
    said = f"{norms} layers of batch norm take their statistics from {rows} rows"
    return (said, "loader.batch_size=32, or nn.GroupNorm") if norms and rows <= 4 else None  # mostly noise


@rule("dropout")
def _dropout(batch: Batch) -> Found:
    modules = [module.p for module in batch.modules if isinstance(module, _DropoutNd)]
    largest = max([*batch.dropouts, *modules], default=0.0)
    return (
        (f"dropout leaves {1 - largest:.0%} of a layer's units", "a dropout of 0.5 or less") if largest >= 0.9 else None
    )


@rule("update-too-large")
def _large(batch: Batch) -> Found:
    closure = register.optim.get(batch.root.optim["name"]).metadata.get("closure")  # many updates in one, as L-BFGS
    # The tutorial's first steps are 0.5 of small initial weights, and help; at 2 nothing of those is left.
    before, after = batch.losses
    large = _ratio(batch) > 2 or (_ratio(batch) > 0.3 and after > 1.05 * before > 0)
    return (
        _step(batch, f"; {STEPS} steps change the loss from {before:.3g} to {after:.3g}")
        if large and not closure
        else None
    )


@rule("update-too-small")
def _small(batch: Batch) -> Found:
    # In a straight line, and at the schedule's largest rate, all steps together would hardly move the weights.
    far = _ratio(batch) * batch.rate * batch.steps
    return _step(batch, f"; {batch.steps:.0f} such steps by at most {far:.2g}") if far < 0.1 else None


def _ratio(batch: Batch) -> float:
    """Return an update's size, the median over the matrices that have gradients."""
    return median([w.moved for w in batch.weights if w.graded and w.axes > 1 and not batch.failed] or [1e-3])


def _step(batch: Batch, more: str) -> Found:
    said = f"a step changes the weights by {_ratio(batch):.2g} of their norm, where 0.001 to 0.01 is usual{more}"
    factor = 10 ** round(math.log10(0.003 / max(_ratio(batch), 1e-12)))
    return said, f"optim.lr={batch.root.optim.get('lr', math.nan) * factor:g}"


@rule("cannot-overfit")
def _overfit(batch: Batch) -> Found:
    start, end = batch.overfit or (1.0, 0.0)
    said = f"{OVERFIT_STEPS} steps on the same few rows change the loss from {start:.4f} to {end:.4f}"
    # A sane model learns a few rows by heart.
    return (said, "check the way from input to loss: axes, detach(), dropout") if end > 0.8 * start else None


@rule("unsaved-state")
def _unsaved(batch: Batch) -> Found:
    said = (
        f"{STEPS} steps changed {len(batch.unsaved)} attributes that state_dict() lacks: {', '.join(batch.unsaved[:3])}"
    )
    return (said, "self.register_buffer(name, tensor), so that a resumed run is the same") if batch.unsaved else None
