"""One journal into MLflow: each event once, however often it is sent and wherever the uploader died meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from experiments.tracking import delivered, journal
from experiments.tracking.delivered import FILE
from experiments.tracking.delivery import Delivery, is_final
from experiments.tracking.journal import Journal
from experiments.tracking.mlflow_store import Store
from experiments.tracking.pending import Pending
from tests.support.tracked import begin, brought, make_store, run_of, runs, store_of, write_run, written

WRITING = (
    "create_experiment",
    "create_run",
    "log_batch",
    "log_inputs",
    "update_run",
    "set_terminated",
    "log_artifact",
)


class Dies(BaseException):
    """The uploader is killed: nothing catches this."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("delivered")
    make_store(folder)
    return folder


@pytest.fixture(scope="module")
def store(place: Path) -> Store:
    """One real SQLite store; each test has its own runs in it."""
    return Store(store_of(place), place / "artifacts")


@pytest.fixture
def mortal(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], list[str]]:
    """Let the client die at its k-th write, before the write or right after it; the writes until then."""

    def patch(k: int, when: str) -> list[str]:
        done: list[str] = []

        def dying(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def write(*arguments: Any, **options: Any) -> Any:
                if len(done) == k and when == "before":
                    raise Dies
                result = real(*arguments, **options)
                done.append(name)
                if len(done) == k + 1 and when == "after":
                    raise Dies
                return result

            return write

        monkeypatch.undo()
        for name in WRITING:
            monkeypatch.setattr(store.client, name, dying(name, getattr(store.client, name)))
        return done

    return patch


def deliver(folder: Path, store: Store) -> None:
    one = Delivery(folder, store)
    if one.advance():
        one.finish()


def resumed_run(folder: Path, store: str) -> Path:
    """A run that was killed, went on with another setting, and finished."""
    write_run(folder, store, steps=2, status="KILLED")
    again = Journal(folder, reopen=True)
    again.resume(changed={"epochs": "4"})
    for step in range(4):
        again.metrics({"train/loss": float(step), "valid/loss": 2.0**-step}, step)
    again.end("FINISHED")
    (folder / "error.txt").write_text("an artifact", encoding="utf-8")
    return folder


def assert_there_once(folder: Path, uri: str, status: str = "FINISHED") -> None:
    assert brought(uri, folder) == written(folder)
    assert run_of(uri, folder).info.status == status


@pytest.mark.long
def test_a_journal_that_is_sent_again_and_again_is_there_once(place: Path, store: Store) -> None:
    folder = resumed_run(place / "again", store.uri)
    for _ in range(4):
        deliver(folder, store)
        assert_there_once(folder, store.uri)
        (folder / FILE).unlink()


def test_metrics_that_wait_for_others_arrive_when_it_is_time(place: Path, store: Store) -> None:
    folder = place / "grows"
    grows = begin(folder, store.uri)
    one = Delivery(folder, store, every=3600)
    one.advance()
    grows.metrics({"loss": 1.0}, 0)
    one.advance()
    one.advance()
    assert brought(store.uri, folder) == {}
    one.every = 0
    one.advance()
    assert brought(store.uri, folder) == written(folder)
    grows.close()


@pytest.mark.long
@pytest.mark.parametrize("when", ["before", "after"])
def test_each_event_arrives_once_wherever_the_uploader_was_killed(
    when: str, place: Path, store: Store, mortal: Callable[[int, str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(20):
        folder = resumed_run(place / f"killed_{when}_{k}", store.uri)
        done = mortal(k, when)
        try:
            deliver(folder, store)
        except Dies:
            monkeypatch.undo()
        else:
            break
        deliver(folder, Store(store.uri, place / "artifacts"))
        assert_there_once(folder, store.uri)
    assert k > 7
    assert {"create_run", "log_batch", "log_inputs", "update_run", "set_terminated", "log_artifact"} <= set(done)


@pytest.mark.parametrize("at", [0, 1])
def test_each_event_arrives_once_where_the_uploader_died_before_it_noted_how_far_it_got(
    at: int, place: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = resumed_run(place / f"unnoted_{at}", store.uri), delivered.write
    saves: list[Path] = []

    def save(where: Path, progress: delivered.Delivered) -> None:
        saves.append(where)
        if len(saves) == at + 1:
            raise Dies
        real(where, progress)

    with monkeypatch.context() as patched:
        patched.setattr(delivered, "write", save)
        with pytest.raises(Dies):
            deliver(folder, store)
    deliver(folder, store)
    assert_there_once(folder, store.uri)


def test_a_growing_journal_is_there_once_whatever_the_uploader_saw_of_it(place: Path, store: Store) -> None:
    folder = place / "growing"
    whole = (write_run(place / "whole", store.uri) / journal.FILE).read_bytes()
    folder.mkdir()
    for end in range(0, len(whole) + 1, 97):
        (folder / journal.FILE).write_bytes(whole[:end])
        Delivery(folder, store).advance()
    (folder / journal.FILE).write_bytes(whole)
    assert Delivery(folder, store).advance()
    assert_there_once(folder, store.uri)


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\x00" * 64, b'{"store": "sqlite', b"\xff\xfe", b"null", b"[]", b'"text"', b"7"],
)
def test_a_damaged_note_of_how_far_it_got_is_harmless(garbage: bytes, tmp_path: Path, store: Store) -> None:
    folder = write_run(tmp_path, store.uri)
    deliver(folder, store)
    (folder / FILE).write_bytes(garbage)
    deliver(folder, store)
    assert_there_once(folder, store.uri)
    assert json.loads((folder / FILE).read_text(encoding="utf-8"))["complete"]


def test_a_killed_run_that_goes_on_is_running_again_and_then_finished(place: Path, store: Store) -> None:
    folder = write_run(place / "resumed", store.uri, steps=1, status="KILLED")
    deliver(folder, store)
    assert run_of(store.uri, folder).info.status == "KILLED"
    again = Journal(folder, reopen=True)
    again.resume(changed={"epochs": "5"})
    again.metrics({"train/loss": 0.5}, 1)
    deliver(folder, store)
    assert run_of(store.uri, folder).info.status == "RUNNING"
    again.end("FINISHED")
    deliver(folder, store)
    assert_there_once(folder, store.uri)


def test_files_wait_for_the_end_of_a_run_that_goes_on_and_then_come(place: Path, store: Store) -> None:
    folder = write_run(place / "twice", store.uri, steps=1, status="KILLED")
    (folder / "error.txt").write_text("before", encoding="utf-8")
    one = Delivery(folder, store)
    assert one.advance()
    again = Journal(folder, reopen=True)
    again.resume(changed={})
    assert not Delivery(folder, store).advance()  # another's, who follows the run that goes on
    assert not one.finish()
    again.end("FINISHED")
    deliver(folder, store)
    assert {file.path for file in store.client.list_artifacts(run_of(store.uri, folder).info.run_id)} == {"error.txt"}


@pytest.mark.parametrize("when", ["before its files are sent", "meanwhile", "as the mark is removed"])
def test_a_run_that_goes_on_while_its_end_is_delivered_stays_marked(
    when: str, place: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pending = write_run(place / when / "run", store.uri, steps=1, status="KILLED"), Pending(place / when)
    (folder / "error.txt").write_text("before", encoding="utf-8")
    pending.add(folder)
    one = Delivery(folder, store, pending)
    assert one.advance()

    def resumed() -> None:
        Journal(folder, reopen=True).resume(changed={})
        pending.add(folder)

    moments = {"meanwhile": (store, "file"), "as the mark is removed": (pending, "remove")}
    if when in moments:
        owner, name = moments[when]
        real = getattr(owner, name)

        def resumed_first(*given: Any) -> Any:
            resumed()
            return real(*given)

        monkeypatch.setattr(owner, name, resumed_first)
    else:
        resumed()
    one.finish()
    assert pending.runs() == [folder]
    assert not delivered.arrived(folder)


def test_what_ended_a_run_is_no_reason_any_more_once_it_went_on(place: Path, store: Store) -> None:
    folder = write_run(place / "reason", store.uri, steps=1, status=None)
    journal.end(folder, "KILLED", "its process died")
    deliver(folder, store)
    assert run_of(store.uri, folder).data.tags["experiments.reason"] == "its process died"
    again = Journal(folder, reopen=True)
    again.resume(changed={})
    again.end("FINISHED")
    deliver(folder, store)
    assert not run_of(store.uri, folder).data.tags["experiments.reason"]


def test_a_run_that_was_deleted_in_mlflow_is_refused_for_good(place: Path, store: Store) -> None:
    folder = place / "deleted"
    grows = begin(folder, store.uri)
    one = Delivery(folder, store)
    one.advance()
    store.client.delete_run(run_of(store.uri, folder).info.run_id)
    grows.end("FINISHED")
    with pytest.raises(MlflowException) as refused:
        one.advance()
    assert is_final(refused.value)


def test_what_changed_when_a_run_went_on_is_a_tag_and_its_params_stay(place: Path, store: Store) -> None:
    folder = resumed_run(place / "changed", store.uri)
    deliver(folder, store)
    data = run_of(store.uri, folder).data
    assert data.tags["experiments.resumed.epochs"] == "4"
    assert data.params == {"optim.lr": "0.1", "epochs": "3"}


def test_files_that_a_resumed_run_made_anew_take_the_place_of_the_old(place: Path, store: Store) -> None:
    folder = write_run(place / "files", store.uri, steps=1, status="KILLED")
    (folder / "summary.md").write_text("before", encoding="utf-8")
    deliver(folder, store)
    again = Journal(folder, reopen=True)
    again.resume(changed={})
    again.end("FINISHED")
    (folder / "summary.md").write_text("after", encoding="utf-8")
    deliver(folder, store)
    client, run = MlflowClient(store.uri), run_of(store.uri, folder)
    assert Path(client.download_artifacts(run.info.run_id, "summary.md")).read_text(encoding="utf-8") == "after"


def test_a_tag_after_the_end_arrives_and_the_end_stays_where_it_is(place: Path, store: Store) -> None:
    folder = write_run(place / "tagged", store_of(place))
    deliver(folder, store)
    before = run_of(store_of(place), folder)
    journal.tag(folder, {"found": "later"})
    deliver(folder, store)
    after = run_of(store_of(place), folder)
    assert after.data.tags == before.data.tags | {"found": "later"}
    assert after.info.to_proto() == before.info.to_proto()


def test_another_store_gets_everything(place: Path, store: Store, tmp_path: Path) -> None:
    folder = resumed_run(place / "elsewhere", store.uri)
    deliver(folder, store)
    make_store(tmp_path)
    other = Store(store_of(tmp_path), tmp_path / "artifacts")
    deliver(folder, other)
    assert_there_once(folder, other.uri)
    assert {file.path for file in other.client.list_artifacts(run_of(other.uri, folder).info.run_id)} == {"error.txt"}


def test_a_job_brings_its_sweep_first_and_once(place: Path, store: Store) -> None:
    sweep = write_run(place / "sweep", store.uri, steps=0, experiment="experiments-sweeps")
    jobs = [write_run(sweep / str(number), store.uri, parent=str(sweep)) for number in range(3)]
    for job in jobs:
        deliver(job, store)
    parent = run_of(store.uri, sweep).info.run_id
    assert [run_of(store.uri, job).data.tags["mlflow.parentRunId"] for job in jobs] == [parent] * 3
    assert len([run for run in runs(store.uri) if run.info.run_name == "sweep"]) == 1


def test_pictures_that_cannot_be_drawn_do_not_hold_up_the_other_files(place: Path, store: Store) -> None:
    folder = write_run(place / "pictures", store.uri)
    (folder / "pictures.npz").write_bytes(b"no pictures")
    (folder / "weights.pt").write_bytes(b"weights")
    (folder / "config.yaml").write_text("epochs: 3", encoding="utf-8")
    one = Delivery(folder, store)
    assert one.advance()
    assert one.finish()
    found = {item.path for item in store.client.list_artifacts(run_of(store.uri, folder).info.run_id)}
    assert found == {"weights", "config"}
    assert delivered.state(folder).complete


def test_files_that_a_callback_writes_become_artifacts_below_files(place: Path, store: Store) -> None:
    folder = write_run(place / "with files", store.uri)
    for name in ("samples.png", "samples/epoch 1.png", ".hidden/y", "checkpoints/epoch.pt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"content")
    deliver(folder, store)
    run_id, client = run_of(store.uri, folder).info.run_id, store.client
    assert {item.path for item in client.list_artifacts(run_id)} == {"files"}
    found = {item.path for part in ("files", "files/samples") for item in client.list_artifacts(run_id, part)}
    assert found >= {"files/samples.png", "files/samples", "files/samples/epoch 1.png"}


def test_a_damaged_figure_is_left_out_and_the_others_arrive(place: Path, store: Store) -> None:
    folder = write_run(place / "damaged", store.uri)
    lines = (folder / journal.FILE).read_bytes().splitlines(keepends=True)
    lines[2] = b"\x00" * 30 + b"\n"
    (folder / journal.FILE).write_bytes(b"".join(lines))
    deliver(folder, store)
    assert_there_once(folder, store.uri)
    assert [step for step, _ in brought(store.uri, folder)["train/loss"]] == [0, 2]


def test_what_was_told_of_a_failure_is_forgotten_when_another_attempt_begins(tmp_path: Path) -> None:
    folder = write_run(tmp_path, None)
    delivered.report(folder, ValueError("out of reach\nand a lot of SQL"), final=False)
    assert delivered.state(folder).error == "out of reach"
    delivered.forget_error(folder)
    assert not delivered.state(folder).error


def test_a_password_in_an_error_is_not_written_down(tmp_path: Path) -> None:
    folder = write_run(tmp_path, None)
    delivered.report(folder, ValueError("no answer from http://me:secret@tracker:5000"), final=False)
    assert "secret" not in (folder / FILE).read_text(encoding="utf-8")
