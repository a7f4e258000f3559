"""The verdicts of a sweep over the tutorial's stages, kept in its folder; importing this does not import torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import live
from experiments.errors import UserError
from experiments.files import replacing
from experiments.runs.job_record import JobRecord

log = logging.getLogger(__name__)

FILE = "parity.json"


def judged(sweep: Path, jobs: Sequence[JobRecord], steps: int | None) -> list[dict[str, Any]]:
    """Compare each stage with the one before, and keep the verdicts in the sweep's folder; nothing without `steps`."""
    if steps is None:
        return []
    log.info("comparing each stage with the one before, from the same weights, over %d steps ...", steps)
    among = {job.start.tags["stage"] for job in jobs}
    verdicts: list[dict[str, Any]] = []
    # Late: torch, which a sweep's own process may do without.
    with live.phase("loading"):
        from experiments.parity import stage_pairs
        from experiments.runs.preparation import unchosen
    try:
        found = stage_pairs.each(unchosen(jobs[0].overrides), steps=steps, among=among)
        for pair in live.track(found, "comparing stages", len(among) - 1):
            verdicts.append(pair.told())
            if not pair.holds:
                log.warning("stage %s: expected %s; it %s", pair.stage, pair.expected, pair.verdict)
    except UserError as error:
        log.warning("stages cannot be compared: %s", error)
    with replacing(sweep / FILE) as temporary:
        temporary.write_text(json.dumps(verdicts, indent=2), encoding="utf-8")
    return verdicts
