"""Runs that are there: found by folder or MLflow id, with the configuration, data spec and weights they had."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import composing, config, resumption, secrets, weights
from experiments.assembly import build_model
from experiments.config import RootConfig
from experiments.data import DataSpec
from experiments.errors import ConfigError, Fault
from experiments.result import Result
from experiments.seeds import derive
from experiments.tracking import journal
from experiments.views.terminal import relative


def find(name: str | Path, output_root: str | Path = "outputs") -> Path:
    """The folder of the run that is meant by a folder's path or an MLflow run id.

    Raises:
        ConfigError: there is no such run.
    """
    folder = weights.find_run(Path(output_root), str(name), key=str(name))
    if folder is None or not (folder / journal.FILE).is_file():
        begun = max(Path(output_root).rglob(journal.FILE), key=lambda path: path.stat().st_mtime, default=None)
        problem = "no run; one is named by its folder or its MLflow id (32 hexadecimal digits)"
        problem += f"; the latest is {relative(begun.parent)}" if begun else f"; there is none below {output_root}"
        raise ConfigError(Fault(str(name), problem))
    return folder.resolve()


def configuration(folder: Path, overrides: Sequence[str] = ()) -> RootConfig:
    """The checked configuration that the run in a folder had, with other settings where they are given.

    Raises:
        ConfigError: it cannot be had, or is none with these settings.
    """
    cfg = composing.compose(resumption.together(resumption.said(folder), overrides))
    secrets.learn(cfg)
    return config.check(config.resolve(cfg))


def data_spec(folder: Path) -> DataSpec:
    """What the run's dataset said of itself; the dataset itself is not needed."""
    told = resumption.begun(folder)["data"]
    return DataSpec(**{**told, "shape": tuple(told["shape"]), "labels": tuple(told["labels"])})


def load(run: str | Path | Result, *, output_root: str | Path = "outputs") -> Any:
    """The trained model of a run that is there, on the CPU, in evaluation mode.

    Args:
        run: its folder, its MLflow id, or what `experiments.run` gave.
        output_root: where runs with an id are looked for.

    Raises:
        ConfigError: there is no such run, or it has no weights.
    """
    if isinstance(run, Result):
        if run.folder is None:
            return run.model
        run = run.folder
    folder = find(run, output_root)
    root = configuration(folder)
    model = build_model(root, data_spec(folder), derive(root.seed, root.seeds.model_dump()))
    weights.into(model, weights.load(folder, key=str(run)), str(run), key=str(run))
    return model.eval()
