"""A run from its configuration to its result: check, assemble, train, keep, deliver."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments import (
    assembly,
    composing,
    config,
    describe,
    device,
    distributed,
    following,
    preparation,
    ranks,
    resumption,
    reuse,
    secrets,
    signals,
    weights,
)
from experiments.compiling import in_words
from experiments.config import RootConfig
from experiments.describe import Job
from experiments.distributed import Group
from experiments.errors import ConfigError, Fault, TrainingError
from experiments.export_script.refactoring import refactoring
from experiments.folders import ERROR, discarding, require_free, taken
from experiments.preparation import Preparation
from experiments.result import Metrics, Result, sound
from experiments.runner import weights_of
from experiments.sweeps import launchers, parent, policy
from experiments.tracking import delivery, process
from experiments.tracking.journal import FILE as JOURNAL
from experiments.tracking.journal import Journal, is_held_elsewhere
from experiments.tracking.uri import masked, store_uri
from experiments.views import pictures, terminal

log = logging.getLogger(__name__)

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


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
    composing.require_single(cfg.hydra)
    assembly.forget_dataset()
    secrets.learn(cfg)
    process.warm_up(cfg)
    values = config.resolve(cfg)
    root = config.check(values)
    if ranks.follows():
        return following.follow(root, overrides)
    folder = Path(cfg.hydra.run.dir).resolve()
    require_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _keep_hydra(cfg, overrides, folder)
    with discarding(folder), _logged_to(folder), device.settings_kept():
        return _execute(values, root, Job(folder, composing.choices(cfg.hydra), tuple(overrides)))


def go_on(folder: Path, overrides: Sequence[str] = ()) -> Result:
    """Go on with the run in a folder, from its newest checkpoint, in the same MLflow run.

    Args:
        folder: the run's.
        overrides: beside those it was begun with; more epochs, say.

    Raises:
        ConfigError: there is no run, another process has it, or what determines its result has changed.
        CheckpointError: none of its checkpoints can be used.
        TrainingError: the training had to stop.
    """
    folder = folder.resolve()
    start = resumption.begun(folder)
    overrides = resumption.together(resumption.said(folder), overrides)
    cfg = composing.compose(overrides)
    secrets.learn(cfg)
    process.warm_up(cfg)
    values = config.resolve(cfg)
    root = config.check(values)
    if ranks.follows():
        return following.follow(root, overrides)
    sweep = Path(start["parent"]) if start["parent"] else None
    job = Job(folder, composing.choices(cfg.hydra), tuple(overrides), start["varied"], sweep)
    with _logged_to(folder), device.settings_kept():
        return _execute(values, root, job)


def run_job(cfg: DictConfig) -> Result:
    """Train one job that Hydra has composed, in the folder that Hydra has made for it.

    A sweep's job that was begun before (its launcher or `resume` starts it again) goes on; a finished one is left.

    Raises as `run` does; of a sweep's job that could not begin, the reason stays in its folder.
    """
    secrets.mask_logs()
    values = config.resolve(cfg)
    root = config.check(values)
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir).resolve()
    overrides = [str(override) for override in hydra.overrides.task]
    overrides += [
        composing.searching(source.path) for source in hydra.runtime.config_sources if source.provider == "command-line"
    ]
    if ranks.follows():
        return following.follow(root, overrides)
    sweep = Path(hydra.sweep.dir).resolve() if hydra.mode == RunMode.MULTIRUN else None
    if sweep:
        launchers.require_shared(sweep, hydra.sweeper)
    varied = parent.varied(sweep) if sweep else ()
    for kept in (folder / ".hydra").glob("*.yaml"):
        secrets.mask_file(kept)
    if sweep:
        with discarding(folder):  # a job that is not run leaves nothing
            policy.require_going_on(sweep, root.sweep.on_failure)
    with discarding(folder, keep_reason=sweep is not None), device.settings_kept():
        return _execute(values, root, Job(folder, composing.choices(hydra), overrides, varied, sweep))


def _execute(values: dict[str, Any], root: RootConfig, job: Job) -> Result:
    """Train one job: from its beginning, or where its folder holds a run already, from that run's newest state."""
    if root.sweep.preview:
        problem = "it shows what python -m experiments would start, or resume of a sweep; here is nothing to show"
        raise ConfigError(Fault("sweep.preview", problem))
    with distributed.joined(partial(device.pick, root.device)) as group:
        return _trained(values, root, job, group)


def _trained(values: dict[str, Any], root: RootConfig, job: Job, group: Group | None) -> Result:
    """The same in the first, or only, of the processes that train it."""
    with contextlib.ExitStack() as undo:
        earlier = resumption.reopen(job.folder) if (job.folder / JOURNAL).exists() else None
        if earlier is not None:
            undo.callback(earlier.close)
        prepared = preparation.prepare(root, job.overrides, group)
        found = reuse.take(prepared, job, describe.params(values)) if earlier is None else None
        if found is not None:
            if group is not None:
                following.lead(group, prepared.runner(job.folder), found)
            return found
        runner = prepared.runner(job.folder)
        done = None if earlier is None else resumption.restore(prepared, runner, job.folder)
        if group is not None:
            following.lead(group, runner, done)
        if done is not None:
            terminal.already_done(done)
            return done
        undo.pop_all()
    journal = _begin(values, prepared, job) if earlier is None else _go_on(values, prepared, job, earlier)
    tracked = _follow(root, job)
    terminal.opening(describe.run_name(job, root.name), prepared.device, prepared.splits.spec, runner, ranks.world())

    def record(values: Metrics, step: int) -> None:
        values = sound(values)
        journal.metrics(values, step)
        terminal.figures(values, step)
        if tracked is not None:
            tracked.warn_if_failing(job.folder)

    runner.record = record
    leaving = runner if group is None else group
    with (
        contextlib.nullcontext() if group is None else signals.put_off(),
        _ending(journal, job.folder),
        signals.workers_watched(leaving),
        in_words(),
        signals.preempted_between_steps(leaving),
        signals.between_steps(leaving),
        _profiled(root, job.folder),
    ):
        if tracked is not None and root.tracking.required:
            tracked.require(job.folder)
        result = runner.fit(root.epochs)
        weights.save(job.folder, weights_of(runner.model))
        if root.figures:
            if group is not None:  # they are of all rows
                runner.valid = assembly.batches(root, prepared.splits, "valid", torch.device("cpu"), prepared.seeds)
            pictures.collect(runner, prepared.splits, job.folder)
    weights.remember(Path(root.output_root), prepared.key, job.folder)
    terminal.closing(result, job.folder)
    _arrive(root, job, tracked, result)
    return result


def _begin(values: dict[str, Any], prepared: Preparation, job: Job) -> Journal:
    root = prepared.root
    try:
        journal = Journal(job.folder)
    except (FileExistsError, Timeout):
        raise ConfigError(taken(job.folder)) from None
    except OSError as error:
        raise ConfigError(Fault("hydra.run.dir", str(error))) from None
    reuse.forget(job.folder)
    (job.folder / ERROR).unlink(missing_ok=True)  # of an attempt that did not get so far
    (job.folder / "config.yaml").write_text(secrets.masked(OmegaConf.to_yaml(values)), encoding="utf-8")
    environment = json.dumps(describe.environment(prepared.device), indent=2)
    (job.folder / "environment.json").write_text(secrets.masked(environment), encoding="utf-8")
    details = {
        "name": describe.run_name(job, root.name),
        "experiment": root.tracking.experiment,
        "tags": describe.tags(job, prepared.key),
        "params": describe.params(values),
        "note": _note(root, job),
        "inputs": describe.inputs(prepared.splits.spec),
        "data": asdict(prepared.splits.spec),
        "parent": str(parent.begin(job.sweep, root.tracking)) if job.sweep else None,
        "varied": list(job.varied),
        "overrides": list(job.overrides),
        "identity": prepared.identity,
        "place": describe.place(),
    }
    store = None if root.tracking.name == "none" else masked(store_uri(root.tracking.uri))
    journal.start(store=store, **secrets.masked_deep(details))
    return journal


def _note(root: RootConfig, job: Job) -> str:
    """A stage's words, and what it changes in the code; its script is left in the run's folder."""
    note = describe.note(root.tutorial, root.language)
    if not note or "stage" not in job.choices:
        return note
    changes = refactoring(job.choices["stage"], root, job.overrides)
    changes.keep(job.folder)
    return changes.described(note, root.language)


def _go_on(values: dict[str, Any], prepared: Preparation, job: Job, journal: Journal) -> Journal:
    """Tell the journal that the run goes on, with the settings that are no longer those it was begun with."""
    begun = resumption.begun(job.folder)["params"]
    now = secrets.masked_deep(describe.params(values))
    (job.folder / ERROR).unlink(missing_ok=True)
    said = secrets.masked_deep(list(job.overrides))
    changed = {key: value for key, value in now.items() if begun.get(key) != value}
    journal.resume(overrides=said, changed=changed, run_key=prepared.key)
    return journal


def _follow(root: RootConfig, job: Job) -> process.Followed | None:
    if root.tracking.name == "none":
        return None
    if job.sweep is not None and is_held_elsewhere(job.sweep):  # by the sweep's process, whose uploader brings all jobs
        followed = process.Followed(delivery.meant_for(job.folder) or "", Path(root.output_root).resolve())
        followed.follow(job.folder)
        return followed
    uploader = process.uploader(root.tracking, root.output_root)
    uploader.follow(job.folder)
    return uploader


def _arrive(root: RootConfig, job: Job, uploader: process.Followed | None, result: Result) -> None:
    """See the run arrive in MLflow; a sweep's jobs do not wait for theirs, the sweep does at its end."""
    if uploader is None:
        if root.figures:
            from experiments.views.figures import draw

            draw(job.folder)
        return
    if job.sweep is None:
        # Where it was killed, another goes on where it was.
        if not (isinstance(uploader, process.UploaderProcess) and uploader.alive):
            uploader = process.uploader(root.tracking, root.output_root)
            uploader.follow(job.folder)
        missing = uploader.wait([job.folder], root.tracking.wait_seconds)
        result.run_id = delivery.state(job.folder).get("run_id")
        terminal.arrived(store_uri(root.tracking.uri), [job.folder], missing)


@contextlib.contextmanager
def _ending(journal: Journal, folder: Path) -> Iterator[None]:
    """Write the journal's end, whatever the end is."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        journal.end("KILLED", _reason(error))
        raise
    except BaseException as error:
        with contextlib.suppress(OSError):  # the disk may be full
            (folder / ERROR).write_text(secrets.masked(traceback.format_exc()), encoding="utf-8")
        journal.end("FAILED", secrets.masked(f"{type(error).__name__}: {error}"))
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            again = f"what was saved before is whole: python -m experiments.resume {folder}"
            raise TrainingError(f"{error}; {again}") from error
        raise
    journal.end("FINISHED")


def _reason(error: KeyboardInterrupt | SystemExit) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error.__context__, signals.Preempted):
        return "preempted, or out of time; it is queued again and goes on then"
    return f"exit {error.code}"


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
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    for name, kept in (("config", own), ("overrides", OmegaConf.create(list(overrides)))):
        OmegaConf.save(kept, folder / ".hydra" / f"{name}.yaml")
        secrets.mask_file(folder / ".hydra" / f"{name}.yaml")


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
    secrets.mask_logs()
    try:
        yield
    finally:
        package.setLevel(level)
        for handler in handlers:
            package.removeHandler(handler)
            handler.close()
