"""How often a run's test rows were looked at: each look is a line of its journal, and a tag in MLflow.

A test set estimates the error on new data as long as nothing was chosen by it, so a reader needs the count.
"""

from __future__ import annotations

import logging
from pathlib import Path

from experiments.errors import ConfigError, Fault
from experiments.runs.find import run_in
from experiments.runs.terminal import relative
from experiments.tracking import journal, record
from experiments.tracking.pending import Pending
from experiments.tracking.record import RUNNING, Tagged

TAG = "experiments.test_looks"

log = logging.getLogger(__name__)


def looks(folder: Path) -> int:
    """Return how often the test rows of the run in a folder were looked at."""
    return sum(isinstance(event, Tagged) and TAG in event.tags for event, _ in record.events(folder))


def require_ended(folder: Path) -> None:
    """Check that a run has ended.

    Raises:
        ConfigError: it has not, so that a look at its test rows could still change its training.
    """
    if run_in(folder).status == RUNNING:
        problem = "test rows are for a run that has ended; this one has not. Its validation rows: --split valid"
        raise ConfigError(Fault(relative(folder), problem))


def add(folder: Path) -> None:
    """Count one more look."""
    try:
        journal.tag(folder, {TAG: str(looks(folder) + 1)})
    except OSError as error:
        log.warning("%s cannot be written (%s), so this look at the test rows is not counted", relative(folder), error)
        return
    start = record.start_of(folder)
    if start.store:  # the next run, or `sync`, brings it
        Pending(Path(start.params["output_root"])).add(folder)
