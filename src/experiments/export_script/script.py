"""One readable script of plain PyTorch out of a configuration: data, model, loss, batches, loop, training, in order."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from experiments.components import script_loaders
from experiments.config.registry import register
from experiments.data import nested
from experiments.data.batches import Order
from experiments.errors import ConfigError, Fault
from experiments.export_script import factories
from experiments.export_script.layout import imports, joined
from experiments.export_script.loop import BALANCED, Loop
from experiments.export_script.restrictions import not_shared, require_read, require_shared
from experiments.export_script.rows import StoredRows
from experiments.export_script.sources import Sources
from experiments.export_script.start import Start
from experiments.export_script.training import Training, bound
from experiments.export_script.trial import Trial
from experiments.export_script.values import Text, is_plain
from experiments.training import build_batches

TRAINING = Path(__file__).with_name("templates").joinpath("training.txt").read_text("utf-8").strip()
IMPORT = re.compile(r"(import|from) \w[^\n]*\n")
# The data spec, where a definition hands it on or keeps it.
HANDED = """\
# The data, as its components ask for it
data_spec = {values}
data_spec = make_dataclass("DataSpec", data_spec, frozen=True)(**data_spec)
"""


class Script:
    """The text of one script.

    Args:
        heading: the lines that say what it is.
        trainings: the run's own, last, and the earlier ones whose weights it starts from.
        trial: what a first step shows.
        rows: its rows.
        file: where they are written, for a dataset that declares no plain form.
        hands_spec: whether components get the data spec as an argument; else it is written into their definitions.
    """

    def __init__(
        self,
        heading: Sequence[str],
        trainings: Sequence[Training],
        trial: Trial,
        rows: StoredRows,
        file: str,
        *,
        hands_spec: bool = False,
    ) -> None:
        self.heading, self.trainings, self.trial = heading, trainings, trial
        self.rows, self.file, self.spec = rows, file, rows.splits.spec
        self.passed = {"data": None, "counts": Text(repr(tuple(rows.splits.class_counts)))}
        self.made: dict[str, str] = {}  # what the script makes before its training, by name
        self.last, self.root = trainings[-1], trainings[-1].root
        for training in trainings:
            require_shared(training, self.last)
        self.moves = any(training.root.device.name != "cpu" for training in trainings)
        self.sources = Sources(self.spec, hands_spec=hands_spec, without=() if self.moves else ("to",))
        self.sources.imports.add("import torch")

    def text(self) -> str:
        """Return the whole script."""
        body = [self._data(), *([self._spec()] if self.sources.hands_spec else [])]
        model = self._made(self.last, "model", [None])
        body += self.sources.taken()
        loss = self._called("loss", "loss_function")
        body += self.sources.taken()
        transforms = self._transforms()
        step = self._step(loss) if self.root.step["name"] != "supervised" else None
        body += [*self.sources.taken(), *self._batches()]
        start = Start(
            self.trainings, self.trial, self.sources, self.made, model, self._schedulers, self._own_batches, self.moves
        )
        trainings = start.text()
        self._require_same_stepping()
        loop = Loop(self.last, self.trial, loss, transforms, self._scheduled_per(), self.moves, step)
        if self.root.limit_batches is not None or self.last.loader.drop_last:
            self.sources.imports.add("from itertools import islice")
        body += [*self.sources.taken(), loop.text(), trainings]  # what optimisers and schedulers need, and the loop
        heading = '"""' + "\n".join(self.heading) + '\n"""'
        if self.last.own_loader:
            loader = self.last.component("loader")[0]
            require_read(loader, "\n".join([factories.source_of(loader.factory), *body]))
        return joined([heading, imports(self.sources.imports), *body])

    def _data(self) -> str:
        plain = self.last.plain_rows
        text = plain or self.rows.code(self.file)
        self.sources.imports |= {line.strip() for line in text.splitlines() if IMPORT.fullmatch(f"{line}\n")}
        lines = [IMPORT.sub("", text).strip()]
        if self.rows.as_bytes and plain is None and not self.last.own_loader:
            lines.append("x_train, x_valid = x_train.float() / 256, x_valid.float() / 256")
        if not (self._flat or not isinstance(self.spec.dtype, str) or "shape" in self._batches_parameters):
            shape = ", ".join(map(str, self.spec.shape))
            lines.append(f"x_train, x_valid = x_train.view(-1, {shape}), x_valid.view(-1, {shape})")
        return "\n".join(lines)

    def _spec(self) -> str:
        """Return the definition of the data spec: its fields and properties, as far as they are plain values."""
        names = [field.name for field in dataclasses.fields(self.spec)]
        names += [name for name, value in vars(type(self.spec)).items() if isinstance(value, property)]
        values = {name: getattr(self.spec, name) for name in names}
        values = {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}
        self.sources.imports.add("from dataclasses import make_dataclass")
        return HANDED.format(values={name: value for name, value in values.items() if is_plain(value)})

    def _transforms(self) -> list[tuple[str, bool]]:
        found, pairs = [], []
        for name, given in self.root.transforms.items():
            component, arguments = bound(register.transform, name, given)
            if component.metadata.get("pairs"):
                pairs.append((f"xb, yb = {self.sources.called(component, arguments, spec_at=2)}(xb, yb)", True))
                continue
            called = self.sources.called(component, arguments, spec_at=1)
            found.append((f"xb = {called}(xb)", bool(component.metadata.get("training_only"))))
        return [*found, *pairs]

    def _called(self, group: str, name: str) -> str:
        """Return how a loss or a step is called: a function, or an object that the script makes under a name."""
        component, arguments = self.last.component(group)
        if not inspect.isclass(component.factory):
            return self.sources.called(component, arguments)
        passed = getattr(register, group).passed_to(component)
        self.made[name] = str(self.sources.made(component, arguments, [self.passed[value] for value in passed]))
        if issubclass(component.factory, torch.nn.Module):
            self.made[name] += (".eval()" if group == "loss" else "") + (".to(device)" if self.moves else "")
        return name

    def _step(self, loss: str) -> tuple[str, str | None]:
        """Return how the own step trains and evaluates, and define the training that it gets."""
        component, _ = self.last.component("step")
        step = self._called("step", "step")
        text = TRAINING.replace("{loss}", f"lambda *given: torch.div(*{loss}(*given))" if self.trial.weighted else loss)
        limit = self.root.max_grad_norm
        clip = f"torch.nn.utils.clip_grad_norm_(self.model.parameters(), {limit})\n        " if limit else ""
        text = text.replace("{clip}", clip).replace("{device}", "device" if self.moves else 'torch.device("cpu")')
        data = f"shape={self.spec.shape}, outputs={self.spec.outputs}, features={self.spec.features}"
        self.sources.imports.add("from types import SimpleNamespace")
        self.sources.add("Training", text.replace("{data}", data))
        if not inspect.isclass(component.factory):
            return step, None
        return "step.train", "step.evaluate" if hasattr(component.factory, "evaluate") else None

    @property
    def _flat(self) -> bool:
        return build_batches.input_kind(self.root) == "flat"

    @property
    def _plain_loader(self) -> Callable[..., Any] | None:
        """The plain form of the loader; None for a user's."""
        plain: Callable[..., Any] | None = self.last.component("loader")[0].metadata.get("plain")
        return script_loaders.nested_slices if plain is not None and self.trial.nested else plain

    @property
    def _batches_parameters(self) -> Sequence[str]:
        """What the plain form of the loader takes."""
        function = self._plain_loader
        return ["shape"] if function is None else list(inspect.signature(function).parameters)

    def _batches(self) -> list[str]:
        if self.trial.nested:
            for helper in (nested.apply, nested.leaves):
                self.sources.defined(helper, {}, helper.__name__)
        function = self._plain_loader
        if function is not None:
            loader = self.last.loader
            ordered = loader.shuffle or loader.valid_shuffle or loader.draw is not None
            known = {"shape": build_batches.input_shape(self.root, self.spec), "draws_noise": self.trial.draws_noise}
            known |= {} if ordered else {"order": None}
            given = {key: value for key, value in known.items() if key in self._batches_parameters}
            self.sources.defined(function, given, "batches")
            return self.sources.taken()
        for handed in (script_loaders.Rows, Order):
            self.sources.defined(handed, {}, handed.__name__)
        return self.sources.taken()

    def _own_batches(self, training: Training) -> list[str]:
        """Return the lines that make a user's loaders, as the run makes them: once for a training."""
        component, arguments = training.component("loader")
        if self.trial.nested:
            problem = f"{component.name} is a custom loader; a script has several inputs or targets from a built-in one"
            raise ConfigError(Fault("loader", problem))
        lines, loader = [], training.loader
        for part, size, shuffle in (
            ("train", loader.batch_size * self.root.accumulate, loader.shuffle),
            ("valid", loader.valid_batch_size, loader.valid_shuffle),
        ):
            shape = build_batches.input_shape(self.root, self.spec)
            codes = (f"Rows(x_{part}, y_{part})", str(size), f"{part}_order", repr(shape))
            made = self.sources.made(component, arguments, [Text(code) for code in codes])
            order, rows = f"shuffle={shuffle}, seed={training.seeds.data_order}", f"len(x_{part})"
            if part == "train" and loader.drop_last:
                rows, order = f"{rows} // {size} * {size}", f"{order}, rows={rows}"
            if part == "train" and loader.draw is not None:
                order = f"{order}, weights={BALANCED}"
            lines += [f"{part}_order = Order({rows}, {order})"]
            lines += [f"{part}_batches = {made}"]
            lines += [f"{part}_batches.to(device)"] if self.moves and component.metadata.get("on_device") else []
        return lines

    @cached_property
    def _schedulers(self) -> list[str | None]:
        """The expression that makes the scheduler of each training; None where it has none."""
        steps = Text(str(self.trial.steps))
        return [
            self._made(t, "scheduler", [Text("optimizer"), Text(str(t.root.epochs)), steps]) for t in self.trainings
        ]

    def _require_same_stepping(self) -> None:
        """Raise a ConfigError where the steps of an earlier training's optimiser or scheduler take something else."""
        for training in self.trainings:
            mine, other = ((each.root.optim["name"], each.root.scheduler["name"]) for each in (training, self.last))
            if mine != other and (self.trial.closed or self.trial.watched):
                raise not_shared(training, ["optim or scheduler, whose steps take something"])

    def _scheduled_per(self) -> str:
        """Return when the schedulers are called, "step" or "epoch"; empty where there are none.

        Raises:
            ConfigError: one training has none, or one that is called at another time.
        """
        scheduled = [t for t, made in zip(self.trainings, self._schedulers, strict=True) if made is not None]
        per = {register.scheduler.get(t.root.scheduler["name"]).metadata.get("per", "epoch") for t in scheduled}
        if len(per) > 1 or len(scheduled) not in (0, len(self.trainings)):
            raise not_shared(self.trainings[0], ["scheduler"])
        return per.pop() if per else ""

    def _made(self, training: Training, group: str, given: Sequence[Text | None]) -> str | None:
        component, arguments = training.component(group)
        return self.sources.made(component, arguments, given)
