"""The validation images that runs got most wrong, from what each run kept of them."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from matplotlib.image import imsave

from experiments.compare.comparison import Comparison
from experiments.tracking.figures import PICTURES, arrays, label, pixels

FEW = 3  # up to so many runs show their own mistakes; of more, the best run shows its


def mistakes(comparison: Comparison) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield the label and the mistakes of the best run, or of each of few; runs that kept none are left out."""
    for run in comparison.runs if len(comparison.runs) <= FEW else [comparison.best]:
        kept = _kept(run.job.folder)
        if len(kept.get("worst", ())):
            yield run.label, [_mistake(kept, number) for number in range(len(kept["worst"]))]


def _kept(folder: Path) -> Mapping[str, np.ndarray]:
    """Return a run's images; empty where the file is missing or damaged."""
    try:
        return arrays(folder / PICTURES)
    except (OSError, ValueError, zipfile.BadZipFile):
        return {}


def _mistake(kept: Mapping[str, np.ndarray], number: int) -> dict[str, str]:
    names = [str(name) for name in kept["labels"]]
    true, answer = (label(names, kept[f"worst_{which}"][number]) for which in ("true", "predicted"))
    png = io.BytesIO()
    imsave(png, pixels(kept["worst"][number]), format="png", cmap="gray", vmin=0, vmax=1)
    return {
        "image": f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}",
        "label": true,
        "answer": answer,
        "sure": f"{kept['worst_probability'][number]:.0%}",
    }
