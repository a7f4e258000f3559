"""What a person sees on a terminal while something is done: signs of life, no garbled line, tables that fit."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("a terminal is made as on Unix", allow_module_level=True)

from tests.support import terminal

pytestmark = pytest.mark.slow

BUSY = 3.5  # seconds of work at most without a sign of life
SILENT = 30.0  # seconds on the clock, also on a machine that has hardly time for the command
DIGITS = ("dataset=digits", "device.threads=1", "tracking=none", "figures=false")
TRAINED = re.compile(r"epoch \d+  train/loss [\d.]+  train/accuracy [\d.]+  valid/loss [\d.]+  valid/accuracy [\d.]+")


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> terminal.Shown:
    folder = tmp_path_factory.mktemp("tutorial")
    shown = terminal.run(folder, "experiment=tutorial", "dataset=mnist_5k", "device.threads=1")
    assert shown.code == 0, shown.text
    return shown


def test_the_tutorial_is_never_silent(tutorial: terminal.Shown) -> None:
    assert tutorial.busy < BUSY
    assert tutorial.silent < SILENT


def test_each_phase_of_the_tutorial_has_a_live_line(tutorial: terminal.Shown) -> None:
    for title in ("loading", "checking 14 jobs", "job 12 of 14", "epoch 1 of 2", "comparing stages", "uploading"):
        assert title in tutorial.text, title
    assert re.search(r"loss \d\.\d{4}\x1b.* left|loss \d\.\d{4} +\d+\.\d s left", tutorial.text)


def test_nothing_of_the_live_lines_stays(tutorial: terminal.Shown) -> None:
    assert not [line for line in tutorial.screen if "━" in line or line.strip() in ("loading", "|", "/", "-", "\\")]


def test_the_tables_of_the_tutorial_fit_and_name_the_columns_left_out(tutorial: terminal.Shown) -> None:
    lines = tutorial.screen
    head = next(number for number, line in enumerate(lines) if line.startswith("stage  "))
    end = lines.index("", head)
    assert max(map(len, lines[head:end])) <= 80
    assert lines[end + 1].startswith("left out for the width: gain, valid/loss, seconds")


def test_a_stage_says_what_it_changes(tutorial: terminal.Shown) -> None:
    (title,) = [number for number, line in enumerate(tutorial.screen) if line.startswith("5: An optimiser from torch")]
    assert "`optim.SGD` makes the update" in " ".join(tutorial.screen[title : title + 2])


@pytest.mark.parametrize("launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.nightly)])
def test_jobs_side_by_side_have_one_live_line_and_whole_log_lines(launcher: str, tmp_path: Path) -> None:
    shown = terminal.run(tmp_path, "-m", *DIGITS, "seed=0,1", f"hydra/launcher={launcher}")
    assert shown.code == 0, shown.text
    assert "job 1 of 2" in shown.text
    assert "epoch 0 of 2" not in shown.text
    trained = [line for line in shown.screen if "train/loss" in line]
    assert all(re.fullmatch(rf"\[\d\] {TRAINED.pattern}  [\d.]+ s", line) for line in trained)
    assert len(trained) == (4 if launcher == "joblib" else 0)


def test_colours_are_left_out_where_no_color_asks_for_it(tmp_path: Path) -> None:
    shown = terminal.run(tmp_path, *DIGITS, NO_COLOR="1")
    assert "epoch 0" in shown.text
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown.text)


def test_a_terminal_without_control_codes_gets_plain_lines(tmp_path: Path) -> None:
    assert "\x1b" not in terminal.run(tmp_path, *DIGITS, TERM="dumb").text


def test_a_search_names_the_trial_and_the_best_so_far(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    space = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "optim.lr=interval(0.01,1)")
    shown = terminal.run(tmp_path, "-m", *DIGITS, *space)
    assert "trial 2 of 3" in shown.text
    said = [line for line in shown.screen if line.startswith("trial ")]
    assert all(
        re.fullmatch(r"trial [0-2]: \d\.\d{4}; best \d\.\d{4} of trial [0-2]; [0-2] left", line) for line in said
    )
    assert len(said) == 3
