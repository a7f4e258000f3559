"""A run from its configuration to its result: check, assemble, train, keep, deliver."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments import assembly, composing, config, describe, device, preparation, weights
from experiments.config import RootConfig
from experiments.describe import Job
from experiments.errors import ConfigError, Fault
from experiments.folders import ERROR, discarding, require_free, taken
from experiments.preparation import Preparation
from experiments.runner import Metrics, Result, weights_of
from experiments.sweeps import parent
from experiments.tracking import delivery, process
from experiments.tracking.journal import Journal
from experiments.tracking.uri import store_uri
from experiments.views import pictures, terminal

log = logging.getLogger(__name__)


def run(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None) -> Result:
    """Train one configuration, as the command line would; from Python or a notebook.

        result = experiments.run(["model=cnn_adaptive", "optim=sgd_momentum"])
        result.best_valid_loss, result.history, result.model, result.folder

    Args:
        overrides: as on the command line.
        config_dir: a folder of own YAML files, as with `--config-dir`.

    Raises:
        ConfigError: the configuration cannot be run; nothing was left behind.
        DataError: the dataset cannot be had.
        TrainingError: the training had to stop.
    """
    if config_dir is not None:
        overrides = [*overrides, composing.searching(config_dir)]
    cfg = composing.compose(overrides)
    if cfg.hydra.mode == RunMode.MULTIRUN:
        raise ConfigError(Fault("hydra.mode", "a sweep is run from the command line: python -m experiments -m ..."))
    assembly.forget_dataset()
    process.warm_up(cfg)
    values = config.resolve(cfg)
    root = config.check(values)
    folder = Path(cfg.hydra.run.dir).resolve()
    require_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _keep_hydra(cfg, overrides, folder)
    with discarding(folder), _logged_to(folder), device.settings_kept():
        return _execute(values, root, Job(folder, composing.choices(cfg.hydra), tuple(overrides)))


def run_job(cfg: DictConfig) -> Result:
    """Train one job that Hydra has composed, in the folder that Hydra has made for it.

    Raises as `run` does; of a sweep's job that could not begin, the reason stays in its folder.
    """
    values = config.resolve(cfg)
    root = config.check(values)
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir).resolve()
    overrides = [str(override) for override in hydra.overrides.task]
    sweep = Path(hydra.sweep.dir).resolve() if hydra.mode == RunMode.MULTIRUN else None
    varied = parent.varied(sweep) if sweep else ()
    with discarding(folder, keep_reason=sweep is not None), device.settings_kept():
        return _execute(values, root, Job(folder, composing.choices(hydra), overrides, varied, sweep))


def _execute(values: dict[str, Any], root: RootConfig, job: Job) -> Result:
    prepared = preparation.prepare(root, job.overrides)
    runner = prepared.runner(job.folder)
    journal = _open_journal(values, prepared, job)
    tracked = _follow(root, job)
    terminal.opening(describe.run_name(job, root.name), prepared.device, prepared.splits.spec)

    def record(values: Metrics, step: int) -> None:
        journal.metrics(values, step)
        terminal.figures(values, step)

    runner.record = record
    with _ending(journal, job.folder), _terminable(), _profiled(root, job.folder):
        result = runner.fit(root.epochs)
        weights.save(job.folder, weights_of(runner.model))
        if root.figures:
            pictures.collect(runner, prepared.splits, job.folder)
    weights.remember(Path(root.output_root), prepared.key, job.folder)
    terminal.closing(result, job.folder)
    _arrive(root, job, tracked, result)
    return result


def _open_journal(values: dict[str, Any], prepared: Preparation, job: Job) -> Journal:
    root = prepared.root
    try:
        journal = Journal(job.folder)
    except FileExistsError:
        raise ConfigError(taken(job.folder)) from None
    (job.folder / "config.yaml").write_text(OmegaConf.to_yaml(values), encoding="utf-8")
    environment = json.dumps(describe.environment(prepared.device), indent=2)
    (job.folder / "environment.json").write_text(environment, encoding="utf-8")
    journal.start(
        name=describe.run_name(job, root.name),
        experiment=root.tracking.experiment,
        tags=describe.tags(job, prepared.key),
        params=describe.params(values),
        note=describe.note(root.tutorial, root.language),
        inputs=describe.inputs(prepared.splits.spec),
        parent=str(parent.ensure(job.sweep, root)) if job.sweep else None,
        varied=list(job.varied),
    )
    return journal


def _follow(root: RootConfig, job: Job) -> process.UploaderProcess | None:
    if root.tracking.name == "none":
        return None
    uploader = process.uploader(root.tracking, root.output_root)
    if job.sweep:
        uploader.follow(job.sweep)
    uploader.follow(job.folder)
    return uploader


def _arrive(root: RootConfig, job: Job, uploader: process.UploaderProcess | None, result: Result) -> None:
    """See the run arrive in MLflow; a sweep's jobs do not wait for theirs, the sweep does at its end."""
    if uploader is None:
        if root.figures:
            from experiments.views.figures import draw

            draw(job.folder)
        return
    if job.sweep is None:
        missing = uploader.wait([job.folder], root.tracking.wait_seconds)
        result.run_id = delivery.state(job.folder).get("run_id")
        terminal.arrived(store_uri(root.tracking.uri), [job.folder], missing)


@contextlib.contextmanager
def _ending(journal: Journal, folder: Path) -> Iterator[None]:
    """Write the journal's end, whatever the end is."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        journal.end("KILLED", "interrupted" if isinstance(error, KeyboardInterrupt) else f"exit {error.code}")
        raise
    except BaseException as error:
        (folder / ERROR).write_text(traceback.format_exc(), encoding="utf-8")
        journal.end("FAILED", f"{type(error).__name__}: {error}")
        raise
    journal.end("FINISHED")


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the training as an exit does (143), where nobody else has a say on that signal."""

    def leave(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _profiled(root: RootConfig, folder: Path) -> Iterator[None]:
    if not root.inspect.profile:
        yield
        return
    from torch.profiler import profile

    with profile() as profiler:
        yield
    table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=30)
    (folder / "profile.txt").write_text(table, encoding="utf-8")
    profiler.export_chrome_trace(str(folder / "trace.json"))
    log.info("%s", table)


def _keep_hydra(cfg: DictConfig, overrides: Sequence[str], folder: Path) -> None:
    """What Hydra itself keeps beside a run, for a run from Python."""
    (folder / ".hydra").mkdir()
    OmegaConf.save(
        OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]), folder / ".hydra" / "config.yaml"
    )
    OmegaConf.save(OmegaConf.create(list(overrides)), folder / ".hydra" / "overrides.yaml")


@contextlib.contextmanager
def _logged_to(folder: Path) -> Iterator[None]:
    """The product's log in the run's folder, and on the terminal where logging is not set up yet."""
    package = logging.getLogger("experiments")
    handlers: list[logging.Handler] = [logging.FileHandler(folder / "experiments.log", encoding="utf-8")]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    if not logging.getLogger().handlers:
        handlers.append(logging.StreamHandler())
    level = package.level
    package.setLevel(logging.INFO)
    for handler in handlers:
        package.addHandler(handler)
    try:
        yield
    finally:
        package.setLevel(level)
        for handler in handlers:
            package.removeHandler(handler)
            handler.close()
