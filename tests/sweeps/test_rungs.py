"""A search by rungs: the best are resumed, the others stay paused and come to what they would have come to."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from experiments.sweeps.summary import NOTE
from tests.support import raw_journal, ray_cluster
from tests.support.commands import Before, at_step, command, nothing, resumed, same_run, status
from tests.support.forked import Ended
from tests.support.launched import Place
from tests.support.places import Cli
from tests.support.stacked import at_any_gain
from tests.support.tracked import eventually, runs, store_of
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here
from tests.sweeps.test_search import needs_optuna

pytestmark = needs_optuna

RUN = ("dataset=digits", "model=mlp", "limit_batches=2", "epochs=9", "tracking=none", "figures=false")
SEARCH = ("-m", *RUN, "optim.lr=tag(log, interval(0.01, 1))", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=9")
HALVING = "hydra.sweeper.rungs=halving"
STEPS = 2


def searched(folder: Path, *arguments: str, before: Before = nothing) -> Ended:
    return command(*SEARCH, *arguments, f"hydra.sweep.dir={folder}", before=before)


def epochs(folder: Path) -> list[int]:
    found = [raw_journal.read(folder / str(number)) for number in range(9)]
    return [len({line["step"] for line in run if "train/loss" in line.get("values", {})}) for run in found]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("halved") / "search"
    done = searched(folder, HALVING)
    assert done.code == 0, done
    return folder


def test_of_each_rung_a_third_goes_on(halved: Path) -> None:
    assert sorted(epochs(halved)) == [1] * 6 + [3] * 2 + [9]
    assert (halved / NOTE).read_text().startswith("21 of 81 epochs were trained\n")


def test_the_best_of_a_rung_are_those_that_go_on(halved: Path) -> None:
    for rung, kept in ((1, 3), (3, 1)):
        values = {line["trial"]: line["values"][0] for line in lines(halved) if line.get("epochs") == rung}
        further = {number for number, done in enumerate(epochs(halved)) if done > rung}
        assert further == set(sorted(values, key=values.__getitem__)[:kept])


def test_those_that_stay_behind_are_paused_and_say_by_whom(halved: Path) -> None:
    for number, done in enumerate(epochs(halved)):
        assert status(halved / str(number)) == ("FINISHED" if done == 9 else "PAUSED")
        tags = raw_journal.read(halved / str(number))[-1]["tags"]
        rung = {1: "0", 3: "1"}.get(done)
        assert tags == ({"experiments.stopped_by": "search", "experiments.rung": rung} if rung else {})


@pytest.mark.parametrize("which", ["winner", "discarded"])
def test_a_trial_is_the_run_that_it_would_have_been(which: str, halved: Path, tmp_path: Path) -> None:
    number = epochs(halved).index(9 if which == "winner" else 3)
    if which == "discarded":
        assert resumed(halved / str(number)).code == 0
    rate = raw_journal.read(halved / str(number))[0]["params"]["optim.lr"]
    assert command(*RUN, f"optim.lr={rate}", f"hydra.run.dir={tmp_path / 'straight'}").code == 0
    assert same_run(halved / str(number), tmp_path / "straight")


def test_one_epoch_keeps_a_few(tmp_path: Path) -> None:
    done = searched(tmp_path / "sweep", "hydra.sweeper.rungs=one_epoch", "hydra.sweeper.keep=2", "epochs=4")
    assert done.code == 0, done
    assert sorted(epochs(tmp_path / "sweep")) == [1] * 7 + [4] * 2


@pytest.mark.slow
@pytest.mark.parametrize("step", [2 * STEPS + 1, 9 * STEPS + 3, 9 * STEPS + 6 * STEPS + 5])
def test_a_search_that_is_killed_comes_to_the_same(step: int, halved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    kill = partial(at_step, step, partial(signal.raise_signal, signal.SIGKILL))
    assert searched(folder, HALVING, before=kill).code == -signal.SIGKILL
    done = resumed(folder)
    assert done.code == 0, done
    assert [line for line in lines(folder) if "set" in line] == [line for line in lines(halved) if "set" in line]
    assert sorted(map(str, lines(folder))) == sorted(map(str, lines(halved)))
    assert (folder / NOTE).read_text().splitlines()[0] == "21 of 81 epochs were trained"


@pytest.mark.slow
def test_mlflow_has_those_that_were_stopped_as_scheduled(workplace: Path, cli: Cli) -> None:
    tracked = [one for one in SEARCH if not one.startswith(("tracking", "epochs"))]
    done = cli(*tracked, "epochs=3", HALVING, "device.threads=1", "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done
    found = runs(store_of(workplace), ["experiments"])
    assert sorted(run.info.status for run in found) == ["FINISHED"] * 3 + ["SCHEDULED"] * 6
    stopped = [run.data.tags.get("experiments.stopped_by") for run in found if run.info.status == "SCHEDULED"]
    assert stopped == ["search"] * 6


TOGETHER = ("hydra.sweeper.n_jobs=4", HALVING, "device.threads=1", "hydra.sweeper.sampler.n_startup_trials=3")
LAUNCHED = {
    "slots": ("hydra.launcher.slots=2",),
    "joblib": ("hydra.launcher.n_jobs=2",),
    "submitit_local": (),
}


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one_by_one") / "search"
    done = searched(folder, *TOGETHER)
    assert done.code == 0, done
    return folder


@pytest.mark.slow
@pytest.mark.nightly
def test_ray_decides_alike(one_by_one: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    with contextlib.ExitStack() as owned:
        try:
            nodes = owned.enter_context(ray_cluster.cluster(tmp_path / "cluster"))
        except ray_cluster.NoRayError as reason:
            pytest.skip(f"a Ray cluster does not come up here: {reason}")
        work = Place(tmp_path, nodes.around, nodes.env | {"RAY_ADDRESS": nodes.address})
        code, said = work.call(*SEARCH, *TOGETHER, "hydra/launcher=ray", "hydra.sweep.dir=sweep")
        assert code == 0, said
    assert sorted(map(str, lines(tmp_path / "sweep"))) == sorted(map(str, lines(one_by_one)))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["slots", "joblib", pytest.param("submitit_local", marks=pytest.mark.nightly)])
def test_trials_side_by_side_are_decided_alike(launcher: str, one_by_one: Path, cli: Cli, workplace: Path) -> None:
    if launcher != "slots":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    options = (f"hydra/launcher={launcher}", *LAUNCHED[launcher], "hydra.sweep.dir=sweep")
    done = cli(*SEARCH, *TOGETHER, *options)
    assert done.returncode == 0, done
    assert sorted(map(str, lines(workplace / "sweep"))) == sorted(map(str, lines(one_by_one)))


@pytest.mark.slow
@pytest.mark.parametrize("written", [1, pytest.param(15, marks=pytest.mark.nightly)])
def test_a_search_in_slots_whose_process_is_killed_comes_to_the_same(
    written: int, one_by_one: Path, cli: Cli, workplace: Path
) -> None:
    folder = workplace / "sweep"
    arguments = [*SEARCH, *TOGETHER, "hydra/launcher=slots", "hydra.launcher.slots=2", "hydra.sweep.dir=sweep"]
    process = subprocess.Popen([sys.executable, "-m", "experiments", *arguments], cwd=workplace)
    eventually(lambda: (folder / "trials.jsonl").exists() and len(lines(folder)) >= written)
    process.kill()
    process.wait()
    done = cli("sweep", module="experiments.resume")
    assert done.returncode == 0, done
    assert sorted(map(str, lines(folder))) == sorted(map(str, lines(one_by_one)))
    assert sorted(epochs(folder)) == [1] * 6 + [3] * 2 + [9]


def test_optunas_own_file_has_the_trials(halved: Path) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(halved / "study.journal")))
    (study,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(study_name=study.study_name, storage=storage).trials
    states = sorted(trial.state.name for trial in trials)
    assert states == ["COMPLETE"] + ["PRUNED"] * 8
    for trial in trials:
        rates = raw_journal.read(halved / trial.user_attrs["job"])[0]["params"]["optim.lr"]
        assert trial.params["optim.lr"] == float(rates)
    assert sorted(len(trial.intermediate_values) for trial in trials) == [1] * 6 + [2] * 2 + [3]


@pytest.mark.parametrize(("key", "value"), [("epochs", "choice(3,6)"), ("pause_after", "2")])
def test_what_the_rungs_decide_cannot_be_searched(key: str, value: str, tmp_path: Path) -> None:
    done = searched(tmp_path / "sweep", HALVING, f"{key}={value}")
    assert done.code == 2 and done.err.startswith(f"error: {key}: cannot be set or searched with rungs"), done


@pytest.mark.parametrize("sampler", ["random", "gp", "qmc", "grid"])
def test_each_sampler_chooses(sampler: str, tmp_path: Path) -> None:
    chosen = (
        "optim.lr=choice(0.1,0.2,0.3)",
        "epochs=1",
        "hydra.sweeper.n_trials=3",
        f"hydra/sweeper/sampler={sampler}",
    )
    done = searched(tmp_path / "sweep", *chosen)
    assert done.code == 0, done
    found = [line["set"]["optim.lr"] for line in lines(tmp_path / "sweep") if "set" in line]
    assert len(found) == 3 and set(found) <= {"0.1", "0.2", "0.3"}
    assert sampler != "grid" or found == ["0.1", "0.2", "0.3"]


def test_of_several_objectives_the_pareto_front_is_told(tmp_path: Path) -> None:
    two = "hydra.sweeper.objectives=[valid/loss,valid/accuracy]"
    done = searched(tmp_path / "sweep", two, "hydra.sweeper.direction=[minimize,maximize]", "epochs=1")
    assert done.code == 0, done
    values = {line["trial"]: line["values"] for line in lines(tmp_path / "sweep") if "values" in line}
    front = {
        number
        for number, (loss, right) in values.items()
        if not any(a <= loss and b >= right and (a, b) != (loss, right) for a, b in values.values())
    }
    told = (tmp_path / "sweep" / NOTE).read_text().splitlines()[0].rpartition("trials ")[2]
    assert set(map(int, told.split(", "))) == front


def test_rungs_of_trials_that_are_trained_together(tmp_path: Path) -> None:
    """A trial that goes on does so in a stack of the same layout, and so comes to what it would have come to."""
    together = "hydra/launcher=batched"
    assert searched(tmp_path / "halved", HALVING, together, before=at_any_gain).code == 0
    assert searched(tmp_path / "full", together, before=at_any_gain).code == 0
    assert sorted(epochs(tmp_path / "halved")) == [1] * 6 + [3] * 2 + [9]
    winner = str(epochs(tmp_path / "halved").index(9))
    assert same_run(tmp_path / "halved" / winner, tmp_path / "full" / winner)
