"""Keras 3 on its torch backend: the model in Keras layers, compiled and fitted."""

from __future__ import annotations

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"  # read at import
import keras
from benchmarks.contenders.gate import Gate
from benchmarks.contenders.task import BATCH_SIZE, VALID_BATCH_SIZE, Task
from keras import layers


class Turns(keras.callbacks.Callback):
    """The gate, at the start of each epoch and at the end."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate
        self.accuracy: float | None = None

    def on_epoch_begin(self, _epoch: int, _logs: Any = None) -> None:
        """Call the gate before each epoch."""
        self.gate.turn(self.model, self.accuracy)

    def on_epoch_end(self, _epoch: int, logs: Any = None) -> None:
        """Keep the accuracy of the epoch's validation."""
        self.accuracy = logs["val_accuracy"]

    def on_train_end(self, _logs: Any = None) -> None:
        """Call the gate after the last epoch."""
        self.gate.turn(self.model, self.accuracy)


def network(task: Task) -> Any:
    """Build the task's model with Keras's order of the axes, (height, width, channels), the faster one here."""
    if len(task.recipe.shape) == 1:
        return keras.Sequential([keras.Input(task.recipe.shape), layers.Dense(10)])
    made = [keras.Input((28, 28, 1))]
    for channels in (16, 16, 10):
        made += [layers.Conv2D(channels, 3, strides=2, padding="same", activation="relu")]
    return keras.Sequential([*made, layers.GlobalAveragePooling2D()])


def train(task: Task, gate: Gate) -> None:
    """Train `gate.epochs` epochs from arrays, which Keras cuts into batches faster than a DataLoader does."""
    model = network(task)
    gate.shape = model.input_shape[1:]
    rows = {name: tensor.numpy() for name, tensor in task.floats().items()}
    x_train, x_valid = (rows[name].reshape(-1, *gate.shape) for name in ("x_train", "x_valid"))
    model.compile(
        optimizer=keras.optimizers.SGD(task.recipe.lr, momentum=task.recipe.momentum),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        x_train,
        rows["y_train"],
        batch_size=BATCH_SIZE,
        epochs=gate.epochs,
        validation_data=(x_valid, rows["y_valid"]),
        validation_batch_size=VALID_BATCH_SIZE,
        callbacks=[Turns(gate)],
        verbose=0,
    )
