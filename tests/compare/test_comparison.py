"""Runs side by side: which are meant, what differs, which is better, and what is said where that cannot be told."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.compare import __main__ as command
from experiments.compare import curves, rows, seeds
from experiments.compare.comparison import Comparison, Mode, compare
from experiments.compare.selection import choose
from experiments.errors import ConfigError
from experiments.tracking import journal
from tests.support.compared import run, sweep
from tests.support.places import Cli

METRIC = "valid/loss"


@pytest.fixture
def outputs(workplace: Path) -> Path:
    folder = workplace / "outputs"
    folder.mkdir()
    return folder


def laid(*names: str | Path, metric: str = METRIC, mode: Mode | None = None) -> Comparison:
    jobs, _ = choose([str(name) for name in names], Path("outputs"))
    return compare(jobs, metric, mode)


def columns(comparison: Comparison) -> list[str]:
    """The settings that differ."""
    return list(comparison.runs[0].settings)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    command.main(list(arguments))
    return capsys.readouterr().out


# Which runs are meant


def test_nothing_named_is_the_sweep_that_was_begun_or_gone_on_with_last(outputs: Path) -> None:
    run(sweep(outputs / "sweeps" / "a") / "0", [1.0])
    run(sweep(outputs / "sweeps" / "b") / "0", [2.0])
    run(outputs / "runs" / "c", [3.0])
    assert [item.best(METRIC) for item in laid().runs] == [(0, 2.0)]


def test_runs_are_named_by_folder_by_id_by_experiment_and_by_the_folder_above_each_once(outputs: Path) -> None:
    one, other = run(outputs / "runs" / "one", [1.0]), run(outputs / "runs" / "two", [2.0], experiment="mine")
    (other / "delivered.json").write_text(json.dumps({"run_id": "ab" * 16}), encoding="utf-8")
    assert [item.job.folder for item in laid(one).runs] == [one]
    assert [item.job.folder for item in laid("ab" * 16).runs] == [other]
    assert [item.job.folder for item in laid("mine").runs] == [other]
    assert [item.job.folder for item in laid("outputs/runs", "mine", one).runs] == [one, other]


def test_a_sweep_of_a_sweeper_that_keeps_no_plan_is_known_by_its_parent_run(outputs: Path) -> None:
    run(outputs / "x", [], tags={"experiments.sweep": "true"})
    run(outputs / "x" / "1", [2.0])
    run(outputs / "x" / "0", [1.0])
    assert [item.job.job for item in laid().runs] == ["0", "1"]


def test_jobs_of_several_sweeps_are_told_apart(outputs: Path) -> None:
    for name in "ab":
        run(sweep(outputs / name) / "0", [1.0])
    assert [item.job.job for item in laid("outputs/a", "outputs/b").runs] == ["a/0", "b/0"]


@pytest.mark.parametrize("name", ["nothing", "cd" * 16])
def test_an_unknown_name_is_told_with_what_there_is(name: str, outputs: Path) -> None:
    run(outputs / "runs" / "one", [1.0])
    with pytest.raises(ConfigError, match=name):
        laid(name)


def test_the_message_lists_sweeps_experiments_and_runs(outputs: Path) -> None:
    run(sweep(outputs / "sweeps" / "a") / "0", [1.0], experiment="mine")
    with pytest.raises(ConfigError) as caught:
        laid("x")
    assert str(caught.value) == (
        "x: no run, sweep or MLflow experiment; available: the latest of 1 sweeps: outputs/sweeps/a; "
        "MLflow experiments: mine; the latest of 1 runs: outputs/sweeps/a/0; or an MLflow run id"
    )


def test_without_any_sweep_one_has_to_be_named(outputs: Path) -> None:
    with pytest.raises(ConfigError, match="outputs: no sweep below it; .* no runs below outputs yet"):
        laid()


# What differs


def test_only_settings_that_differ_and_can_change_a_result_are_columns(outputs: Path) -> None:
    run(outputs / "a", [1.0], settings={"optim.lr": "0.1", "output_root": "x"}, identity={"optim.lr": "0.1"})
    run(outputs / "b", [2.0], settings={"optim.lr": "0.2", "output_root": "y"}, identity={"optim.lr": "0.2"})
    assert columns(laid("outputs")) == ["optim.lr"]
    assert [item.label for item in laid("outputs").runs] == ["optim.lr=0.1", "optim.lr=0.2"]


def test_what_a_stage_settles_is_no_column_but_what_was_said_beside_it_is(outputs: Path) -> None:
    run(outputs / "a", [1.0], settings={"optim.lr": "0.1", "epochs": "1"}, tags={"stage": "01"}, overrides=["epochs=1"])
    run(outputs / "b", [2.0], settings={"optim.lr": "0.2", "epochs": "2"}, tags={"stage": "02"}, overrides=["epochs=2"])
    assert columns(laid("outputs")) == ["stage", "epochs"]
    assert laid("outputs").runs[0].label == "01, epochs=1"


def test_where_the_data_lies_is_a_column_only_if_it_is_other_data(outputs: Path) -> None:
    for name, content in (("a", "1"), ("b", "1"), ("c", "2")):
        path = {"dataset.path": f"{name}.npz"}
        run(outputs / name, [1.0], settings=path, identity={"content of dataset": content})
    assert columns(laid("outputs/a", "outputs/b")) == []
    other = laid("outputs/a", "outputs/c")
    assert columns(other) == ["dataset.path"]
    assert "not all were trained and validated on the same data" in other.notes


def test_other_code_machines_and_losses_are_noted(outputs: Path) -> None:
    run(outputs / "a", [1.0], identity={"code of model.mlp": "1", "machine.threads": 1})
    run(outputs / "b", [2.0], settings={"loss.name": "mse"}, identity={"code of model.mlp": "2", "machine.threads": 2})
    assert laid("outputs").notes == [
        "valid/loss is one measure only if these losses are: cross_entropy, mse",
        "the source code of model.mlp differs between runs",
        "machine.threads differs: 1, 2",
    ]


# Best, last, change


def test_the_best_of_an_accuracy_is_the_largest_and_of_a_loss_the_smallest(outputs: Path) -> None:
    item = laid(run(outputs / "a", [0.5, 0.3, 0.4], accuracies=[0.7, 0.9, 0.8])).runs[0]
    assert (item.best(METRIC), item.last(METRIC)) == ((1, 0.3), 0.4)
    assert (item.best("valid/accuracy"), item.last("valid/accuracy")) == ((1, 0.9), 0.8)


def test_a_loss_that_is_no_number_is_never_the_best(outputs: Path) -> None:
    item = laid(run(outputs / "a", [math.nan, 0.5, math.inf])).runs[0]
    assert item.best(METRIC) == (1, 0.5)


@pytest.mark.parametrize(
    ("first", "other", "metric", "expected"),
    [
        (0.4, 0.3, METRIC, "-0.1000 (-25.0%)"),
        (0.4, 0.5, METRIC, "+0.1000 (+25.0%)"),
        (0.8, 0.9, "valid/accuracy", "+0.1000 (+12.5%)"),
        (0.4, 0.4, METRIC, "the same"),
        (0.4, 0.4 + 1e-9, METRIC, "same to 1e-09"),
        (0.0, 0.5, METRIC, "+0.5000"),
    ],
)
def test_the_change_against_the_first(first: float, other: float, metric: str, expected: str, outputs: Path) -> None:
    for name, value in (("a", first), ("b", other)):
        run(outputs / name, [value], metric=metric, settings={"optim.lr": name})
    comparison = laid("outputs", metric=metric)
    assert rows.change(comparison.runs[0], comparison.runs[1], metric) == expected
    assert rows.change(comparison.runs[0], comparison.runs[0], metric) == "-"


@pytest.mark.parametrize(
    ("metric", "mode", "best"),
    [
        ("train/loss", None, 0.3),
        ("valid/mean_absolute_error", None, 0.3),
        ("time/validation_seconds", None, 0.3),
        ("valid/accuracy", None, 0.9),
        ("throughput/samples_per_second", None, 0.9),
        ("valid/top_k", "max", 0.9),
        ("valid/top_k", "min", 0.3),
        ("valid/loss", "max", 0.9),
    ],
)
def test_which_value_is_best_is_what_a_metrics_name_tells_or_what_is_said(
    metric: str, mode: Mode | None, best: float, outputs: Path
) -> None:
    for name, value in (("a", 0.3), ("b", 0.9)):
        run(outputs / name, [value], metric=metric, settings={"optim.lr": name})
    comparison = laid("outputs", metric=metric, mode=mode)
    assert comparison.best.best(metric) == (0, best)
    assert rows.headline(comparison).startswith(f"{'lowest' if best == 0.3 else 'highest'} {metric}: ")


def test_a_metric_whose_name_does_not_tell_which_value_is_best_is_asked_for_it(outputs: Path) -> None:
    run(outputs / "a", [0.5], metric="valid/top_k")
    with pytest.raises(ConfigError) as caught:
        laid("outputs", metric="valid/top_k")
    problem = "its name does not show whether less or more of it is better; add --mode min or --mode max"
    assert str(caught.value) == f"--metric valid/top_k: {problem}"


def test_the_mode_that_is_said_holds_for_groups_and_page(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, (first, other) in enumerate([(0.3, 0.9), (0.4, 0.8)]):
        for name, value in (("a", first), ("b", other)):
            run(outputs / f"{name}{seed}", [value], seed=seed, metric="valid/top_k", settings={"model.name": name})
    out = told(capsys, "outputs", "--metric", "valid/top_k", "--mode", "max", "--html", "page.html")
    assert "highest mean valid/top_k: model=b, 0.8500; against the first, model=a: undecided: +0.5000 [" in out
    assert "valid/top_k: larger is better" in Path("page.html").read_text(encoding="utf-8")


def test_the_best_figure_is_told_in_full(outputs: Path) -> None:
    run(outputs / "a", [1 / 3], settings={"optim.lr": "1"})
    run(outputs / "b", [2 / 7], settings={"optim.lr": "2"})
    assert rows.headline(laid("outputs")) == (
        f"lowest valid/loss: optim.lr=2, {2 / 7!r} at epoch 0; -0.0476 (-14.3%) against the first, optim.lr=1"
    )


# Runs that are not as one would wish


@pytest.mark.parametrize(
    ("sizes", "shown"), [(("7850", "5238"), ["7,850", "5,238"]), (("10", "10"), []), (("10", None), ["10", "-"])]
)
def test_the_models_parameters_are_shown_where_they_differ(
    sizes: Sequence[str | None], shown: list[str], outputs: Path
) -> None:
    for name, size in zip("ab", sizes, strict=True):
        tags = {"experiments.parameters": size} if size else {}
        run(outputs / name, [0.5], settings={"optim.lr": name}, tags=tags)
    assert [row["parameters"] for row in rows.rows(laid("outputs")) if "parameters" in row] == shown


def test_failed_unfinished_and_never_begun_jobs_are_rows_with_their_reason(outputs: Path) -> None:
    folder = sweep(outputs / "s")
    run(folder / "0", [0.5], settings={"optim.lr": "1"})
    run(folder / "1", [], status="FAILED", settings={"optim.lr": "2"})
    run(folder / "2", [0.4], status=None, settings={"optim.lr": "3"})
    (folder / "3" / ".hydra").mkdir(parents=True)
    (folder / "3" / ".hydra" / "overrides.yaml").write_text("- optim.lr=4\n", encoding="utf-8")
    comparison = laid("outputs/s")
    table = rows.rows(comparison)
    assert [row["status"] for row in table] == ["FINISHED", "FAILED", "RUNNING", "FAILED"]
    assert [row["optim.lr"] for row in table] == ["1", "2", "3", "4"]
    assert [row["best\n= last\nvalid/loss"] for row in table] == ["0.5000", "-", "0.4000", "-"]
    assert comparison.notes == [
        "optim.lr=2 is FAILED: it broke",
        "optim.lr=3 is RUNNING",
        "optim.lr=4 is FAILED: it never started",
    ]


def test_a_setting_whose_only_job_never_began_is_told_as_what_differs(outputs: Path) -> None:
    folder = sweep(outputs / "s")
    run(folder / "0", [0.5])
    (folder / "1" / ".hydra").mkdir(parents=True)
    (folder / "1" / ".hydra" / "overrides.yaml").write_text("- model=cnn\n", encoding="utf-8")
    assert [item.label for item in laid("outputs/s").runs] == ["model=mlp", "model=cnn"]


def test_one_run_alone_is_a_row_and_a_note(outputs: Path) -> None:
    assert laid(run(outputs / "a", [0.5])).notes == ["one run only: there is nothing to compare it with"]


def test_runs_without_an_epoch_cannot_be_compared(outputs: Path) -> None:
    run(outputs / "a", [], status="KILLED")
    run(outputs / "b", [], status=None)
    with pytest.raises(ConfigError, match="no run has finished an epoch: a KILLED, b RUNNING"):
        laid("outputs")


def test_runs_with_no_metric_in_common_are_told_with_theirs(outputs: Path) -> None:
    for name in "ab":
        written = journal.Journal(outputs / name)
        written.start(name=name, experiment="e", tags={}, params={})
        written.metrics({"train/loss" if name == "a" else METRIC: 1.0}, 0)
        written.end("FINISHED")
    with pytest.raises(ConfigError, match="no metric in common: a has train/loss; b has valid/loss"):
        laid("outputs")


def test_an_unknown_metric_is_told_with_those_there_are(outputs: Path) -> None:
    run(outputs / "a", [1.0])
    with pytest.raises(
        ConfigError, match=r"--metric valid/los: no run has this metric; did you mean 'valid/loss'\? available: time/"
    ):
        laid("outputs", metric="valid/los")


def test_a_metric_that_is_finite_in_no_run_is_told(outputs: Path) -> None:
    for name in "ab":
        run(outputs / name, [math.nan, math.inf], settings={"optim.lr": name})
    with pytest.raises(ConfigError) as caught:
        laid("outputs")
    assert str(caught.value) == "--metric valid/loss: no run has a finite value of it"


def test_runs_that_have_no_finite_value_or_end_without_one_are_noted(outputs: Path) -> None:
    for name, losses in (("a", [0.5]), ("b", [math.nan]), ("c", [0.4, math.inf])):
        run(outputs / name, losses, settings={"optim.lr": name})
    assert laid("outputs").notes == ["optim.lr=b has no finite valid/loss", "optim.lr=c ended with valid/loss inf"]


def test_a_damaged_journal_is_a_run_of_which_nothing_is_known(outputs: Path) -> None:
    run(outputs / "a", [0.5])
    (outputs / "b").mkdir()
    (outputs / "b" / journal.FILE).write_bytes(b"\x00\xff not a journal\n")
    assert [row["status"] for row in rows.rows(laid("outputs"))] == ["RUNNING", "FINISHED"]


# Seeds


def test_runs_that_differ_by_seed_alone_are_one_group_with_mean_and_spread(outputs: Path) -> None:
    for seed, loss in enumerate((0.4, 0.5, 0.6)):
        run(outputs / f"a{seed}", [loss], seed=seed)
    (row,) = seeds.rows(seeds.groups(laid("outputs")), [METRIC])
    assert row == {
        "runs alike but\nfor the seed": "all",
        "runs": "3",
        "valid/loss\nmean": "0.5000",
        "valid/loss\nsd": "0.1000",
        "minus the first": "",
    }


@pytest.mark.parametrize(
    ("fact", "labels"),
    [
        ("code of model.mlp", ["code of model.mlp 1 of 2", "code of model.mlp 2 of 2"]),
        ("content of dataset", ["content of dataset 1 of 2", "content of dataset 2 of 2"]),
        ("machine.threads", ["all"]),
    ],
)
def test_runs_of_other_code_or_data_are_another_group_and_those_of_other_machines_are_not(
    fact: str, labels: list[str], outputs: Path
) -> None:
    for version in "ab":
        for seed in range(2):
            run(outputs / f"{version}{seed}", [0.5], seed=seed, identity={fact: version, "seeds.init": seed})
    found = seeds.groups(laid("outputs"))
    assert [(group.label, len(group.runs)) for group in found] == [(label, 2) for label in labels]


def test_of_groups_that_their_settings_tell_apart_no_other_code_is_told(outputs: Path) -> None:
    for name in "ab":
        identity = {"optim.lr": name, "code of model.mlp": name}
        run(outputs / name, [0.5], settings={"optim.lr": name}, identity=identity)
    assert [group.label for group in seeds.groups(laid("outputs"))] == ["optim.lr=a", "optim.lr=b"]


def test_groups_with_the_same_seeds_are_compared_pair_by_pair(outputs: Path) -> None:
    sweep(outputs / "s", seeds=10)
    comparison = laid("outputs/s")
    (verdict,) = seeds.verdicts(seeds.groups(comparison), METRIC)
    assert re.fullmatch(
        r"better: -0\.0[45]\d\d \[-0\.0[56]\d\d, -0\.0[34]\d\d\] \(95 %, 10 seeds, paired\)", verdict.text
    )
    assert rows.headline(comparison).startswith("lowest mean valid/loss: model=cnn, 0.")


def of_seeds(outputs: Path, name: str, losses: list[float], first_seed: int = 0) -> None:
    for seed, loss in enumerate(losses, first_seed):
        run(outputs / f"{name}{seed}", [loss], seed=seed, settings={"model.name": name})


def verdict_of(outputs: Path) -> seeds.Verdict:
    return seeds.verdicts(seeds.groups(laid("outputs")), METRIC)[0]


def test_groups_of_other_seeds_are_compared_as_wholes(outputs: Path) -> None:
    of_seeds(outputs, "a", [0.40, 0.41, 0.42])
    of_seeds(outputs, "b", [0.60, 0.61, 0.63], first_seed=10)
    assert re.fullmatch(r"worse: \+0\.2033 \[.*\] \(95 %, 3 seeds, unpaired\)", verdict_of(outputs).text)


def test_too_few_seeds_are_told_with_how_many_are_needed(outputs: Path) -> None:
    of_seeds(outputs, "a", [0.40, 0.41, 0.42])
    of_seeds(outputs, "b", [0.40, 0.39, 0.39])
    assert verdict_of(outputs).text == ("undecided: -0.0167 [-0.0546, +0.0213] (95 %, 3 seeds, paired, about 9 needed)")


def test_a_difference_that_no_sensible_number_of_seeds_would_show_is_told_as_that(outputs: Path) -> None:
    of_seeds(outputs, "a", [0.40, 0.50, 0.60])
    of_seeds(outputs, "b", [0.60, 0.50, 0.401])
    assert "more than 100 needed" in verdict_of(outputs).text


def test_groups_that_are_the_same_in_each_seed_are_told_as_that(outputs: Path) -> None:
    of_seeds(outputs, "a", [0.40, 0.50])
    of_seeds(outputs, "b", [0.40, 0.50])
    assert verdict_of(outputs).text == "no difference in any run (2 seeds, paired)"


def test_one_run_each_tells_nothing_about_seeds(outputs: Path) -> None:
    of_seeds(outputs, "a", [0.4])
    of_seeds(outputs, "b", [0.3])
    comparison = laid("outputs")
    assert verdict_of(outputs).text == "no verdict from one run of model=a"
    assert seeds.notes(seeds.groups(comparison), METRIC) == [
        "one run each: a difference may be the seed's; to find out, train several: -m seed=0,1,2"
    ]


def test_a_seed_that_was_run_twice_counts_once_and_an_unfinished_run_not_at_all(outputs: Path) -> None:
    of_seeds(outputs, "a", [0.4, 0.5])
    run(outputs / "z", [0.4], seed=0, settings={"model.name": "a"})
    run(outputs / "zz", [0.1], seed=7, status="KILLED", settings={"model.name": "a"})
    (group,) = seeds.groups(laid("outputs"))
    assert (len(group.runs), group.left_out) == (2, 2)
    assert "left out of the means" in seeds.notes([group], METRIC)[0]


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([0.3, 0.42, math.nan], r"better: -0\.1900 \[.*\] \(95 %, 2 seeds, paired\)"),
        ([0.3, math.inf, math.nan], "no verdict from one run of model=b"),
        ([math.inf, math.inf, math.nan], "no run of model=b has a finite value"),
    ],
)
def test_last_values_that_are_not_finite_tell_nothing_about_seeds(
    ends: list[float], expected: str, outputs: Path
) -> None:
    of_seeds(outputs, "a", [0.5, 0.6, 0.7])
    for seed, end in enumerate(ends):
        run(outputs / f"b{seed}", [0.2, end], seed=seed, settings={"model.name": "b"})
    (verdict,) = seeds.verdicts(seeds.groups(laid("outputs")), METRIC, last=True)
    assert re.fullmatch(expected, verdict.text)


def test_a_verdict_that_only_holds_for_the_best_epochs_is_told_as_that(outputs: Path) -> None:
    for name, losses in (("a", [[0.5, 0.5], [0.51, 0.5], [0.5, 0.52]]), ("b", [[0.3, 0.7], [0.31, 0.4], [0.3, 0.5]])):
        for seed, curve in enumerate(losses):
            run(outputs / f"{name}{seed}", curve, seed=seed, settings={"model.name": name})
    (note,) = seeds.notes(seeds.groups(laid("outputs")), METRIC)
    assert note.startswith("model=b by its last epochs, not its best ones: undecided: ")


# Curves


@pytest.mark.parametrize(
    ("axis", "expected"), [("epoch", [0, 1]), ("samples", [100, 200]), ("seconds", [1.5, 3.0])]
)  # fmt: skip
def test_the_axis_of_the_curves(axis: str, expected: list[float], outputs: Path) -> None:
    item = laid(run(outputs / "a", [0.5, 0.4])).runs[0]
    assert [x for x, _ in curves.points(item, METRIC, axis)] == expected


def test_samples_are_those_that_limit_batches_leaves(outputs: Path) -> None:
    item = laid(run(outputs / "a", [0.5, 0.4], settings={"limit_batches": "3"})).runs[0]
    assert [x for x, _ in curves.points(item, METRIC, "samples")] == [30, 60]


def test_runs_whose_figures_are_the_same_share_a_curve(outputs: Path) -> None:
    for name, loss in (("a", 0.5), ("b", 0.5 + 1e-9), ("c", 0.4)):
        run(outputs / name, [loss], settings={"optim.lr": name})
    drawn = curves.curves(laid("outputs"), "epoch")
    assert [curve.names for curve in drawn] == [["optim.lr=a", "optim.lr=b"], ["optim.lr=c"]]


def test_names_are_letters_and_never_formulas(outputs: Path, recwarn: pytest.WarningsRecorder) -> None:
    for name in (r"_$\frac{1}{0}$ $x$", "<script>", r"$\alpha$"):
        run(outputs / str(len(list(outputs.iterdir()))), [0.5 + len(name)], tags={"stage": name})
    drawn = curves.svg(laid("outputs"), METRIC, "epoch")
    assert r"_$\frac{1}{0}$ $x$" in drawn  # matplotlib writes each text beside its outlines
    assert "&lt;script&gt;" in drawn and "<script" not in drawn
    assert not recwarn.list


def test_the_legend_of_long_names_is_as_wide_as_the_picture_at_most(outputs: Path) -> None:
    for number in range(5):
        run(outputs / str(number), [0.5 + number], tags={"stage": f"model=cnn_adaptive optim=sgd_momentum{number}" * 2})
    figure = curves.figure(laid("outputs"), [METRIC, METRIC], "epoch")
    figure.draw_without_rendering()
    legend, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert legend.x0 >= 0 and legend.x1 <= whole.x1


def test_of_very_many_runs_the_first_and_the_best_are_drawn(outputs: Path) -> None:
    for number in range(40):
        run(outputs / f"{number:02d}", [1.0 + number if number else 99.0], settings={"optim.lr": str(number)})
    names = [curve.names[0] for curve in curves.curves(laid("outputs"), "epoch")]
    assert names == [f"optim.lr={number}" for number in range(curves.MOST)]


# The command


def test_the_command_prints_table_verdict_picture_and_page(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(outputs / "s", seeds=3)
    lines = told(capsys, "--html", "page.html", "--axis", "seconds").splitlines()
    assert lines[0].split() == ["run", "model", "seed", "best", "seconds", "minus"]
    picture = Path(next(line for line in lines if line.startswith("curves ")).split()[1])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert Path("page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_command_speaks_the_language_of_its_runs_or_the_one_that_is_asked_for(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, loss in (("a", 0.5), ("b", 0.4)):
        run(outputs / name, [loss], settings={"optim.lr": name})
        (outputs / name / "config.yaml").write_text("language: uz\n", encoding="utf-8")
    assert "eng past valid/loss: optim.lr=b" in told(capsys, "outputs")
    assert "lowest valid/loss: optim.lr=b" in told(capsys, "outputs", "--language", "en")


def test_tables_of_groups_fit_a_terminal(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(outputs / "s", seeds=3)
    for language in ("en", "uz"):
        out = told(capsys, "--language", language)
        tables = [block for block in out.split("\n\n") if "---" in block]
        assert len(tables) == 2 and max(len(line) for table in tables for line in table.splitlines()) <= 80


def test_the_command_links_to_mlflows_own_comparison_of_the_metric(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate("ab"):
        folder = run(outputs / name, [0.5], accuracies=[0.5], store="sqlite:////there/mlflow.db")
        state = {"store": "sqlite:////there/mlflow.db", "run_id": str(number) * 32, "experiment_id": "1"}
        (folder / "delivered.json").write_text(json.dumps(state), encoding="utf-8")
    run(outputs / "c", [0.5], accuracies=[0.5], store="sqlite:////there/mlflow.db")
    lines = told(capsys, "outputs", "--metric", "valid/accuracy").splitlines()
    (link,) = [line for line in lines if line.startswith("MLflow ")]
    assert "0" * 32 in link and "1" * 32 in link and "valid%2Faccuracy" in link
    assert lines[-2] == "        (start the UI first: python -m experiments.ui --uri sqlite:////there/mlflow.db)"
    assert lines[-1] == "1 of 3 runs are not in MLflow; upload them: python -m experiments.sync"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "error: nothing: no run, sweep or MLflow experiment; "),
        (["--html", "no/page.html"], "error: --html no/page.html: "),
        (["--html", "outputs"], "error: --html outputs: "),
        (["--output-root", "there"], "error: there: no sweep below it; "),
    ],
)
def test_a_mistake_is_one_message_with_exit_code_2_and_leaves_nothing(
    arguments: list[str], message: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(sweep(outputs / "s") / "0", [0.5])
    before = sorted(outputs.parent.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1
    assert sorted(outputs.parent.rglob("*")) == before


def test_the_command_imports_neither_torch_nor_mlflow(outputs: Path, cli: Cli) -> None:
    sweep(outputs / "s", seeds=2)
    done = cli("--html", "page.html", module="experiments.compare", options=("-X", "importtime"))
    assert done.returncode == 0
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "scipy" in imported and not imported & {"torch", "mlflow"}


def test_a_reader_who_has_read_enough_is_no_fault(outputs: Path) -> None:
    sweep(outputs / "s", seeds=2)
    command = f"{shlex.quote(sys.executable)} -m experiments.compare --html page.html | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("page.html").is_file()


# Groups over another key than the seed


def folds(outputs: Path, model: str, losses: Sequence[float], *, data: str = "") -> None:
    """A run of each fold; each fold has other data."""
    for fold, loss in enumerate(losses):
        settings = {"model.name": model, "dataset.fold": str(fold), "seed": "0"}
        identity = {**settings, "content of dataset": f"{data}{fold}"}
        run(outputs / model / str(fold), [loss], settings=settings, identity=identity)


def over(outputs: Path, *keys: str) -> Comparison:
    jobs, _ = choose([str(outputs)], Path("outputs"))
    return compare(jobs, METRIC, over=keys)


def test_folds_are_one_group_of_other_data_and_are_paired(outputs: Path) -> None:
    folds(outputs, "a", [0.1, 0.5, 0.9])
    folds(outputs, "b", [0.2, 0.61, 1.0])
    comparison = over(outputs, "dataset.fold")
    groups = seeds.groups(comparison)
    assert [(group.label, len(group.runs)) for group in groups] == [("model=a", 3), ("model=b", 3)]
    assert re.fullmatch(r"worse: \+0\.1033 \[.*\] \(95 %, 3 folds, paired\)", seeds.verdicts(groups, METRIC)[0].text)
    assert rows.headline(comparison) == "lowest mean valid/loss: model=a, 0.5000"  # not the easiest fold's
    assert not any(note.startswith("not all were trained") for note in comparison.notes)


def test_folds_whose_data_changed_between_groups_are_told(outputs: Path) -> None:
    folds(outputs, "a", [0.1, 0.5])
    folds(outputs, "b", [0.2, 0.6], data="other")
    assert any(note.startswith("not all were trained") for note in over(outputs, "dataset.fold").notes)


def test_runs_of_a_fold_with_other_data_are_another_group(outputs: Path) -> None:
    folds(outputs, "a", [0.1, 0.5])
    settings = {"model.name": "a", "dataset.fold": "0", "seed": "1"}
    run(outputs / "c", [0.3], settings=settings, identity={**settings, "content of dataset": "changed"})
    labels = {item.group for item in over(outputs, "dataset.fold").runs}
    assert labels == {f"content of dataset {number} of 3" for number in (1, 2, 3)}


def test_seeds_and_folds_together_are_runs(outputs: Path) -> None:
    for seed in "01":
        for fold in "01":
            settings = {"dataset.fold": fold, "seed": seed}
            run(outputs / (seed + fold), [float(fold) + int(seed)], settings=settings, identity=settings)
    comparison = over(outputs, "dataset.fold")
    (group,) = seeds.groups(comparison)
    assert (len(group.runs), set(group.over)) == (4, {"dataset.fold", "seed"})
    assert seeds.rows([group], [METRIC])[0]["runs alike but\nfor seed, dataset.fold"] == "all"


@pytest.mark.parametrize("key", ["fold", "dataset.folds"])
def test_an_unknown_key_is_refused_with_the_nearest(outputs: Path, key: str) -> None:
    folds(outputs, "a", [0.1, 0.5])
    with pytest.raises(ConfigError, match=f"--over {key}: no run has this setting; did you mean 'dataset.fold'"):
        over(outputs, key)


def test_a_key_that_does_not_vary_is_told(outputs: Path) -> None:
    folds(outputs, "a", [0.1, 0.5])
    assert "model.name is the same in all runs" in over(outputs, "dataset.fold", "model.name").notes


def test_the_command_and_the_page_name_the_folds(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folds(outputs, "a", [0.1, 0.5])
    folds(outputs, "b", [0.2, 0.6])
    text = told(capsys, str(outputs), "--over", "dataset.fold", "--html", "page.html")
    assert "folds" in text
    assert "Runs that differ by dataset.fold alone are one group" in Path("page.html").read_text()
