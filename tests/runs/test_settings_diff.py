"""In which settings runs differ."""

from __future__ import annotations

import pytest

from experiments.runs.settings_diff import changed, differing


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([{"a": 1, "b": 2}, {"a": 1, "b": 3}], ["b"]),
        ([{"a": 1}, {"a": 1, "b": None}], ["b"]),
        ([{"b": None}, {}], ["b"]),
        ([{"b": 1, "a": 1}, {"a": 2, "b": 2}], ["b", "a"]),
        ([{"a": 1}], []),
        ([], []),
    ],
)
def test_a_key_is_changed_where_values_differ_or_one_lacks_it(
    given: list[dict[str, object]], expected: list[str]
) -> None:
    assert changed(given) == expected


def test_arguments_that_the_chosen_option_settles_are_left_out() -> None:
    small, large = {"model": "mlp", "model.width": "8"}, {"model": "cnn", "model.width": "16"}
    assert differing([small, large]) == ["model"]
    assert differing([small, large, large | {"model.width": "32"}]) == ["model", "model.width"]
