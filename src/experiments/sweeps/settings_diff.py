"""In which settings runs differ, as their journals tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from omegaconf import OmegaConf

from experiments.runs.job_record import JobRecord

# Groups whose choice says more than the component's name and all its arguments.
GROUPS = ("stage", "experiment", "dataset", "model", "loss", "optim", "loader", "scheduler", "device")


def settings(job: JobRecord) -> dict[str, str]:
    """The chosen options and the parameters; of a job that never began, what the command line or the plan gave it.

    Args:
        job: its record.
    """
    if job.started:
        tags = job.start.tags
        return {**{group: tags[group] for group in GROUPS if group in tags}, **job.start.params}
    if job.given is not None:
        return dict(job.given)
    path = job.folder / ".hydra" / "overrides.yaml"
    given = [str(item) for item in OmegaConf.load(path)] if path.is_file() else []
    return dict(item.lstrip("+").split("=", 1) for item in given if "=" in item)


def differing(given: Sequence[Mapping[str, str]]) -> list[str]:
    """Keys whose values differ; what a differing choice brings along is told by the choice."""
    keys = list(dict.fromkeys(key for values in given for key in values))
    found = [key for key in keys if len({values.get(key) for values in given}) > 1]
    groups = [key for key in found if "." not in key]
    return groups + [key for key in found if "." in key and not _follows_own(key, groups, given)]


def follows(key: str, leading: str, given: Sequence[Mapping[str, str]]) -> bool:
    """Whether one key's value is settled by another's."""
    seen: dict[str | None, str | None] = {}
    return all(seen.setdefault(values.get(leading), values.get(key)) == values.get(key) for values in given)


def _follows_own(key: str, groups: Sequence[str], given: Sequence[Mapping[str, str]]) -> bool:
    group = key.split(".", maxsplit=1)[0]
    return group in groups and follows(key, group, given)
