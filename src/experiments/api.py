"""The ways to start a run: from Python (`run`) and from Hydra (`run_job`); and to resume one (`resume`)."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments import live, ranks
from experiments.config import check, compose, secrets
from experiments.config.hydra_internals import HydraConfig
from experiments.config.overrides import readable
from experiments.doctor import advice
from experiments.errors import ConfigError, Fault
from experiments.export_script.refactoring import refactoring
from experiments.runs import metadata, sweep_plan, worker
from experiments.runs.execution import execute
from experiments.runs.find import run_in
from experiments.runs.folder import cleanup_on_rejection, require_free
from experiments.runs.metadata import Job
from experiments.runs.overrides import key, merge, settled
from experiments.sweeps import launchers, monitor
from experiments.tracking import client
from experiments.training import build, device
from experiments.training.result import Result


def run(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None) -> Result:
    """Train one configuration, as the command line would; from Python or a notebook.

        result = experiments.run(["model=cnn_adaptive", "optim=sgd_momentum"])
        result.best_valid_loss, result.history, result.model, result.folder

    Args:
        overrides: as on the command line.
        config_dir: a folder of own YAML files, as with `--config-dir`.

    Raises:
        ConfigError: the configuration cannot be run; nothing was left behind.
        DataError: the dataset is not available or invalid.
        TrainingError: the training had to stop.
    """
    overrides = readable(overrides)
    if config_dir is not None:
        overrides = [*overrides, compose.searching(config_dir)]
    cfg = compose.compose(overrides)
    if cfg.hydra.mode == RunMode.MULTIRUN:
        raise ConfigError(Fault("hydra.mode", compose.NO_SWEEP))
    build.forget_dataset()
    config = _checked(cfg)
    if ranks.follows():
        return worker.follow(config.root, overrides)
    folder = Path(cfg.hydra.run.dir).resolve()
    require_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _keep_hydra(cfg, overrides, folder)
    with cleanup_on_rejection(folder), _logged_to(folder), device.settings_kept():
        return _execute(config, Job(folder, config.choices, tuple(overrides)))


def resume(folder: Path, overrides: Sequence[str] = ()) -> Result:
    """Resume the run in a folder from its newest checkpoint, in the same MLflow run.

    Args:
        folder: the run's.
        overrides: beside those it was started with; more epochs, say.

    Raises:
        ConfigError: there is no run, another process has it, or what determines its result has changed.
        CheckpointError: it has no usable checkpoint.
        TrainingError: the training had to stop.
    """
    folder = folder.resolve()
    run = run_in(folder)
    started_with = [override for override in run.overrides if key(override) != "pause_after"]
    overrides = merge(started_with, overrides)
    config = _checked(compose.compose(overrides))
    if ranks.follows():
        return worker.follow(config.root, overrides)
    job = Job(folder, config.choices, tuple(overrides), run.start.varied, run.start.parent)
    with _logged_to(folder), device.settings_kept():
        return _execute(config, job)


def run_job(cfg: DictConfig) -> Result:
    """Train one job that Hydra has composed, in the folder that Hydra has made for it.

    A sweep's job that was started before (its launcher or `resume` starts it again) resumes; a finished one is left.

    Raises as `run` does; a sweep's job that could not start keeps the reason in its folder.
    """
    secrets.mask_logs()
    hydra = HydraConfig.get()
    config = check.checked(cfg, hydra)
    folder = Path(hydra.runtime.output_dir).resolve()
    overrides = settled(hydra.overrides.task, cfg)
    overrides += [
        compose.searching(source.path) for source in hydra.runtime.config_sources if source.provider == "command-line"
    ]
    if ranks.follows():
        return worker.follow(config.root, overrides)
    sweep = Path(hydra.sweep.dir).resolve() if hydra.mode == RunMode.MULTIRUN else None
    if sweep:
        launchers.require_shared(sweep, hydra.sweeper)
    varied = sweep_plan.read(sweep).varied if sweep else ()
    for kept in (folder / ".hydra").glob("*.yaml"):
        secrets.mask_file(kept)
    if sweep:
        with cleanup_on_rejection(folder):  # a job that is not run leaves nothing
            monitor.require_going_on(sweep, config.root.sweep.on_failure)
    with cleanup_on_rejection(folder, keep_reason=sweep is not None), device.settings_kept():
        return _execute(config, Job(folder, config.choices, overrides, varied, sweep))


def _checked(cfg: DictConfig) -> check.Checked:
    """Check a composed configuration, while the uploader starts."""
    secrets.learn(cfg)
    client.warm_up(cfg)
    return check.checked(cfg)


def _execute(config: check.Checked, job: Job) -> Result:
    return execute(config, job, functools.partial(_note, config, job), advice)


def _note(config: check.Checked, job: Job) -> str:
    """Return a stage's description with its changes of the code, and keep its script in the run's folder."""
    note = metadata.note(config.root.tutorial, config.root.language)
    if not note or "stage" not in job.choices:
        return note
    changes = refactoring(job.choices["stage"], config.root, job.overrides)
    changes.keep(job.folder)
    return changes.described(note, config.root.language)


def _keep_hydra(cfg: DictConfig, overrides: Sequence[str], folder: Path) -> None:
    """Write what Hydra itself keeps beside a run, for a run from Python."""
    (folder / ".hydra").mkdir(exist_ok=True)  # exists after an attempt that was rejected
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    for name, kept in (("config", own), ("overrides", OmegaConf.create(list(overrides)))):
        OmegaConf.save(kept, folder / ".hydra" / f"{name}.yaml")
        secrets.mask_file(folder / ".hydra" / f"{name}.yaml")


@contextlib.contextmanager
def _logged_to(folder: Path) -> Iterator[None]:
    """Write the product's log to the run's folder, and to the terminal where logging is not set up yet."""
    package = logging.getLogger("experiments")
    handlers: list[logging.Handler] = [logging.FileHandler(folder / "experiments.log", encoding="utf-8")]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    if not logging.getLogger().handlers:
        handlers.append(live.LogHandler(sys.stdout))
    level = package.level
    package.setLevel(logging.INFO)
    for handler in handlers:
        package.addHandler(handler)
    secrets.mask_logs()
    try:
        yield
    finally:
        package.setLevel(level)
        for handler in handlers:
            package.removeHandler(handler)
            handler.close()
