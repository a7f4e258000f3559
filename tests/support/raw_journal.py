"""Journals read line by line, without the product's own reader: what tests hold its record against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = "journal.jsonl"


def read(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's journal."""
    text = (folder / FILE).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n")[:-1]]


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
