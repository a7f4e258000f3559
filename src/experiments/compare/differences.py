"""In which settings the compared runs differ, how each is labelled by them, and which code, data or machine differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from experiments.runs import overrides
from experiments.runs.job_record import JobRecord
from experiments.runs.settings_diff import GROUPS, RESOLVED, differing, follows, settings

DATA = "content of dataset"
OVERLAYS = ("stage", "experiment")  # presets over several groups: their name implies all that they set

Settings = Mapping[str, str]


def with_effect(jobs: Sequence[JobRecord]) -> list[dict[str, str]]:
    """Return each job's settings that can change a result; the data's place only where the data differ."""
    roots = RESOLVED | ({"dataset"} if DATA in differing_versions(jobs) else set())
    found = []
    for job in jobs:
        given = settings(job)
        kept = {*(job.start.identity or given), *GROUPS}  # an old journal or an unstarted job has no identity
        found.append({key: text for key, text in given.items() if key in kept or key.split(".")[0] in roots})
    return found


def differing_keys(jobs: Sequence[JobRecord], values: Sequence[Settings]) -> list[str]:
    """Return the settings that differ, without those that a stage or an experiment sets."""
    started = [given for given, job in zip(values, jobs, strict=True) if job.started]
    keys = differing(started)
    typed = {overrides.key(item) for job in jobs for item in job.overrides}
    for overlay in OVERLAYS:
        if overlay in keys:
            keys = [key for key in keys if key == overlay or key in typed or not follows(key, overlay, started)]
    unstarted = [given for given, job in zip(values, jobs, strict=True) if not job.started]
    others = {key for given in unstarted for key in given if {given[key]} != {other.get(key) for other in started}}
    return sorted(keys + sorted(others - set(keys)), key=lambda key: key not in OVERLAYS)


def labels_of(values: Sequence[Settings], keys: Sequence[str], jobs: Sequence[JobRecord]) -> list[str]:
    """Return a distinct label for each run: the settings that differ, else its name."""
    labels = [_label(given, keys) or job.start.name or job.job for given, job in zip(values, jobs, strict=True)]
    count = Counter(labels)
    return [f"{label} ({job.job})" if count[label] > 1 else label for label, job in zip(labels, jobs, strict=True)]


def groups_of(
    values: Sequence[Settings], keys: Sequence[str], jobs: Sequence[JobRecord], over: Sequence[str] = ()
) -> list[str]:
    """Return the label of each run's group: runs with the same settings (but for seeds and `over`), code and data."""
    keys = [key for key in keys if not is_seed(key)]
    settled = bool(over) and data_follow(values, keys, jobs)
    keys = [key for key in keys if key not in over]
    labels, versions = [_label(given, keys) for given in values], _versions(jobs)
    versions = [[version for version in had if not (settled and version.startswith(DATA))] for had in versions]
    common: dict[str, set[str]] = {}  # the same in all runs with these settings, so the label leaves it out
    for label, had in zip(labels, versions, strict=True):
        if had:  # an unstarted job has none
            common[label] = common.get(label, set(had)) & set(had)
    return [
        ", ".join([*filter(None, [label]), *(version for version in had if version not in common[label])]) or "all"
        for label, had in zip(labels, versions, strict=True)
    ]


def is_seed(key: str) -> bool:
    """Return whether a setting only seeds random numbers."""
    return key == "seed" or key.startswith("seeds.")


def data_follow(values: Sequence[Settings], keys: Sequence[str], jobs: Sequence[JobRecord]) -> bool:
    """Return whether all runs with the same values of these keys have the same data."""
    seen: dict[str, str] = {}
    had = [(_label(given, keys), job.start.identity.get(DATA)) for given, job in zip(values, jobs, strict=True)]
    return all(seen.setdefault(label, digest) == digest for label, digest in had if digest is not None)


def differing_versions(jobs: Sequence[JobRecord]) -> dict[str, list[str]]:
    """Return what of code, data and machine is not the same in all runs that have it, with its values."""
    seen: dict[str, dict[str, None]] = {}
    for job in jobs:
        for name, value in job.start.identity.items():
            if name.startswith(("code of ", DATA, "machine.")):
                seen.setdefault(name, {})[str(value)] = None
    return {name: list(values) for name, values in seen.items() if len(values) > 1}


def _label(given: Settings, keys: Sequence[str]) -> str:
    return ", ".join(given[key] if key in OVERLAYS else f"{key}={given[key]}" for key in keys if key in given)


def _versions(jobs: Sequence[JobRecord]) -> list[list[str]]:
    """Return each run's versions of code and data that differ: `code of model.mlp 2 of 2`; machines form no groups."""
    differ = {name: seen for name, seen in differing_versions(jobs).items() if not name.startswith("machine.")}
    return [
        [f"{name} {seen.index(str(had[name])) + 1} of {len(seen)}" for name, seen in differ.items() if name in had]
        for had in (job.start.identity for job in jobs)
    ]
