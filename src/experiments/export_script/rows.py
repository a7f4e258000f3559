"""The rows that a script reads from a file, in the type that its model takes; an image's bytes stay bytes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.config.root import RootConfig
from experiments.data import nested
from experiments.data.splits import Splits
from experiments.data.tensors import is_image, viewed
from experiments.export_script.values import Text
from experiments.files import replacing
from experiments.training import build_batches

READ = """\
import sys

import numpy as np

# The data: the file that the script came with
with np.load(sys.argv[1] if len(sys.argv) > 1 else "{file}") as rows:
"""
PLAIN = "    x_train, y_train, x_valid, y_valid = (torch.from_numpy(rows[name]) for name in rows)\n"
NESTED = "    rows = {name: torch.from_numpy(rows[name]) for name in rows}\n"


@dataclass(frozen=True)
class StoredRows:
    """The rows of both splits, for the model of a configuration."""

    splits: Splits
    root: RootConfig

    @property
    def as_bytes(self) -> bool:
        """Whether x are the bytes of images, which a script divides by 256."""
        x, spec = self.splits.train.tensors[0], self.splits.spec
        pixels = isinstance(x, Tensor) and x.dtype == torch.uint8 and is_image(spec.shape)
        return pixels and build_batches.input_kind(self.root) != "tokens"

    def values(self) -> dict[str, nested.Nested]:
        """Return x_train, y_train, x_valid and y_valid; of several inputs, each in its shape."""
        found = {}
        for part in ("train", "valid"):
            split = getattr(self.splits, part).given_as(build_batches.input_kind(self.root))
            x, found[f"y_{part}"] = split.tensors
            typed = x if self.as_bytes else split.inputs(x)
            found[f"x_{part}"] = typed if isinstance(x, Tensor) else viewed(typed, split.shape)
        return {name: found[name] for name in ("x_train", "y_train", "x_valid", "y_valid")}

    def code(self, file: str) -> str:
        """Return the lines that read them."""
        read, values = READ.replace("{file}", file), self.values()
        if all(isinstance(value, Tensor) for value in values.values()):
            return read + PLAIN
        read += NESTED
        for name, value in values.items():
            keys = map(f"{name}{{}}".format, [""] if isinstance(value, Tensor) else count())
            code = nested.apply(lambda _, keys=keys: Text(f'rows["{next(keys)}"]'), value)
            read += f"{name} = {code}\n"
        return read

    def write(self, path: Path) -> None:
        """Write them, as .npz: x_train or, of several inputs, x_train0 and x_train1, and so on."""
        arrays: Any = {
            f"{name}{'' if value is tensor else number}": tensor.numpy()
            for name, value in self.values().items()
            for number, tensor in enumerate(nested.leaves(value))
        }
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
