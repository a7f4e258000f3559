"""A job from its checked configuration to its result: prepare, train, save, upload."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from experiments import answer, live, ranks
from experiments.config import latest
from experiments.config.check import Checked
from experiments.config.device import pick
from experiments.config.root import RootConfig
from experiments.errors import ConfigError, Fault
from experiments.runs import (
    cpu_contention,
    index,
    metadata,
    pictures,
    preparation,
    restore,
    reuse,
    run_answer,
    run_journal,
    terminal,
    uploading,
    worker,
)
from experiments.runs.metadata import Job
from experiments.runs.notebook import Live
from experiments.runs.preparation import Preparation
from experiments.runs.run_journal import Advise
from experiments.tracking import client
from experiments.tracking.journal import FILE as JOURNAL
from experiments.tracking.journal import Journal
from experiments.tracking.metric_names import drop_invalid
from experiments.training import build_batches, describe, signals, weights
from experiments.training.compile import in_words
from experiments.training.distributed import group as distributed
from experiments.training.distributed.group import Group
from experiments.training.result import Metrics, Result
from experiments.training.runner import Runner, weights_of
from experiments.training.signals import StopRequest

log = logging.getLogger(__name__)


def execute(
    config: Checked, job: Job, note: Callable[[], str] = str, advise: Advise = lambda _folder: ([], "")
) -> Result:
    """Train one job; if its folder already holds a run, from that run's newest checkpoint.

    `note` returns the run's description; it is called once the run can no longer be refused, and `advise` at its end.

    Raises:
        ConfigError: the configuration, the data or the folder does not allow the run.
        TrainingError: the training had to stop.
    """
    if config.root.sweep.preview or config.root.describe:
        key = "describe" if config.root.describe else "sweep.preview"
        raise ConfigError(
            Fault(key, "it works with python -m experiments and with resume of a sweep, not for this run")
        )
    with distributed.joined(partial(pick, config.root.device)) as group:
        return _train(config, job, note, advise, group)


def _train(config: Checked, job: Job, note: Callable[[], str], advise: Advise, group: Group | None) -> Result:
    """Train in the first, or only, process."""
    root = config.root
    with contextlib.ExitStack() as undo:
        earlier = restore.reopen(job.folder) if (job.folder / JOURNAL).exists() else None
        if earlier is not None:
            undo.callback(earlier.close)
        with live.phase("loading the data"):
            prepared = preparation.prepare(root, job.overrides, group)
        found = reuse.take(prepared, job, metadata.params(config.values)) if earlier is None else None
        if found is not None:
            if group is not None:
                worker.lead(group, prepared.runner(job.folder), found)
            _is_subject(root, job)
            return found
        runner = prepared.runner(job.folder)
        done = None if earlier is None else restore.restore(prepared, runner, job.folder)
        if group is not None:
            worker.lead(group, runner, done)
        if done is not None:
            index.remember(Path(root.output_root), prepared.key, job.folder)  # killed at its very end, it could not
            terminal.already_done(done)
            _is_subject(root, job)
            if root.tracking.name == "none":
                uploading.arrive(root, job, None, done)
            return done
        undo.pop_all()
    if earlier is None:
        journal = run_journal.start(config.values, prepared, job, note, describe.parameters(runner.model))
    else:
        journal = run_journal.resume(config.values, prepared, job, earlier)
    _is_subject(root, job)
    tracked = uploading.follow(root, job)
    terminal.stage(root.tutorial, root.language)
    terminal.opening(metadata.run_name(job, root.name), prepared.device, prepared.splits.spec, runner, ranks.world())
    if job.sweep is None and group is None:
        cpu_contention.warn(job.folder, Path(root.output_root), prepared.device)
    try:
        result = _fit(prepared, runner, job, journal, tracked, advise)
    except (KeyboardInterrupt, SystemExit):
        if job.sweep is None:  # a sweep reports itself
            terminal.interrupted(job.folder)
        raise
    if not result.paused:
        index.remember(Path(root.output_root), prepared.key, job.folder)
    terminal.closing(result, job.folder)
    if result.paused and job.sweep is None:  # a search says it of those that it stops
        terminal.interrupted(job.folder)
    uploading.arrive(root, job, tracked, result)
    return result


def _is_subject(root: RootConfig, job: Job) -> None:
    """Have `latest` and the command's answer mean this run; of a sweep's jobs it is the sweep that they mean."""
    if job.sweep is None:
        latest.mark(Path(root.output_root), job.folder)
        answer.give(partial(run_answer.of_run, job.folder))


def _fit(
    prepared: Preparation,
    runner: Runner,
    job: Job,
    journal: Journal,
    tracked: client.Followed | None,
    advise: Advise,
) -> Result:
    """Train; save the weights and what plots are drawn from; close the journal, whatever the end is."""
    root, group, warned = prepared.root, prepared.group, set[str]()
    cell = Live()

    def record(values: Metrics, step: int) -> None:
        values = drop_invalid(values)
        journal.metrics(values, step)
        terminal.figures(values, step, warned)
        if runner.history:
            cell.show(Result(runner.model, runner.untrained, runner.history, folder=job.folder))
        if tracked is not None:
            tracked.warn_if_failing(job.folder)

    asked = StopRequest() if group is None else group.asked
    with (
        contextlib.nullcontext() if group is None else signals.put_off(),
        run_journal.ending(journal, job.folder, root.doctor, advise) as ended,
        signals.workers_watched(asked),
        in_words(),
        signals.preempted_between_steps(asked),
        signals.between_steps(asked),
        _profiled(root, job.folder),
    ):
        if tracked is not None and root.tracking.required:
            tracked.require(job.folder)
        stop_request = asked if group is None else group.agreed
        result = runner.fit(root.epochs, pause_after=root.pause_after, record=record, stop_request=stop_request)
        ended.append(result)
        weights.save(job.folder, weights_of(runner.model))
        if root.figures and not result.paused:
            valid = runner.valid
            if group is not None:  # this process holds only its share of the rows
                valid = build_batches.batches(root, prepared.splits, "valid", torch.device("cpu"), prepared.seeds)
            pictures.collect(runner, valid, prepared.splits, job.folder)
        cell.close()
    return result


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
