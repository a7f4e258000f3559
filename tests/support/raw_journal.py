"""Journals read line by line, without the product's own reader: what tests hold its record against."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

FILE = "journal.jsonl"


def read(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's journal, without those that are damaged."""
    found = []
    for line in (folder / FILE).read_bytes().split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and "event" in event:
                found.append(event)
    return found


def history(folder: Path) -> list[dict[str, float]]:
    """The figures of each epoch that was finished, from epoch 0."""
    epochs: dict[int, dict[str, float]] = {}
    for event in read(folder):
        if event["event"] == "metrics" and ("train/loss" in event["values"] or event["step"] in epochs):
            epochs.setdefault(event["step"], {}).update(event["values"])
    return [epochs[step] for step in sorted(epochs)]


def summary(folder: Path) -> dict[str, Any]:
    """A run at a glance: its start, last figures, series by name, status and reason."""
    found: dict[str, Any] = {"start": {}, "figures": {}, "series": {}, "status": "RUNNING", "reason": ""}
    for event in read(folder):
        if event["event"] == "start":
            found["start"] = event
        elif event["event"] == "metrics":
            found["figures"] |= event["values"]
            for name, value in event["values"].items():
                found["series"].setdefault(name, []).append(value)
        elif event["event"] == "resume":
            found |= {"status": "RUNNING", "reason": ""}
        elif event["event"] == "end":
            found |= {"status": event["status"], "reason": event["reason"]}
    return found
