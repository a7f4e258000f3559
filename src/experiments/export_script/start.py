"""The part of a script that makes each training's model, optimiser and scheduler, and calls `fit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from experiments.config.registry import register
from experiments.config.root import channels_last
from experiments.data import nested
from experiments.export_script.sources import Sources
from experiments.export_script.training import Training
from experiments.export_script.trial import Trial
from experiments.export_script.values import Text, literal
from experiments.training import build_optimizer, param_groups

DEVICES = {
    "auto": '"cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"',
    "mps": '"mps"',
}


@dataclass(frozen=True)
class Start:
    """The start of a script's trainings.

    Args:
        trainings: as in a script.
        trial: what a first step shows.
        sources: of the script.
        made: the code of what is made before the first training, by name.
        model: the code of the model.
        schedulers: of each training; None where it has none.
        loaders: returns the lines that make a user's loaders for a training.
        moves: whether batches are moved to a device.
    """

    trainings: Sequence[Training]
    trial: Trial
    sources: Sources
    made: Mapping[str, str]
    model: str | None
    schedulers: Sequence[str | None]
    loaders: Callable[[Training], Sequence[str]]
    moves: bool

    def text(self) -> str:
        """Return the lines of all trainings."""
        return "\n\n".join(map(self._training, self.trainings, self.schedulers))

    def _training(self, training: Training, scheduler: str | None) -> str:
        first = training is self.trainings[0]
        starts_next = ", from whose weights the next one starts" if training is not self.trainings[-1] else ""
        lines = ["# Training" if len(self.trainings) == 1 else f"# {training.name}{starts_next}"]
        if first:
            lines += self._settings()
            lines += [f"torch.manual_seed({training.seeds.init})  # the initial weights"]
            lines += [f"model = {self.model}", *self._drawn_lazily()]
        device = training.root.device
        if self.moves:
            card = f'"cuda:{device.index or 0}"' if device.name == "cuda" else DEVICES.get(device.name, '"cpu"')
            lines += [f"device = torch.device({card})", "model.to(device)"]
        for name, made in self.made.items() if first else ():
            lines += [f"torch.manual_seed({training.seeds.init})", f"{name} = {made}"]
        if first and channels_last(training.root):
            lines += ["model.to(memory_format=torch.channels_last)"]
        lines += self.loaders(training) if training.own_loader else []
        modules, single = training.frozen
        lines += [f'model.get_submodule("{name}").requires_grad_(False)  # is not trained' for name in modules]
        lines += [f'model.get_parameter("{name}").requires_grad_(False)  # is not trained' for name in single]
        component, arguments = training.component("optim")
        lines += [f"optimizer = {self.sources.made(component, arguments, [self._parameters(training)])}"]
        if scheduler is not None:
            lines += [f"scheduler = {scheduler}"]
        if self.trial.draws_noise:
            lines += [f"torch.manual_seed({training.seeds.noise})  # dropout and similar"]
        handed = "model, optimizer" if scheduler is None else "model, optimizer, scheduler"
        return "\n".join([*lines, f"fit({handed}, epochs={training.epochs})"])

    def _parameters(self, training: Training) -> Text:
        """Return what a training's optimiser gets."""
        groups, named, frozen = build_optimizer.groups_of(training.root), "model.named_parameters()", training.frozen
        if frozen != ([], []):
            named = "[(name, p) for name, p in model.named_parameters() if p.requires_grad]"
        if groups is not None:
            function = param_groups.without_decay if isinstance(groups, str) else param_groups.grouped
            self.sources.defined(function, {}, function.__name__)
            patterns = "" if isinstance(groups, str) else f", {literal(groups)}"
            return Text(f"{function.__name__}({named}{patterns})")
        if register.optim.get(training.root.optim["name"]).metadata.get("named"):
            return Text(named)
        return Text(
            "model.parameters()" if frozen == ([], []) else "[p for p in model.parameters() if p.requires_grad]"
        )

    def _drawn_lazily(self) -> list[str]:
        """Return the lines that have lazy layers draw their weights."""
        if self.trial.lazy_input is None:
            return []
        code = nested.apply(lambda x: Text(f"torch.ones({tuple(x.shape)}, dtype={x.dtype})"), self.trial.lazy_input)
        return ["with torch.no_grad():", f"    model.eval()({code})  # lazy layers draw their weights"]

    def _settings(self) -> list[str]:
        found = list[str]()
        root = self.trainings[-1].root
        if root.device.threads is not None:
            found.append(f"torch.set_num_threads({root.device.threads})")
        if root.deterministic:
            self.sources.imports.add("import os")
            found.append('os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")')
            found.append("torch.use_deterministic_algorithms(True)")
        if any(training.root.device.name in ("auto", "cuda") for training in self.trainings):
            chosen = "tf32" if root.device.precision == "tf32" else "ieee"
            operations = ["cudnn.conv", "cudnn.rnn"]  # TF32 on a card by default
            operations += ["cuda.matmul"] if chosen == "tf32" else []
            found += [f'torch.backends.{operation}.fp32_precision = "{chosen}"' for operation in operations]
        return found
