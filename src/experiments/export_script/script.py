"""One readable script of plain PyTorch out of a configuration: data, model, loss, batches, loop, training, in order."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from experiments.components import script_loaders
from experiments.config.registry import register
from experiments.config.root import LoaderSettings, channels_last
from experiments.data.splits import DataSpec
from experiments.export_script.layout import imports, joined
from experiments.export_script.restrictions import not_shared, require_shared
from experiments.export_script.sources import Sources
from experiments.export_script.templates import AUTOCAST, DEVICES, IMPORT, ROWS, SCALED, STEPPED, summed
from experiments.export_script.training import Training, bound
from experiments.export_script.values import Text
from experiments.seeds import epoch_seed


class Script:
    """The text of one script.

    Args:
        heading: the lines that say what it is.
        trainings: the run's own, last, and those before it that give it its weights.
        spec: what its dataset says of itself.
        draws_noise: whether a training step takes from torch's global generator.
        rows: the file with its rows, for a dataset that has no plain form; it holds bytes where `as_bytes`.
        as_bytes: whether the rows' pixels come as bytes.
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
        self.root = trainings[-1].root
        for training in trainings:
            require_shared(training, trainings[-1])
        self.moves = any(training.root.device.name != "cpu" for training in trainings)
        self.loader = LoaderSettings(**{key: self.root.loader[key] for key in LoaderSettings.model_fields})
        self.sources = Sources(spec, without=() if self.moves else ("to",))
        self.sources.imports.add("import torch")

    def text(self) -> str:
        """The whole script."""
        body = [self._data(), *self._model(), *self._loss(), *self._transforms(), *self._batches()]
        trainings = "\n\n".join(self._training(training) for training in self.trainings)
        body += [*self.sources.taken(), self._fit(), trainings]  # what optimisers and schedulers need, and the loop
        heading = '"""' + "\n".join(self.heading) + '\n"""'
        return joined([heading, imports(self.sources.imports), *body])

    def _data(self) -> str:
        text = register.dataset.get(self.root.dataset["name"]).metadata.get("plain") or ROWS.replace(
            "{file}", self.rows
        )
        self.sources.imports |= {line.strip() for line in text.splitlines() if IMPORT.fullmatch(f"{line}\n")}
        lines = [IMPORT.sub("", text).strip()]
        if self.as_bytes and "plain" not in register.dataset.get(self.root.dataset["name"]).metadata:
            lines.append("x_train, x_valid = x_train.float() / 256, x_valid.float() / 256")
        if not self._flat and "shape" not in self._batches_parameters:
            shape = ", ".join(map(str, self.spec.shape))
            lines.append(f"x_train, x_valid = x_train.view(-1, {shape}), x_valid.view(-1, {shape})")
        return "\n".join(lines)

    def _model(self) -> list[str]:
        self.model = self._made(self.trainings[-1], "model", [None])
        return self.sources.taken()

    def _loss(self) -> list[str]:
        component, arguments = self.trainings[-1].component("loss")
        self.loss = self.sources.called(component, arguments)
        return self.sources.taken()

    def _transforms(self) -> list[str]:
        self.transforms = []
        for name, given in self.root.transforms.items():
            component, arguments = bound(register.transform, name, given)
            called = self.sources.called(component, arguments, spec_at=1)
            self.transforms.append((f"xb = {called}(xb)", bool(component.metadata.get("training_only"))))
        return self.sources.taken()

    @property
    def _flat(self) -> bool:
        return register.model.get(self.root.model["name"]).metadata.get("input") == "flat"

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.spec.features,) if self._flat else self.spec.shape

    @property
    def _batches_parameters(self) -> Sequence[str]:
        """What the plain form of the loader takes."""
        function = register.loader.get(self.root.loader["name"]).metadata.get("plain")
        return ["shape"] if function is None else list(inspect.signature(function).parameters)

    def _batches(self) -> list[str]:
        component, arguments = self.trainings[-1].component("loader")
        ordered = self.loader.shuffle or self.loader.valid_shuffle
        function = component.metadata.get("plain")
        if function is not None:
            known = {"shape": self._shape, "draws_noise": self.draws_noise} | ({} if ordered else {"order": None})
            given = {key: value for key, value in known.items() if key in self._batches_parameters}
            self.sources.defined(function, given, "batches")
            return self.sources.taken()
        for handed in (script_loaders.Rows, script_loaders.RowOrder):
            self.sources.defined(handed, {}, handed.__name__)
        given_first = [Text("Rows(x, y)"), Text("batch_size"), Text("RowOrder(len(x), order)"), Text(repr(self._shape))]
        made = self.sources.made(component, arguments, given_first)
        return [*self.sources.taken(), f"def batches(x, y, batch_size, order=None):\n    return {made}"]

    def _fit(self) -> str:
        """The loop, with what this training needs and nothing else."""
        per, scales = self._scheduled_per(), self.root.device.precision == "fp16"
        order = f"torch.Generator().manual_seed({epoch_seed(self.trainings[-1].seeds.data_order, 0)} + epoch)"
        train_pass = self._pass("train", self.loader.batch_size, self.loader.shuffle)
        valid_pass = self._pass("valid", self.loader.valid_batch_size, self.loader.valid_shuffle)
        lines = [
            f"def fit(model, optimizer, {'scheduler, ' if self._scheduled else ''}epochs):",
            '    """Train, evaluate and print, epoch by epoch."""',
            *([f"    scaler = torch.amp.GradScaler({self._kind})"] if scales else []),
            "    for epoch in range(epochs):",
            *([f"        order = torch.randperm(len(x_train), generator={order})"] if self.loader.shuffle else []),
            "        model.train()",
            "        total = count = 0",
            f"        for xb, yb in {train_pass}:",
            *(f"            {line}" for line in self._train_lines(per)),
            "        train_loss = total / count",
            "",
            *(
                [f"        order = torch.randperm(len(x_valid), generator={order})"]
                if self.loader.valid_shuffle
                else []
            ),
            "        model.eval()",
            "        total = count = 0",
            "        with torch.no_grad():",
            f"            for xb, yb in {valid_pass}:",
            *(f"                {line}" for line in self._valid_lines()),
            "        valid_loss = total / count",
            '        print(f"epoch {epoch}  train/loss {train_loss!r}  valid/loss {valid_loss!r}")',
            *(["        scheduler.step()"] if "epoch" in per else []),
        ]
        return "\n".join(lines)

    def _train_lines(self, per: set[str]) -> list[str]:
        """What is done with a training batch."""
        root, scales = self.root, self.root.device.precision == "fp16"
        clip = f"torch.nn.utils.clip_grad_norm_(model.parameters(), {root.max_grad_norm})"
        return [
            *self._moved(),
            *self._copied(shuffled=self.loader.shuffle),
            *(line for line, _ in self.transforms),
            *self._forward(),
            *(SCALED if scales else ["loss.backward()"]),
            *([clip] if root.max_grad_norm is not None else []),
            *(STEPPED if scales else ["optimizer.step()"]),
            "optimizer.zero_grad()",
            *(["scheduler.step()"] if "step" in per else []),
            *summed(by_rows=True),
        ]

    def _valid_lines(self) -> list[str]:
        """What is done with a validation batch."""
        return [
            *self._moved(),
            *self._copied(shuffled=self.loader.valid_shuffle),
            *(line for line, training_only in self.transforms if not training_only),
            *self._forward(),
            *summed(by_rows=self.root.evaluation.mean == "samples"),
        ]

    def _moved(self) -> list[str]:
        return ["xb, yb = xb.to(device), yb.to(device)"] if self.moves else []

    def _copied(self, *, shuffled: bool) -> list[str]:
        """A copy of a batch that is a view of the rows, where code of one's own may change it in place."""
        last = self.trainings[-1]
        parts = [last.component(group)[0] for group in ("model", "loss")]
        parts += [register.transform.get(name) for name in self.root.transforms]
        own = any(not part.factory.__module__.startswith("experiments.") for part in parts)
        views = last.component("loader")[0].metadata.get("views")
        copied = ["xb, yb = xb.clone(), yb.clone()  # they are views of the rows, which stay as they are"]
        return copied if own and views and not shuffled else []

    def _forward(self) -> list[str]:
        """Predictions and loss, in the run's precision."""
        dtype = AUTOCAST.get(self.root.device.precision)
        if dtype is None:
            return [f"loss = {self.loss}(model(xb), yb)"]
        within = f"with torch.autocast({self._kind}, dtype={dtype}):"
        return [within, f"    loss = {self.loss}(model(xb).float(), yb)"]

    @property
    def _kind(self) -> str:
        return "device.type" if self.moves else '"cpu"'

    def _pass(self, part: str, batch_size: int, shuffle: bool) -> str:
        code = f"batches(x_{part}, y_{part}, {batch_size}{', order' if shuffle else ''})"
        if self.root.limit_batches is None:
            return code
        self.sources.imports.add("from itertools import islice")
        return f"islice({code}, {self.root.limit_batches})"

    @property
    def _scheduled(self) -> list[Training]:
        """The trainings that have a scheduler."""
        return [training for training in self.trainings if self._scheduler(training) is not None]

    def _scheduled_per(self) -> set[str]:
        """When the schedulers are called, "step" or "epoch"; empty where there are none.

        Raises:
            ConfigError: one training has none, or another kind than the next.
        """
        per = {register.scheduler.get(t.root.scheduler["name"]).metadata.get("per", "epoch") for t in self._scheduled}
        if len(per) > 1 or len(self._scheduled) not in (0, len(self.trainings)):
            raise not_shared(self.trainings[0], ["scheduler"])
        return per

    def _scheduler(self, training: Training) -> str | None:
        rows = self.spec.sizes["train"]
        steps = -(-rows // self.loader.batch_size)
        steps = min(steps, self.root.limit_batches or steps)
        return self._made(training, "scheduler", [Text("optimizer"), Text(str(training.root.epochs)), Text(str(steps))])

    def _training(self, training: Training) -> str:
        first, only = training is self.trainings[0], len(self.trainings) == 1
        lines = [
            "# Training"
            if only
            else f"# {training.name}"
            + (", from whose weights the next one starts" if training is not self.trainings[-1] else "")
        ]
        if first:
            lines += self._settings()
            lines += [f"torch.manual_seed({training.seeds.init})  # the initial weights"]
            lines += [f"model = {self.model}"]
        if self.moves:
            card = f'"cuda:{training.root.device.index or 0}"' if training.root.device.name == "cuda" else ""
            kind = card or DEVICES.get(training.root.device.name, '"cpu"')
            lines += [f"device = torch.device({kind})", "model.to(device)"]
        if first and channels_last(self.root):
            lines += ["model.to(memory_format=torch.channels_last)"]
        lines += [f"optimizer = {self._made(training, 'optim', [Text('model.parameters()')])}"]
        scheduler = self._scheduler(training)
        if self._scheduled:
            lines += [f"scheduler = {scheduler}"]
        if self.draws_noise:
            lines += [f"torch.manual_seed({training.seeds.noise})  # dropout and the like"]
        handed = "model, optimizer, scheduler" if self._scheduled else "model, optimizer"
        return "\n".join([*lines, f"fit({handed}, epochs={training.epochs})"])

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
            operations = ["cudnn.conv", "cudnn.rnn"]  # which are TF32 on a card unless one says otherwise
            operations += ["cuda.matmul"] if chosen == "tf32" else []
            found += [f'torch.backends.{operation}.fp32_precision = "{chosen}"' for operation in operations]
        return found

    def _made(self, training: Training, group: str, given: Sequence[Text | None]) -> str | None:
        component, arguments = training.component(group)
        return self.sources.made(component, arguments, given)
