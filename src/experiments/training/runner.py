"""The one loop: it trains whatever it is given, and knows neither Hydra nor MLflow.

Four levels, each on one screen: fit > epoch > step > forward, backward, update. Inside an epoch nothing waits for an
accelerator: sums stay on the device, a bad step's update is masked there and told at the epoch's end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from experiments.data.batches import Batches
from experiments.seeds import noise_state, restore_noise
from experiments.training.callback import Callback
from experiments.training.checkpoint import Checkpoints
from experiments.training.meters import Metric, Progress, Sums
from experiments.training.result import Metrics, Result
from experiments.training.signals import StopRequest
from experiments.training.step import Step

Record = Callable[[Metrics, int], None]
Trained = tuple[Tensor, Tensor, Tensor, Tensor]  # batch x and y, predictions, loss


@dataclass(kw_only=True)
class Runner:
    """A training of finished objects.

    Args:
        step: takes one training step; it has the model, the loss and the update.
        train: the training rows, as batches.
        valid: the validation rows, as batches.
        scheduler: with step(); None for a constant learning rate.
        step_scheduler_each: "step" or "epoch".
        metrics: by name, (pred, target) -> sum over the batch's rows.
        callbacks: hooked in, in this order.
        mean_over: "samples" or "batches": the validation mean.
        all_reduce: adds numbers up over all processes that train it, each with its share of the rows.
        folder: where callbacks may leave files; None for nowhere.
        checkpoints: where the state is saved, and when; None for nowhere.
    """

    step: Step
    train: Batches
    valid: Batches
    scheduler: Any = None
    step_scheduler_each: str = "epoch"
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    callbacks: Sequence[Callback] = ()
    mean_over: str = "samples"
    all_reduce: Callable[[Sequence[float]], list[float]] = list
    folder: Path | None = None
    checkpoints: Checkpoints | None = None
    stopped: str = field(default="", init=False)
    untrained: Metrics = field(default_factory=dict, init=False)
    history: list[Metrics] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.waits_for_device = self.device.type != "cpu"
        self.stop_request = StopRequest()
        self.record: Record = _nowhere
        self._noise: Mapping[str, Any] | None = None  # where the noise stream continues, once the batches do
        self.start_epoch()

    @property
    def model(self) -> Any:
        """The model, on the training's device."""
        return self.step.forward.model

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """(pred, target) -> scalar mean."""
        return self.step.forward.loss

    @property
    def optimizer(self) -> Any:
        """The optimiser."""
        return self.step.update.optimizer

    @property
    def device(self) -> torch.device:
        """Where batches are wanted."""
        return self.step.forward.device

    @property
    def steps(self) -> int:
        """Training steps of one epoch."""
        return len(self.train)

    def fit(self, epochs: int, *, record: Record | None = None, stop_request: StopRequest | None = None) -> Result:
        """Evaluate, then train and evaluate up to epoch `epochs`, unless a callback stops it.

        After `load_state_dict` it resumes where that state was taken, bit for bit as if nothing had been in between.

        Args:
            epochs: in all, those before a resumption included.
            record: called with figures and their step (the epoch, from 0).
            stop_request: looked at after each step and epoch.

        Raises:
            TrainingError: a loss or gradient is not finite; that update was not applied.
        """
        self.record = record or self.record
        self.stop_request = stop_request or self.stop_request
        if not self.untrained:
            figures = self.evaluate(0, stoppable=True)
            self.untrained = {f"untrained/valid_{name}": value for name, value in figures.items()}
            self.record(self.untrained, 0)
            for callback in self.callbacks:
                callback.on_fit_start(self)
        while len(self.history) < epochs and not self.stopped:
            epoch = len(self.history)
            self.history.append(self.run_epoch(epoch))
            self.record(self.history[-1], epoch)
            self._keep_epoch()
            if self.stop_request.reason is not None:
                raise self.stop_request.reason
        self._restore_noise()
        for callback in self.callbacks:
            callback.on_fit_end(self)
        stopped = self.stopped if len(self.history) < epochs else ""
        return Result(self.model, self.untrained, self.history, stopped, self.folder)

    def run_epoch(self, epoch: int) -> Metrics:
        """Train and evaluate once; the epoch's figures by name."""
        self.progress.begin()
        means, rows = self.train_epoch(epoch)
        train = {f"train/{name}": value for name, value in means.items()}
        # Evaluation may draw from it too, and starts anew where a training goes on from its middle.
        self.progress.noise = noise_state(self.device)
        valid = {f"valid/{name}": value for name, value in self.evaluate(epoch, stoppable=True).items()}
        self.step_scheduler("epoch")
        seconds = self.progress.seconds()
        earlier = [figures["valid/loss"] for figures in self.history]
        figures = train | valid
        figures["best/valid_loss"] = min([*earlier, valid["valid/loss"]], key=lambda loss: (math.isnan(loss), loss))
        figures["time/epoch_seconds"] = seconds
        figures["throughput/samples_per_second"] = rows / seconds
        for callback in self.callbacks:
            callback.on_epoch_end(self, epoch, figures)
        self.start_epoch()
        return {name: float(value) for name, value in figures.items()}  # numpy's numbers would be no plain values

    def start_epoch(self) -> None:
        """Count steps and sums from nothing."""
        self.progress = Progress(self._sums())

    def train_epoch(self, epoch: int) -> tuple[Metrics, int]:
        """One pass over the training rows; means over them, each batch taken before its update, and their number."""
        sums, steps = self.progress.sums, self.steps
        for _, yb, pred, loss in self.train_steps(epoch):
            sums.add(pred, yb, loss)
            if self.stop_request.reason is not None:
                self._stop(self.stop_request.reason)
            if self.checkpoints is not None and self.checkpoints.due_after_step(epoch * steps + self.progress.step):
                self._save()
        self.step.update.raise_if_bad()
        return sums.means(), sums.rows

    def train_steps(self, epoch: int) -> Iterator[Trained]:
        """The epoch's training steps from where it is, each done when it is given: its batch, predictions, loss."""
        self.model.train()
        done, steps, step = self.progress.step, self.steps, self.step
        for index, (xb, yb) in enumerate(self._batches_from(epoch, done), done):
            if self.waits_for_device:
                xb, yb = self.move(xb), self.move(yb)
            pred, loss = step(xb, yb, epoch * steps + index)
            self.step_scheduler("step")
            self.progress.step = index + 1
            yield xb, yb, pred, loss

    def step_scheduler(self, each: str) -> None:
        """Let the scheduler go on, if it is called each "step" or each "epoch"."""
        if self.scheduler is not None and self.step_scheduler_each == each:
            self.scheduler.step()

    @torch.inference_mode()
    def evaluate(self, epoch: int, batches: Batches | None = None, *, stoppable: bool = False) -> Metrics:
        """The loss and the metrics over the validation rows (or other batches), in evaluation mode.

        Only the loop's own is `stoppable`: within a callback the epoch is half done, and would be done again.
        """
        self.model.eval()
        sums = self._sums(by_rows=self.mean_over == "samples")
        for xb, yb in (batches or self.valid).epoch(epoch):
            if self.waits_for_device:
                xb, yb = self.move(xb), self.move(yb)
            pred = self.predict(xb)
            sums.add(pred, yb, self.step.forward.loss_of(pred, yb))
            if stoppable and self.stop_request.reason is not None:
                self._stop(self.stop_request.reason)
        return sums.means()

    def move(self, tensor: Tensor) -> Tensor:
        """The tensor on the training's device, without waiting for it."""
        return tensor.to(self.device, non_blocking=True)

    def predict(self, xb: Tensor) -> Tensor:
        """The model's output for a batch on its device, as in evaluation."""
        return self.step.forward.predict(xb)

    def stop(self, reason: str) -> None:
        """End the training after this epoch, or with no reason, let it continue; for callbacks."""
        self.stopped = reason

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to continue from here, at the end of a step, as tensors and plain values."""
        scaler = self.step.update.scaler
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "callbacks": [callback.state_dict() for callback in self.callbacks],
            "noise": self.progress.noise or noise_state(self.device),
            "progress": self.progress.state_dict(),
            "untrained": self.untrained,
            "history": json.dumps(self.history),  # as objects, a long one would take torch.save longer each epoch
            "stopped": self.stopped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state of a training with the same parts."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.step.update.scaler is not None:
            self.step.update.scaler.load_state_dict(state["scaler"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
            self.optimizer._opt_called = True  # else torch warns of a scheduler that steps before its optimiser
        for callback, own in zip(self.callbacks, state["callbacks"], strict=True):
            callback.load_state_dict(own)
        self.progress.load_state_dict(state["progress"], self.device)
        self._noise = state["noise"]
        history = state["history"]
        self.history = json.loads(history) if isinstance(history, str) else list(history)  # which schema 1 had
        self.untrained, self.stopped = state["untrained"], state["stopped"]

    def _sums(self, *, by_rows: bool = True) -> Sums:
        return Sums(self.metrics, by_rows=by_rows, all_reduce=self.all_reduce)

    def _batches_from(self, epoch: int, done: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The training batches of an epoch, without those that are done; then the noise stream goes on."""
        batches = islice(self.train.epoch(epoch), self.steps)
        if done < self.steps:
            for _ in range(done):
                next(batches)
        self._restore_noise()
        return batches if done < self.steps else iter(())

    def _restore_noise(self) -> None:
        if self._noise is not None:
            restore_noise(self._noise, self.device)
            self._noise = None

    def _save(self) -> None:
        assert self.checkpoints is not None
        self.step.update.raise_if_bad()
        self.checkpoints.save(self.state_dict(), epoch=len(self.history), step=self.progress.step)

    def _keep_epoch(self) -> None:
        """Save what an epoch's end is worth saving."""
        if self.checkpoints is None:
            return
        losses = [figures["valid/loss"] for figures in self.history]
        if losses[-1] == self.history[-1]["best/valid_loss"] and losses[-1] not in losses[:-1]:
            self.checkpoints.save_best(self.model.state_dict(), epoch=len(self.history) - 1)
        if self.stop_request.reason is not None or self.checkpoints.due_after_epoch(len(self.history)):
            self._save()

    def _stop(self, reason: BaseException) -> NoReturn:
        """End the training between two steps, as a signal wants it, with its state saved."""
        if self.checkpoints is not None and self.untrained:
            self._save()
        raise reason


def _nowhere(_figures: Metrics, _step: int) -> None:
    """Record nothing."""


def figure_names(metrics: Iterable[str]) -> list[str]:
    """The names of an epoch's figures, before callbacks add theirs."""
    means = [f"{part}/{name}" for part in ("train", "valid") for name in ("loss", *metrics)]
    return [*means, "best/valid_loss", "time/epoch_seconds", "throughput/samples_per_second"]


def weights_of(model: Any) -> dict[str, Tensor]:
    """A copy of a model's weights on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
