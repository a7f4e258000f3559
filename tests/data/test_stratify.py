"""Splits by fraction, class, group and fold: what is promised of each, against plain loops."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from experiments.data.stratify import Division, plain, stratified
from experiments.errors import DataError

Y = np.repeat([0, 1, 2], [30, 20, 10])
GROUPS = np.arange(60) // 4


def test_a_fraction_is_the_split_of_before() -> None:
    for labels, function in ((Y, stratified), (None, plain)):
        parts = Division(0.2, seed=3).parts(60, labels=labels)
        train, valid = function(Y, fraction=0.2, seed=3)
        assert parts["train"].tolist() == train.tolist()
        assert parts["valid"].tolist() == valid.tolist()


@pytest.mark.parametrize("labels", [None, Y])
@pytest.mark.parametrize("groups", [None, GROUPS])
def test_each_row_is_in_one_part(labels: Any, groups: Any) -> None:
    parts = Division(0.2, 0.2).parts(60, labels=labels, groups=groups)
    assert sorted(np.concatenate([*parts.values()]).tolist()) == list(range(60))


@pytest.mark.parametrize("labels", [None, Y])
@pytest.mark.parametrize("groups", [None, GROUPS])
def test_each_row_is_for_validation_in_one_fold(labels: Any, groups: Any) -> None:
    valid = [Division(folds=5, fold=fold).parts(60, labels=labels, groups=groups)["valid"] for fold in range(5)]
    assert sorted(np.concatenate(valid).tolist()) == list(range(60))


def test_folds_have_the_same_share_of_each_class() -> None:
    for fold in range(5):
        valid = Division(folds=5, fold=fold).parts(60, labels=Y)["valid"]
        assert Counter(Y[valid].tolist()) == {0: 6, 1: 4, 2: 2}


def test_a_group_is_in_one_part() -> None:
    for division in (Division(0.3, 0.2), Division(folds=3, fold=1)):
        parts = division.parts(60, labels=Y, groups=GROUPS)
        found = [set(GROUPS[rows].tolist()) for rows in parts.values()]
        assert sum(map(len, found)) == len(set.union(*found))


def test_the_test_rows_are_the_same_in_each_fold() -> None:
    parts = [Division(test_fraction=0.2, folds=4, fold=fold).parts(60, labels=Y)["test"].tolist() for fold in range(4)]
    assert len(parts[0]) == 12
    assert all(each == parts[0] for each in parts)


@pytest.mark.parametrize(
    ("division", "reason"),
    [
        (Division(folds=5), "go together"),
        (Division(fold=1), "go together"),
        (Division(folds=5, fold=5), "fold=5 is not a fold"),
        (Division(0.6, 0.4), "no rows for training"),
        (Division(stratify=True), "needs class labels"),
        (Division(folds=61, fold=0), "there are 60 rows; this split needs 61"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(division: Division, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        division.parts(60)
