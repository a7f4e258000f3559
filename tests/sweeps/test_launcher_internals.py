"""The launchers still have what they do not promise and we use."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest
from omegaconf import OmegaConf

from experiments.sweeps import launcher_internals
from tests.support import internals

MODULE = "sweeps/launcher_internals.py"
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
]


@pytest.mark.parametrize(("distribution", "read_from", "module", "names"), READ, ids=[each[0] for each in READ])
def test_a_plugin_has_the_names_that_we_use(distribution: str, read_from: str, module: str, names: list[str]) -> None:
    try:
        version(distribution)
    except PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed")
    internals.require(distribution, read_from, names, module)


def test_an_error_of_another_package_is_not_a_launcher_that_gave_up() -> None:
    launcher = OmegaConf.create({})
    assert launcher_internals.why_gave_up(RuntimeError("out of luck"), launcher) is None
