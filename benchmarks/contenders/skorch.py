"""Skorch: a NeuralNetClassifier with its default callbacks and a predefined split."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders.gate import Gate
from benchmarks.contenders.task import BATCH_SIZE, VALID_BATCH_SIZE, Task
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.helper import predefined_split
from torch import nn, optim


class Turns(Callback):
    """The gate, at the start of each epoch and at the end."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        """Call the gate before each epoch; its row of the history already exists."""
        self.gate.turn(net.module_, net.history[-2, "valid_acc"] if len(net.history) > 1 else None)

    def on_train_end(self, net: Any, **_: Any) -> None:
        """Call the gate after the last epoch."""
        self.gate.turn(net.module_, net.history[-1, "valid_acc"])


def train(task: Task, gate: Gate) -> None:
    """Train `gate.epochs` epochs; skorch computes the losses and the validation accuracy of each."""
    train_rows, valid_rows = task.datasets()
    net = NeuralNetClassifier(
        task.network(),
        criterion=nn.CrossEntropyLoss,
        optimizer=optim.SGD,
        optimizer__momentum=task.recipe.momentum,
        lr=task.recipe.lr,
        max_epochs=gate.epochs,
        batch_size=BATCH_SIZE,
        iterator_train__shuffle=True,
        iterator_valid__batch_size=VALID_BATCH_SIZE,
        train_split=predefined_split(valid_rows),
        callbacks=[("turns", Turns(gate))],
        verbose=0,
    )
    net.fit(train_rows, y=None)
