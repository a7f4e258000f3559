"""A job from its checked configuration to its result: prepare, train, keep, deliver."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout
from omegaconf import OmegaConf

from experiments import ranks
from experiments.config import secrets
from experiments.config.check import Checked
from experiments.config.device import pick
from experiments.config.root import RootConfig
from experiments.config.store_uri import masked, store_uri
from experiments.errors import ConfigError, Fault, TrainingError
from experiments.runs import (
    cpu_contention,
    index,
    metadata,
    pictures,
    preparation,
    references,
    restore,
    reuse,
    sweep_plan,
    terminal,
    worker,
)
from experiments.runs.find import run_in
from experiments.runs.folder import ERROR, in_use
from experiments.runs.metadata import Job
from experiments.runs.preparation import Preparation
from experiments.tracking import client, delivered, record
from experiments.tracking.journal import FILE as JOURNAL
from experiments.tracking.journal import Journal
from experiments.tracking.metric_names import drop_invalid
from experiments.tracking.ownership import is_held_elsewhere
from experiments.training import build, signals, weights
from experiments.training.compile import in_words
from experiments.training.distributed import group as distributed
from experiments.training.distributed.group import Group
from experiments.training.result import Metrics, Result
from experiments.training.runner import Runner, weights_of
from experiments.training.signals import StopRequest

log = logging.getLogger(__name__)

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def execute(config: Checked, job: Job, note: Callable[[], str] = str) -> Result:
    """Train one job: from its start, or where its folder holds a run already, from that run's newest state.

    Args:
        config: the checked configuration.
        job: as Hydra gives it.
        note: makes the run's description, once nothing is left that could refuse the run.
    """
    if config.root.sweep.preview:
        problem = "it shows what python -m experiments would start, or resume of a sweep; here is nothing to show"
        raise ConfigError(Fault("sweep.preview", problem))
    with distributed.joined(partial(pick, config.root.device)) as group:
        return _train(config, job, note, group)


def _train(config: Checked, job: Job, note: Callable[[], str], group: Group | None) -> Result:
    """The same in the first, or only, of the processes that train it."""
    root = config.root
    with contextlib.ExitStack() as undo:
        earlier = restore.reopen(job.folder) if (job.folder / JOURNAL).exists() else None
        if earlier is not None:
            undo.callback(earlier.close)
        prepared = preparation.prepare(root, job.overrides, group)
        found = reuse.take(prepared, job, metadata.params(config.values)) if earlier is None else None
        if found is not None:
            if group is not None:
                worker.lead(group, prepared.runner(job.folder), found)
            return found
        runner = prepared.runner(job.folder)
        done = None if earlier is None else restore.restore(prepared, runner, job.folder)
        if group is not None:
            worker.lead(group, runner, done)
        if done is not None:
            terminal.already_done(done)
            return done
        undo.pop_all()
    if earlier is None:
        journal = _begin(config.values, prepared, job, note)
    else:
        journal = _resume(config.values, prepared, job, earlier)
    tracked = _follow(root, job)
    terminal.opening(metadata.run_name(job, root.name), prepared.device, prepared.splits.spec, runner, ranks.world())
    if job.sweep is None and group is None:
        cpu_contention.warn(job.folder, Path(root.output_root), prepared.device)
    result = _fit(prepared, runner, job, journal, tracked)
    index.remember(Path(root.output_root), prepared.key, job.folder)
    terminal.closing(result, job.folder)
    _arrive(root, job, tracked, result)
    return result


def _fit(prepared: Preparation, runner: Runner, job: Job, journal: Journal, tracked: client.Followed | None) -> Result:
    """Train, and save the weights and what pictures are drawn from; the journal is closed with whatever the end is."""
    root, group = prepared.root, prepared.group

    def record(values: Metrics, step: int) -> None:
        values = drop_invalid(values)
        journal.metrics(values, step)
        terminal.figures(values, step)
        if tracked is not None:
            tracked.warn_if_failing(job.folder)

    asked = StopRequest() if group is None else group.asked
    with (
        contextlib.nullcontext() if group is None else signals.put_off(),
        _ending(journal, job.folder),
        signals.workers_watched(asked),
        in_words(),
        signals.preempted_between_steps(asked),
        signals.between_steps(asked),
        _profiled(root, job.folder),
    ):
        if tracked is not None and root.tracking.required:
            tracked.require(job.folder)
        result = runner.fit(root.epochs, record=record, stop_request=asked if group is None else group.agreed)
        weights.save(job.folder, weights_of(runner.model))
        if root.figures:
            valid = runner.valid
            if group is not None:  # this process has its share of the rows alone
                valid = build.batches(root, prepared.splits, "valid", torch.device("cpu"), prepared.seeds)
            pictures.collect(runner, valid, prepared.splits, job.folder)
    return result


def _begin(values: dict[str, Any], prepared: Preparation, job: Job, note: Callable[[], str]) -> Journal:
    root = prepared.root
    try:
        journal = Journal(job.folder)
    except (FileExistsError, Timeout):
        raise ConfigError(in_use(job.folder)) from None
    except OSError as error:
        raise ConfigError(Fault("hydra.run.dir", str(error))) from None
    references.forget(job.folder)
    (job.folder / ERROR).unlink(missing_ok=True)  # of an attempt that did not get so far
    (job.folder / "config.yaml").write_text(secrets.masked(OmegaConf.to_yaml(values)), encoding="utf-8")
    environment = json.dumps(metadata.environment(prepared.device), indent=2)
    (job.folder / "environment.json").write_text(secrets.masked(environment), encoding="utf-8")
    details = {
        "name": metadata.run_name(job, root.name),
        "experiment": root.tracking.experiment,
        "tags": metadata.tags(job, prepared.key),
        "params": metadata.params(values),
        "note": note(),
        "inputs": metadata.inputs(prepared.splits.spec),
        "data": asdict(prepared.splits.spec),
        "parent": str(sweep_plan.begin(job.sweep, root.tracking)) if job.sweep else None,
        "varied": list(job.varied),
        "overrides": list(job.overrides),
        "identity": prepared.identity,
        "place": asdict(metadata.place()),
    }
    store = None if root.tracking.name == "none" else masked(store_uri(root.tracking.uri))
    journal.start(store=store, **secrets.masked_deep(details))
    return journal


def _resume(values: dict[str, Any], prepared: Preparation, job: Job, journal: Journal) -> Journal:
    """Record in the journal that the run resumes, and the settings that changed since it started."""
    before = run_in(job.folder).start.params
    now = secrets.masked_deep(metadata.params(values))
    (job.folder / ERROR).unlink(missing_ok=True)
    said = secrets.masked_deep(list(job.overrides))
    changed = {key: value for key, value in now.items() if before.get(key) != value}
    journal.resume(overrides=said, changed=changed, run_key=prepared.key)
    return journal


def _follow(root: RootConfig, job: Job) -> client.Followed | None:
    if root.tracking.name == "none":
        return None
    if job.sweep is not None and is_held_elsewhere(job.sweep):  # by the sweep's process, whose uploader brings all jobs
        followed = client.Followed(record.start_of(job.folder).store or "", Path(root.output_root).resolve())
        followed.follow(job.folder)
        return followed
    uploader = client.uploader(root.tracking, root.output_root)
    uploader.follow(job.folder)
    return uploader


def _arrive(root: RootConfig, job: Job, uploader: client.Followed | None, result: Result) -> None:
    """See the run arrive in MLflow; a sweep's jobs do not wait for theirs, the sweep does at its end."""
    if uploader is None:
        if root.figures:
            from experiments.tracking.figures import draw

            draw(job.folder)
        return
    if job.sweep is None:
        # Where it was killed, another goes on where it was.
        if not (isinstance(uploader, client.UploaderProcess) and uploader.alive):
            uploader = client.uploader(root.tracking, root.output_root)
            uploader.follow(job.folder)
        missing = uploader.wait([job.folder], root.tracking.wait_seconds)
        result.run_id = delivered.state(job.folder).run_id or None
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
