"""Verdicts against a baseline: how often they are right, what they are called, the exit codes, the JSON record."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments.compare import __main__ as command
from experiments.compare import answers, seeds, statistics
from experiments.compare.comparison import Comparison
from experiments.compare.seeds import Group
from experiments.compare.selection import choose
from experiments.config.language import Language
from tests.compare.test_seeds import METRIC, group
from tests.support.commands import SMALL
from tests.support.commands import command as run_command
from tests.support.compared import run
from tests.support.forked import forked

SEEDS, SPREAD = 8, 0.02


# How often they are right


def family(rng: np.random.Generator, *shifts: float, seeds: int = SEEDS, same: bool = True) -> list[Group]:
    """A first group and others, off by so much; with the same seeds, runs of a seed share a part."""
    shared = rng.normal(0, 0.05, seeds)
    return [
        group(f"g{number}", 0.5 + shift + (shared if same else 0) + rng.normal(0, SPREAD, seeds), "min", 0)
        if same
        else group(f"g{number}", 0.5 + shift + rng.normal(0, SPREAD, seeds), "min", 100 * number)
        for number, shift in enumerate((0.0, *shifts))
    ]


def directions(groups: list[Group]) -> list[int]:
    return [verdict.direction for verdict in seeds.verdicts(groups, METRIC)]


@pytest.mark.parametrize("same", [True, False])
def test_of_200_changes_of_the_seed_alone_at_most_5_percent_are_called_improved(same: bool) -> None:
    rng = np.random.default_rng(3)
    found = [directions(family(rng, 0.0, same=same))[0] for _ in range(200)]
    assert found.count(1) <= 10 and found.count(-1) <= 10


@pytest.mark.parametrize("same", [True, False])
def test_a_difference_of_two_spreads_is_found_with_eight_seeds_nine_times_in_ten(same: bool) -> None:
    rng = np.random.default_rng(4)
    found = [directions(family(rng, -2 * SPREAD, same=same))[0] for _ in range(200)]
    assert found.count(1) >= 180 and found.count(-1) == 0


def families(count: int) -> np.ndarray:
    """Values of families of no effect: (families, a first group and five others, seeds)."""
    rng = np.random.default_rng(1)
    return 0.5 + rng.normal(0, 0.05, (count, 1, SEEDS)) + rng.normal(0, SPREAD, (count, 6, SEEDS))


def test_of_families_of_five_at_most_5_percent_have_any_verdict_that_is_wrong() -> None:
    values = families(4000)
    p = stats.ttest_rel(values[:, 1:], values[:, :1], axis=-1).pvalue
    wrong = [any(one < level for one, level in zip(each, statistics.holm(each), strict=True)) for each in p]
    assert np.mean(wrong) <= 0.05
    assert np.mean((p < 0.05).any(axis=1)) > 0.12  # without a correction


def test_the_groups_of_such_families_are_judged_by_just_that() -> None:
    for values in families(400)[::8]:
        p = stats.ttest_rel(values[1:], values[:1], axis=-1).pvalue
        found = directions([group(f"g{number}", each, "min") for number, each in enumerate(values)])
        assert [bool(each) for each in found] == list(adjusted(p) < 0.05)


def test_a_minimal_effect_of_the_true_size_is_claimed_in_at_most_5_percent() -> None:
    rng, found = np.random.default_rng(5), []
    for _ in range(200):
        pair = family(rng, -2 * SPREAD)
        found += directions([Group(g.label, g.runs, 0, (), 2 * SPREAD) for g in pair])
    assert found.count(1) <= 10 and found.count(-1) == 0


# Holm


def adjusted(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's adjusted p values, as textbooks have them: the running maximum of (k - i) p(i)."""
    p = np.asarray(p_values)
    order = p.argsort(kind="stable")
    found = np.empty(len(p))
    found[order] = np.minimum(1, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    return found


@pytest.mark.parametrize("number", range(40))
def test_holms_levels_decide_what_adjusted_p_values_decide(number: int) -> None:
    rng = np.random.default_rng(number)
    p = rng.uniform(0, 1, rng.integers(1, 9)) ** rng.integers(1, 9)
    levels = statistics.holm(list(p))
    assert [one < level for one, level in zip(p, levels, strict=True)] == list(adjusted(p) < 1 - statistics.LEVEL)


@pytest.mark.parametrize("number", range(40))
def test_a_verdict_never_stands_beside_an_interval_that_includes_what_does_not_count(number: int) -> None:
    rng = np.random.default_rng(number)
    least = float(rng.choice([0.0, 0.01]))
    groups = family(rng, *rng.normal(0, 0.03, rng.integers(1, 6)), same=bool(number % 2))
    groups = [Group(one.label, one.runs, 0, (), least) for one in groups]
    pairs = [(list(groups[0].values(METRIC).values()), list(one.values(METRIC).values())) for one in groups[1:]]
    for found, (one, two) in zip(seeds.verdicts(groups, METRIC), pairs, strict=True):
        assert found.difference is not None
        low, high = found.difference.low, found.difference.high
        assert (found.direction == 1) == (high < -least) and (found.direction == -1) == (low > least)
        test = stats.ttest_rel(two, one) if found.paired else stats.ttest_ind(two, one, equal_var=False)
        assert (low, high) == pytest.approx(tuple(test.confidence_interval(found.difference.level)))


@pytest.mark.parametrize(("count", "needed"), [(1, 6), (2, 7), (5, 8)])
def test_equal_differences_decide_by_the_sign_test_at_holms_level(count: int, needed: int) -> None:
    values = [0.4 + 0.01 * seed for seed in range(needed)]
    for runs in (needed - 1, needed):
        sample = (values[:runs], [value - 0.1 for value in values[:runs]], True)
        found = statistics.differences([sample] * count)
        assert found[0].decided == (runs == needed) and found[0].needed == needed
        assert (stats.binomtest(runs, runs).pvalue < 0.05 / count) == (runs == needed)


# The command


@pytest.fixture
def outputs(workplace: Path) -> Path:
    return workplace / "outputs"


def of(outputs: Path, name: str, losses: Sequence[float], **more: Any) -> None:
    for seed, loss in enumerate(losses):
        run(outputs / name / str(seed), [loss + 0.1, loss], seed=seed, settings={"model.name": name}, **more)


def many(outputs: Path) -> None:
    of(outputs, "a", [0.40, 0.41, 0.42, 0.43])
    of(outputs, "better", [0.30, 0.31, 0.32, 0.335])
    of(outputs, "worse", [0.50, 0.51, 0.52, 0.535])
    of(outputs, "open", [0.40, 0.42, 0.43, 0.44])


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code and what is printed."""
    try:
        command.main(list(arguments))
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    shown = capsys.readouterr()
    return code, shown.out + shown.err


@pytest.mark.parametrize(
    ("candidates", "code"),
    [
        (["better"], 0),
        (["worse"], 1),
        (["open"], 3),
        (["worse", "open"], 3),
        (["worse", "better", "open"], 0),
        (["open", "better"], 0),
    ],
)
def test_the_exit_code_is_that_of_the_best_verdict(
    candidates: list[str], code: int, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many(outputs)
    found, text = said(capsys, "--baseline", "outputs/a", *(f"outputs/{name}" for name in candidates))
    words = {"better": "improved", "worse": "worse", "open": r"cannot tell \(about \d+ more seeds\)"}
    assert found == code
    for name in candidates:
        assert re.search(f"^model={name}: {words[name]}$", text, re.MULTILINE), text


def test_without_a_baseline_the_exit_code_is_0(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many(outputs)
    assert said(capsys, "outputs/a", "outputs/worse", "outputs/open")[0] == 0


def test_more_is_better_of_a_metric_that_says_so(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many(outputs)
    arguments = ["--baseline", "outputs/a", "outputs/better", "--mode", "max"]
    assert said(capsys, *arguments)[0] == 1


@pytest.mark.parametrize(("least", "word"), [("0", "improved"), ("0.09", "improved"), ("0.098", "cannot tell")])
def test_an_effect_counts_only_beyond_the_least(
    least: str, word: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many(outputs)
    _, text = said(capsys, "--baseline", "outputs/a", "outputs/better", "--min-effect", least)
    assert f"model=better: {word}" in text
    assert ("more than" in text) == (least != "0")


def test_about_so_many_more_seeds_are_those_needed_less_those_there(outputs: Path) -> None:
    rng = np.random.default_rng(2)
    groups = [group("a", rng.normal(0.5, 0.02, 4), "min"), group("b", rng.normal(0.49, 0.02, 4), "min")]
    (found,) = seeds.verdicts(groups, METRIC)
    assert found.difference is not None and found.difference.needed is not None and not found.direction
    comparison = Comparison([one for each in groups for one in each.runs], [METRIC], [])
    assert answers.lines(comparison) == [f"b: cannot tell (about {found.difference.needed - 4} more seeds)"]
    assert answers.answer(comparison, []).candidates[0].more_seeds == found.difference.needed - 4


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ([0.3], "cannot tell (no verdict from one run of model=b)"),
        ([0.40, 0.41, 0.42, 0.43], "cannot tell (no difference that counts)"),
        ([0.30, 0.31, 0.32, 0.33], "cannot tell (about 2 more seeds)"),  # the same in each: six decide
        ([0.43, 0.40, 0.42, 0.4101], "cannot tell (more than 100 needed)"),
    ],
)
def test_what_has_no_spread_or_one_run_is_told_as_that(
    losses: list[float], told: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of(outputs, "a", [0.40, 0.41, 0.42, 0.43])
    of(outputs, "b", losses)
    code, text = said(capsys, "--baseline", "outputs/a", "outputs/b")
    assert code == 3 and f"model=b: {told}\n" in text


def test_a_candidate_without_a_finished_run_cannot_be_told(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of(outputs, "a", [0.40, 0.41])
    of(outputs, "b", [0.3], status="KILLED")
    code, text = said(capsys, "--baseline", "outputs/a", "outputs/b")
    assert code == 3 and "model=b: cannot tell (no run of model=b has a finite value)" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--baseline", "outputs", "outputs/a"],
            "--baseline outputs: a baseline is one group .*: model=a; model=better;",
        ),
        (["--baseline", "outputs/a/0", "outputs/a/1"], "outputs/a/1: its runs are of the baseline's own group"),
        (["--baseline", "outputs/a", "outputs/a"], "outputs/a: its runs are of the baseline's own group"),
        (["--baseline", "outputs/a"], "--baseline outputs/a: name the runs that are compared with it"),
        (["--baseline", "outputs/a", "outputs/open", "--min-effect", "-1"], "--min-effect: -1 is not allowed"),
        (["--baseline", "outputs/a", "outputs/open", "--min-effect", "nan"], "--min-effect: nan is not allowed"),
        (["--baseline", "outputs/a", "outputs/open", "--min-effect", "inf"], "--min-effect: inf is not allowed"),
        (["outputs", "--min-effect", "1"], "--min-effect: it goes with --baseline"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    arguments: list[str], message: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many(outputs)
    code, text = said(capsys, *arguments)
    assert code == 2 and re.match(f"error: {message}", text) and text.count("\n") == 1
    assert not (outputs / command.FOLDER).exists()


def test_runs_that_join_the_baseline_are_told(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many(outputs)
    _, text = said(capsys, "--baseline", "outputs/a/0", "outputs")
    assert "runs of outputs with the baseline's settings count as its seeds" in text
    assert "model=better: improved" in text


def test_several_verdicts_say_that_they_are_corrected(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many(outputs)
    arguments = ["outputs/a", "outputs/better", "outputs/worse"]
    note = "the 2 verdicts are 95 % sure together (intervals by Holm's levels)"
    _, text = said(capsys, *arguments, "--html", "page.html")
    assert note in text and note.replace("'", "&#39;") in Path("page.html").read_text()
    assert "97.5 %" in text
    assert "Holm" not in said(capsys, *arguments[:2])[1]
    assert Language("uz")("improved") in said(capsys, "--baseline", *arguments, "--language", "uz")[1]


# The record


def test_the_record_has_what_the_journals_have(outputs: Path) -> None:
    many(outputs)
    words = ["--baseline", "outputs/a", "outputs/open", "outputs/worse", "--json", "--html", "page.html"]
    done = forked(lambda: command.main(words))
    told = json.loads(done.out)
    answer = told["answer"]
    assert (done.code, told["exit_code"], told["command"]) == (3, 3, "compare")
    assert (answer["metric"], answer["mode"], answer["min_effect"]) == ("valid/loss", "min", 0.0)
    losses: dict[str, dict[str, float]] = {}
    for one in answer["runs"]:
        events = [json.loads(line) for line in (Path(one["folder"]) / "journal.jsonl").read_text().splitlines()]
        found = [(e["values"]["valid/loss"], e["step"]) for e in events if "valid/loss" in e.get("values", {})]
        assert (one["best"], one["epoch"], one["status"]) == (*min(found), "FINISHED")
        losses.setdefault(one["group"], {})[one["label"].rpartition(", ")[2]] = one["best"]
    assert {one["label"]: one["values"] for one in answer["groups"]} == losses
    for one in answer["groups"]:
        values = list(one["values"].values())
        assert (one["seeds"], one["mean"]) == (4, pytest.approx(np.mean(values)))
        assert one["sd"] == pytest.approx(np.std(values, ddof=1))
    first = list(losses["model=a"].values())
    for one in answer["candidates"]:
        test = stats.ttest_rel(list(losses[one["label"]].values()), first)
        assert (one["low"], one["high"]) == pytest.approx(tuple(test.confidence_interval(one["level"])))
        assert (one["seeds"], one["paired"], one["method"]) == (4, True, "Holm")
    assert [one["verdict"] for one in answer["candidates"]] == ["cannot tell", "worse"]
    assert [one["level"] for one in answer["candidates"]] == pytest.approx([0.95, 0.975])
    assert answer["candidates"][0]["more_seeds"] > 0 and answer["candidates"][1]["more_seeds"] is None
    assert all(Path(file).is_file() for file in answer["files"]) and len(answer["files"]) == 2


def test_without_a_baseline_the_record_has_the_same_candidates(
    outputs: Path,
) -> None:
    many(outputs)
    done = forked(lambda: command.main(["outputs/a", "outputs/better", "--json"]))
    answer = json.loads(done.out)["answer"]
    assert done.code == 0
    assert [one["verdict"] for one in answer["candidates"]] == ["improved"]


def test_real_trainings_split_at_random_are_improved_in_at_most_5_percent(workplace: Path) -> None:
    folder = f"hydra.sweep.dir={workplace / 'outputs' / 'a'}"
    numbers = ",".join(map(str, range(16)))
    assert run_command("-m", *SMALL, "device.threads=1", f"seed={numbers}", folder).code == 0
    jobs, _ = choose(["outputs/a"], Path("outputs"))
    values = np.array([min(job.metrics["valid/loss"].values()) for job in jobs])
    assert len(set(values)) == 16
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        one, other = rng.permutation(values).reshape(2, 8)
        found += directions([group("a", one, "min"), group("b", other, "min", first_seed=100)])
    assert found.count(1) <= 10
