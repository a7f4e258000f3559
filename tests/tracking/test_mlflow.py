"""Every run in MLflow, read back with MLflow's own client from a real SQLite store."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from sqlalchemy import event
from sqlalchemy.engine import Engine

import experiments
from experiments.config.store_uri import masked, store_uri
from experiments.tracking import delivered, delivery, journal
from experiments.tracking.mlflow_store import Store
from experiments.tracking.sqlite_store import StoreError
from tests.support import raw_journal
from tests.support.forked import forked, kill
from tests.support.places import Cli

TINY = ["dataset=synthetic", "dataset.train=200", "dataset.valid=50"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One working folder with one tracked run, one sweep and one failed run in its store."""
    folder = tmp_path_factory.mktemp("tracked")
    for arguments in (
        [*TINY, "dataset.noise=20", "model=cnn_adaptive", "optim=sgd_momentum", "callbacks=weight_images"],
        ["-m", *TINY, "model=logistic,mlp", "optim=sgd_momentum,adam"],
        [*TINY, "optim.lr=1e30", "optim.momentum=0.9", "model=mlp", "epochs=3"],
    ):
        subprocess.run([sys.executable, "-m", "experiments", *arguments], cwd=folder, check=False, capture_output=True)
    waiting = time.monotonic() + 60
    while not all(delivered.state(path.parent).complete for path in folder.rglob(journal.FILE)):
        assert time.monotonic() < waiting, (folder / "outputs" / "uploader.log").read_text()
        time.sleep(0.1)
    return folder


def client(place: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{place / 'mlflow.db'}")


def runs(place: Path, experiment: str = "experiments", query: str = "") -> list[Run]:
    found = client(place).get_experiment_by_name(experiment)
    assert found is not None
    return list(client(place).search_runs([found.experiment_id], query))


def single(place: Path) -> Run:
    return runs(place, query="tags.model = 'cnn_adaptive'")[0]


def test_a_run_is_finished_with_its_losses_at_steps_0_and_1(place: Path) -> None:
    run = single(place)
    assert run.info.status == "FINISHED"
    for name in (
        "train/loss",
        "valid/loss",
        "train/accuracy",
        "valid/accuracy",
        "best/valid_loss",
        "time/epoch_seconds",
    ):
        assert [point.step for point in client(place).get_metric_history(run.info.run_id, name)] == [0, 1]


def test_mlflow_has_every_figure_of_the_journal_to_the_last_bit(place: Path) -> None:
    run = single(place)
    series = raw_journal.summary(Path(run.data.tags["experiments.folder"]))["series"]
    assert series
    for name, values in series.items():
        history = sorted(client(place).get_metric_history(run.info.run_id, name), key=lambda point: point.step)
        assert [point.value for point in history] == values


def test_params_are_the_dotted_leaves_of_the_configuration(place: Path) -> None:
    params = single(place).data.params
    assert params["optim.lr"] == "0.1"
    assert params["optim.momentum"] == "0.9"
    assert params["loader.batch_size"] == "64"
    assert params["limit_batches"] == "null"
    assert not any(key.startswith(("tutorial", "tracking", "output_root", "figures", "checkpoint")) for key in params)


def test_tags_are_the_choices_and_where_it_came_from(place: Path) -> None:
    tags = single(place).data.tags
    chosen = {"dataset": "synthetic", "model": "cnn_adaptive", "optim": "sgd_momentum", "loss": "cross_entropy"}
    assert chosen.items() <= tags.items()
    assert {"experiments.run_key", "experiments.folder", "mlflow.source.name", "mlflow.user"} <= set(tags)


def test_the_dataset_is_logged_as_inputs_with_digest(place: Path) -> None:
    logged = single(place).inputs
    assert logged is not None
    inputs = logged.dataset_inputs
    contexts = {tag.value for given in inputs for tag in given.tags}
    assert contexts == {"training", "validation"}
    assert {given.dataset.digest.split("-")[1] for given in inputs} == {"train", "valid"}
    assert json.loads(str(inputs[0].dataset.profile))["outputs"] == 10


def test_pictures_configuration_and_weights_are_artifacts(place: Path) -> None:
    def files(folder: str) -> set[str]:
        return {Path(item.path).name for item in client(place).list_artifacts(single(place).info.run_id, folder)}

    assert files("figures") == {
        *("first_digit.png", "digits.png", "loss_curves.png", "confusion_matrix.png", "worst_mistakes.png"),
        *("weights_untrained.png", "weights_epoch_0.png", "weights_epoch_1.png"),
    }
    assert files("config") == {"config.yaml", "overrides.yaml", "hydra.yaml"}
    assert files("weights") == {"weights.pt"}
    assert files("env") == {"environment.json"}
    assert files("") == {"figures", "config", "weights", "env", "experiments.log"}


def test_artifacts_lie_below_outputs(place: Path) -> None:
    assert single(place).info.artifact_uri.startswith((place / "outputs").as_uri())


def test_a_sweep_has_one_parent_and_its_jobs_are_its_children(place: Path) -> None:
    (parent,) = runs(place, "experiments-sweeps")
    children = runs(place, query=f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert parent.info.status == "FINISHED"
    assert [child.info.status for child in children] == ["FINISHED"] * 4


def test_a_sweeps_parent_has_its_command_and_its_best_run(place: Path) -> None:
    (parent,) = runs(place, "experiments-sweeps")
    tags, metrics = parent.data.tags, parent.data.metrics
    assert tags["mlflow.source.name"].startswith("python -m experiments -m ")
    assert parent.data.params["model"] == "logistic,mlp"
    best = client(place).get_run(tags["best/run"]).data.metrics
    assert metrics == {name: best[name] for name in ("best/valid_loss", "valid/loss", "valid/accuracy")}
    assert f"/runs/{tags['best/run']}?" in tags["mlflow.note.content"]


def test_the_jobs_of_a_sweep_are_named_by_what_varied(place: Path) -> None:
    (parent,) = runs(place, "experiments-sweeps")
    children = runs(place, query=f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert {child.info.run_name for child in children} == {
        f"{model} {optim}" for model in ("logistic", "mlp") for optim in ("sgd_momentum", "adam")
    }


def test_a_run_that_had_to_stop_is_failed_with_its_reason(place: Path) -> None:
    (run,) = runs(place, query="attributes.status = 'FAILED'")
    assert "is not finite at step" in run.data.tags["experiments.reason"]


def test_the_same_journal_again_changes_nothing(place: Path) -> None:
    run = single(place)
    folder = Path(run.data.tags["experiments.folder"])
    (folder / delivered.FILE).unlink()
    store = Store(f"sqlite:///{place / 'mlflow.db'}")
    assert delivery.Delivery(folder, store).advance()
    assert len(runs(place, query="tags.model = 'cnn_adaptive'")) == 1
    assert len(client(place).get_metric_history(run.info.run_id, "train/loss")) == 2
    assert single(place).info.status == "FINISHED"


def test_sync_finds_everything_delivered(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments import sync

    monkeypatch.chdir(place)
    assert sync.main([]) == 0


def test_a_deleted_experiment_is_told_with_the_way_back(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    store.client.delete_experiment(store.experiment("gone"))
    with pytest.raises(StoreError, match="mlflow experiments restore --experiment-id 1"):
        store.experiment("gone")


def test_a_database_that_is_none_is_told_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database at all, but 4 KB of text " * 110)
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert (tmp_path / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize("statements", [1, 20, 100])
def test_a_store_whose_making_was_killed_is_made_by_the_next_process(tmp_path: Path, statements: int) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert forked(lambda: _killed_after(statements, Store, uri)).code == -signal.SIGKILL
    assert Store(uri).experiment("made after it") == "1"


def test_a_store_that_mlflow_itself_left_half_made_is_told_with_what_to_do(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert forked(lambda: _killed_after(20, MlflowClient, uri)).code == -signal.SIGKILL
    with pytest.raises(StoreError, match="stopped half-way .* move the file away"):
        Store(uri)


def _killed_after(statements: int, opening: Callable[[str], object], uri: str) -> None:
    """Open a store, and be killed once so many statements have changed its tables."""
    seen: list[str] = []

    @event.listens_for(Engine, "after_cursor_execute")
    def count(connection: object, cursor: object, statement: str, *rest: object) -> None:
        seen.extend([statement] if statement.lstrip().startswith(("CREATE", "ALTER")) else [])
        if len(seen) == statements:
            kill()

    opening(uri)


@pytest.mark.slow
def test_a_run_that_cannot_be_tracked_still_ends_well(cli: Cli, workplace: Path) -> None:
    (workplace / "mlflow.db").write_bytes(b"no database at all, but 4 KB of text " * 110)
    done = cli(*TINY)
    assert done.returncode == 0
    assert "1 of 1 runs are not in MLflow" in done.stdout
    assert "python -m experiments.sync outputs/runs/" in done.stdout


@pytest.mark.slow
def test_tracking_none_leaves_no_store(cli: Cli, workplace: Path) -> None:
    assert cli(*TINY, "dataset.noise=20", "tracking=none").returncode == 0
    assert {path.name for path in workplace.iterdir()} == {"outputs"}
    assert len(list(workplace.rglob("figures/*.png"))) == 5


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_as_killed(number: int, code: int, workplace: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", *TINY, "epochs=100000"],
        cwd=workplace,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell starts what it puts into the background deaf to Ctrl-C, these tests perhaps.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 3"):
            break
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    (folder,) = [path.parent for path in workplace.rglob(journal.FILE)]
    assert raw_journal.summary(folder)["status"] == "KILLED"
    _wait_for(folder)
    assert runs(workplace)[0].info.status == "KILLED"


@pytest.mark.slow
def test_a_run_whose_process_is_killed_does_not_stay_running(workplace: Path) -> None:
    command = [sys.executable, "-m", "experiments", *TINY, "epochs=100000"]
    process = subprocess.Popen(command, cwd=workplace, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 3"):
            break
    process.kill()
    process.communicate(timeout=60)
    (folder,) = [path.parent for path in workplace.rglob(journal.FILE)]
    _wait_for(folder)
    assert runs(workplace)[0].info.status == "KILLED"


@pytest.mark.slow
def test_a_stages_words_are_the_runs_description(workplace: Path) -> None:
    options = ["stage=01_tensors", "language=uz", "dataset=digits", "figures=false"]
    result = experiments.run(options)
    note = client(workplace).get_run(str(result.run_id)).data.tags["mlflow.note.content"]
    assert note.startswith("## 1-bosqich: ")
    assert "`tutorial/last_batch_loss`: 0.0813" in note


@pytest.mark.slow
def test_a_stray_run_id_in_the_environment_is_not_used(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    result = experiments.run([*TINY, "figures=false"])
    assert result.run_id not in (None, "0" * 32)


def test_a_torn_last_line_is_left_until_it_is_whole(tmp_path: Path) -> None:
    written = journal.Journal(tmp_path)
    written.start()
    written.metrics({"train/loss": 1.0}, 0)
    written.close()
    with (tmp_path / journal.FILE).open("a", encoding="utf-8") as file:
        file.write('{"event": "metr')
    assert [event["event"] for event in raw_journal.read(tmp_path)] == ["start", "metrics"]
    journal.end(tmp_path, "KILLED")
    assert [event["event"] for event in raw_journal.read(tmp_path)] == ["start", "metrics", "end"]


def test_two_runs_never_share_a_folder(workplace: Path) -> None:
    options = [*TINY, "tracking=none", "figures=false"]
    result = experiments.run(options)
    with pytest.raises(FileExistsError):
        journal.Journal(Path(str(result.folder)))


def test_the_store_is_the_configured_one_else_the_environments_else_mlflows_own(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store_uri(None) == f"sqlite:///{workplace}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    assert store_uri(None) == "http://tracker:5000"
    assert store_uri("sqlite:///other.db") == f"sqlite:///{workplace}/other.db"


def test_a_password_in_an_address_is_masked() -> None:
    assert masked("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"


@pytest.mark.slow
def test_the_training_process_never_imports_mlflow(workplace: Path) -> None:
    code = (
        "import sys, experiments\n"
        f"experiments.run({[*TINY]!r})\n"
        "assert 'mlflow' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=workplace, check=True, capture_output=True, env=os.environ.copy())


def _wait_for(folder: Path) -> None:
    waiting = time.monotonic() + 30
    while not delivered.state(folder).ended:
        assert time.monotonic() < waiting
        time.sleep(0.05)
