"""Draws the losses of each stage of the tutorial: a picture per stage, from numbers of real runs.

The numbers are kept in curves.json. A training on the real MNIST takes four minutes on one core.

python -m docs.site.curves                                    # draws the kept numbers
python -m docs.site.curves --train data/mnist/mnist.pkl.gz    # trains first
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from docs.site.scripts import STAGES

import experiments

HERE = Path(__file__).parent
FOLDER = HERE / "tutorial" / "curves"
NUMBERS = FOLDER / "curves.json"
EPOCHS = 5  # the tutorial trains two, whose curve is one line
SERIES = {"train/loss": "#c2571a", "valid/loss": "#1a73c2"}  # each reads on white and on black
WIDTH, HEIGHT = 480, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 88, 12, 34
FONT = 'font-family="sans-serif" font-size="12"'
LINE = 'stroke-width="2"'
Losses = Mapping[str, Sequence[float]]


def main() -> None:
    """Train if asked to, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, metavar="MNIST", help="train the stages on this mnist.pkl.gz first")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if options.train:
        NUMBERS.write_text(json.dumps(trained(options.train), indent=1) + "\n", encoding="utf-8")
    for stage in STAGES:
        (FOLDER / f"{stage}.svg").write_text(drawn(losses(stage)), encoding="utf-8")


def trained(mnist: Path) -> dict[str, dict[str, list[float]]]:
    """Return the losses of all stages by epoch; stage 13 starts from this stage 12."""
    logging.getLogger().addHandler(logging.NullHandler())  # else each run prints its lines
    overrides = [f"epochs={EPOCHS}", f"dataset.source='{mnist.resolve()}'", "device=cpu", "device.threads=1"]
    found = dict[str, dict[str, list[float]]]()
    with tempfile.TemporaryDirectory(prefix="curves-") as folder:
        overrides += ["tracking=none", "figures=false", f"output_root='{folder}'"]
        for stage in STAGES:
            history = experiments.run([f"stage={stage}", *overrides]).history
            found[stage] = {name: [round(epoch[name], 5) for epoch in history] for name in SERIES}
            print(stage, {name: values[-1] for name, values in found[stage].items()}, flush=True)
    return found


def losses(stage: str) -> Losses:
    """Return the kept losses of a stage, by name and epoch."""
    kept: dict[str, Losses] = json.loads(NUMBERS.read_text(encoding="utf-8"))
    return kept[stage]


def drawn(series: Losses) -> str:
    """Return the losses as a picture, without a style or font of another file."""
    values = [value for each in series.values() for value in each]
    low, high, last = min(values), max(values), len(values) // len(series) - 1

    def place(epoch: float, value: float) -> tuple[float, float]:
        x = LEFT + epoch * (WIDTH - LEFT - RIGHT) / last
        return round(x, 1), round(TOP + (high - value) * (HEIGHT - TOP - BOTTOM) / (high - low), 1)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" {FONT}>']
    for value in (low, (low + high) / 2, high):
        x, y = place(0, value)
        parts.append(f'<path d="M{x} {y}H{WIDTH - RIGHT}" stroke="#888" stroke-opacity="0.4"/>')
        parts.append(f'<text x="{x - 8}" y="{y + 4}" text-anchor="end" fill="#888">{value:.3f}</text>')
    for epoch in range(last + 1):
        x, _ = place(epoch, low)
        parts.append(f'<text x="{x}" y="{HEIGHT - 10}" text-anchor="middle" fill="#888">{epoch}</text>')
    heights = _labels(*(place(last, series[name][-1])[1] for name in SERIES))
    for (name, colour), label in zip(SERIES.items(), heights, strict=True):
        points = [place(epoch, value) for epoch, value in enumerate(series[name])]
        parts.append(f'<path d="M{" ".join(f"{x} {y}" for x, y in points)}" fill="none" stroke="{colour}" {LINE}/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{label + 4}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _labels(first: float, second: float) -> list[float]:
    """Return where the names of two lines are written, apart from each other."""
    apart = max(0.0, 15 - abs(first - second)) / 2
    return [first - apart, second + apart] if first <= second else [first + apart, second - apart]


if __name__ == "__main__":
    main()
