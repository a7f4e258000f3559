"""A run's identity: all that determines its result. The same identity gives the same bits; its hash is the run key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from experiments.config import source_hash
from experiments.config.device import DeviceConfig
from experiments.config.registry import register
from experiments.config.root import RootConfig, channels_last, flatten
from experiments.runs.settings_diff import RESOLVED, changed

# What never changes a result.
WITHOUT_EFFECT = {
    *("tracking", "checkpoint", "sweep", "language", "output_root", "tutorial", "name", "figures", "inspect"),
    *("reuse", "describe", "tags", "pause_after", "doctor"),
}
SWITCHES = ("precision", "compile", "graph", "batched")
# Settings that came later, with what leaves a training as it was: left out at that, as in runs of before.
LATER: Mapping[str, Any] = {
    "loader.drop_last": False,
    "loader.draw": None,
    "accumulate": 1,
    "optim.groups": None,
    "init_only": None,
    "init_match": "strict",
    "freeze": [],
    "step.name": "supervised",
}
# Of the dataset, its content counts, not where it was read from; a registration names others with `places=`.
PLACES = {"root", "source", "path"}

Identity = dict[str, Any]


def identity(
    root: RootConfig,
    *,
    digest: str,
    seeds: Mapping[str, int],
    device: torch.device,
    init: str | None,
    processes: int = 1,
) -> Identity:
    """Return all that determines a run's result, by dotted key: settings, components' code, data, machine.

    `digest` is the data's, `init` that of the weights it starts from, None for fresh ones. The number of `processes`
    counts: sums are rounded differently, and noise differs.
    """
    settings = root.model_dump(exclude=WITHOUT_EFFECT | RESOLVED)
    places = PLACES.union(register.dataset.get(settings["dataset"]["name"]).metadata.get("places", ()))
    settings["dataset"] = {key: value for key, value in settings["dataset"].items() if key not in places}
    found = {name: value for name, value in flatten(settings).items() if LATER.get(name, ...) != value}
    for registry in register:
        chosen = settings[registry.group]
        for name in chosen if registry.many else [chosen["name"]]:
            if LATER.get(f"{registry.group}.name") == name:
                continue
            found[f"code of {registry.group}.{name}"] = source_hash.digest(registry.get(name).factory)
    found |= {f"seeds.{name}": seed for name, seed in seeds.items()}
    found |= {"content of dataset": digest, "content of init_from": init}
    if channels_last(root):
        found["device.channels_last"] = True
    # Left out at their defaults, as in runs that were started before these switches existed.
    found |= {f"device.{name}": getattr(root.device, name) for name in SWITCHES if _switched(root, name)}
    found |= {"machine.torch": torch.__version__, "machine.device": device.type}
    found |= {"machine.threads": torch.get_num_threads(), "machine.cpu": torch.backends.cpu.get_cpu_capability()}
    if processes > 1:
        found["machine.processes"] = processes
    return found


def key(found: Identity) -> str:
    """Return the run key: a hash of the identity."""
    text = json.dumps(found, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def without_length(found: Mapping[str, Any]) -> Identity:
    """Return the identity without the number of epochs: what a longer training shares with a shorter one."""
    return {name: value for name, value in found.items() if name != "epochs"}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one line for each difference."""
    missing = "nothing"
    return [
        f"{name}: {before.get(name, missing)!r} then, {now.get(name, missing)!r} now"
        for name in sorted(changed([before, now]), key=str)
    ]


def _switched(root: RootConfig, name: str) -> bool:
    return bool(getattr(root.device, name) != DeviceConfig.model_fields[name].default)
