"""The training loop: fit > epoch > step > forward, backward, update. It knows neither Hydra nor MLflow.

Inside an epoch nothing waits for an accelerator: sums stay on the device, a bad step's update is masked there and
reported at the epoch's end.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from experiments import live
from experiments.data.batches import Batches
from experiments.data.nested import Nested
from experiments.seeds import noise_state, restore_noise
from experiments.training import hooks, state
from experiments.training.callback import Callback
from experiments.training.checkpoint import Checkpoints
from experiments.training.meters import Metric, OverPass, Progress, Sums
from experiments.training.result import Metrics, Result, lowest
from experiments.training.signals import StopRequest
from experiments.training.step import EagerStep

Record = Callable[[Metrics, int], None]
Trained = tuple[Nested, Nested, Nested, Any]  # batch x, targets, predictions, loss


@dataclass(kw_only=True)
class Runner:
    """A training of finished objects.

    Args:
        step: takes one training step; it has the model, the loss and the update.
        train: the training rows.
        valid: the validation rows.
        scheduler: with step(); None for a constant learning rate.
        step_scheduler_each: "step" or "epoch".
        scheduler_watches: the metric of an epoch that its step() takes; None where it takes none.
        metrics: by name, (pred, target) -> sum over the batch's rows, or a metric over a pass.
        callbacks: called in this order.
        mean_over: "samples" or "batches", of the validation.
        all_reduce: adds numbers over all processes that train together, each on its share of the rows.
        folder: where callbacks may write files; None for nowhere.
        checkpoints: where and when the state is saved; None for nowhere.
    """

    step: EagerStep
    train: Batches
    valid: Batches
    scheduler: Any = None
    step_scheduler_each: str = "epoch"
    scheduler_watches: str | None = None
    metrics: Mapping[str, Metric | OverPass] = field(default_factory=dict)
    callbacks: Sequence[Callback] = ()
    mean_over: str = "samples"
    all_reduce: Callable[[Sequence[float]], list[float]] = list
    folder: Path | None = None
    checkpoints: Checkpoints | None = None
    stopped: str = field(default="", init=False)
    untrained: Metrics = field(default_factory=dict, init=False)
    history: list[Metrics] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        forward, self.steps = self.step.forward, len(self.train)
        self.model, self.device = forward.model, forward.device
        self.loss: Callable[[Nested, Nested], Tensor] = forward.mean_loss
        self.in_evaluation = False  # whether callbacks' weights for evaluation are the model's
        self.optimizer, self.params = self.step.update.optimizer, self.step.update.params
        self.waits_for_device = self.device.type != "cpu"
        self.stop_request = StopRequest()
        self.record: Record = lambda _figures, _step: None
        self._noise: Mapping[str, Any] | None = None  # state to restore once the batches are where they were
        self.bar = live.Phase("", None, 0)
        self.start_epoch()

    def fit(
        self,
        epochs: int,
        *,
        pause_after: int | None = None,
        record: Record | None = None,
        stop_request: StopRequest | None = None,
    ) -> Result:
        """Evaluate, then train and evaluate up to epoch `epochs`, unless a callback stops it.

        After `load_state_dict` it resumes where that state was taken, bit for bit as without an interruption.

        Args:
            epochs: in all, those before a resume included.
            pause_after: of these, after how many to end with a checkpoint; None for all.
            record: called with metrics and their step (the epoch, from 0).
            stop_request: checked after each step and epoch.

        Raises:
            TrainingError: a loss or gradient is not finite; that update was not applied.
        """
        self.record = record or self.record
        self.stop_request = stop_request or self.stop_request
        with live.phase("before training", epochs * self.steps, self._steps_done(len(self.history))) as self.bar:
            paused = self._train(epochs, min(epochs, pause_after or epochs))
        stopped = self.stopped if len(self.history) < epochs else ""
        return Result(self.model, self.untrained, self.history, stopped, self.folder, paused=paused)

    def _train(self, epochs: int, until: int) -> bool:
        """Train up to epoch `until`; return whether it pauses there, before the last one."""
        hooks.call("on_begin", self)
        if not self.untrained:
            figures = self.evaluate(0, stoppable=True)
            self.untrained = {f"untrained/valid_{name}": value for name, value in figures.items()}
            self.record(self.untrained, 0)
            hooks.call("on_fit_start", self)
        while len(self.history) < until and not self.stopped:
            epoch = len(self.history)
            self.bar.title = f"epoch {epoch} of {epochs}"
            self.history.append(self.run_epoch(epoch))
            self.record(self.history[-1], epoch)
            self._save_epoch(pauses=len(self.history) == until < epochs and not self.stopped)
            if self.stop_request.reason is not None:
                raise self.stop_request.reason
        if until < epochs and not self.stopped:
            return True
        self._restore_noise()
        with hooks.evaluation(self) as others:
            weights = copy.deepcopy(self.model.state_dict()) if others else None
        if weights is not None:
            self.model.load_state_dict(weights)
        hooks.call("on_fit_end", self)
        return False

    def run_epoch(self, epoch: int) -> Metrics:
        """Train and evaluate once; return the epoch's metrics by name."""
        self.progress.start_clock()
        means, rows = self.train_epoch(epoch)
        train = {f"train/{name}": value for name, value in means.items()}
        # Evaluation may draw from it too, and starts over where a training resumes from its middle.
        self.progress.noise = noise_state(self.device)
        valid = {f"valid/{name}": value for name, value in self.evaluate(epoch, stoppable=True).items()}
        figures = train | valid
        self.step_scheduler("epoch", figures)
        seconds = self.progress.seconds()
        earlier = [figures["valid/loss"] for figures in self.history]
        figures["best/valid_loss"] = lowest([*earlier, valid["valid/loss"]])
        figures["time/epoch_seconds"] = seconds
        figures["throughput/samples_per_second"] = rows / seconds
        with hooks.evaluation(self):
            hooks.call("on_epoch_end", self, epoch, figures)
        self.start_epoch()
        return {name: float(value) for name, value in figures.items()}  # numpy's numbers are not plain values

    def start_epoch(self) -> None:
        """Reset steps and sums."""
        self.progress = Progress(self._sums())

    def train_epoch(self, epoch: int) -> tuple[Metrics, int]:
        """Train on all training rows; return the means, each batch's before its update, and the number of rows."""
        sums = self.progress.sums
        for _, yb, pred, loss in self.train_steps(epoch):
            sums.add(pred, yb, loss)
            done = self._steps_done(epoch)
            self.bar.at(done, sums.recent)
            if self.stop_request.reason is not None:
                self._stop(self.stop_request.reason)
            if self.checkpoints is not None and self.checkpoints.due_after_step(done):
                self._save()
        self.step.update.raise_if_bad()
        return sums.means(), sums.rows

    def train_steps(self, epoch: int) -> Iterator[Trained]:
        """Take the epoch's remaining training steps; yield after each its batch, predictions and loss."""
        self.model.train()
        done, steps, step, hooked = self.progress.step, self.steps, self.step, bool(hooks.having(self, "on_step_end"))
        for index, (xb, yb) in enumerate(self._batches_from(epoch, done), done):
            if self.waits_for_device:
                xb, yb = self.moved(xb), self.moved(yb)
            pred, target, loss = step(xb, yb, epoch * steps + index)
            self.step_scheduler("step")
            self.progress.step = index + 1
            if hooked:
                hooks.call("on_step_end", self, epoch * steps + index)
                self.model.train()  # a hook may have evaluated
            yield xb, target, pred, loss

    def step_scheduler(self, each: str, figures: Mapping[str, float] | None = None) -> None:
        """Step the scheduler, if it is called each "step" or each "epoch", by the epoch's metric that it watches."""
        if self.scheduler is None or self.step_scheduler_each != each:
            return
        self.scheduler.step(*([figures[self.scheduler_watches]] if figures and self.scheduler_watches else []))

    def evaluate(self, epoch: int, batches: Batches | None = None, *, stoppable: bool = False) -> Metrics:
        """Return the loss and the metrics over the validation rows (or other batches), in evaluation mode.

        Only the loop's own is `stoppable`: within a callback the epoch is half done, and would be repeated.
        """
        sums = self._sums(by_rows=self.mean_over == "samples")
        with hooks.evaluation(self), self.step.forward.evaluating():
            self.model.eval()
            for xb, yb in (batches or self.valid).epoch(epoch):
                if self.waits_for_device:
                    xb, yb = self.moved(xb), self.moved(yb)
                pred, target, loss = self.step.evaluate(xb, yb)
                sums.add(pred, target, loss)
                if stoppable and self.stop_request.reason is not None:
                    break
        if stoppable and self.stop_request.reason is not None:  # the model has its own weights again
            self._stop(self.stop_request.reason)
        return sums.means()

    def moved(self, value: Nested) -> Nested:
        """Return a batch's x or y on the device."""
        return self.step.forward.moved(value)

    def prepared(self, xb: Nested) -> Nested:
        """Return a batch on the device, after the transforms of evaluation."""
        return self.step.forward.prepared(self.moved(xb))

    def predict(self, xb: Nested) -> Nested:
        """Return the model's output for a batch on its device, as in evaluation."""
        return self.step.forward.predict_detached(xb)

    def stop(self, reason: str) -> None:
        """Stop the training after this epoch; with an empty reason, let it continue."""
        self.stopped = reason

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to continue from the end of a step, as tensors and plain values."""
        return state.taken(self)

    def load_state_dict(self, taken: Mapping[str, Any]) -> None:
        """Continue from the state of a training with the same parts."""
        state.restored(self, taken)
        self._noise = taken["noise"]

    def _steps_done(self, epoch: int) -> int:
        """Return the steps since the beginning, within an epoch."""
        return epoch * self.steps + self.progress.step

    def _sums(self, *, by_rows: bool = True) -> Sums:
        return Sums(self.metrics, by_rows=by_rows, all_reduce=self.all_reduce)

    def _batches_from(self, epoch: int, done: int) -> Iterator[tuple[Nested, Nested]]:
        """Return the training batches of an epoch after those done, with the noise stream where it was."""
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

    def _save_epoch(self, *, pauses: bool) -> None:
        """Save the weights if they are the best so far, and the state if it is due, or the training pauses."""
        if self.checkpoints is None:
            return
        losses = [figures["valid/loss"] for figures in self.history]
        if losses[-1] == self.history[-1]["best/valid_loss"] and losses[-1] not in losses[:-1]:
            with hooks.evaluation(self):
                self.checkpoints.save_best(self.model.state_dict(), epoch=len(self.history) - 1)
        due = self.checkpoints.due_after_epoch(len(self.history))
        if due or pauses or self.stop_request.reason is not None:
            self._save()

    def _stop(self, reason: BaseException) -> NoReturn:
        """Save the state and raise what a signal asked for."""
        if self.checkpoints is not None and self.untrained:
            self._save()
        raise reason


def weights_of(model: Any) -> dict[str, Tensor]:
    """Return a copy of a model's weights on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
