"""The loop of a script: `fit`, with what its training needs and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from experiments.config.registry import register
from experiments.errors import ConfigError, Fault
from experiments.export_script.training import Training
from experiments.export_script.trial import Trial
from experiments.seeds import epoch_seed

AUTOCAST = {"bf16": "torch.bfloat16", "fp16": "torch.float16"}
# With fp16, a step whose scaled gradients overflow is skipped, and the scale is halved.
STEPPED = [
    "# not scaler.step: where the first step is left out, it leaves fused SGD's momentum unset",
    "if all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None):",
    "    optimizer.step()",
    "scaler.update()",
]
COPIED = "# they are views of the rows, which stay as they are"
BALANCED = "1 / torch.bincount(y_train).double()[y_train]"


@dataclass(frozen=True)
class Loop:
    """One loop for all trainings of a script.

    Args:
        training: the run's own.
        trial: what a first step of it shows.
        loss: the name of the loss function.
        transforms: a line for each, and whether it is for training batches only.
        scheduled: when schedulers are called, step or epoch; empty where there are none.
        moves: whether batches are moved to a device.
        step: how an own step trains and evaluates; None for evaluation by the model and the loss.
    """

    training: Training
    trial: Trial
    loss: str
    transforms: Sequence[tuple[str, bool]]
    scheduled: str
    moves: bool
    step: tuple[str, str | None] | None = None

    def text(self) -> str:
        """Return the definition of `fit`."""
        loader, scales = self.training.loader, self.training.root.device.precision == "fp16"
        rows = loader.batch_size * self.training.root.accumulate
        gradients = self.training.component("model")[0].metadata.get("gradients")
        lines = [
            f"def fit(model, optimizer, {'scheduler, ' if self.scheduled else ''}epochs):",
            '    """Train, evaluate and print, epoch by epoch."""',
            *([f"    scaler = torch.amp.GradScaler({self._kind})"] if scales else []),
            *(["    training = Training(model, optimizer)"] if self.step else []),
            "    for epoch in range(epochs):",
            *self._order("train"),
            "        model.train()",
            *(f'        model.get_submodule("{name}").eval()' for name in self.training.frozen[0]),
            "        total = count = 0",
            f"        for xb, yb in {self._batches('train', rows, self._ordered)}:",
            *(f"            {line}" for line in self._train_lines()),
            "        train_loss = total / count",
            "",
            *self._order("valid"),
            "        model.eval()",
            "        total = count = 0",
            f"        with torch.{'enable_grad' if gradients else 'no_grad'}():",
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

    def _order(self, part: str) -> list[str]:
        """Return the lines that set the order of an epoch's rows; only the training's leaves out or draws some."""
        loader, rows = self.training.loader, self._rows(f"x_{part}")
        seed = epoch_seed(self.training.seeds.data_order, 0)
        generator = f"generator=torch.Generator().manual_seed({seed} + epoch)"
        if self.training.own_loader:
            return [f"        {part}_order.epoch = epoch"]
        if part == "valid":
            return [f"        order = torch.randperm({rows}, {generator})"] if loader.valid_shuffle else []
        if loader.draw is None:
            return [f"        order = torch.randperm({rows}, {generator})"] if loader.shuffle else []
        together = loader.batch_size * self.training.root.accumulate
        size = f"{rows} // {together} * {together}" if loader.drop_last else rows
        drawn = f"torch.multinomial(weights, {size}, replacement=True, {generator})"
        return [f"        weights = {BALANCED}  # each class as often", f"        order = {drawn}"]

    def _rows(self, name: str) -> str:
        """Return the code of the number of rows."""
        return f"len(leaves({name})[0])" if self.trial.nested else f"len({name})"

    def _train_lines(self) -> list[str]:
        return [
            *self._prepared(shuffled=self._ordered),
            *(line for line, _ in self.transforms),
            *(self._updated() if self.step is None else self._stepped(self.step[0])),
            *(["scheduler.step()"] if self.scheduled == "step" else []),
            *self._summed(by_rows=True, own=self.step is not None),
        ]

    def _updated(self) -> list[str]:
        """Return the lines of a step of the optimiser."""
        root, scales = self.training.root, self.training.root.device.precision == "fp16"
        clip = f"torch.nn.utils.clip_grad_norm_(model.parameters(), {root.max_grad_norm})"
        gradients = [*self._backward(), *(["scaler.unscale_(optimizer)"] if scales else [])]
        gradients += [clip] if root.max_grad_norm is not None else []
        stepped = [*gradients, *(STEPPED if scales else ["optimizer.step()"])]
        closed, figure = self.trial.closed, ("(summed, weight)" if self.trial.weighted else "loss")
        return [
            *(_closed(gradients, figure, first=closed is not torch.optim.LBFGS) if closed else stepped),
            "optimizer.zero_grad()",
        ]

    def _backward(self) -> list[str]:
        """Return the loss and its gradients, of a step's batch or of its parts."""
        scales, size = self.training.root.device.precision == "fp16", self.training.loader.batch_size
        backward = "scaler.scale(loss).backward()" if scales else "loss.backward()"
        if self.training.root.accumulate == 1:
            return [*self._forward(), backward]
        if self.trial.nested:
            problem = "a script takes batches of several inputs or targets whole; its plain loop does not split them"
            raise ConfigError(Fault("accumulate", problem))
        of_part = [*self._forward("part", "target"), "loss = loss * (len(target) / len(yb))", backward]
        return [
            "losses = []",
            f"for part, target in zip(xb.split({size}), yb.split({size})):",
            *(f"    {line}" for line in [*of_part, "losses.append(loss.detach())"]),
            "loss = sum(losses)",
        ]

    def _stepped(self, call: str) -> list[str]:
        """Return an own step's call, in the run's precision."""
        return self._computed(f"pred, target, loss = {call}(training, xb, yb)")

    def _computed(self, line: str) -> list[str]:
        """Return a line in the run's precision."""
        dtype = AUTOCAST.get(self.training.root.device.precision)
        return [line] if dtype is None else [f"with torch.autocast({self._kind}, dtype={dtype}):", f"    {line}"]

    def _watched(self) -> str:
        watched = self.trial.watched
        if watched not in (None, "train/loss", "valid/loss"):
            problem = f"it watches {watched}, which a script does not compute; it has train/loss and valid/loss"
            raise ConfigError(Fault("scheduler", problem))
        return (watched or "").replace("/", "_")

    def _valid_lines(self) -> list[str]:
        own = None if self.step is None else self.step[1]
        return [
            *self._prepared(shuffled=self.training.loader.valid_shuffle),
            *(line for line, training_only in self.transforms if not training_only),
            *(self._forward() if own is None else self._stepped(own)),
            *self._summed(by_rows=self.training.root.evaluation.mean == "samples", own=own is not None),
        ]

    def _prepared(self, *, shuffled: bool) -> list[str]:
        """Move a batch, and copy one that is a view of the rows where user code may change it in place."""
        parts = [self.training.component(group)[0] for group in ("model", "loss", "step")]
        parts += [register.transform.get(name) for name in self.training.root.transforms]
        own = any(not part.factory.__module__.startswith("experiments.") for part in parts)
        views = self.training.component("loader")[0].metadata.get("views")
        nested, shape = self.trial.nested, self.trial.target_shape
        moved = "apply(lambda tensor: tensor.to(device), (xb, yb))" if nested else "xb.to(device), yb.to(device)"
        copied = "apply(torch.clone, (xb, yb))" if nested else "xb.clone(), yb.clone()"
        return [
            *([f"yb = yb.view(-1, {', '.join(map(str, shape))})"] if shape is not None else []),
            *([f"xb, yb = {moved}"] if self.moves else []),
            *([f"xb, yb = {copied}  {COPIED}"] if own and views and not shuffled else []),
        ]

    def _forward(self, xb: str = "xb", yb: str = "yb") -> list[str]:
        """Return predictions and loss, in the run's precision."""
        result = "summed, weight" if self.trial.weighted else "loss"
        mean = ["loss = summed / weight"] if self.trial.weighted else []
        pred = f"model({xb})"
        if self.training.root.device.precision in AUTOCAST:
            pred = f"apply(torch.Tensor.float, {pred})" if self.trial.nested_outputs else f"{pred}.float()"
        return [*self._computed(f"{result} = {self.loss}({pred}, {yb})"), *mean]

    @property
    def _kind(self) -> str:
        return "device.type" if self.moves else '"cpu"'

    def _batches(self, part: str, batch_size: int, shuffle: bool) -> str:
        code = f"batches(x_{part}, y_{part}, {batch_size}{', order' if shuffle else ''})"
        code = f"{part}_batches" if self.training.own_loader else code
        limit, together = self.training.root.limit_batches, self.training.root.accumulate if part == "train" else 1
        limit = limit if limit is None else limit // together
        if part == "train" and self.training.loader.drop_last:
            limit = self.trial.steps
        return code if limit is None else f"islice({code}, {limit})"

    def _summed(self, *, by_rows: bool, own: bool) -> list[str]:
        """Return the sums of a pass, weighted by rows or as the loss has it, or each batch counting the same."""
        weighted = self.trial.weighted and not own
        if not by_rows:  # a weighted mean is of two numbers, not of two tensors
            return [f"total += {'summed.item() / weight.item()' if weighted else 'loss.item()'}", "count += 1"]
        if weighted:
            return ["total += summed.item()", "count += weight.item()"]
        rows = self._rows("target" if own else "xb")
        return [f"total += loss.item() * {rows}", f"count += {rows}"]


def _closed(gradients: Sequence[str], figure: str, *, first: bool) -> list[str]:
    """Return a step whose optimiser computes gradients as often as it needs; the figure is that of the first time."""
    return [
        "evaluated = []",
        "",
        "@torch.enable_grad()",
        "def closure():",
        *(f"    {line}" for line in ["optimizer.zero_grad()", *gradients, f"evaluated.append({figure})"]),
        "    return loss",
        "",
        *(["closure()"] if first else []),
        "optimizer.step(closure)",
        f"{figure} = evaluated[0]",
    ]
