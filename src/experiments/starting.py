"""The weights that a run starts from, where `init_from` names trained ones; and the run key they are part of."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from experiments import assembly, composing, config, weights
from experiments import device as devices
from experiments.config import RootConfig
from experiments.data import Splits
from experiments.runner import weights_of
from experiments.seeds import Seeds, derive
from experiments.views import terminal

log = logging.getLogger(__name__)

# Overrides that choose what is trained, and so are not taken over into the stage that comes first.
CHOOSING = ("stage", "init_from", "experiment", "name")


def weights_for(root: RootConfig, overrides: Sequence[str]) -> weights.State | None:
    """The weights that `init_from` means; None for fresh ones.

    A stage means that stage under the same overrides: taken from where it was trained before, found by its run key,
    else trained here first, which is no run of its own.

    Raises:
        ConfigError: it means nothing that is there.
    """
    if root.init_from is None:
        return None
    output_root = Path(root.output_root)
    if root.init_from not in stages():
        return weights.load(weights.find_run(output_root, root.init_from))
    kept = [item for item in overrides if item.split("=")[0].lstrip("+~") not in CHOOSING]
    first = config.check(config.resolve(composing.compose([*kept, f"stage={root.init_from}"])))
    device = devices.prepare(first.device, deterministic=first.deterministic)
    splits = assembly.load_dataset(first.dataset)
    seeds = derive(first.seed, first.seeds.model_dump())
    state = weights_for(first, overrides)
    found = weights.recall(output_root, run_key(first, splits, seeds, device, state))
    if found is not None:
        log.info("starts from the weights of stage %s, trained in %s", root.init_from, terminal.relative(found))
        return weights.load(found)
    log.info("trains stage %s first, to start from its weights", root.init_from)
    model = assembly.build_model(first, splits.spec, seeds)
    if state is not None:
        weights.into(model, state, str(first.init_from))
    runner = assembly.assemble(first, splits=splits, model=model, device=device, seeds=seeds, folder=None)
    runner.record = terminal.figures
    runner.fit(first.epochs)
    devices.prepare(root.device, deterministic=root.deterministic)
    return weights_of(runner.model)


def run_key(root: RootConfig, splits: Splits, seeds: Seeds, device: torch.device, state: weights.State | None) -> str:
    """What determines the result of a run, hashed."""
    init = None if state is None else weights.digest(state)
    return config.run_key(root, digest=splits.spec.digest, seeds=asdict(seeds), device=device.type, init=init)


def stages() -> list[str]:
    """The names of all stages, the user's own included."""
    with contextlib.ExitStack() as stack:
        if not GlobalHydra.instance().is_initialized():
            stack.enter_context(initialize_config_module("experiments.conf", version_base="1.3"))
        return [str(stage) for stage in GlobalHydra.instance().config_loader().get_group_options("stage")]
