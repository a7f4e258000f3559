"""The journal of a run that trains: its start, its resumption, and its end, whatever the end is."""

from __future__ import annotations

import contextlib
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import Timeout
from omegaconf import OmegaConf

from experiments.config import secrets
from experiments.config.store_uri import experiment, masked, store_uri
from experiments.data import preprocess
from experiments.errors import ConfigError, Fault, TrainingError, UserError, command, warned
from experiments.files import UNWRITABLE
from experiments.runs import code_patch, metadata, place, references, sweep_plan
from experiments.runs.find import run_in
from experiments.runs.folder import ERROR, in_use
from experiments.runs.metadata import Job
from experiments.runs.preparation import Preparation
from experiments.tracking import record
from experiments.tracking.journal import Journal
from experiments.tracking.record import FAILED, FINISHED, KILLED, PAUSED
from experiments.training import signals
from experiments.training.result import Result, not_finite

log = logging.getLogger(__name__)

MOST_COUNTS = 1000  # classes whose rows the journal counts
Advise = Callable[[Path], tuple[list[str], str]]  # of a trained run's folder: names of what was found, and one line


def start(values: dict[str, Any], prepared: Preparation, job: Job, note: Callable[[], str], parameters: int) -> Journal:
    """Open the journal of a new run and write its start, its configuration and its environment.

    Raises:
        ConfigError: the folder holds a run, or cannot be written to.
    """
    root = prepared.root
    try:
        journal = Journal(job.folder)
    except (FileExistsError, Timeout):
        raise ConfigError(in_use(job.folder)) from None
    except OSError as error:
        raise ConfigError(Fault("hydra.run.dir", str(error))) from None
    references.forget(job.folder)
    (job.folder / ERROR).unlink(missing_ok=True)  # of an earlier attempt
    (job.folder / "config.yaml").write_text(secrets.masked(OmegaConf.to_yaml(values)), encoding="utf-8")
    spec = prepared.splits.spec
    counts = prepared.splits.class_counts if spec.outputs <= MOST_COUNTS else ()
    environment = json.dumps(metadata.environment(prepared.device), indent=2)
    (job.folder / "environment.json").write_text(secrets.masked(environment), encoding="utf-8")
    kept = code_patch.keep(job.folder, wanted=root.tracking.patch)
    details = {
        "name": metadata.run_name(job, root.name),
        "experiment": experiment(root.tracking.experiment),
        "tags": metadata.tags(job, prepared.key, root.tags) | kept | {record.PARAMETERS: str(parameters)},
        "params": metadata.params(values),
        "note": note(),
        "inputs": metadata.inputs(spec),
        "data": asdict(spec) | {"values": preprocess.values(prepared.splits.train), "counts": counts},
        "parent": str(sweep_plan.begin(job.sweep, root.tracking)) if job.sweep else None,
        "varied": list(job.varied),
        "overrides": list(job.overrides),
        "identity": prepared.identity,
        "place": asdict(place.current()),
    }
    store = None if root.tracking.name == "none" else masked(store_uri(root.tracking.uri))
    journal.start(store=store, **secrets.masked_deep(details))
    return journal


def resume(values: dict[str, Any], prepared: Preparation, job: Job, journal: Journal) -> Journal:
    """Write into the journal that the run resumes, and the settings that changed since it started."""
    before = run_in(job.folder).start.params
    now = secrets.masked_deep(metadata.params(values))
    (job.folder / ERROR).unlink(missing_ok=True)
    changed = {key: value for key, value in now.items() if before.get(key) != value}
    journal.resume(overrides=secrets.masked_deep(list(job.overrides)), changed=changed, run_key=prepared.key)
    return journal


@contextlib.contextmanager
def ending(journal: Journal, folder: Path, doctor: str, advise: Advise) -> Iterator[list[Result]]:
    """Write the journal's end when the training ends, pauses, fails or is interrupted; the caller adds its result.

    `doctor` is whether its advice is logged or ends the run as FAILED.

    Raises:
        TrainingError: the disk is full or read-only, with the way to resume; or the advice is that the run fails.
    """
    ended: list[Result] = []
    try:
        yield ended
    except (KeyboardInterrupt, SystemExit) as error:
        journal.end(KILLED, _reason(error))
        raise
    except BaseException as error:
        with contextlib.suppress(OSError):  # the disk may be full
            (folder / ERROR).write_text(secrets.masked(traceback.format_exc()), encoding="utf-8")
        journal.end(FAILED, secrets.masked(f"{type(error).__name__}: {error}"))
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            again = f"earlier checkpoints are whole; resume with {command('resume')} {folder}"
            raise TrainingError(f"{error}; {again}") from error
        if isinstance(error, UserError):  # the run has begun, so this is no refusal
            raise TrainingError(str(error)) from error
        raise
    (result,), note, tags = ended, "", {}
    if result.paused:
        journal.end(PAUSED, f"paused after epoch {len(result.history) - 1}; {command('resume')} {folder}")
        return
    if problem := ", ".join(not_finite(result.history).values()):
        note, tags = record.start_of(folder).note, {"experiments.not_finite": problem}
        note += f"\n\n**Not finite: {problem}.** MLflow shows no NaN; the run's journal has every value."
    line = ""
    if doctor != "off":
        with warned(log, "advice"):
            rules, line = advise(folder)
            tags |= {"experiments.doctor": ", ".join(rules)} if rules else {}
    fails = bool(line) and doctor == "fail"
    journal.end(FAILED if fails else FINISHED, line if fails else "", note=note.strip(), tags=tags)
    if fails:
        raise TrainingError(line)
    if line:
        log.warning("%s", line)


def _reason(error: KeyboardInterrupt | SystemExit) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error.__context__, signals.Preempted):
        return "preempted, or out of time; it is queued again and resumes then"
    return f"exit {error.code}"
