"""A run's name and tags, as MLflow shows them."""

from __future__ import annotations

from importlib.metadata import distributions
from pathlib import Path

import pytest
import torch

from experiments.config import check
from experiments.errors import ConfigError
from experiments.runs import metadata
from experiments.runs.metadata import Job


def name(*overrides: str, varied: tuple[str, ...]) -> str:
    choices = {"model": "cnn", "optim": "adam", "stage": "10_cnn"}
    return metadata.run_name(Job(Path("run"), choices, overrides, varied), None)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("optim.lr=0.1", "model=cnn"), "lr=0.1 cnn"),
        (("stage=10_cnn",), "10_cnn"),
        (("++model.width=8", "seed=3"), "width=8 seed=3"),
        (("model.width=8", "loss.width=4"), "model.width=8 loss.width=4"),
    ],
)
def test_a_job_is_named_by_what_varies_in_short(overrides: tuple[str, ...], expected: str) -> None:
    varied = tuple(word.lstrip("+").split("=")[0] for word in overrides)
    assert name(*overrides, "epochs=2", varied=varied) == expected


def test_the_environment_has_every_installed_version() -> None:
    expected = {each.metadata["Name"]: each.version for each in [*distributions()][::-1]}  # the first of a name counts
    installed = metadata.environment(torch.device("cpu"))["installed"]
    assert installed == expected
    assert [*installed] == sorted(installed, key=str.lower)


@pytest.mark.parametrize("tracking", ["none", "mlflow"])
def test_the_patch_can_be_switched_off_whatever_the_tracking(tracking: str) -> None:
    given = [f"tracking={tracking}", "dataset=digits"]
    assert check.configured(given).root.tracking.patch
    assert not check.configured([*given, "tracking.patch=false"]).root.tracking.patch


def test_own_tags_from_the_command_line_are_texts() -> None:
    root = check.configured(["tags.paper=draft", "tags.part.figure=3", "dataset=digits"]).root
    tags = metadata.tags(Job(Path("run")), "key", root.tags)
    assert (tags["paper"], tags["part.figure"]) == ("draft", "3")


def test_own_tags_may_be_one_mapping() -> None:
    given = check.configured(["tags={paper: draft}", "tags.figure=3", "dataset=digits"]).root.tags
    assert given == {"paper": "draft", "figure": 3}


@pytest.mark.parametrize("name", ["mlflow.user", "experiments.run_key", "model", "stage"])
def test_a_reserved_tag_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"the tag '{name}' is set by the framework"):
        check.configured([f"tags.{name}=mine", "dataset=digits"])


@pytest.mark.parametrize("value", ["null", "'" + "x" * 5001 + "'"])
def test_a_tag_that_mlflow_cannot_hold_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="the tag 'paper' should have a text"):
        check.configured([f"tags.paper={value}", "dataset=digits"])
