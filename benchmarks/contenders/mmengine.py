"""MMEngine: a Runner, as its "15 minutes to get started" has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from benchmarks.contenders.gate import Gate
from benchmarks.contenders.task import Task
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor


class Classifier(BaseModel):
    """The network, with the two modes that a Runner asks for."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.network = task.network()

    def forward(self, xb: Tensor, yb: Tensor, mode: str) -> Any:
        """Return the loss in training, or predictions and targets in evaluation."""
        pred = self.network(xb)
        return {"loss": F.cross_entropy(pred, yb)} if mode == "loss" else (pred, yb)


class LossAndAccuracy(BaseMetric):
    """Both means over the validation rows."""

    def process(self, _batch: Any, samples: Sequence[Any]) -> None:
        """Add the sums of one batch."""
        pred, yb = samples
        loss = F.cross_entropy(pred, yb, reduction="sum")
        self.results.append((loss.item(), (pred.argmax(dim=1) == yb).sum().item(), len(yb)))

    def compute_metrics(self, results: list[tuple[float, int, int]]) -> dict[str, float]:
        """Return the means."""
        losses, hits, rows = (sum(column) for column in zip(*results, strict=True))
        return {"loss": losses / rows, "accuracy": hits / rows}


class Turns(Hook):
    """The gate, at the start of each epoch and at the end."""

    priority = "VERY_HIGH"

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def before_train_epoch(self, runner: Any) -> None:
        """Call the gate before each epoch."""
        accuracy = runner.message_hub.get_scalar("val/accuracy").current() if runner.epoch else None
        self.gate.turn(runner.model.network, accuracy)

    def after_train(self, runner: Any) -> None:
        """Call the gate after the last epoch."""
        self.gate.turn(runner.model.network, runner.message_hub.get_scalar("val/accuracy").current())


def train(task: Task, gate: Gate) -> None:
    """Train `gate.epochs` epochs with the default hooks, but with one log line per epoch, not one every ten steps."""
    train_dl, valid_dl = task.loaders()
    sgd = {"type": "SGD", "lr": task.recipe.lr, "momentum": task.recipe.momentum}
    runner = Runner(
        model=Classifier(task),
        work_dir="work",
        train_dataloader=train_dl,
        train_cfg={"by_epoch": True, "max_epochs": gate.epochs, "val_interval": 1},
        optim_wrapper={"optimizer": sgd},
        val_dataloader=valid_dl,
        val_cfg={},
        val_evaluator={"type": LossAndAccuracy},
        default_hooks={"logger": {"type": "LoggerHook", "interval": len(train_dl)}},
        custom_hooks=[Turns(gate)],
        default_scope="mmengine",
        log_level="WARNING",
    )
    runner.train()
