"""The loop of a script: `fit`, with what its training needs and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.config.registry import register
from experiments.export_script.training import Training
from experiments.seeds import epoch_seed

AUTOCAST = {"bf16": "torch.bfloat16", "fp16": "torch.float16"}
# With fp16, a step whose scaled gradients overflow is skipped, and the scale is halved.
SCALED = ["scaler.scale(loss).backward()", "scaler.unscale_(optimizer)"]
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
        moves: whether batches are moved to a device.
    """

    training: Training
    loss: str
    transforms: Sequence[tuple[str, bool]]
    scheduled: str
    moves: bool

    def text(self) -> str:
        """Return the definition of `fit`."""
        loader, scales = self.training.loader, self.training.root.device.precision == "fp16"
        seed = epoch_seed(self.training.seeds.data_order, 0)
        order = f"generator=torch.Generator().manual_seed({seed} + epoch)"
        lines = [
            f"def fit(model, optimizer, {'scheduler, ' if self.scheduled else ''}epochs):",
            '    """Train, evaluate and print, epoch by epoch."""',
            *([f"    scaler = torch.amp.GradScaler({self._kind})"] if scales else []),
            "    for epoch in range(epochs):",
            *self._training_order(order),
            "        model.train()",
            "        total = count = 0",
            f"        for xb, yb in {self._batches('train', loader.batch_size, self._ordered)}:",
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
            *(["        scheduler.step()"] if self.scheduled == "epoch" else []),
        ]
        return "\n".join(lines)

    @property
    def _ordered(self) -> bool:
        """Whether training rows come in another order than they are stored in."""
        loader = self.training.loader
        return loader.shuffle or loader.drop_last or loader.draw is not None

    def _training_order(self, generator: str) -> list[str]:
        """Return the lines that make an epoch's order of the training rows."""
        loader = self.training.loader
        size = f"len(x_train) // {loader.batch_size} * {loader.batch_size}" if loader.drop_last else ""
        if loader.draw is not None:
            drawn = f"torch.multinomial(weights, {size or 'len(x_train)'}, replacement=True, {generator})"
            return [
                "        weights = 1 / torch.bincount(y_train).double()[y_train]  # each class as often",
                f"        order = {drawn}",
            ]
        if not loader.shuffle:
            return [f"        order = torch.arange({size})"] if size else []
        return [f"        order = torch.randperm(len(x_train), {generator}){f'[: {size}]' if size else ''}"]

    def _train_lines(self) -> list[str]:
        root, scales = self.training.root, self.training.root.device.precision == "fp16"
        clip = f"torch.nn.utils.clip_grad_norm_(model.parameters(), {root.max_grad_norm})"
        return [
            *self._prepared(shuffled=self._ordered),
            *(line for line, _ in self.transforms),
            *self._forward(),
            *(SCALED if scales else ["loss.backward()"]),
            *([clip] if root.max_grad_norm is not None else []),
            *(STEPPED if scales else ["optimizer.step()"]),
            "optimizer.zero_grad()",
            *(["scheduler.step()"] if self.scheduled == "step" else []),
            *_summed(by_rows=True),
        ]

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

    def _forward(self) -> list[str]:
        """Return predictions and loss, in the run's precision."""
        dtype = AUTOCAST.get(self.training.root.device.precision)
        if dtype is None:
            return [f"loss = {self.loss}(model(xb), yb)"]
        within = f"with torch.autocast({self._kind}, dtype={dtype}):"
        return [within, f"    loss = {self.loss}(model(xb).float(), yb)"]

    @property
    def _kind(self) -> str:
        return "device.type" if self.moves else '"cpu"'

    def _batches(self, part: str, batch_size: int, shuffle: bool) -> str:
        code = f"batches(x_{part}, y_{part}, {batch_size}{', order' if shuffle else ''})"
        limit = self.training.root.limit_batches
        return code if limit is None else f"islice({code}, {limit})"


def _summed(*, by_rows: bool) -> list[str]:
    """Return the sums of a pass, weighted by rows, or each batch counting the same."""
    if by_rows:
        return ["total += loss.item() * len(xb)", "count += len(xb)"]
    return ["total += loss.item()", "count += 1"]
