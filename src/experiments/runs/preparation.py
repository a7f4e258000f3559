"""What a run needs before its first step: device, data, seeds, starting weights; and the key of all that."""

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
from experiments.training import build, weights
from experiments.training import device as devices
from experiments.training.checkpoint import FOLDER, Checkpoints
from experiments.training.distributed.group import Group
from experiments.training.distributed.step import JointCheckpoints
from experiments.training.runner import Runner, weights_of

log = logging.getLogger(__name__)

# Overrides that choose what is trained, and so are not taken over into the stage that comes first.
CHOOSING = ("stage", "init_from", "experiment", "name")


@dataclass(frozen=True)
class Preparation:
    """A configuration with everything it names at hand, ready to be assembled.

    Args:
        root: the checked configuration.
        device: where it computes.
        splits: the dataset.
        seeds: the three streams.
        state: the weights it starts from; None for fresh ones.
        group: the processes that train it together; None for a process of its own.
    """

    root: RootConfig
    device: torch.device
    splits: Splits
    seeds: Seeds
    state: weights.State | None
    group: Group | None = None

    @cached_property
    def identity(self) -> Identity:
        """What determines the result."""
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
        """The run key: what determines the result, hashed."""
        return key(self.identity)

    def runner(self, folder: Path | None, *, before_step: Callable[[], None] | None = None) -> Runner:
        """The assembled training.

        Of several processes the first one alone writes files, whatever folder others are given.

        Args:
            folder: where callbacks may leave files, and the state is saved; None for nowhere.
            before_step: called right before the optimiser steps, to look at the gradients that it gets.

        Raises:
            ConfigError: the parts do not fit together.
        """
        model = build.build_model(self.root, self.splits.spec, self.seeds)
        if self.state is not None:
            weights.into(model, self.state, str(self.root.init_from))
        return build.assemble(
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

    def _checkpoints(self, folder: Path) -> Checkpoints:
        settings = {"key": key(without_length(self.identity)), **self.root.checkpoint.model_dump()}
        if self.group is None:
            return Checkpoints(folder / FOLDER, **settings)
        return JointCheckpoints(self.group, folder / FOLDER, **settings)


def prepare(root: RootConfig, overrides: Sequence[str], group: Group | None = None) -> Preparation:
    """Everything that a checked configuration names.

    Args:
        root: the configuration.
        overrides: the command line's, for a stage that `init_from` names.
        group: the processes that train it together; None for a process of its own.

    Raises:
        ConfigError: `init_from` means nothing that is there.
        DataError: the dataset cannot be had.
    """
    state = _starting_weights(root, overrides, group)
    device = devices.prepare(root.device, deterministic=root.deterministic)
    load = partial(build.load_dataset, root.dataset)
    splits = load() if group is None else group.after_first_here(load)
    prepared = Preparation(root, device, splits, derive(root.seed, root.seeds.model_dump()), state, group)
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
    """The weights that `init_from` means; None for fresh ones.

    A stage means that stage under the same overrides: taken from where it was trained before, found by its run key,
    else trained here first, which is no run of its own.
    """
    if root.init_from is None:
        return None
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
    """The configuration of the stage that `init_from` names, under a run's own overrides.

    Raises:
        ConfigError: there is no such stage.
    """
    problem = f"{name!r} is neither a run's folder, nor its MLflow id (32 hexadecimal digits), nor a stage"
    if not re.fullmatch(r"[\w-]+", name):
        raise ConfigError(Fault("init_from", problem))
    try:
        return check.configured([*unchosen(overrides), f"stage={name}"]).root
    except ConfigError as error:
        if error.faults[0].key != f"stage={name}":
            raise
        told = error.faults[0].problem.removeprefix("there is no such option")
        raise ConfigError(Fault("init_from", f"{problem}{told}")) from error


def unchosen(overrides: Sequence[str]) -> list[str]:
    """Overrides without those that choose what is trained: what another stage can be given as well."""
    return [item for item in overrides if item.split("=")[0].lstrip("+~") not in CHOOSING]
