"""In which settings the compared runs differ, what each is called by that, and what else was not the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from experiments.runs.job_record import JobRecord
from experiments.sweeps.settings_diff import GROUPS, differing, follows, settings

# Presets over several groups: their name tells all that they settle.
OVERLAYS = ("stage", "experiment")
# What a run's identity has as what it came to: three streams, a digest, a device.
RESOLVED = ("seed", "seeds", "init_from", "device")


def with_effect(jobs: Sequence[JobRecord]) -> list[dict[str, str]]:
    """Each job's settings that can change a result; of where the data lies only if it is not the same data."""
    roots = {*RESOLVED, "dataset"} if "content of dataset" in differing_facts(jobs) else set(RESOLVED)
    found = []
    for job in jobs:
        given = settings(job)
        identity = job.start.identity or given  # an old journal, or a job that never began, has none
        kept = {*identity, *GROUPS}
        found.append({key: text for key, text in given.items() if key in kept or key.split(".")[0] in roots})
    return found


def differing_keys(jobs: Sequence[JobRecord], values: Sequence[Mapping[str, str]]) -> list[str]:
    """The settings that differ, without what a stage or an experiment settles."""
    begun = [given for given, job in zip(values, jobs, strict=True) if job.started]
    keys = differing(begun)
    said = {str(item).lstrip("+").split("=")[0] for job in jobs for item in job.overrides}
    for overlay in OVERLAYS:
        if overlay in keys:
            keys = [key for key in keys if key == overlay or key in said or not follows(key, overlay, begun)]
    never = [given for given, job in zip(values, jobs, strict=True) if not job.started]
    told = {key for given in never for key, value in given.items() if {value} != {other.get(key) for other in begun}}
    return sorted(keys + sorted(told - set(keys)), key=lambda key: key not in OVERLAYS)


def label_of(given: Mapping[str, str], keys: Sequence[str]) -> str:
    """The settings that differ, in one line."""
    return ", ".join(given[key] if key in OVERLAYS else f"{key}={given[key]}" for key in keys if key in given)


def labels_of(values: Sequence[Mapping[str, str]], keys: Sequence[str], jobs: Sequence[JobRecord]) -> list[str]:
    """What each run is called: by what differs, else by its name; each of them different from all others."""
    labels = [label_of(given, keys) or (job.start.name or job.job) for given, job in zip(values, jobs, strict=True)]
    often = Counter(labels)
    return [f"{label} ({job.job})" if often[label] > 1 else label for label, job in zip(labels, jobs, strict=True)]


def groups_of(values: Sequence[Mapping[str, str]], keys: Sequence[str], jobs: Sequence[JobRecord]) -> list[str]:
    """What tells each run from others but those of the same settings (without seeds), code and data: its group."""
    labels, facts = [label_of(given, keys) for given in values], _versions(jobs)
    common: dict[str, set[str]] = {}  # needs no telling: it is the same in all that the settings do not tell apart
    for label, had in zip(labels, facts, strict=True):
        if had:  # else it never began, and nothing is known of it
            common[label] = common.get(label, set(had)) & set(had)
    return [
        ", ".join([*filter(None, [label]), *(fact for fact in had if fact not in common[label])]) or "all"
        for label, had in zip(labels, facts, strict=True)
    ]


def _versions(jobs: Sequence[JobRecord]) -> list[list[str]]:
    """Of code and data that differ, which each run had: `code of model.mlp 2 of 2`. Machines are none of a group's."""
    differ = {name: seen for name, seen in differing_facts(jobs).items() if not name.startswith("machine.")}
    identities = [job.start.identity for job in jobs]
    return [
        [f"{name} {seen.index(str(had[name])) + 1} of {len(seen)}" for name, seen in differ.items() if name in had]
        for had in identities
    ]


def is_seed(key: str) -> bool:
    """Whether a setting is where random numbers come from, and nothing else."""
    return key == "seed" or key.startswith("seeds.")


def differing_facts(jobs: Sequence[JobRecord]) -> dict[str, list[str]]:
    """Of code, data and machine, what is not the same in all the runs that have it."""
    seen: dict[str, dict[str, None]] = {}
    for job in jobs:
        for name, value in job.start.identity.items():
            if name.startswith(("code of ", "content of dataset", "machine.")):
                seen.setdefault(name, {})[str(value)] = None
    return {name: list(values) for name, values in seen.items() if len(values) > 1}
