"""A run's metadata before its first step: name, tags, params, description, inputs, environment."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import torch

from experiments import ranks
from experiments.config.language import Language
from experiments.config.root import flatten
from experiments.data.splits import DataSpec
from experiments.runs import git

# Words and switches that say nothing of how a run was trained.
NO_PARAMS = ("tutorial", "language", "sweep", "reuse", "describe", "doctor")
HEADER = re.compile(r"^(Name|Version): *(\S+)", re.MULTILINE)
PACKAGES = ("torch", "numpy", "hydra-core", "omegaconf", "mlflow", "pydantic")


@dataclass(frozen=True)
class Job:
    """One job as Hydra gives it.

    Args:
        folder: the run's folder, absolute.
        choices: the chosen option of every group.
        overrides: the command line's overrides for this job.
        varied: the overridden keys that differ between a sweep's jobs; empty for a single run.
        sweep: the sweep's folder; None for a single run.
    """

    folder: Path
    choices: Mapping[str, str] = field(default_factory=dict)
    overrides: Sequence[str] = ()
    varied: Sequence[str] = ()
    sweep: Path | None = None


def run_name(job: Job, given: str | None) -> str:
    """Return the configured name, else what varied, else the stage, else the groups' options."""
    if given:
        return given
    by_key = dict(override.lstrip("+").split("=", 1) for override in job.overrides if "=" in override)
    varied = [(key, by_key[key]) for key in job.varied if key in by_key]
    if varied:
        short = Counter(_short(key) for key, _ in varied)
        names = {key: _short(key) if short[_short(key)] == 1 else key for key, _ in varied}
        return " ".join(value if key in job.choices else f"{names[key]}={value}" for key, value in varied)
    if "stage" in job.choices:
        return job.choices["stage"]
    return " ".join(job.choices[group] for group in ("model", "dataset", "optim") if group in job.choices)


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def params(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the configuration by dotted key, as on a command line."""
    kept = {key: value for key, value in values.items() if key not in NO_PARAMS}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in flatten(kept).items()}


def tags(job: Job, key: str, own_tags: Mapping[str, Any]) -> dict[str, str]:
    """Return the options by group, the run key, the user's tags, and MLflow's tags on user, source and commit."""
    own = {"experiments.run_key": key, "experiments.folder": str(job.folder)}
    texts = {name: str(value) for name, value in flatten(own_tags).items()}
    return {**job.choices, **texts, **own, **source_tags(job.overrides), **git_tags()}


def source_tags(words: Sequence[str]) -> dict[str, str]:
    """Return MLflow's tags on the user and on the command with these words."""
    return {
        "mlflow.source.name": f"python -m experiments {' '.join(words)}",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
    }


@cache
def git_tags() -> dict[str, str]:
    """Return the working folder's commit, and whether files differ from it; empty outside a checkout."""
    if (repository := git.here()) is None:
        return {}
    found = {
        git.COMMIT: repository.commit,
        "mlflow.source.git.branch": git.asked("rev-parse", "--abbrev-ref", "HEAD"),
        "mlflow.source.git.repoURL": git.asked("remote", "get-url", "origin"),
        git.DIRTY: "true" if git.asked("status", "--porcelain") else "false",
        git.BELOW: repository.below,
    }
    return {key: value for key, value in found.items() if value}


def note(tutorial: Mapping[str, Any] | None, language: str) -> str:
    """Return a stage's notes as the run's description (Markdown); empty outside the stages."""
    if not tutorial:
        return ""
    say = Language(language)
    heading = say("Stage {number}: {title}", number=tutorial["number"], title=tutorial["title"][language])
    lines = [f"## {heading}", tutorial["changes"][language], tutorial["why"][language]]
    if expected := tutorial.get("expects"):
        against, verdict = say("Against the stage before, from the same weights"), say(expected["verdict"])
        lines.append(f"**{against}: {verdict}.** {expected['why'][language]}")
    if tutorial["prints"]:
        figures = "\n".join(f"- `{name}`: {value}" for name, value in tutorial["prints"].items())
        lines.append(f"**{say('The tutorial prints (unseeded)')}:**\n\n{figures}")
    return "\n\n".join(lines)


def inputs(spec: DataSpec) -> list[dict[str, str]]:
    """Return the dataset's splits as MLflow dataset inputs."""
    profile = {
        "shape": spec.shape,
        "outputs": spec.outputs,
        "classes": spec.classes,
        "sha256": spec.digest,
    }
    contexts = {"train": "training", "valid": "validation", "test": "test"}
    return [
        {
            "name": spec.name,
            # MLflow takes one name and digest for one dataset, so each split has its own.
            "digest": f"{spec.digest[:24]}-{part}",
            "source": json.dumps({"uri": spec.source}),
            "profile": json.dumps({**profile, "split": part, "rows": rows}),
            "context": contexts[part],
        }
        for part, rows in spec.sizes.items()
        if part != "test"
    ]


def environment(device: torch.device) -> dict[str, Any]:
    """Return the machine, the versions and the device of a run."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
        "processes": ranks.world(),
        "cores": os.cpu_count(),
        "packages": dict(_packages()),
        "installed": dict(_installed()),
        "command": sys.argv,
    }


@cache
def _packages() -> Mapping[str, str]:
    return {package: version(package) for package in PACKAGES}


@cache
def _installed() -> Mapping[str, str]:
    """Return the version of each installed distribution; of two with one name, the one that is imported."""
    found: dict[str, str] = {}
    for each in distributions():  # its own parser takes 20 times as long
        header = (each.read_text("METADATA") or each.read_text("PKG-INFO") or "").partition("\n\n")[0]
        told = dict(HEADER.findall(header))
        if {*told} == {"Name", "Version"}:
            found.setdefault(told["Name"], told["Version"])
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in a container
        return ""
