"""Launchers: what is chosen, what is missing, how threads are divided; the sweeps themselves are in test_launched."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments import cli as garbage
from experiments.config import discovery, secrets
from experiments.config.compose import compose
from experiments.config.hydra_options import LAUNCHERS
from experiments.config.overrides import quoted
from experiments.errors import ConfigError, Fault, TrainingError
from experiments.runs import cpu_contention, sweep_plan
from experiments.sweeps import launcher_internals, launchers
from experiments.tracking.record import Place
from tests.support.places import ROOT, Cli

EXTRA = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"}
OURS = ("batched", "slots")  # no extra
# Hydra then finds the project's own plugins alone, as where no extra is installed.
NO_PLUGINS = """
import sys, types
plugins = types.ModuleType("hydra_plugins")
plugins.__path__ = [{ours!r}]
sys.modules["hydra_plugins"] = plugins
"""


def installed(name: str) -> bool:
    return (
        name in OURS
        or find_spec(f"hydra_plugins.hydra_{'submitit' if EXTRA[name] == 'slurm' else name}_launcher") is not None
    )


def known_keys(name: str) -> set[str]:
    """The keys that the released plugin has for an option, by its own schema."""
    if name == "slots":
        from hydra_plugins.experiments_slots import SETTINGS

        return set(SETTINGS)
    if name == "batched":
        from hydra_plugins.experiments_batched import SETTINGS as BATCHED

        return set(BATCHED)
    if name == "joblib":
        from hydra_plugins.hydra_joblib_launcher.config import JobLibLauncherConf as Schema
    elif name == "submitit_local":
        from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf as Schema
    elif name == "submitit_slurm":
        from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf as Schema
    else:
        from hydra_plugins.hydra_ray_launcher._config import RayLauncherConf as Schema
    return {field.name for field in dataclasses.fields(Schema)}


@pytest.fixture
def without_extras(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables under which a command finds no launcher of others."""
    folder = tmp_path_factory.mktemp("without")
    ours = ROOT / "src" / "hydra_plugins"
    (folder / "sitecustomize.py").write_text(NO_PLUGINS.format(ours=str(ours)))
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_preset_composes_with_keys_that_its_plugin_knows(name: str) -> None:
    if not installed(name):
        pytest.skip(f"the extra [{EXTRA[name]}] is not installed")
    launcher = compose([f"hydra/launcher={name}"]).hydra.launcher
    assert {str(key) for key in launcher} <= known_keys(name) | {"detach"}  # ours
    assert find_spec(launcher._target_.rpartition(".")[0]) is not None


@pytest.mark.parametrize("name", ["submitit_local", "submitit_slurm"])
def test_a_preset_names_all_that_submitit_takes(name: str) -> None:
    if not installed(name):
        pytest.skip("the extra [slurm] is not installed")
    named = {str(key) for key in compose([f"hydra/launcher={name}"]).hydra.launcher}
    assert named - {"detach"} == known_keys(name)  # which is ours


def test_a_file_of_ones_own_begins_with_a_preset(tmp_path: Path) -> None:
    own = tmp_path / "hydra" / "launcher"
    own.mkdir(parents=True)
    (own / "ours.yaml").write_text("defaults: [submitit_slurm]\npartition: gpu\n")
    launcher = compose([f"hydra.searchpath=[file://{tmp_path}]", "hydra/launcher=ours"]).hydra.launcher
    assert (launcher.partition, launcher.cpus_per_task) == ("gpu", 4)


@pytest.mark.parametrize("name", EXTRA)
def test_a_missing_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_internals, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as told:
        launchers.require(compose([f"hydra/launcher={name}"]))
    extra = f"pip install 'experiments[{EXTRA[name]}]'"
    assert str(told.value) == f"hydra/launcher={name}: it comes with an extra, which is not installed: {extra}"


def test_nothing_is_asked_of_the_launcher_that_hydra_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_internals, "find_spec", lambda _: None)
    launchers.require(compose([]))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTRA)
def test_a_sweep_without_the_extra_is_one_line_and_leaves_nothing(
    name: str, cli: Cli, without_extras: dict[str, str], workplace: Path
) -> None:
    done = cli("-m", f"hydra/launcher={name}", "seed=1,2", env=without_extras)
    extra = f"pip install 'experiments[{EXTRA[name]}]'"
    told = f"error: hydra/launcher={name}: it comes with an extra, which is not installed: {extra}\n"
    assert (done.returncode, done.stderr, done.stdout) == (2, told, "")
    assert list(workplace.iterdir()) == []


@pytest.mark.slow
def test_help_and_a_single_run_need_no_extra(cli: Cli, without_extras: dict[str, str]) -> None:
    helped = cli("--help", env=without_extras)
    assert helped.returncode == 0 and "hydra/launcher=slots, joblib, submitit_local" in helped.stdout
    small = ("dataset=synthetic", "dataset.train=64", "dataset.valid=32", "tracking=none", "figures=false")
    ran = cli(*small, "hydra/launcher=joblib", env=without_extras)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.slow
def test_slurm_gives_up_in_one_line_where_there_is_none(cli: Cli, workplace: Path) -> None:
    if not installed("submitit_slurm"):
        pytest.skip("the extra [slurm] is not installed")
    done = cli("-m", "hydra/launcher=submitit_slurm", "seed=1,2", env={"PATH": ""})
    why = "srun not found; this launcher needs a Slurm cluster (hydra/launcher=submitit_local tries it)"
    assert (done.returncode, done.stderr) == (2, f"error: hydra/launcher=submitit_slurm: {why}\n")
    assert list(workplace.iterdir()) == []


def placed(name: str, *overrides: str, arguments: tuple[str, ...] = ()) -> list[str]:
    return launchers.with_job_settings(compose([f"hydra/launcher={name}", *overrides]), arguments)


@pytest.mark.parametrize(("at_once", "threads"), [(1, 8), (2, 4), (3, 2), (8, 1), (20, 1), (-1, 1), (-6, 2), (-99, 8)])
def test_joblib_divides_the_cores_among_its_jobs(at_once: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_contention, "cores", lambda: 8)
    assert placed("joblib", f"hydra.launcher.n_jobs={at_once}") == [f"device.threads={threads}"]


@pytest.mark.parametrize(("given", "threads"), [("auto", 1), ("3", 2), ("20", 1)])
def test_slots_divide_the_cores(given: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert placed("slots", f"hydra.launcher.slots={given}") == [f"device.threads={threads}"]


@pytest.mark.parametrize(("launcher", "at_once"), [("basic", 1), ("joblib", 8), ("slots", 16), ("submitit_local", 1)])
def test_a_search_tries_as_many_at_once_as_suits_its_launcher(
    launcher: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    config = compose([f"hydra/launcher={launcher}", "hydra/sweeper=optuna"])
    launchers.with_job_settings(config, ())
    assert f"hydra.sweeper.n_jobs={at_once}" in config.hydra.overrides.hydra


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("submitit_local", "hydra.launcher.cpus_per_task=3"),
        ("submitit_slurm", "hydra.launcher.cpus_per_task=3"),
        ("ray", "hydra.launcher.ray.remote.num_cpus=3"),
    ],
)
def test_a_job_has_as_many_threads_as_it_asks_its_cluster_for_cores(name: str, override: str) -> None:
    assert placed(name, override) == ["device.threads=3"]


@pytest.mark.parametrize(
    ("name", "key", "given", "expected"),
    [
        ("slots", "slots", "two", "auto or a whole number of 1 or more"),
        ("slots", "slots", "0", "auto or a whole number of 1 or more"),
        ("slots", "per_card", "0.5", "a whole number of 1 or more"),
        ("slots", "cards", "all", r"auto or a list, such as \[0,1\]"),
        ("slots", "max_retries", "-1", "a whole number of 0 or more"),
        ("joblib", "n_jobs", "two", "a whole number other than 0"),
        ("joblib", "n_jobs", "0", "a whole number other than 0"),
        ("joblib", "n_jobs", "null", "a whole number other than 0"),
        ("submitit_local", "cpus_per_task", "1.5", "a whole number other than 0"),
        ("ray", "ray.remote.num_cpus", "two", "a number"),
    ],
)
def test_what_a_launcher_cannot_count_is_refused(name: str, key: str, given: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"hydra.launcher.{key}: .* is given; it should be {expected}$"):
        placed(name, f"hydra.launcher.{key}={given}", arguments=("seed=1,2",))


def test_threads_that_are_given_are_kept() -> None:
    assert placed("joblib", arguments=("seed=1,2", "device.threads=2")) == ["seed=1,2", "device.threads=2"]
    assert placed("joblib", "device.threads=2", arguments=("seed=1,2",)) == ["seed=1,2"]


def test_threads_that_an_experiments_file_sweeps_over_are_kept() -> None:
    config = compose(["hydra/launcher=joblib"])
    config.hydra.sweeper.params = {"device.threads": "1,2"}
    assert launchers.with_job_settings(config, ["seed=1,2"]) == ["seed=1,2"]


def test_one_job_after_the_other_has_what_torch_chooses() -> None:
    assert placed("basic", arguments=("seed=1,2",)) == ["seed=1,2"]


def test_the_sweeps_folder_is_named_in_full(workplace: Path) -> None:
    config = compose(["hydra/launcher=joblib", "hydra.sweep.dir=here"])
    launchers.with_job_settings(config, ())
    (override,) = OverridesParser.create().parse_overrides([config.hydra.overrides.hydra[-1]])
    assert (override.key_or_group, override.value()) == ("hydra.sweep.dir", str(workplace / "here"))


@pytest.mark.parametrize("name", ["plain", "it's", "a b", r"back\slash", "ends\\", r"\'", "a,b=[c]", "daş", "${x}"[1:]])
def test_any_folder_survives_hydras_grammar(name: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"key={quoted(name)}"])
    assert override.value() == name


class AwkwardError(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def test_an_error_that_cannot_travel_arrives_as_its_words() -> None:
    arrived = pickle.loads(pickle.dumps(launchers.portable(AwkwardError(1, 2))))
    assert (type(arrived), str(arrived)) == (TrainingError, "AwkwardError: 1 and 2")


@pytest.mark.parametrize("error", [ConfigError(Fault("a", "b"), Fault("c", "d")), TrainingError("e"), OSError(28, "f")])
def test_an_error_that_can_travel_is_left(error: Exception) -> None:
    assert launchers.portable(error) is error or str(launchers.portable(error)) == str(error)


def test_a_job_that_takes_too_long_is_told_with_the_way_on(tmp_path: Path) -> None:
    launcher = compose(["hydra/launcher=joblib", "hydra.launcher.timeout=5"]).hydra.launcher
    told = f"a job took longer than hydra.launcher.timeout=5 seconds; .* python -m experiments.resume {tmp_path}$"
    with pytest.raises(TrainingError, match=told), launchers.tolerate_failures(tmp_path, launcher):
        raise multiprocessing.TimeoutError


def test_a_job_on_a_machine_that_does_not_share_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="all machines have to share the sweep's folder"):
        launchers.require_shared(tmp_path, {"_target_": "hydra_plugins.experiments_sweeper.CheckedSweeper"})


def test_a_job_of_another_process_works_where_its_sweep_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, elsewhere = tmp_path / "began", tmp_path / "elsewhere"
    for folder in (began, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(elsewhere)
    place = Place(str(began), "my_net.py")
    monkeypatch.setattr(sweep_plan, "read", lambda _: sweep_plan.SweepPlan(place=place))
    monkeypatch.delenv(discovery.SETTING, raising=False)
    # What would hold for the tests' own process for ever.
    monkeypatch.setattr(secrets, "mask_process", lambda: None)
    monkeypatch.setattr(garbage, "collect_rarely", lambda: None)
    config: Any = compose([])
    config.hydra.job.num = 3
    launchers.settle_in(config)
    assert (Path.cwd(), os.environ.pop(discovery.SETTING)) == (began, "my_net.py")
