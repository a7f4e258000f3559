"""PyTorch-Ignite: a supervised trainer and evaluator, as its quick start has them."""

from __future__ import annotations

from benchmarks.contenders.gate import Gate
from benchmarks.contenders.task import Task
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Accuracy, Loss
from torch import nn


def train(task: Task, gate: Gate) -> None:
    """Train `gate.epochs` epochs, each with its evaluation."""
    train_dl, valid_dl = task.loaders()
    model, criterion = task.network(), nn.CrossEntropyLoss()
    trainer = create_supervised_trainer(model, task.sgd(model), criterion, "cpu")
    metrics = {"accuracy": Accuracy(), "loss": Loss(criterion)}
    evaluator = create_supervised_evaluator(model, metrics=metrics, device="cpu")

    def turn() -> None:
        gate.turn(model, evaluator.state.metrics.get("accuracy"))

    trainer.add_event_handler(Events.EPOCH_STARTED, turn)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(valid_dl))
    trainer.add_event_handler(Events.COMPLETED, turn)
    trainer.run(train_dl, max_epochs=gate.epochs)
