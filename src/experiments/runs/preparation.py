"""Prepare a run: device, data, seeds and initial weights, and the run key of all that."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import torch

from experiments import ranks
from experiments.config import check
from experiments.config.root import RootConfig
from experiments.data.splits import Splits
from experiments.errors import ConfigError, Fault, TrainingError
from experiments.runs import index, terminal
from experiments.runs.find import find_run
from experiments.runs.fingerprint import Identity, differences, identity, key, without_length
from experiments.seeds import Seeds, derive
from experiments.training import build, transfer, weights
from experiments.training import device as devices
from experiments.training.checkpoint import FOLDER, Checkpoints
from experiments.training.distributed.group import Group
from experiments.training.distributed.step import JointCheckpoints
from experiments.training.runner import Runner, weights_of

log = logging.getLogger(__name__)

# Overrides that choose what is trained; the stage that comes first does not get them.
CHOOSING = ("stage", "init_from", "init_only", "init_match", "freeze", "experiment", "name")


@dataclass(frozen=True)
class Preparation:
    """A configuration with everything it names, ready to be assembled.

    Args:
        state: the initial weights; None for fresh ones.
        group: the processes that train it together; None for a single one.
    """

    root: RootConfig
    device: torch.device
    splits: Splits
    seeds: Seeds
    state: weights.State | None
    group: Group | None = None

    @cached_property
    def identity(self) -> Identity:
        """Return all that determines the result."""
        return identity(
            self.root,
            digest=self.splits.spec.digest,
            seeds=asdict(self.seeds),
            device=self.device,
            init=None if self.state is None else weights.digest(self.state),
            processes=1 if self.group is None else self.group.world,
        )

    @property
    def key(self) -> str:
        """Return the run key: the identity, hashed."""
        return key(self.identity)

    def runner(self, folder: Path | None, *, before_step: Callable[[], None] | None = None) -> Runner:
        """Assemble the training. Of several processes only the first one writes files.

        Args:
            folder: where callbacks may write files, and checkpoints are saved; None for nowhere.
            before_step: called before each step of the optimiser, when the gradients are complete.

        Raises:
            ConfigError: the parts do not fit together.
        """
        model = build.build_model(self.root, self.splits.spec, self.seeds)
        if self.state is not None:
            fresh = model.state_dict() if transfer.is_partial(self.root) else {}
            weights.into(model, {**fresh, **self.state}, str(self.root.init_from))
        runner = build.assemble(
            self.root,
            splits=self.splits,
            model=model,
            device=self.device,
            seeds=self.seeds,
            folder=None if ranks.follows() else folder,
            group=self.group,
            checkpoints=None if folder is None else self._checkpoints(folder),
            before_step=before_step,
        )
        if self.root.device.batched is None or folder is None or before_step is not None:
            return runner
        from hydra_plugins.experiments_batched._member import joined  # rarely needed

        return joined(runner, self.root)

    def _checkpoints(self, folder: Path) -> Checkpoints:
        settings = {"key": key(without_length(self.identity)), **self.root.checkpoint.model_dump()}
        if self.group is None:
            return Checkpoints(folder / FOLDER, **settings)
        return JointCheckpoints(self.group, folder / FOLDER, **settings)


def prepare(root: RootConfig, overrides: Sequence[str], group: Group | None = None) -> Preparation:
    """Load everything that a checked configuration names.

    The command line's overrides are those of a stage that `init_from` names, too.

    Raises:
        ConfigError: `init_from` names no existing run, file or stage, or not what fits the model.
        DataError: the dataset is not available or not valid.
    """
    state = _starting_weights(root, overrides, group)
    device = devices.prepare(root.device, deterministic=root.deterministic)
    load = partial(build.load_dataset, root.dataset, root.loss["name"])
    splits = load() if group is None else group.after_first_here(load)
    seeds = derive(root.seed, root.seeds.model_dump())
    if state is not None and (transfer.is_partial(root) or weights.named(str(root.init_from))):
        state = transfer.selected(root, state, build.build_model(root, splits.spec, seeds))
    prepared = Preparation(root, device, splits, seeds, state, group)
    if group is not None:
        _require_same(group, prepared.identity)
    return prepared


def _require_same(group: Group, identity: Identity) -> None:
    """Check that all processes train the same.

    Raises:
        TrainingError: they do not.
    """
    for other, found in enumerate(group.gather(identity)):
        if found != identity:
            listed = "\n  ".join(differences(identity, found))
            told = listed.replace(" then,", f" in process {group.rank},").replace(" now", f" in process {other}")
            raise TrainingError(f"ranks have different configurations:\n  {told}")


def _starting_weights(root: RootConfig, overrides: Sequence[str], group: Group | None) -> weights.State | None:
    """Return the weights that `init_from` names; None for fresh ones.

    A stage means that stage under the same overrides: a finished run with its run key, else a training here, before
    this run, which is not a run in MLflow.
    """
    if root.init_from is None:
        return None
    if (file := weights.named(root.init_from)) is not None:
        return weights.read(file)[0]
    output_root = Path(root.output_root)
    run = find_run(output_root, root.init_from)
    if run is not None:
        return weights.load(run)
    first = prepare(stage(root.init_from, overrides), overrides, group)
    found = index.recall(output_root, first.key)
    if group is not None:  # another process may see another disk, or look a moment later
        found = group.from_first(found)
    if found is not None:
        log.info("starts from the weights of stage %s, trained in %s", root.init_from, terminal.relative(found))
        return weights.load(found)
    log.info("trains stage %s first, to start from its weights", root.init_from)
    runner = first.runner(folder=None)
    runner.fit(first.root.epochs, record=terminal.figures)
    return weights_of(runner.model)


def stage(name: str, overrides: Sequence[str]) -> RootConfig:
    """Return the configuration of the stage that `init_from` names, under a run's overrides.

    Raises:
        ConfigError: there is no such stage.
    """
    problem = f"{name!r} is neither a run's folder, nor its MLflow id (32 hexadecimal digits), nor a stage"
    if not re.fullmatch(r"[\w-]+", name):
        raise ConfigError(Fault("init_from", f"{problem}, nor a file that ends in {', '.join(weights.SUFFIXES)}"))
    try:
        return check.configured([*unchosen(overrides), f"stage={name}"]).root
    except ConfigError as error:
        if error.faults[0].key != f"stage={name}":
            raise
        told = error.faults[0].problem.removeprefix("there is no such option")
        raise ConfigError(Fault("init_from", f"{problem}{told}")) from error


def unchosen(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that another stage can have too: without those that choose what is trained."""
    return [item for item in overrides if item.split("=")[0].lstrip("+~") not in CHOOSING]
