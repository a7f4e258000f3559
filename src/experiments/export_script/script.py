"""One readable script of plain PyTorch out of a configuration: data, model, loss, batches, loop, training, in order."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from functools import cached_property

from experiments.components import script_loaders
from experiments.config.registry import register
from experiments.config.root import channels_last
from experiments.data.splits import DataSpec
from experiments.export_script.layout import imports, joined
from experiments.export_script.loop import Loop
from experiments.export_script.restrictions import not_shared, require_shared
from experiments.export_script.sources import Sources
from experiments.export_script.training import Training, bound
from experiments.export_script.values import Text, literal
from experiments.seeds import noise_kept
from experiments.training import build, build_optimizer, param_groups

IMPORT = re.compile(r"(import|from) \w[^\n]*\n")
DEVICES = {
    "auto": '"cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"',
    "mps": '"mps"',
}
# How a script reads the rows of a dataset that declares no plain form.
ROWS = """\
import sys

import numpy as np

# The data: the file that the script came with
with np.load(sys.argv[1] if len(sys.argv) > 1 else "{file}") as rows:
    x_train, y_train, x_valid, y_valid = (torch.from_numpy(rows[name]) for name in rows)
"""


class Script:
    """The text of one script.

    Args:
        heading: the lines that say what it is.
        trainings: the run's own, last, and the earlier ones whose weights it starts from.
        spec: of its dataset.
        draws_noise: whether a training step draws from torch's global generator.
        rows: the file with its rows, for a dataset that declares no plain form.
        as_bytes: whether the pixels in that file are bytes.
    """

    def __init__(
        self,
        heading: Sequence[str],
        trainings: Sequence[Training],
        spec: DataSpec,
        *,
        draws_noise: bool,
        rows: str = "rows.npz",
        as_bytes: bool = False,
    ) -> None:
        self.heading, self.trainings, self.spec, self.draws_noise = heading, trainings, spec, draws_noise
        self.rows, self.as_bytes = rows, as_bytes
        self.last, self.root = trainings[-1], trainings[-1].root
        for training in trainings:
            require_shared(training, self.last)
        self.moves = any(training.root.device.name != "cpu" for training in trainings)
        self.sources = Sources(spec, without=() if self.moves else ("to",))
        self.sources.imports.add("import torch")

    def text(self) -> str:
        """Return the whole script."""
        body = [self._data()]
        model = self._made(self.last, "model", [None])
        body += self.sources.taken()
        loss = self.sources.called(*self.last.component("loss"))
        body += self.sources.taken()
        transforms = self._transforms()
        body += [*self.sources.taken(), *self._batches()]
        trainings = "\n\n".join(self._training(training, model) for training in self.trainings)
        closed, watched = self._stepping()
        loop = Loop(self.last, loss, transforms, self._scheduled_per(), watched, closed, self.moves)
        if self.root.limit_batches is not None or self.last.loader.drop_last:
            self.sources.imports.add("from itertools import islice")
        body += [*self.sources.taken(), loop.text(), trainings]  # what optimisers and schedulers need, and the loop
        heading = '"""' + "\n".join(self.heading) + '\n"""'
        return joined([heading, imports(self.sources.imports), *body])

    def _data(self) -> str:
        plain = self.last.plain_rows
        text = plain or ROWS.replace("{file}", self.rows)
        self.sources.imports |= {line.strip() for line in text.splitlines() if IMPORT.fullmatch(f"{line}\n")}
        lines = [IMPORT.sub("", text).strip()]
        if self.as_bytes and plain is None:
            lines.append("x_train, x_valid = x_train.float() / 256, x_valid.float() / 256")
        if not self._flat and "shape" not in self._batches_parameters:
            shape = ", ".join(map(str, self.spec.shape))
            lines.append(f"x_train, x_valid = x_train.view(-1, {shape}), x_valid.view(-1, {shape})")
        return "\n".join(lines)

    def _transforms(self) -> list[tuple[str, bool]]:
        found = []
        for name, given in self.root.transforms.items():
            component, arguments = bound(register.transform, name, given)
            called = self.sources.called(component, arguments, spec_at=1)
            found.append((f"xb = {called}(xb)", bool(component.metadata.get("training_only"))))
        return found

    @property
    def _flat(self) -> bool:
        return register.model.get(self.root.model["name"]).metadata.get("input") == "flat"

    @property
    def _batches_parameters(self) -> Sequence[str]:
        """What the plain form of the loader takes."""
        function = register.loader.get(self.root.loader["name"]).metadata.get("plain")
        return ["shape"] if function is None else list(inspect.signature(function).parameters)

    def _batches(self) -> list[str]:
        component, arguments = self.last.component("loader")
        shape = (self.spec.features,) if self._flat else self.spec.shape
        function = component.metadata.get("plain")
        if function is not None:
            loader = self.last.loader
            ordered = loader.shuffle or loader.valid_shuffle or loader.draw is not None
            known = {"shape": shape, "draws_noise": self.draws_noise} | ({} if ordered else {"order": None})
            given = {key: value for key, value in known.items() if key in self._batches_parameters}
            self.sources.defined(function, given, "batches")
            return self.sources.taken()
        for handed in (script_loaders.Rows, script_loaders.RowOrder):
            self.sources.defined(handed, {}, handed.__name__)
        given_first = [Text("Rows(x, y)"), Text("batch_size"), Text("RowOrder(len(x), order)"), Text(repr(shape))]
        made = self.sources.made(component, arguments, given_first)
        return [*self.sources.taken(), f"def batches(x, y, batch_size, order=None):\n    return {made}"]

    @cached_property
    def _schedulers(self) -> list[str | None]:
        """The expression that makes the scheduler of each training; None where it has none."""
        return [
            self._made(t, "scheduler", [Text("optimizer"), Text(str(t.root.epochs)), Text(str(self._steps))])
            for t in self.trainings
        ]

    @property
    def _steps(self) -> int:
        rows, size = self.spec.sizes["train"], self.last.loader.batch_size * self.root.accumulate
        steps = rows // size if self.last.loader.drop_last else -(-rows // size)
        return min(steps, (self.root.limit_batches or steps * self.root.accumulate) // self.root.accumulate)

    def _stepping(self) -> tuple[type | None, str | None]:
        """Return the optimiser if its step() takes a closure, and the metric that the step() of the scheduler takes."""
        found = []
        for training in self.trainings:
            root = training.root
            with noise_kept():
                made = build_optimizer.optimizer(root, build.build_model(root, self.spec, training.seeds))
                _, watched = build_optimizer.scheduler(root, made, self._steps)
            found.append((type(made) if build_optimizer.takes_closure(made, root.optim["name"]) else None, watched))
        if len(set(found)) > 1:
            raise not_shared(self.trainings[0], ["optim or scheduler, whose steps take something"])
        return found[-1]

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

    def _training(self, training: Training, model: str | None) -> str:
        first = training is self.trainings[0]
        starts_next = ", from whose weights the next one starts" if training is not self.last else ""
        lines = ["# Training" if len(self.trainings) == 1 else f"# {training.name}{starts_next}"]
        if first:
            lines += self._settings()
            lines += [f"torch.manual_seed({training.seeds.init})  # the initial weights"]
            lines += [f"model = {model}"]
        device = training.root.device
        if self.moves:
            card = f'"cuda:{device.index or 0}"' if device.name == "cuda" else DEVICES.get(device.name, '"cpu"')
            lines += [f"device = torch.device({card})", "model.to(device)"]
        if first and channels_last(self.root):
            lines += ["model.to(memory_format=torch.channels_last)"]
        modules, single = training.frozen
        lines += [f'model.get_submodule("{name}").requires_grad_(False)  # is not trained' for name in modules]
        lines += [f'model.get_parameter("{name}").requires_grad_(False)  # is not trained' for name in single]
        lines += [f"optimizer = {self._made(training, 'optim', [self._parameters(training)])}"]
        scheduler = self._schedulers[self.trainings.index(training)]
        if scheduler is not None:
            lines += [f"scheduler = {scheduler}"]
        if self.draws_noise:
            lines += [f"torch.manual_seed({training.seeds.noise})  # dropout and similar"]
        handed = "model, optimizer" if scheduler is None else "model, optimizer, scheduler"
        return "\n".join([*lines, f"fit({handed}, epochs={training.epochs})"])

    def _parameters(self, training: Training) -> Text:
        """Return what a training's optimiser gets."""
        groups, named = build_optimizer.groups_of(training.root), "model.named_parameters()"
        if training.frozen != ([], []):
            named = "[(name, p) for name, p in model.named_parameters() if p.requires_grad]"
        if groups is not None:
            function = param_groups.without_decay if isinstance(groups, str) else param_groups.grouped
            self.sources.defined(function, {}, function.__name__)
            patterns = "" if isinstance(groups, str) else f", {literal(groups)}"
            return Text(f"{function.__name__}({named}{patterns})")
        if register.optim.get(training.root.optim["name"]).metadata.get("named"):
            return Text(named)
        frozen = training.frozen != ([], [])
        return Text("[p for p in model.parameters() if p.requires_grad]" if frozen else "model.parameters()")

    def _settings(self) -> list[str]:
        found = []
        if self.root.device.threads is not None:
            found.append(f"torch.set_num_threads({self.root.device.threads})")
        if self.root.deterministic:
            self.sources.imports.add("import os")
            found.append('os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")')
            found.append("torch.use_deterministic_algorithms(True)")
        if any(training.root.device.name in ("auto", "cuda") for training in self.trainings):
            chosen = "tf32" if self.root.device.precision == "tf32" else "ieee"
            operations = ["cudnn.conv", "cudnn.rnn"]  # TF32 on a card by default
            operations += ["cuda.matmul"] if chosen == "tf32" else []
            found += [f'torch.backends.{operation}.fp32_precision = "{chosen}"' for operation in operations]
        return found

    def _made(self, training: Training, group: str, given: Sequence[Text | None]) -> str | None:
        component, arguments = training.component(group)
        return self.sources.made(component, arguments, given)
