"""`python -m experiments.sync`, and what the next start brings of what another process left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

import experiments
from experiments import sync
from experiments.errors import ConfigError
from experiments.tracking import client, delivered, delivery, journal
from experiments.tracking.mlflow_store import Store
from experiments.tracking.pending import Pending
from tests.support import raw_journal
from tests.support.tracked import (
    TINY,
    begin,
    brought,
    disown,
    journals,
    make_store,
    run_of,
    runs,
    store_of,
    training,
    write_run,
)
from tests.support.tracked import written as figures

Out = pytest.CaptureFixture[str]


@pytest.fixture
def outputs(workplace: Path) -> Path:
    """Where the runs of a working folder lie, beside an empty store."""
    make_store(workplace)
    return workplace / "outputs" / "runs"


def synced(out: Out, *arguments: str, code: int = 0) -> str:
    """The last line that sync prints."""
    out.readouterr()
    assert sync.main(list(arguments)) == code
    return out.readouterr().out.splitlines()[-1]


def test_sync_brings_what_is_missing_and_twice_changes_nothing(outputs: Path, workplace: Path, capsys: Out) -> None:
    folders = [write_run(outputs / str(number), store_of(workplace)) for number in range(3)]
    assert synced(capsys) == "3 uploaded"
    before = [(brought(store_of(workplace), folder), run_of(store_of(workplace), folder).info) for folder in folders]
    assert [series for series, _ in before] == [figures(folder) for folder in folders]
    assert synced(capsys) == "3 up to date"
    after = [(brought(store_of(workplace), folder), run_of(store_of(workplace), folder).info) for folder in folders]
    assert repr(after) == repr(before)


def test_a_store_that_was_lost_gets_all_again_and_nothing_twice(outputs: Path, workplace: Path, capsys: Out) -> None:
    folders = [write_run(outputs / str(number), store_of(workplace)) for number in range(2)]
    assert synced(capsys) == "2 uploaded"
    (workplace / "mlflow.db").rename(workplace / "lost.db")
    make_store(workplace)
    assert synced(capsys) == "2 up to date"
    for _ in range(2):
        assert synced(capsys, "--again") == "2 uploaded"
        assert [brought(store_of(workplace), folder) for folder in folders] == [figures(folder) for folder in folders]
    assert len(runs(store_of(workplace))) == 2


def test_a_run_that_was_brought_in_part_is_completed(outputs: Path, workplace: Path, capsys: Out) -> None:
    uri = store_of(workplace)
    run = begin(outputs / "0", uri)
    run.metrics({"train/loss": 1.0}, 0)
    assert not delivery.Delivery(outputs / "0", Store(uri, workplace)).advance()
    run.metrics({"train/loss": 0.5}, 1)
    run.end("FINISHED")
    assert synced(capsys) == "1 uploaded"
    assert brought(uri, outputs / "0") == {"train/loss": [(0, 1.0), (1, 0.5)]}


def test_a_journal_whose_last_line_is_damaged_is_there_already(outputs: Path, workplace: Path, capsys: Out) -> None:
    folder = write_run(outputs / "0", store_of(workplace))
    with (folder / journal.FILE).open("ab") as file:
        file.write(b"\x00\x00\n")
    assert synced(capsys) == "1 uploaded"
    assert synced(capsys) == "1 up to date"


def test_a_living_run_is_brought_as_far_as_it_is_and_goes_on(outputs: Path, workplace: Path, capsys: Out) -> None:
    uri = store_of(workplace)
    run = begin(outputs / "0", uri)
    run.metrics({"train/loss": 1.0}, 0)
    assert synced(capsys) == "1 still running"
    assert run_of(uri, outputs / "0").info.status == "RUNNING"
    assert brought(uri, outputs / "0") == {"train/loss": [(0, 1.0)]}
    run.end("FINISHED")
    assert synced(capsys) == "1 uploaded"
    assert run_of(uri, outputs / "0").info.status == "FINISHED"


def test_another_hosts_run_is_never_ended(outputs: Path, workplace: Path, capsys: Out) -> None:
    folder = write_run(outputs / "0", store_of(workplace), status=None)
    disown(folder, host="elsewhere", pid=12345)
    before = (folder / journal.FILE).read_bytes()
    sync.main([])
    assert "in use by process 12345 on elsewhere" in capsys.readouterr().out
    assert (folder / journal.FILE).read_bytes() == before
    assert run_of(store_of(workplace), folder).info.status == "RUNNING"


def test_runs_that_were_not_tracked_are_counted_and_left(outputs: Path, workplace: Path, capsys: Out) -> None:
    write_run(outputs / "0", None)
    write_run(outputs / "1", store_of(workplace))
    assert synced(capsys) == "1 uploaded, 1 not tracked"
    assert len(runs(store_of(workplace))) == 1


def test_a_run_that_was_not_tracked_is_brought_where_a_store_is_given(
    outputs: Path, workplace: Path, capsys: Out
) -> None:
    folder = write_run(outputs / "0", None)
    make_store(workplace, "given.db")
    assert synced(capsys, "--uri", "sqlite:///given.db") == "1 uploaded"
    assert brought(f"sqlite:///{workplace}/given.db", folder) == figures(folder)


def test_each_run_goes_to_the_store_it_was_begun_for(outputs: Path, workplace: Path, capsys: Out) -> None:
    make_store(workplace, "other.db")
    other = f"sqlite:///{workplace}/other.db"
    one, two = write_run(outputs / "0", store_of(workplace)), write_run(outputs / "1", other)
    assert synced(capsys) == "2 uploaded"
    assert brought(store_of(workplace), one) == figures(one)
    assert brought(other, two) == figures(two)


def test_a_store_whose_password_was_not_kept_asks_for_its_address(outputs: Path, workplace: Path, capsys: Out) -> None:
    folder = write_run(outputs / "0", "postgresql://me:***@host/db")
    assert sync.main([]) == 1
    told = capsys.readouterr()
    assert f"{folder}: its store is postgresql://me:***@host/db" in told.err
    assert "--uri" in told.err
    assert told.out == "1 failed\n"


def test_a_run_that_cannot_be_brought_does_not_hold_up_the_others(outputs: Path, workplace: Path, capsys: Out) -> None:
    write_run(outputs / "0", store_of(workplace), parent=str(workplace / "gone"))
    write_run(outputs / "1", store_of(workplace))
    assert synced(capsys, code=1) == "1 uploaded, 1 failed"


def test_a_folder_that_is_not_there_is_refused(workplace: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere: there is no such folder"):
        sync.main(["nowhere"])


def test_a_folder_without_runs_says_so(workplace: Path, capsys: Out) -> None:
    assert synced(capsys, ".") == "no runs"


def test_one_run_can_be_brought_alone(outputs: Path, workplace: Path, capsys: Out) -> None:
    folders = [write_run(outputs / str(number), store_of(workplace)) for number in range(2)]
    assert synced(capsys, str(folders[1])) == "1 uploaded"
    assert [run.info.run_name for run in runs(store_of(workplace))] == ["1"]


def test_a_sweep_and_its_jobs_are_each_there_once(outputs: Path, workplace: Path, capsys: Out) -> None:
    sweep = write_run(workplace / "outputs" / "sweeps" / "s", store_of(workplace), experiment="experiments-sweeps")
    for number in range(2):
        write_run(sweep / str(number), store_of(workplace), parent=str(sweep))
    assert synced(capsys) == "3 uploaded"
    assert len(runs(store_of(workplace))) == 3


def test_a_delivered_run_is_no_longer_noted_as_undelivered(outputs: Path, workplace: Path, capsys: Out) -> None:
    folder = write_run(outputs / "0", store_of(workplace))
    pending = Pending(workplace / "outputs")
    pending.add(folder)
    assert synced(capsys) == "1 uploaded"
    assert pending.runs() == []
    pending.add(folder)
    assert synced(capsys) == "1 up to date"
    assert pending.runs() == []


@pytest.mark.slow
def test_sync_ends_and_brings_a_run_that_was_killed_with_its_uploader(
    outputs: Path, workplace: Path, capsys: Out
) -> None:
    with training(workplace, *TINY, "epochs=100000") as killed:
        killed.until("epoch 3")
        assert len(killed.uploaders()) == 1
        killed.kill(uploaders=True)
    (abandoned,) = journals(workplace)
    assert raw_journal.summary(abandoned)["status"] == "RUNNING"
    assert Pending(workplace / "outputs").runs() == [abandoned]
    assert synced(capsys) == "1 uploaded"
    run = run_of(store_of(workplace), abandoned)
    assert (run.info.status, run.data.tags["experiments.reason"]) == ("KILLED", "its process died")
    assert brought(store_of(workplace), abandoned) == figures(abandoned)
    assert len(figures(abandoned)["train/loss"]) >= 4
    assert synced(capsys) == "1 up to date"


@pytest.mark.slow
def test_the_next_start_ends_and_brings_what_another_left(outputs: Path, workplace: Path) -> None:
    uri, outputs = store_of(workplace), workplace / "outputs"
    alive = begin(outputs / "alive", uri)
    abandoned = write_run(outputs / "abandoned", uri, status=None)
    foreign, elsewhere = write_run(outputs / "foreign", uri, status=None), "sqlite:////elsewhere/mlflow.db"
    disown(foreign, host="elsewhere")
    stuck = write_run(outputs / "stuck", uri, parent=str(workplace / "gone"))
    other = write_run(outputs / "other", elsewhere, status=None)
    ended = write_run(outputs / "ended", uri)
    for folder in (abandoned, outputs / "alive", foreign, stuck, other, ended, outputs / "removed since"):
        Pending(outputs).add(folder)
    untouched = {path: (path / journal.FILE).read_bytes() for path in (outputs / "alive", foreign, other)}

    own = Path(str(experiments.run(TINY).folder))
    client.close_all()

    assert sorted(Pending(outputs).runs()) == sorted([outputs / "alive", foreign, stuck, other])

    assert run_of(uri, abandoned).info.status == "KILLED"
    assert brought(uri, abandoned) == figures(abandoned)
    assert brought(uri, ended) == figures(ended)
    assert brought(uri, own) == figures(own)
    assert all(delivered.state(folder).complete for folder in (own, abandoned, ended))
    assert {path: (path / journal.FILE).read_bytes() for path in untouched} == untouched
    assert len(runs(uri)) == 3
    alive.close()


@pytest.mark.slow
def test_the_run_of_a_training_is_noted_until_it_is_delivered(
    outputs: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = []

    def look(own: journal.Journal, values: Mapping[str, float], step: int) -> None:
        noted.append(Pending(workplace / "outputs").runs())

    monkeypatch.setattr(journal.Journal, "metrics", look)
    folder = Path(str(experiments.run(TINY).folder))
    client.close_all()
    assert noted == [[folder]] * 3
    assert Pending(workplace / "outputs").runs() == []
    assert delivered.state(folder).complete
    assert json.loads((folder / delivered.FILE).read_text(encoding="utf-8"))["store"] == store_of(workplace)
