"""The same jobs through every launcher: the same bits, one parent, and what is killed goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments.tracking import journal, record
from tests.support import raw_journal
from tests.support.commands import same_run
from tests.support.launched import JOBS, KILLED, RAISES, SETTINGS, SWEPT, Place
from tests.support.ray_cluster import Cluster, NoRayError, cluster
from tests.support.tracked import eventually, run_of, store_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

RAY = pytest.param("ray", marks=pytest.mark.nightly)
LAUNCHERS = ("slots", "joblib", "submitit_local", RAY)
NO_RETRIES = {"ray": ["hydra.launcher.ray.remote.max_retries=0"], "slots": ["hydra.launcher.max_retries=0"]}
ALL = ["FINISHED"] * JOBS
EXTRAS = {
    "slots": "experiments_slots",
    "joblib": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "ray": "hydra_ray_launcher",
}


def place(name: str, folder: Path, nodes: Cluster | None) -> Place:
    return Place(folder, nodes.around, nodes.env | {"RAY_ADDRESS": nodes.address}) if nodes else Place(folder)


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Place:
    done = Place(tmp_path_factory.mktemp("basic"))
    code, said = done.sweep()
    assert code == 0, said
    return done


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster | None]:
    """A Ray cluster of two nodes; None where it cannot be started."""
    try:
        with cluster(tmp_path_factory.mktemp("ray") / "cluster") as started:
            yield started
    except NoRayError:
        yield None


def usable(request: pytest.FixtureRequest, name: str) -> Cluster | None:
    """The cluster that a launcher needs; the test is skipped where it has none, or is not installed."""
    if find_spec(f"hydra_plugins.{EXTRAS[name]}") is None:
        pytest.skip(f"{EXTRAS[name]} is not installed")
    if name != "ray":
        return None
    nodes: Cluster | None = request.getfixturevalue("nodes")
    if nodes is None:
        pytest.skip("a Ray cluster does not come up here")
    return nodes


@pytest.fixture(scope="module", params=LAUNCHERS)
def launched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The sweep through a launcher, undisturbed."""
    name = request.param
    done = place(name, tmp_path_factory.mktemp(name), usable(request, name))
    code, said = done.sweep(f"hydra/launcher={name}")
    assert code == 0, said
    return done


def test_every_job_comes_to_the_same_bits_as_one_after_the_other(launched: Place, basic: Place) -> None:
    assert [same_run(*pair) for pair in zip(launched.jobs, basic.jobs, strict=True)] == [True] * JOBS


def test_one_parent_has_all_finished_children(launched: Place) -> None:
    (parent,), children = launched.stored()
    assert (parent.info.status, [child.info.status for child in children]) == ("FINISHED", ALL)
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}


def test_each_job_has_a_log_of_its_own(launched: Place) -> None:
    for job in launched.jobs:
        lines = (job / "experiments.log").read_text(encoding="utf-8").splitlines()
        assert sum("untrained/valid_loss" in line for line in lines) == 1


def test_nothing_is_left_to_be_delivered(launched: Place) -> None:
    eventually(lambda: not list((launched.folder / "outputs" / "undelivered").glob("*.run")))


@pytest.fixture(scope="module", params=LAUNCHERS)
def disturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A sweep of which one job has raised and one was killed with kill -9."""
    name = request.param
    done = place(name, tmp_path_factory.mktemp(name), usable(request, name))
    (done.folder / "disturb").touch()
    code, said = done.sweep(f"hydra/launcher={name}", *NO_RETRIES.get(name, ()))
    assert (code, "Traceback" in said) == (1, False), said
    return done


def test_what_raised_and_what_was_killed_tell_their_reason(disturbed: Place) -> None:
    ended = [raw_journal.summary(disturbed.job(number)) for number in (RAISES, KILLED)]
    assert [(job["status"], job["reason"]) for job in ended] == [
        ("FAILED", "RuntimeError: out of luck"),
        ("KILLED", "its process died"),
    ]
    stored = [run_of(store_of(disturbed.folder), disturbed.job(number)) for number in (RAISES, KILLED)]
    assert [(run.info.status, run.data.tags["experiments.reason"]) for run in stored] == [
        ("FAILED", "RuntimeError: out of luck"),
        ("KILLED", "its process died"),
    ]


def test_one_resume_trains_what_did_not_finish_and_nothing_else(disturbed: Place, basic: Place) -> None:
    before = disturbed.states()
    finished = [number for number, state in enumerate(before) if state == "FINISHED"]
    journals = {number: (disturbed.job(number) / journal.FILE).read_bytes() for number in finished}
    (disturbed.folder / "disturb").unlink()
    code, said = disturbed.resume()
    assert (code, disturbed.states()) == (0, ALL), said
    assert {number: (disturbed.job(number) / journal.FILE).read_bytes() for number in finished} == journals
    assert [same_run(*pair) for pair in zip(disturbed.jobs, basic.jobs, strict=True)] == [True] * JOBS
    (parent,), children = disturbed.stored()
    assert (parent.info.status, [child.info.status for child in children]) == ("FINISHED", ALL)


@pytest.mark.parametrize("name", ["slots", RAY])
def test_a_job_that_is_started_again_goes_on_where_it_was(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """With its retries, a kill costs nothing: the second attempt finds the first one's checkpoint."""
    done = place(name, tmp_path, usable(request, name))
    killed_once = (
        (done.folder / "disturbed.py")
        .read_text()
        .replace("os.kill(os.getpid()", "os.remove('disturb'); os.kill(os.getpid()")
    )
    (done.folder / "disturbed.py").write_text(killed_once.replace(f'"{RAISES}"', '"none"'))
    (done.folder / "disturb").touch()
    code, said = done.sweep(f"hydra/launcher={name}")
    assert (code, done.states()) == (0, ALL), said
    events = [event["event"] for event in raw_journal.read(done.job(KILLED))]
    assert events.count("resume") == 1
    (_,), children = done.stored()
    assert [child.info.status for child in children] == ALL


@pytest.mark.nightly
def test_a_ray_node_that_dies_costs_no_job(tmp_path: Path, basic: Place) -> None:
    if find_spec("hydra_plugins.hydra_ray_launcher") is None:
        pytest.skip("hydra_ray_launcher is not installed")
    try:
        nodes = Cluster(tmp_path / "cluster")
    except NoRayError as reason:
        pytest.skip(f"a Ray cluster does not come up here: {reason}")
    try:
        (tmp_path / "work").mkdir()
        work = place("ray", tmp_path / "work", nodes)
        sweeping = work.start("-m", *SETTINGS, SWEPT, "hydra/launcher=ray")
        eventually(lambda: work.states().count("FINISHED") >= 1)
        nodes.kill_worker()
        said, _ = sweeping.communicate(timeout=900)
        if sweeping.returncode != 0:
            code, said = work.resume()
            assert code == 0, said
        assert work.states() == ALL, said
        assert [same_run(*pair) for pair in zip(work.jobs, basic.jobs, strict=True)] == [True] * JOBS
        (_,), children = work.stored()
        assert [child.info.status for child in children] == ALL
    finally:
        nodes.close()


def test_a_preempted_job_is_queued_again_and_goes_on_from_its_step(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The signal that submitit waits for, in the middle of a training; against the same training undisturbed."""
    usable(request, "submitit_local")
    (tmp_path / "straight").mkdir()
    (tmp_path / "preempted").mkdir()
    longer = ("epochs=12", "dataset.train=4000", "seed=1,2")  # long enough to be met in its middle
    straight, work = Place(tmp_path / "straight"), Place(tmp_path / "preempted")
    assert straight.call("-m", *SETTINGS, *longer)[0] == 0
    sweeping = work.start("-m", *SETTINGS, *longer, "hydra/launcher=submitit_local")
    eventually(lambda: _epochs(work.job(0)) >= 2)
    owner = record.read(work.job(0)).owner
    assert owner is not None
    os.kill(owner.pid, signal.SIGUSR2)
    said, _ = sweeping.communicate(timeout=600)
    assert sweeping.returncode == 0, said
    events = [event for event in raw_journal.read(work.job(0)) if event["event"] != "metrics"]
    assert [event["event"] for event in events] == ["start", "end", "resume", "end"]
    assert events[1]["reason"] == "preempted, or out of time; it is queued again and resumes then"
    assert [same_run(work.job(number), straight.job(number)) for number in (0, 1)] == [True, True]


def _epochs(folder: Path) -> int:
    time.sleep(0.02)
    return len(raw_journal.history(folder)) if (folder / journal.FILE).is_file() else 0
