"""The words of a run's plots are in the language of the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from experiments.tracking import figures
from experiments.tracking.journal import Journal


def kept(folder: Path, language: str) -> Path:
    """What a run keeps for its plots."""
    written = Journal(folder)
    written.start(name="mine", experiment="e", tags={}, params={})
    written.metrics({"untrained/valid_loss": 2.3}, 0)
    written.metrics({"train/loss": 0.5, "valid/loss": 0.4}, 0)
    written.end("FINISHED")
    (folder / "config.yaml").write_text(f"language: {language}\n", encoding="utf-8")
    images = np.zeros((1, 1, 4, 4), np.float32)
    worst = {"worst": images, "worst_true": [0], "worst_predicted": [1], "worst_probability": [0.9]}
    digits = {"labels": ["a", "b"], "digits": images, "digit_labels": [0]}
    np.savez(folder / figures.PICTURES, confusion=np.eye(2, dtype=int), **digits, **worst)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", {"epoch", "loss", "predicted", "true", "a read as b\n(90% sure)"}),
        ("uz", {"epoxa", "yo'qotish", "model javobi", "to'g'ri javob", "a emas, b deb o'qildi\n(ishonchi 90%)"}),
    ],
)
def test_titles_and_axes_are_in_the_runs_language(
    language: str, words: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()
    monkeypatch.setattr(Figure, "savefig", lambda figure, _: seen.update(t.get_text() for t in figure.findobj(Text)))
    figures.draw(kept(tmp_path, language))
    assert words <= seen
