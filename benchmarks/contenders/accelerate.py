"""Hugging Face's Accelerate: the plain loop with its `prepare` and `backward`."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from accelerate import Accelerator
from benchmarks.contenders.gate import Gate
from benchmarks.contenders.task import Task


def train(task: Task, gate: Gate) -> None:
    """Train as in its "Add Accelerate to your code" and its example on images."""
    accelerator = Accelerator(cpu=True)
    network = task.network()
    model, opt, train_dl, valid_dl = accelerator.prepare(network, task.sgd(network), *task.loaders())
    accuracy = None
    for _ in range(gate.epochs):
        gate.turn(model, accuracy)
        model.train()
        for xb, yb in train_dl:
            opt.zero_grad()
            loss = F.cross_entropy(model(xb), yb)
            accelerator.backward(loss)
            opt.step()
        model.eval()
        loss_sum, hits, rows = torch.zeros(()), torch.zeros(()), 0
        with torch.no_grad():
            for xb, yb in valid_dl:
                pred, target = accelerator.gather_for_metrics((model(xb), yb))
                loss_sum += F.cross_entropy(pred, target, reduction="sum")
                hits += (pred.argmax(dim=1) == target).sum()
                rows += len(target)
        _, accuracy = loss_sum.item() / rows, hits.item() / rows
    gate.turn(model, accuracy)
