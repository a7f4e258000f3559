"""The pictures that runs read wrongly, from what each run kept of them."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.image import imsave

from experiments.compare.comparison import Comparison
from experiments.tracking.figures import PICTURES

FEW = 3  # of so many runs each one's are shown, of more the best run's


def sections(comparison: Comparison) -> Iterator[str]:
    """A heading and the pictures, for the best run or each of few; for runs that kept none, nothing."""
    runs = comparison.runs if len(comparison.runs) <= FEW else [comparison.best]
    for run in runs:
        kept = _kept(run.job.folder)
        if not len(kept.get("worst", ())):
            continue
        yield f"<h2>What {escape(run.label)} reads wrongly</h2>"
        yield "<p>The validation pictures that it was most wrong about, and how sure it was of its answer.</p>"
        yield f'<div class="digits">{"".join(_figure(kept, number) for number in range(len(kept["worst"])))}</div>'


def _kept(folder: Path) -> Mapping[str, np.ndarray]:
    """A run's pictures; empty where there are none that can be read."""
    try:
        # Opened here, since numpy leaves a file open that it cannot read.
        with (folder / PICTURES).open("rb") as file, np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, zipfile.BadZipFile):
        return {}


def _figure(kept: Mapping[str, np.ndarray], number: int) -> str:
    names = [str(name) for name in kept["labels"]]
    true, read = (_name(names, int(kept[f"worst_{which}"][number])) for which in ("true", "predicted"))
    sure = f"{kept['worst_probability'][number]:.0%} sure"
    words = escape(f"{true} read as {read}")
    return (
        f'<figure><img alt="{escape(f"{true}, read as {read}", quote=True)}" src="{_uri(kept["worst"][number])}">'
        f"<figcaption>{words}<br>{sure}</figcaption></figure>"
    )


def _name(names: list[str], label: int) -> str:
    return names[label] if names else str(label)


def _uri(picture: np.ndarray) -> str:
    """A picture (channels, height, width) as an address that holds it."""
    spread = max(float(np.ptp(picture)), 1e-12)
    scaled = (picture - picture.min()) / spread
    written = io.BytesIO()
    if len(picture) == 3:  # red, green, blue
        imsave(written, np.ascontiguousarray(scaled.transpose(1, 2, 0)), format="png")
    else:
        imsave(written, scaled[0], format="png", cmap="gray", vmin=0, vmax=1)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"
