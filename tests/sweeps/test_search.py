"""`hydra/sweeper=optuna`: trials of one parent, checked before the first, gone on with as if nothing had been."""

from __future__ import annotations

import signal
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments.sweeps import launcher_internals
from tests.support import raw_journal
from tests.support.commands import SMALL, STEPS, Before, at_step, command, nothing, resumed, same_run, status
from tests.support.forked import Ended
from tests.support.places import Cli
from tests.support.tracked import runs, store_of
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

needs_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="the extra [optuna] is not installed")

TRIALS = 5
SPACE = ("optim.lr=tag(log, interval(0.001, 0.1))", "model.width=choice(4,6)")
SEARCH = ("-m", *SMALL, *SPACE, "epochs=1", "hydra/sweeper=optuna", f"hydra.sweeper.n_trials={TRIALS}")
FEW_STARTING = "hydra.sweeper.sampler.n_startup_trials=2"  # so that Optuna chooses by the results soon


def searched(folder: Path, *arguments: str, before: Before = nothing) -> Ended:
    return command(*SEARCH, FEW_STARTING, *arguments, f"hydra.sweep.dir={folder}", before=before)


def chosen(folder: Path) -> list[dict[str, str]]:
    """What each trial was given of the search space."""
    keys = [key.split("=")[0] for key in SPACE]
    starts = [raw_journal.read(folder / str(number))[0]["params"] for number in range(TRIALS)]
    return [{key: start[key] for key in keys} for start in starts]


def losses(folder: Path) -> list[float]:
    return [raw_journal.summary(folder / str(number))["figures"]["best/valid_loss"] for number in range(TRIALS)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "sweep"
    done = searched(folder)
    assert done.code == 0, done
    return folder


@needs_optuna
def test_each_trial_has_other_settings_within_the_space(undisturbed: Path) -> None:
    trials = chosen(undisturbed)
    assert len({trial["optim.lr"] for trial in trials}) == TRIALS
    assert all(0.001 <= float(trial["optim.lr"]) <= 0.1 and trial["model.width"] in ("4", "6") for trial in trials)


@needs_optuna
def test_the_parent_ends_with_the_best_of_its_trials(undisturbed: Path) -> None:
    parent = raw_journal.summary(undisturbed)
    best = min(range(TRIALS), key=losses(undisturbed).__getitem__)
    end = raw_journal.read(undisturbed)[-1]
    assert (parent["status"], parent["figures"]["best/valid_loss"]) == ("FINISHED", losses(undisturbed)[best])
    assert end["tags"]["best/job"] == str(best)
    assert {key: end["tags"][f"best/{key}"] for key in chosen(undisturbed)[best]} == chosen(undisturbed)[best]
    assert end["note"].startswith(f"Best: job {best}, best/valid_loss {losses(undisturbed)[best]!r}")


@pytest.mark.slow
@needs_optuna
@pytest.mark.parametrize("trial", [1, 3], ids=["among those chosen at random", "among those chosen by results"])
def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(trial: int, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    kill = partial(at_step, trial * STEPS + 2, partial(signal.raise_signal, signal.SIGKILL))
    assert searched(folder, before=kill).code == -signal.SIGKILL
    assert status(folder / str(trial)) == "RUNNING" and not (folder / str(trial + 1)).exists()
    done = resumed(folder)
    assert done.code == 0, done
    assert chosen(folder) == chosen(undisturbed)
    assert all(same_run(folder / str(number), undisturbed / str(number)) for number in range(TRIALS))
    assert raw_journal.summary(folder)["figures"] == raw_journal.summary(undisturbed)["figures"]


@needs_optuna
def test_a_search_that_ends_before_its_first_trial_has_an_end(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def at_its_begin() -> None:
        from experiments.sweeps.search import Search

        Search._run = interrupt  # type: ignore[assignment,method-assign]  # in a process that ends soon

    done = searched(tmp_path / "sweep", before=at_its_begin)
    assert (done.code, status(tmp_path / "sweep")) == (130, "KILLED"), done


@pytest.mark.slow
@needs_optuna
def test_the_same_seed_is_the_same_search_and_another_seed_another(undisturbed: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    assert (searched(again).code, searched(other, "seed=1").code) == (0, 0)
    assert chosen(again) == chosen(undisturbed) != chosen(other)


@pytest.mark.slow
@needs_optuna
def test_a_trial_that_fails_is_left_out_and_told(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("out of luck")

    done = searched(tmp_path / "sweep", before=partial(at_step, STEPS + 2, fail))
    assert done.code == 1 and "1 job failed" in done.err, done
    states = [status(tmp_path / "sweep" / str(number)) for number in range(TRIALS)]
    assert states == ["FINISHED", "FAILED", *["FINISHED"] * (TRIALS - 2)]
    assert status(tmp_path / "sweep") == "FAILED"
    assert resumed(tmp_path / "sweep").code == 0
    assert status(tmp_path / "sweep") == "FINISHED"


@needs_optuna
def test_a_trial_without_a_finite_loss_is_a_failed_one_and_the_search_goes_on(workplace: Path) -> None:
    diverging = ("dataset=digits", "model=mlp", "model.depth=6", "limit_batches=4", "epochs=1", "tracking=none")
    search = (
        "-m",
        *diverging,
        "figures=false",
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=4",
        "hydra.sweep.dir=sweep",
    )
    for done in (command(*search, "optim.lr=choice(0.1,100)"), resumed(workplace / "sweep")):
        assert done.code == 0, done
        assert "is a failed trial: its best/valid_loss is nan" in done.out + done.err
        rows = [line.split() for line in done.out.splitlines() if line.endswith(("FINISHED", "diverged"))]
        assert {(row[1], row[-1]) for row in rows} == {("0.1", "FINISHED"), ("100", "diverged")}
        assert len(rows) == 4 and "best    job" in done.out


@pytest.mark.slow
@needs_optuna
def test_a_search_that_stops_at_a_failure_begins_no_other_trial(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("out of luck")

    stopping = partial(at_step, STEPS + 2, fail)
    done = searched(tmp_path / "sweep", "sweep.on_failure=stop", before=stopping)
    assert done.code == 1, done
    assert not (tmp_path / "sweep" / "2").exists()


@needs_optuna
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("optim.lrr=interval(0.1, 0.2)", "optim.lrr: "),
        ("optim.lr=interval(-1, 1)", "optim.lr: "),
        ("optim.lr=interval(0.1, 0.01)", "optim.lr: interval(0.1, 0.01) cannot be searched: `low <= high` must"),
        (
            "optim.lr=tag(log, interval(0, 1))",
            "optim.lr: tag(log, interval(0, 1)) cannot be searched: `low > 0`",
        ),
        ("optim=glob(nothing*)", "optim: glob(nothing*) cannot be searched: it matches no option"),
        ("model=choice(mlp,mpl)", "model=mpl: there is no such option; did you mean 'mlp'?"),
        ("hydra.sweeper.n_trials=0", "hydra.sweeper.n_trials: 0 is given; it should be a whole number of 1 or more"),
        ("hydra.sweeper.direction=up", "hydra.sweeper.direction: 'up' is given; it should be minimize or maximize"),
        (
            "hydra.sweeper.sampler.name=tpo",
            "hydra.sweeper.sampler.name: no sampler is called 'tpo'; did you mean",
        ),
        ("+hydra.sweeper.sampler.sed=1", "hydra.sweeper.sampler: tpe got an unexpected keyword argument 'sed'"),
        ("hydra.sweeper.rungs=third", "hydra.sweeper.rungs: 'third' is given; it should be full, halving, one_epoch"),
        (
            "hydra.sweeper.objectives=[valid/los]",
            "hydra.sweeper.objectives: 'valid/los' is not a metric of a run; did",
        ),
        ("hydra.sweeper.direction=[minimize,maximize]", "hydra.sweeper.direction: 2 are given for 1 objectives"),
        ("hydra/sweeper/sampler=grid", "optim.lr: an interval has no grid; give choice(...) or range(...)"),
        ("sweep.preview=true", "sweep.preview: a search chooses its jobs as it goes"),
        ("sweep.limit=4", "sweep.limit: more than 4 jobs"),
    ],
)
def test_what_no_trial_could_be_is_refused_before_the_first(given: str, told: str, workplace: Path) -> None:
    done = command(*SEARCH, given)
    assert (done.code, done.out) == (2, ""), done
    assert done.err.startswith("error: ") and told in done.err
    assert not (workplace / "outputs").exists()


@needs_optuna
def test_a_glob_is_a_choice_of_what_there_is(workplace: Path) -> None:
    done = command(*SEARCH, "optim=glob(adam*)", "hydra.sweeper.n_trials=6", "hydra.sweep.dir=sweep")
    assert done.code == 0, done
    found = {raw_journal.read(workplace / "sweep" / str(number))[0]["tags"]["optim"] for number in range(6)}
    assert found == {"adam", "adamw"}


@needs_optuna
def test_a_refusal_is_all_that_a_command_says(cli: Cli) -> None:
    """In a process of its own, for the tests' has imported already what talks at its import."""
    done = cli(*SEARCH, "optim.lr=interval(0.1, 0.01)")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done


@needs_optuna
def test_a_search_says_what_a_sweep_says(workplace: Path) -> None:
    done = command(*SEARCH, "hydra.sweeper.n_trials=1")
    assert done.code == 0 and done.out.startswith("Launching 1 jobs locally"), done


@needs_optuna
def test_a_search_over_nothing_is_refused(workplace: Path) -> None:
    done = command("-m", *SMALL, "hydra/sweeper=optuna")
    assert done.code == 2 and done.err.startswith("error: hydra.sweeper.params: there is nothing to search"), done


def test_without_the_extra_one_line_names_it(workplace: Path) -> None:
    def uninstall() -> None:
        launcher_internals.find_spec = lambda _: None  # type: ignore[assignment,misc,attr-defined]  # in a process that ends soon

    told = "it comes with an extra, which is not installed: pip install 'experiments[optuna]'"
    done = command("-m", "experiment=search_cnn", before=uninstall)
    assert (done.code, done.err) == (2, f"error: hydra/sweeper=optuna: {told}\n")
    assert not any(workplace.iterdir())


def test_a_sweep_of_hydras_own_sweeper_has_a_parent_and_goes_on_by_its_jobs(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    done = command("-m", *SMALL, "epochs=1", "optim.lr=0.01,0.02", "hydra/sweeper=basic", f"hydra.sweep.dir={folder}")
    assert (done.code, status(folder)) == (0, "FINISHED"), done
    told = "its sweeper is not one of this package and kept no sweep.json; resume its jobs, each by its own folder"
    refused = resumed(folder)
    assert (refused.code, refused.err) == (2, f"error: {folder}: {told}\n")
    assert resumed(folder / "0").code == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@needs_optuna
def test_twenty_trials_on_mnist_5k_have_one_parent_and_compare_shows_the_best(workplace: Path, cli: Cli) -> None:
    done = cli("-m", "experiment=search_cnn", "epochs=1", "limit_batches=4", "device.threads=1", "figures=false")
    assert done.returncode == 0, done.stdout + done.stderr
    store = store_of(workplace)
    (parent,) = runs(store, ["experiments-sweeps"])
    trials = runs(store, ["experiments"])
    assert [run.info.status for run in (parent, *trials)] == ["FINISHED"] * 21
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert {run.data.tags["dataset"] for run in trials} == {"mnist_5k"}

    best = min(trials, key=lambda run: float(run.data.metrics["best/valid_loss"]))
    assert parent.data.metrics["best/valid_loss"] == best.data.metrics["best/valid_loss"]
    searched_keys = ("optim.lr", "optim.momentum", "model.width", "loader.batch_size")
    assert {key: parent.data.tags[f"best/{key}"] for key in searched_keys} == {
        key: best.data.params[key] for key in searched_keys
    }
    assert parent.data.tags["best/folder"] == best.data.tags["experiments.folder"]

    shown = cli(module="experiments.compare").stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("lowest valid/loss: ")]
    assert f", {best.data.metrics['best/valid_loss']!r} at epoch 0" in line
    assert all(f"{key}={best.data.params[key]}" in line for key in searched_keys)
