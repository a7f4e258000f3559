"""Two loops without a framework: one as tight as possible, and one as the tutorial writes it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from benchmarks.contenders.gate import Gate
from benchmarks.contenders.task import BATCH_SIZE, Task
from torch import Tensor, optim

GATHERED = 10  # batches at once: 2 MB as float32, which fits a core's cache
TIGHT_VALID_BATCH_SIZE = 1000


def tight(task: Task, gate: Gate) -> None:
    """Gather and convert many batches at once, use a fused optimiser, and read or compute nothing else in a step.

    The validation computes loss and accuracy in batches of 1,000 and reads both at its end. Every other contender does
    more: here there is no training loss, no log, no checkpoint and no check.
    """
    rows = task.stored()
    x, y = rows["x_train"], rows["y_train"]
    valid = task.floats()
    model = task.network()
    if len(task.recipe.shape) == 3:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
    opt = task.sgd(model, fused=True)
    accuracy = None
    for _ in range(gate.epochs):
        gate.turn(model, accuracy)
        model.train()
        for indices in torch.split(torch.randperm(len(x)), GATHERED * BATCH_SIZE):
            pixels = x.index_select(0, indices).float().div_(256).view(-1, *task.recipe.shape)
            for xb, yb in zip(
                torch.split(pixels, BATCH_SIZE), torch.split(y.index_select(0, indices), BATCH_SIZE), strict=True
            ):
                F.cross_entropy(model(xb), yb).backward()  # type: ignore[no-untyped-call]  # torch's own
                opt.step()
                opt.zero_grad()
        model.eval()
        losses, hits = [], []
        with torch.inference_mode():
            batches = (torch.split(valid[name], TIGHT_VALID_BATCH_SIZE) for name in ("x_valid", "y_valid"))
            for xb, yb in zip(*batches, strict=True):
                pred = model(xb)
                losses.append(F.cross_entropy(pred, yb))
                hits.append((pred.argmax(dim=1) == yb).sum())
            torch.stack(losses).mean().item()
            accuracy = torch.stack(hits).sum().item() / len(valid["y_valid"])
    gate.turn(model, accuracy)


def plain(task: Task, gate: Gate) -> None:
    """Train with the tutorial's `fit` (stage 9): a DataLoader, each loss read as a number, only the validation loss."""
    train_dl, valid_dl = task.loaders()
    model = task.network()
    opt = task.sgd(model)

    def loss_batch(xb: Tensor, yb: Tensor, opt: optim.Optimizer | None = None) -> tuple[float, int]:
        loss = F.cross_entropy(model(xb), yb)
        if opt is not None:
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own is not annotated
            opt.step()
            opt.zero_grad()
        return loss.item(), len(xb)

    for _ in range(gate.epochs):
        gate.turn(model)
        model.train()
        for xb, yb in train_dl:
            loss_batch(xb, yb, opt)
        model.eval()
        with torch.no_grad():
            losses, nums = zip(*[loss_batch(xb, yb) for xb, yb in valid_dl], strict=True)
        np.sum(np.multiply(losses, nums)) / np.sum(nums)
    gate.turn(model)
