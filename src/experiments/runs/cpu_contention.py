"""CPU oversubscription: other trainings on the same cores, such as a second command in another terminal.

Threads that work together wait for each other after every operation. With more of them than cores one always waits for
its turn, and both trainings take many times as long (measured: ten to a hundred); with one thread each they share.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.runs.terminal import relative
from experiments.tracking.ownership import is_running
from experiments.tracking.pending import Pending

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def warn(folder: Path, output_root: Path, device: torch.device) -> None:
    """Warn if this run and others on its cores have more threads than there are cores.

    Tracked ones below `output_root` are found; only trainings on the CPU compete for cores.
    """
    import torch  # late: a sweep asks for the cores before its uploader is started, which comes before this import

    own = torch.get_num_threads()
    if device.type != "cpu" or own == 1:
        return
    others = {run: threads for run in Pending(output_root).fresh() if run != folder and (threads := _computing(run))}
    if others and own + sum(others.values()) > cores():
        log.warning(
            "%s is being trained on these cores too: %d threads here and %d there, for %d cores, wait for each other, "
            "and both may take many times as long; with device.threads=1 each they share",
            ", ".join(map(relative, others)),
            own,
            sum(others.values()),
            cores(),
        )


def _computing(run: Path) -> int:
    """Return how many CPU threads a process of this host trains a run with; 0 if none does."""
    try:
        environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
        return int(environment["threads"]) if environment["device"] == "cpu" and is_running(run) else 0
    except (OSError, ValueError, KeyError):  # it is not a run, or one that is being made or removed
        return 0
