"""The loop of a script: `fit`, with what its training needs and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from experiments.config.registry import register
from experiments.errors import ConfigError, Fault
from experiments.export_script.training import Training
from experiments.seeds import epoch_seed

AUTOCAST = {"bf16": "torch.bfloat16", "fp16": "torch.float16"}
# With fp16, a step whose scaled gradients overflow is skipped, and the scale is halved.
STEPPED = [
    "# not scaler.step: where the first step is left out, it leaves fused SGD's momentum unset",
    "if all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None):",
    "    optimizer.step()",
    "scaler.update()",
]
COPIED = "xb, yb = xb.clone(), yb.clone()  # they are views of the rows, which stay as they are"


@dataclass(frozen=True)
class Loop:
    """One loop for all trainings of a script.

    Args:
        training: the run's own.
        loss: the name of the loss function.
        transforms: a line for each, and whether it is for training batches only.
        scheduled: when schedulers are called, step or epoch; empty where there are none.
        watched: the metric that the step() of schedulers takes; None where it takes none.
        closed: the class of optimisers whose step() takes a closure; None where it takes none.
        moves: whether batches are moved to a device.
    """

    training: Training
    loss: str
    transforms: Sequence[tuple[str, bool]]
    scheduled: str
    watched: str | None
    closed: type | None
    moves: bool

    def text(self) -> str:
        """Return the definition of `fit`."""
        loader, scales = self.training.loader, self.training.root.device.precision == "fp16"
        rows = loader.batch_size * self.training.root.accumulate
        seed = epoch_seed(self.training.seeds.data_order, 0)
        order = f"generator=torch.Generator().manual_seed({seed} + epoch)"
        lines = [
            f"def fit(model, optimizer, {'scheduler, ' if self.scheduled else ''}epochs):",
            '    """Train, evaluate and print, epoch by epoch."""',
            *([f"    scaler = torch.amp.GradScaler({self._kind})"] if scales else []),
            "    for epoch in range(epochs):",
            *self._training_order(order),
            "        model.train()",
            *(f'        model.get_submodule("{name}").eval()' for name in self.training.frozen[0]),
            "        total = count = 0",
            f"        for xb, yb in {self._batches('train', rows, self._ordered)}:",
            *(f"            {line}" for line in self._train_lines()),
            "        train_loss = total / count",
            "",
            *([f"        order = torch.randperm(len(x_valid), {order})"] if loader.valid_shuffle else []),
            "        model.eval()",
            "        total = count = 0",
            "        with torch.no_grad():",
            f"            for xb, yb in {self._batches('valid', loader.valid_batch_size, loader.valid_shuffle)}:",
            *(f"                {line}" for line in self._valid_lines()),
            "        valid_loss = total / count",
            '        print(f"epoch {epoch}  train/loss {train_loss!r}  valid/loss {valid_loss!r}")',
            *([f"        scheduler.step({self._watched()})"] if self.scheduled == "epoch" else []),
        ]
        return "\n".join(lines)

    @property
    def _ordered(self) -> bool:
        """Whether training rows come in another order than they are stored in."""
        return self.training.loader.shuffle or self.training.loader.draw is not None

    def _training_order(self, generator: str) -> list[str]:
        """Return the lines that make an epoch's order of the training rows."""
        loader, size = self.training.loader, self.training.loader.batch_size * self.training.root.accumulate
        if loader.draw is None:
            return [f"        order = torch.randperm(len(x_train), {generator})"] if loader.shuffle else []
        rows = f"len(x_train) // {size} * {size}" if loader.drop_last else "len(x_train)"
        return [
            "        weights = 1 / torch.bincount(y_train).double()[y_train]  # each class as often",
            f"        order = torch.multinomial(weights, {rows}, replacement=True, {generator})",
        ]

    def _train_lines(self) -> list[str]:
        root, scales = self.training.root, self.training.root.device.precision == "fp16"
        clip = f"torch.nn.utils.clip_grad_norm_(model.parameters(), {root.max_grad_norm})"
        gradients = [*self._backward(), *(["scaler.unscale_(optimizer)"] if scales else [])]
        gradients += [clip] if root.max_grad_norm is not None else []
        stepped = [*gradients, *(STEPPED if scales else ["optimizer.step()"])]
        return [
            *self._prepared(shuffled=self._ordered),
            *(line for line, _ in self.transforms),
            *(_closed(gradients, first=self.closed is not torch.optim.LBFGS) if self.closed else stepped),
            "optimizer.zero_grad()",
            *(["scheduler.step()"] if self.scheduled == "step" else []),
            *_summed(by_rows=True),
        ]

    def _backward(self) -> list[str]:
        """Return the loss and its gradients, of a step's batch or of its parts."""
        scales, size = self.training.root.device.precision == "fp16", self.training.loader.batch_size
        backward = "scaler.scale(loss).backward()" if scales else "loss.backward()"
        if self.training.root.accumulate == 1:
            return [*self._forward(), backward]
        of_part = [*self._forward("part", "target"), "loss = loss * (len(target) / len(yb))", backward]
        return [
            "losses = []",
            f"for part, target in zip(xb.split({size}), yb.split({size})):",
            *(f"    {line}" for line in [*of_part, "losses.append(loss.detach())"]),
            "loss = sum(losses)",
        ]

    def _watched(self) -> str:
        if self.watched not in (None, "train/loss", "valid/loss"):
            problem = f"it watches {self.watched}, which a script does not compute; it has train/loss and valid/loss"
            raise ConfigError(Fault("scheduler", problem))
        return (self.watched or "").replace("/", "_")

    def _valid_lines(self) -> list[str]:
        return [
            *self._prepared(shuffled=self.training.loader.valid_shuffle),
            *(line for line, training_only in self.transforms if not training_only),
            *self._forward(),
            *_summed(by_rows=self.training.root.evaluation.mean == "samples"),
        ]

    def _prepared(self, *, shuffled: bool) -> list[str]:
        """Move a batch, and copy one that is a view of the rows where user code may change it in place."""
        parts = [self.training.component(group)[0] for group in ("model", "loss")]
        parts += [register.transform.get(name) for name in self.training.root.transforms]
        own = any(not part.factory.__module__.startswith("experiments.") for part in parts)
        views = self.training.component("loader")[0].metadata.get("views")
        moved = ["xb, yb = xb.to(device), yb.to(device)"] if self.moves else []
        return [*moved, *([COPIED] if own and views and not shuffled else [])]

    def _forward(self, xb: str = "xb", yb: str = "yb") -> list[str]:
        """Return predictions and loss, in the run's precision."""
        dtype = AUTOCAST.get(self.training.root.device.precision)
        if dtype is None:
            return [f"loss = {self.loss}(model({xb}), {yb})"]
        within = f"with torch.autocast({self._kind}, dtype={dtype}):"
        return [within, f"    loss = {self.loss}(model({xb}).float(), {yb})"]

    @property
    def _kind(self) -> str:
        return "device.type" if self.moves else '"cpu"'

    def _batches(self, part: str, batch_size: int, shuffle: bool) -> str:
        code = f"batches(x_{part}, y_{part}, {batch_size}{', order' if shuffle else ''})"
        limit, together = self.training.root.limit_batches, self.training.root.accumulate if part == "train" else 1
        most = [] if limit is None else [str(limit // together)]
        if part == "train" and self.training.loader.drop_last:
            most.append(f"len(x_train) // {batch_size}")
        if not most:
            return code
        return f"islice({code}, {most[0] if len(most) == 1 else f'min({most[0]}, {most[1]})'})"


def _summed(*, by_rows: bool) -> list[str]:
    """Return the sums of a pass, weighted by rows, or each batch counting the same."""
    if by_rows:
        return ["total += loss.item() * len(xb)", "count += len(xb)"]
    return ["total += loss.item()", "count += 1"]


def _closed(gradients: Sequence[str], *, first: bool) -> list[str]:
    """Return a step whose optimiser computes gradients as often as it needs; the loss is that of the first time."""
    return [
        "evaluated = []",
        "",
        "@torch.enable_grad()",
        "def closure():",
        *(f"    {line}" for line in ["optimizer.zero_grad()", *gradients, "evaluated.append(loss.detach())"]),
        "    return loss",
        "",
        *(["closure()"] if first else []),
        "optimizer.step(closure)",
        "loss = evaluated[0]",
    ]
