"""`python -m experiments --again RUN`: a new run with the settings of another one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import raw_journal
from tests.support.commands import SMALL, command
from tests.support.forked import Ended

ONE = (*(setting for setting in SMALL if not setting.startswith("epochs")), "epochs=1", "seed=3")

SWEPT = "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      optim.lr: 0.5\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and a sweep of one job that an experiment makes."""
    folder = tmp_path_factory.mktemp("project")
    assert started(folder, *ONE, "hydra.run.dir=run").code == 0
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "swept.yaml").write_text(SWEPT, encoding="utf-8")
    assert started(folder, "--config-dir=conf", *ONE, "experiment=swept", "hydra.sweep.dir=sweep").code == 0
    return folder


def started(folder: Path, *arguments: str) -> Ended:
    """`python -m experiments ARGUMENT ...` in a folder."""
    return command(*arguments, before=lambda: os.chdir(folder))


def params(folder: Path) -> dict[str, str]:
    return dict(raw_journal.read(folder)[0]["params"])


def changed(one: Path, other: Path) -> dict[str, str]:
    """The settings of the other run that the one has not."""
    before = params(one)
    return {name: value for name, value in params(other).items() if before.get(name) != value}


def test_it_has_the_settings_of_that_run_and_the_changes(project: Path) -> None:
    done = started(project, "--again", "run", "seed=5", "hydra.run.dir=changed")
    assert done.code == 0, done
    assert changed(project / "run", project / "changed") == {"seed": "5"}
    assert "note:" not in done.err


def test_latest_names_a_run(project: Path) -> None:
    assert started(project, *ONE, "hydra.run.dir=newest", "seed=8").code == 0
    assert started(project, "optim.lr=0.25", "hydra.run.dir=after", "--again", "latest").code == 0
    assert changed(project / "newest", project / "after") == {"optim.lr": "0.25"}


def test_a_sweep_is_over_what_is_given(project: Path) -> None:
    done = started(project, "--again", "run", "-m", "seed=0,1", "hydra.sweep.dir=over")
    assert done.code == 0, done
    assert [changed(project / "run", project / "over" / job)["seed"] for job in ("0", "1")] == ["0", "1"]


def test_a_job_of_a_sweep_is_a_run_alone(project: Path) -> None:
    done = started(project, "--again", "sweep/0", "epochs=2", "hydra.run.dir=alone")
    assert done.code == 0, done
    assert changed(project / "sweep" / "0", project / "alone") == {"epochs": "2"}


def test_another_option_does_not_get_the_settings_of_the_former(project: Path) -> None:
    done = started(project, "--again", "run", "model=logistic", "hydra.run.dir=other")
    assert done.code == 0, done
    assert not [name for name in params(project / "other") if name in ("model.width", "model.dropout")]


def test_elsewhere_it_says_that_relative_paths_start_here(project: Path, tmp_path: Path) -> None:
    done = started(tmp_path, "--again", str(project / "run"), "hydra.run.dir=there")
    assert done.code == 0 and (tmp_path / "there" / "journal.jsonl").is_file()
    assert f"note: it was started in {project}; relative paths start here now" in done.err


def test_no_run_is_one_line(project: Path) -> None:
    done = started(project, "--again", "nowhere")
    assert done.code == 2 and done.err.startswith("error: nowhere: no run; ")
