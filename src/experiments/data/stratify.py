"""Split rows into training, validation and test parts, the same way every time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray

from experiments.errors import DataError

Indices = NDArray[np.int64]
ValidFraction = Annotated[float, Gt(0), Lt(1)]
TestFraction = Annotated[float, Ge(0), Lt(1)]
Seed = Annotated[int, Ge(0)]
Folds = Annotated[int, Ge(2)] | None
Fold = Annotated[int, Ge(0)] | None


@dataclass(frozen=True)
class Division:
    """The keys of a dataset that splits its rows: shares of all rows, or one of some equal folds for validation.

    `stratify` gives each part the same share of each class; None: where the targets are labels.
    """

    valid_fraction: float = 0.2
    test_fraction: float = 0.0
    seed: int = 0
    stratify: bool | None = None
    folds: int | None = None
    fold: int | None = None

    def parts(
        self, size: int, *, labels: NDArray[Any] | None = None, groups: NDArray[Any] | None = None
    ) -> dict[str, Indices]:
        """Return the rows of train, valid and perhaps test, ascending.

        Args:
            size: the number of rows.
            labels: the class of each row (size,); None for real targets.
            groups: the group of each row (size,), all of which go to one part. Shares are then of the groups, and a
                group has the class of its first row.

        Raises:
            DataError: the settings contradict each other, or the rows are too few.
        """
        places = np.arange(size) if groups is None else groups
        _, first, member = np.unique(places, return_index=True, return_inverse=True)
        self._require(len(first), "rows" if groups is None else "groups", labels)
        classes = np.zeros(len(first), int) if labels is None or self.stratify is False else labels[first]
        split = plain if labels is None or self.stratify is False else stratified
        rest, parts = np.arange(len(first)), {}
        if self.test_fraction:
            # A stream of its own, so that the test rows are not the ones that the validation would have without them.
            seed = int(np.random.SeedSequence([self.seed, 1]).generate_state(1)[0])
            rest, parts["test"] = split(classes, fraction=self.test_fraction, seed=seed)
        if self.folds is None:
            share = self.valid_fraction / (1 - self.test_fraction)
            train, valid = split(classes[rest], fraction=share, seed=self.seed)
        else:
            numbers = fold_numbers(classes[rest], self.folds, self.seed)
            train, valid = np.flatnonzero(numbers != self.fold), np.flatnonzero(numbers == self.fold)
        parts |= {"train": rest[train], "valid": rest[valid]}
        if empty := [part for part, units in parts.items() if not len(units)]:
            raise DataError(
                f"the {empty[0]} split has no rows, since the classes are too small; dataset.stratify=false"
            )
        return {part: np.flatnonzero(np.isin(member, units)) for part, units in parts.items()}

    def _require(self, count: int, units: str, labels: NDArray[Any] | None) -> None:
        least = (self.folds or 2) + (self.test_fraction > 0)
        problems = {
            f"there are {count} {units}; this split needs {least}": count < least,
            "dataset.stratify=true needs class labels; leave it null": self.stratify and labels is None,
            "dataset.folds and dataset.fold go together: -m dataset.folds=5 dataset.fold=0,1,2,3,4": (
                (self.folds is None) != (self.fold is None)
            ),
            f"dataset.fold={self.fold} is not a fold of dataset.folds={self.folds}, which are numbered from 0": (
                (self.fold or 0) >= (self.folds or 1)
            ),
            "dataset.valid_fraction and test_fraction leave no rows for training": (
                self.folds is None and self.valid_fraction + self.test_fraction >= 1
            ),
        }
        for problem in (problem for problem, present in problems.items() if present):
            raise DataError(problem)


def stratified(y: NDArray[Any], *, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Return the training and validation rows, ascending, with the same share of each class.

    Args:
        y: class labels (n,).
        fraction: the share of each class for validation, at least one row of a class that has two.
        seed: of the choice.
    """
    generator = np.random.default_rng(seed)
    valid = []
    for label in np.unique(y):
        rows = generator.permutation(np.flatnonzero(y == label))
        take = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        valid.append(rows[:take])
    return _complement(np.concatenate(valid), len(y))


def plain(y: NDArray[Any], *, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Return the training and validation rows, ascending, chosen without regard to their targets."""
    rows = np.random.default_rng(seed).permutation(len(y))
    return _complement(rows[: min(max(round(fraction * len(y)), 1), len(y) - 1)], len(y))


def fold_numbers(classes: NDArray[Any], folds: int, seed: int) -> Indices:
    """Return the fold of each row (n,): class by class, shuffled rows are dealt to the folds in turn."""
    order = np.random.default_rng(seed).permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    numbers = np.empty(len(classes), np.int64)
    numbers[order] = np.arange(len(classes)) % folds
    return numbers


def _complement(valid: Indices, size: int) -> tuple[Indices, Indices]:
    inside = np.zeros(size, dtype=bool)
    inside[valid] = True
    return np.flatnonzero(~inside), np.flatnonzero(inside)
