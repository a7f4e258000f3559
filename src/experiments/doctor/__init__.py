"""What probably is wrong with a training, its data or its model, by rules. Advice alone: it changes nothing.

Layer a reads a run's journal (`history`), b the data (`data`), c takes a few steps with copies (`batch`, `model`).
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from experiments.doctor.finding import Finding
from experiments.errors import command
from experiments.runs.terminal import relative

RATE = re.compile(r"optim\.lr=\S+")

__all__ = ["Finding", "advice", "examine"]


def advice(folder: Path) -> tuple[list[str], str]:
    """Return the rules that find something in a run's journal, and one line on the likeliest; empty if none does."""
    from experiments.doctor import history  # late, with torch

    findings = history.rule.findings(history.observe(folder))
    if not findings:
        return [], ""
    first, others = findings[0], len(findings) - 1
    more = f"; and {others} more: {command('doctor')} {relative(folder)}" if others else ""
    return [each.rule for each in findings], f"doctor: {first.rule}: {first.evidence} (try {first.remedy}{more})"


def examine(what: Path | Sequence[str]) -> list[Finding]:
    """Return what is found in a run's folder, or before a training with these overrides; the likeliest cause first.

    No run starts and no file is written. Callbacks and `init_from` are left out: the weights are fresh.

    Raises:
        ConfigError: there is no such run, or the configuration cannot be run.
        DataError: the dataset is not available.
    """
    from experiments.config import check
    from experiments.doctor import batch, data, history, model  # late, with torch
    from experiments.runs import load, preparation
    from experiments.seeds import noise_kept
    from experiments.training import build, device

    folder = what if isinstance(what, Path) else None
    root = load.configuration(what) if isinstance(what, Path) else check.configured(["tracking=none", *what]).root
    root = root.model_copy(update={"init_from": None, "init_only": None, "callbacks": {}})
    log = logging.getLogger("experiments")
    before = log.level
    log.setLevel(logging.ERROR)  # what the dataset warns of is a finding here
    try:
        with device.settings_kept(), noise_kept():
            build.forget_dataset()
            prepared = preparation.prepare(root, [])
            splits, runner = prepared.splits, prepared.runner(None)
            found = data.rule.findings(data.observe(runner, root, splits.spec, splits.class_counts))
            found += model.rule.findings(batch.observe(prepared))
    finally:
        log.setLevel(before)
    return _of_one_rate(found + (history.rule.findings(history.observe(folder)) if folder else []))


def _of_one_rate(findings: list[Finding]) -> list[Finding]:
    """Return findings such that all that ask for another learning rate ask for that of the likeliest cause."""
    rate = next((match[0] for each in findings if (match := RATE.search(each.remedy))), "")
    return [dataclasses.replace(each, remedy=RATE.sub(rate, each.remedy)) for each in findings]
