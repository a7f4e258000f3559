"""Whether training from the memory-mapped cache of images keeps up with the same images in memory.

    python -m benchmarks.image_cache [--images 2000] [--side 128] [--pairs 15]

Two trainings take turns, epoch by epoch: on the rows of `dataset=image_folder` as they are, and on a copy of them in
memory, with shuffled batches of 64 and one linear layer, the least of models. So do two passes over the batches alone.
Printed are the medians of the pairs' ratios: 1 is as fast as memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
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
    for name, value in (("images", 2000), ("side", 128), ("pairs", 15)):
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
        for name, model in (("training", torch.nn.Linear(x.shape[1], 2)), ("batches alone", None)):
            epoch(splits.train, 0, model), epoch(copied, 0, model)
            pairs = [(epoch(splits.train, each, model), epoch(copied, each, model)) for each in range(options.pairs)]
            cache, memory = (len(x) / median(times) for times in zip(*pairs, strict=True))
            ratio = median(memory / cache for cache, memory in pairs)
            print(f"{name}: {cache:,.0f} images a second, {memory:,.0f} from memory; ratio {ratio:.3f}")


def images(folder: Path, count: int, side: int) -> Splits:
    """Return the splits of a folder of noise."""
    draw = np.random.default_rng(0)
    for number in range(count):
        path = folder / "images" / "ab"[number % 2] / f"{number}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    return load_dataset({"name": "image_folder", "root": str(folder / "images"), "cache": str(folder / "cache")})


def epoch(split: Split, number: int, model: torch.nn.Module | None) -> float:
    """Return the seconds of one epoch of a model, or of one pass over the shuffled batches."""
    order = Order(len(split), shuffle=True, seed=0)
    order.epoch = number
    started = time.perf_counter()
    for xb, yb in in_memory(split, 64, order, split.shape):
        if model is not None:
            torch.autograd.backward(torch.nn.functional.cross_entropy(model(xb.flatten(1)), yb))
    return time.perf_counter() - started


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
