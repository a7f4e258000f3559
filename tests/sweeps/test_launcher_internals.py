"""The launchers and Optuna still have what they do not promise and we use."""

from __future__ import annotations

import warnings
from importlib.metadata import PackageNotFoundError, version

import pytest
from omegaconf import OmegaConf

from experiments.sweeps import launcher_internals
from tests.support import internals

MODULE, SEARCH = "sweeps/launcher_internals.py", "sweeps/optuna_internals.py"
READ = [
    (
        "hydra-joblib-launcher",
        "1.2.0",
        MODULE,
        ["hydra_plugins.hydra_joblib_launcher.joblib_launcher:JoblibLauncher", "joblib"],
    ),
    (
        "hydra-submitit-launcher",
        "1.2.0",
        MODULE,
        [
            "hydra_plugins.hydra_submitit_launcher.submitit_launcher:LocalLauncher",
            "hydra_plugins.hydra_submitit_launcher.submitit_launcher:SlurmLauncher",
        ],
    ),
    (
        "submitit",
        "1.5.4",
        MODULE,
        [
            "submitit.core.core:Job.results",
            "submitit.core.utils:FailedJobError",
            "submitit.core.utils:UncompletedJobError",
        ],
    ),
    ("hydra-ray-launcher", "1.2.2", MODULE, ["hydra_plugins.hydra_ray_launcher.ray_launcher:RayLauncher"]),
    ("ray", "2.60.0", MODULE, ["ray:get", "ray.exceptions:RayError"]),
    (
        "hydra-optuna-sweeper",
        "1.3.0",
        SEARCH,
        [
            "hydra_plugins.hydra_optuna_sweeper._impl:OptunaSweeperImpl.sweep",
            "hydra_plugins.hydra_optuna_sweeper._impl:create_params_from_overrides",
        ],
    ),
    (
        "optuna",
        "2.10.1",
        SEARCH,
        [
            "optuna.samplers:BaseSampler.infer_relative_search_space",
            "optuna.samplers:BaseSampler.sample_relative",
            "optuna.samplers:BaseSampler.sample_independent",
            "optuna.samplers:BaseSampler.after_trial",
            "optuna.samplers:BaseSampler.reseed_rng",
            "optuna.samplers:GridSampler",
            "optuna.distributions:LogUniformDistribution",
            "optuna.distributions:UniformDistribution",
        ],
    ),
]


@pytest.mark.parametrize(("distribution", "read_from", "module", "names"), READ, ids=[each[0] for each in READ])
def test_a_plugin_has_the_names_that_we_use(distribution: str, read_from: str, module: str, names: list[str]) -> None:
    try:
        version(distribution)
    except PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed")
    with warnings.catch_warnings():  # Optuna 2.10 is older than the SQLAlchemy that MLflow requires
        warnings.simplefilter("ignore")
        internals.require(distribution, read_from, names, module)


def test_the_optuna_plugin_takes_the_parameters_that_we_pass() -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    from experiments.sweeps.optuna_internals import OptunaSweeperImpl

    passed = {"sampler", "direction", "storage", "study_name", "n_trials", "n_jobs", "max_failure_rate"}
    passed |= {"search_space", "custom_search_space", "params"}
    internals.require_parameters("hydra-optuna-sweeper", "1.3.0", {OptunaSweeperImpl: passed}, SEARCH)


def test_an_error_of_another_package_is_not_a_launcher_that_gave_up() -> None:
    launcher = OmegaConf.create({})
    assert launcher_internals.why_gave_up(RuntimeError("out of luck"), launcher) is None
