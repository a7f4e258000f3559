"""A run's description fits what MLflow shows."""

from __future__ import annotations

import pytest

from experiments.tracking.markdown import LONGEST, shown


@pytest.mark.parametrize("length", [10, LONGEST - 40, LONGEST, 3 * LONGEST])
def test_a_description_is_never_longer_than_what_mlflow_shows(length: int) -> None:
    text = "\n".join(["x" * 9] * (length // 10))
    note = shown(text, "The rest is elsewhere.", before="before\n", after="\nafter")
    assert len(note) <= LONGEST and note.startswith("before\n") and "\nafter" in note
    assert ("The rest is elsewhere." in note) == (text not in note)
