"""The settings in which runs differ, from their journals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from experiments.runs.job_record import JobRecord

# Groups whose option says more than the component's name and all its arguments.
GROUPS = ("stage", "experiment", "dataset", "model", "loss", "optim", "loader", "scheduler", "device")

# A run's identity has these in another form: three streams, the weights' digest, the device in use and how it is used.
RESOLVED = frozenset({"seed", "seeds", "init_from", "device"})


def settings(job: JobRecord) -> dict[str, str]:
    """Return a job's chosen options and parameters; of a job that never started, what its plan or command line set."""
    if job.started:
        tags = job.start.tags
        return {**{group: tags[group] for group in GROUPS if group in tags}, **job.start.params, **job.changed}
    if job.given is not None:
        return dict(job.given)
    path = job.folder / ".hydra" / "overrides.yaml"
    overrides = [str(item) for item in OmegaConf.load(path)] if path.is_file() else []
    return dict(item.lstrip("+").split("=", 1) for item in overrides if "=" in item)


def changed(given: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose values are not the same in all mappings; a key that one of them lacks is among them."""
    keys = dict.fromkeys(key for values in given for key in values)
    return [key for key in keys if any(key not in values or values[key] != given[0].get(key) for values in given)]


def differing(given: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the keys that differ, chosen options first, without the arguments that a differing option settles."""
    keys = changed(given)
    options = [key for key in keys if "." not in key]
    return options + [key for key in keys if "." in key and not _is_settled(key, options, given)]


def follows(key: str, leading: str, given: Sequence[Mapping[str, str]]) -> bool:
    """Return whether the value of one key settles that of another."""
    seen: dict[str | None, str | None] = {}
    return all(seen.setdefault(values.get(leading), values.get(key)) == values.get(key) for values in given)


def _is_settled(key: str, options: Sequence[str], given: Sequence[Mapping[str, str]]) -> bool:
    group = key.split(".", maxsplit=1)[0]
    return group in options and follows(key, group, given)
