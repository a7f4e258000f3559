"""Whether training from the memory-mapped cache of images keeps up with the same images in memory.

    python -m benchmarks.image_cache [--images 2000] [--side 128] [--pairs 7]

Two runs' batches take turns, epoch by epoch: the rows of `dataset=image_folder` as they are, and a copy of them in
memory. An epoch gathers all batches of 64 in a shuffled order, and is timed without a model, which would hide what the
data costs. Printed is the median of the pairs' ratios: 1 is as fast as memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image
from torch.utils.data import TensorDataset

from experiments.components.loaders import in_memory
from experiments.data.batches import Order
from experiments.data.split import Split
from experiments.data.splits import Splits
from experiments.training.build import load_dataset


def main() -> None:
    """Time the epochs, and print both speeds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("images", 2000), ("side", 128), ("pairs", 7)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        splits = images(Path(folder), options.images, options.side)
        print(
            f"{options.images} images of {options.side}x{options.side} stored in {time.perf_counter() - started:.1f} s"
        )
        x, y = splits.train.tensors
        copied = Split(TensorDataset(x.clone(), y.clone()), splits.train.shape)
        epoch(splits.train, 0), epoch(copied, 0)
        pairs = [(epoch(splits.train, number), epoch(copied, number)) for number in range(options.pairs)]
    rows = len(splits.train)
    for place, name in enumerate(("cache", "memory")):
        print(f"{name:7} {rows / median(pair[place] for pair in pairs):10,.0f} images a second")
    print(f"speed of the cache in that of memory: {median(memory / cache for cache, memory in pairs):.3f}")


def images(folder: Path, count: int, side: int) -> Splits:
    """Return the splits of a folder of noise."""
    draw = np.random.default_rng(0)
    for number in range(count):
        path = folder / "images" / "ab"[number % 2] / f"{number}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    return load_dataset({"name": "image_folder", "root": str(folder / "images"), "cache": str(folder / "cache")})


def epoch(split: Split, number: int) -> float:
    """Return the seconds of one pass over the shuffled batches."""
    order = Order(len(split), shuffle=True, seed=0)
    order.epoch = number
    started = time.perf_counter()
    for xb, _ in in_memory(split, 64, order, split.shape):
        xb.sum()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
