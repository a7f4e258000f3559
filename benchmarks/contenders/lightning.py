"""Lightning's Trainer, with its MLflow logger and without one, and Fabric."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import lightning
import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from benchmarks.contenders.gate import Gate
from benchmarks.contenders.task import Task
from torch import Tensor

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


class Classifier(lightning.LightningModule):
    """A classifier as in lightning.ai's "Lightning in 15 minutes", with a validation step.

    The training loss is logged as an epoch's mean, as this package does. By Lightning's default, MLflow would get it
    every fifty steps, which takes longer.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.network = task.network()

    def forward(self, x: Tensor) -> Any:
        """Return the logits."""
        return self.network(x)

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        """Compute and log the loss."""
        x, y = batch
        loss = F.cross_entropy(self.network(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
        """Compute and log loss and accuracy."""
        x, y = batch
        logits = self.network(x)
        self.log("valid_loss", F.cross_entropy(logits, y))
        self.log("valid_accuracy", (logits.argmax(dim=1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return plain SGD."""
        return self.task.sgd(self.network)


class Turns(lightning.Callback):
    """The gate, at the start of each epoch and at the end."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Call the gate before each epoch; the sanity check of the validation is not an epoch."""
        accuracy = float(trainer.callback_metrics["valid_accuracy"]) if trainer.current_epoch else None
        self.gate.turn(pl_module, accuracy)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Call the gate after the last epoch."""
        self.gate.turn(pl_module, float(trainer.callback_metrics["valid_accuracy"]))


def without_logger(task: Task, gate: Gate) -> None:
    """Train with the fastest Trainer that a user can configure: no logger, no checkpoints."""
    _train(task, gate, logger=False, enable_checkpointing=False)


def with_mlflow(task: Task, gate: Gate) -> None:
    """Train with the Trainer, its MLflow logger in a SQLite store, and its checkpoints."""
    from lightning.pytorch.loggers import MLFlowLogger

    _train(task, gate, logger=MLFlowLogger("peers", tracking_uri="sqlite:///mlflow.db"))


def _train(task: Task, gate: Gate, **options: Any) -> None:
    train_dl, valid_dl = task.loaders()
    trainer = lightning.Trainer(
        max_epochs=gate.epochs,
        accelerator="cpu",
        callbacks=[Turns(gate)],
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(Classifier(task), train_dl, valid_dl)


def fabric(task: Task, gate: Gate) -> None:
    """Train with the plain loop and Fabric's five lines."""
    fabric = lightning.Fabric(accelerator="cpu")
    fabric.launch()
    network = task.network()
    model, opt = fabric.setup(network, task.sgd(network))
    train_dl, valid_dl = fabric.setup_dataloaders(*task.loaders())
    accuracy = None
    for _ in range(gate.epochs):
        gate.turn(model, accuracy)
        model.train()
        for xb, yb in train_dl:
            opt.zero_grad()
            loss = F.cross_entropy(model(xb), yb)
            fabric.backward(loss)
            opt.step()
        model.eval()
        loss_sum, hits, rows = torch.zeros(()), torch.zeros(()), 0
        with torch.no_grad():
            for xb, yb in valid_dl:
                pred = model(xb)
                loss_sum += F.cross_entropy(pred, yb, reduction="sum")
                hits += (pred.argmax(dim=1) == yb).sum()
                rows += len(yb)
        _, accuracy = loss_sum.item() / rows, hits.item() / rows
    gate.turn(model, accuracy)
