"""A trained model in MLflow: what is logged, without a pickle; loaded, registered and served."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickletools
import re
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow.models import get_model_info

import experiments
from experiments.runs import model_export
from experiments.tracking import delivered, models
from experiments.tracking.delivery import Delivery
from experiments.tracking.mlflow_store import Store
from tests.support.tracked import free_port, make_store, store_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,  # MLflow asks git for its version
    pytest.mark.filterwarnings("ignore:No complete tensor found in the group"),
]

RUN = ("dataset=synthetic", "dataset.train=64", "dataset.valid=32", "figures=false", "epochs=1", "tracking=none")
PICKLED = re.compile(rb"\x80[\x02-\x05].*\.\Z", re.DOTALL)
HARMLESS = {
    "PROTO",
    "NONE",
    "EMPTY_TUPLE",
    "EMPTY_DICT",
    "TUPLE1",
    "TUPLE2",
    "BINPUT",
    "STOP",
}  # of a lone ((None,), {})


class Logged:
    """A run that a store has, and its logged model."""

    def __init__(self, place: Path) -> None:
        make_store(place)
        found = experiments.run([*RUN, "model=cnn_adaptive", "device=cpu", f"output_root={place / 'outputs'}"]).folder
        assert found is not None
        self.folder, self.store = found, Store(store_of(place), place / "artifacts")
        assert Delivery(found, self.store).advance()
        self.run_id = delivered.state(found).run_id
        self.exported = model_export.export(found, "last")
        self.model_id = models.log(self.store, self.run_id, self.exported)
        (self.files,) = place.glob(f"artifacts/models/{self.model_id}/artifacts")
        self.images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        self.expected = experiments.load(found).to(memory_format=torch.channels_last)(self.images).detach()


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    before = mlflow.get_tracking_uri()
    yield Logged(tmp_path_factory.mktemp("models"))
    mlflow.set_tracking_uri(before)


def streams(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """A file, and all that is in it, however deep."""
    yield name, content
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for inner in archive.namelist():
                yield from streams(f"{name}/{inner}", archive.read(inner))


def test_no_file_of_a_logged_model_holds_a_pickle_that_names_or_builds_anything(logged: Logged) -> None:
    files = [path for path in logged.files.rglob("*") if path.is_file()]
    found = [stream for path in files for stream in streams(path.name, path.read_bytes())]
    assert "model.pt2" in [path.name for path in files]
    pickled = [(name, content) for name, content in found if name.endswith(".pkl") or PICKLED.match(content)]
    assert not [name for name, _ in found if name.endswith((".pth", ".pt", ".bin")) and "sample_inputs" not in name]
    for name, content in pickled:
        assert "/data/sample_inputs/" in name  # torch writes this record in each archive
        assert {opcode.name for opcode, _, _ in pickletools.genops(content)} <= HARMLESS


def test_mlflow_loads_it_where_pickles_are_forbidden(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    assert torch.equal(mlflow.pytorch.load_model(str(logged.files))(logged.images), logged.expected)


def test_the_signature_frees_the_number_and_the_size_of_the_images(logged: Logged) -> None:
    signature = get_model_info(str(logged.files)).signature
    assert [spec.shape for spec in signature.inputs] == [(-1, 1, -1, -1)]
    assert [spec.shape for spec in signature.outputs] == [(-1, 10)]


def test_the_model_is_the_runs_with_the_metrics_of_its_epoch(logged: Logged) -> None:
    client = logged.store.client
    run, model = client.get_run(logged.run_id), client.get_logged_model(logged.model_id)
    assert model.source_run_id == logged.run_id
    assert model.experiment_id == run.info.experiment_id
    assert {metric.key: metric.value for metric in model.metrics or ()}["valid/loss"] == run.data.metrics["valid/loss"]


def test_the_same_weights_are_logged_once(logged: Logged) -> None:
    assert models.log(logged.store, logged.run_id, logged.exported) == logged.model_id


def test_a_version_and_its_alias_lead_to_the_model(logged: Logged) -> None:
    version = models.register(logged.store, logged.model_id, logged.run_id, "it's", "champion")
    again = models.register(logged.store, logged.model_id, logged.run_id, "it's", "challenger")
    assert version == again == 1
    for alias in ("champion", "challenger"):
        model = mlflow.pytorch.load_model(f"models:/it's@{alias}")
        assert torch.equal(model(logged.images), logged.expected)


OWN = """
import torch
import experiments


class Own(torch.nn.Module):
    def __init__(self, data):
        super().__init__()
        self.layer = torch.nn.Linear(data.features, data.outputs)

    def forward(self, xb):
        return self.layer(xb.flatten(1)).sin()


@experiments.register.model("own_served")
def own(data):
    return Own(data)
"""


def test_register_then_serve_answers_with_the_bits_of_the_model_without_its_code(tmp_path: Path) -> None:
    make_store(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    plain = {name: value for name, value in os.environ.items() if name != "EXPERIMENTS_COMPONENTS"}
    environment = plain | {"EXPERIMENTS_COMPONENTS": str(tmp_path / "own.py")}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        words = (sys.executable, "-m", *words)
        return subprocess.run(words, cwd=tmp_path, env=environment, check=True, text=True, capture_output=True)

    command("experiments", *RUN[:-1], "model=own_served", "transforms=normalize")
    (folder,) = tmp_path.glob("outputs/runs/*/*")
    told = command("experiments.register", str(folder), "--name", "own", "--alias", "champion").stdout
    assert "models:/own/1 and models:/own@champion" in told
    images = torch.rand(3, 1, 28, 28)
    reference = (
        "import sys, json, torch, experiments; x = torch.tensor(json.load(sys.stdin))\n"
        f"print(json.dumps(experiments.load({str(folder)!r})((x - 0.1307) / 0.3081).tolist()))"
    )
    (tmp_path / "own.py").rename(tmp_path / "reference.py")
    environment["EXPERIMENTS_COMPONENTS"] = str(tmp_path / "reference.py")
    run = [sys.executable, "-c", reference]
    given = json.dumps(images.tolist())
    expected = subprocess.run(run, cwd=tmp_path, env=environment, input=given, text=True, capture_output=True).stdout
    (tmp_path / "reference.py").unlink()
    with served(plain | {"MLFLOW_TRACKING_URI": store_of(tmp_path)}, "models:/own@champion") as url:
        body = json.dumps({"inputs": images.tolist()}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            predictions = json.load(answer)["predictions"]
    assert torch.equal(torch.tensor(predictions), torch.tensor(json.loads(expected)))


@contextlib.contextmanager
def served(environment: dict[str, str], model: str) -> Iterator[str]:
    port = free_port()
    words = ["mlflow", "models", "serve", "--env-manager", "local", "-m", model, "-h", "127.0.0.1", "-p", str(port)]
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"}
    process = subprocess.Popen([sys.executable, "-m", *words], env=environment, start_new_session=True)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ping"):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, 15)
        process.wait()
