"""Rows of a dataset, one split: arrays, or a map-style dataset that gives them one by one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property, partial
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from experiments.data import nested
from experiments.data.items import Mapped, arrays_of, as_array, channels_first
from experiments.data.nested import Nested
from experiments.data.tensors import Rows, Shape, as_input, as_rows, as_targets, is_arrays
from experiments.errors import DataError
from experiments.seeds import fixed_noise

Collate = Callable[[list[Any]], Any]


class Split:
    """Rows of a dataset: a map-style dataset, which for arrays is a TensorDataset of flat rows.

    Args:
        shape: of one row; of each input, where there are several.
        classes: whether targets are labels of a known number of classes.
        collate: makes a batch (x, y) of a list of items; None for torch's own.
        kind: what the model takes; see `as_input`.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        shape: Shape,
        *,
        classes: bool = False,
        collate: Collate | None = None,
        kind: str = "image",
    ) -> None:
        self.dataset, self.shape, self.classes, self.collate, self.kind = dataset, shape, classes, collate, kind

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # torch's Dataset promises no length, a map-style one has it

    @cached_property
    def tensors(self) -> tuple[Nested, Nested]:
        """X (n, features) and y (n,) or (n, places ...) int64 or (n, columns) float32; every item is read once."""
        if is_arrays(self.dataset):
            x, y = self.dataset.tensors
            return x, y
        if is_stream(self):
            raise DataError("a stream's rows are not kept; loader=dataloader reads them in each pass")
        with fixed_noise():
            return self.rows([self.dataset[index] for index in range(len(self))])

    @property
    def first(self) -> Nested:
        """X of the first row (1, features), as it is stored."""
        if is_arrays(self.dataset):
            return nested.apply(lambda tensor: tensor[:1], self.dataset.tensors[0])
        return self.rows([self.item])[0]

    @cached_property
    def item(self) -> tuple[Any, Any]:
        """The first item of a map-style dataset, or of a stream."""
        with fixed_noise():
            x, y = next(iter(self.dataset)) if isinstance(self.dataset, IterableDataset) else self.dataset[0]
        return x, y

    def begin(self, most: int = 64) -> tuple[Nested, Nested]:
        """Return x and y of the first rows, which are not in memory."""
        with fixed_noise():
            return self.rows(list(islice(iter(self.dataset), most)))

    def rows(self, items: list[Any]) -> tuple[Nested, Nested]:
        """Return x and y of items, as they are stored."""
        x, y = nested.tuples(self.collate(items)) if self.collate else nested.turned([tuple(item) for item in items])
        return as_rows(x, self.shape)[0], self.targets(y)

    def floats(self) -> tuple[Nested, Nested]:
        """Return x in the type that the model takes, mostly float32, and y."""
        x, y = self.tensors
        return self.inputs(x), y

    def inputs(self, x: Nested) -> Nested:
        """Return stored rows in the type that the model takes."""
        return as_input(x, self.shape, self.kind)

    def targets(self, y: Any) -> Nested:
        """Return targets as the run has them."""
        return as_targets(y, classes=self.classes)

    def given_as(self, kind: str) -> Split:
        """Return the same rows, for a model that takes this kind of input."""
        split = copy.copy(self)
        split.kind = kind
        return split

    def with_input_targets(self) -> Split:
        """Return the same rows with the input, as float32, as the target."""
        if not is_arrays(self.dataset):
            return Split(Mapped(self.dataset, partial(with_input_target, shape=self.shape)), self.shape)
        x, _ = self.tensors
        return Split(TensorDataset(x, as_input(x, self.shape, "flat")), self.shape)


def is_stream(split: Split) -> bool:
    """Return whether rows come from an IterableDataset."""
    return isinstance(split.dataset, IterableDataset)


def with_input_target(item: Any, shape: Shape | None) -> tuple[Any, Tensor]:
    """Return an item (x, y), or x alone, with the input as the target."""
    x = item[0] if isinstance(item, tuple | list) else item
    x = torch.as_tensor(as_array(x) if shape is None or isinstance(x, Image.Image) else x)
    return x, as_input(x, shape or as_rows(x[None])[1], "flat")


def split_of(value: Any, shape: Shape | None, part: str, *, classes: bool, collate: Collate | None) -> Split:
    """Return the split of (x, y) or of a map-style dataset.

    Raises:
        DataError: it is something else, or its rows do not fit together.
    """
    if is_arrays(value):
        value = value.tensors
    if not isinstance(value, tuple):
        return _map_style(value, shape, part, classes=classes, collate=collate)
    if len(value) != 2:
        raise DataError(f"the {part} split is a tuple of {len(value)}; (x, y) is expected, or ((x1, x2), y)")
    x, found = as_rows(channels_first(value[0], 4, part) if shape is None else value[0], shape)
    y = as_targets(value[1], classes=classes)
    counts = [*{len(leaf) for leaf in nested.leaves(x)}, *{len(leaf) for leaf in nested.leaves(y)}]
    if len(set(counts)) > 1:
        raise DataError(f"the {part} split has {counts[0]} rows in x and {counts[-1]} in y")
    if counts[0] == 0:
        raise DataError(f"the {part} split has no rows")
    plain = isinstance(x, Tensor) and isinstance(y, Tensor)
    return Split(TensorDataset(x, y) if plain else Rows(x, y), found, classes=classes, collate=collate)


def inputs_alone(value: Any, shape: Shape | None, part: str, **_: Any) -> Split:
    """Return the split of rows without targets, whose target is their input."""
    if isinstance(value, tuple) or is_arrays(value):
        raise DataError(f'the {part} split has targets; with targets="input" it should be x alone')
    if hasattr(value, "shape") or hasattr(value, "to_numpy") or isinstance(value, list):
        rows, found = as_rows(channels_first(value, 4, part) if shape is None else value, shape)
        return Split(TensorDataset(rows, rows), found).with_input_targets()
    _require_map_style(value, part)
    if isinstance(value, IterableDataset):
        raise DataError(f"the {part} split is a stream, whose items are (x, y); give (x, x) instead of x alone")
    return _map_style(Mapped(value, partial(with_input_target, shape=shape)), shape, part, classes=False, collate=None)


def _require_map_style(dataset: Any, part: str) -> None:
    kind = type(dataset).__name__
    if isinstance(dataset, DataLoader):
        raise DataError(f"the {part} split is a {kind}; give its dataset, since the run makes the batches (loader=...)")
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise DataError(f"the {part} split is a {kind}; (x, y) or a map-style Dataset with a length is expected")
    if len(dataset) == 0:
        raise DataError(f"the {part} split has no rows")


def _map_style(dataset: Any, shape: Shape | None, part: str, *, classes: bool, collate: Collate | None) -> Split:
    _require_map_style(dataset, part)
    with fixed_noise():
        item = next(iter(dataset)) if isinstance(dataset, IterableDataset) else dataset[0]
    if not isinstance(item, tuple | list) or len(item) != 2:
        found = f"{len(item)} values" if isinstance(item, tuple | list) else f"a {type(item).__name__}"
        raise DataError(f"the {part} split gives {found} for a row; (x, y) is expected, or ((x1, x2), y)")
    if collate is None and not isinstance(dataset, IterableDataset):
        dataset, item = arrays_of(dataset, item, part, kept=shape is not None)
    x, _ = nested.tuples(collate([item])) if collate else nested.turned([tuple(item)])
    split = Split(dataset, as_rows(x, shape)[1], classes=classes, collate=collate)
    vars(split)["item"] = tuple(item)
    return split
