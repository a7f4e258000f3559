"""A run's journal: every figure once, whatever happens to the process, the disk or the file; and whose run it is."""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import Timeout

from experiments.errors import TrainingError
from experiments.tracking import ownership, record
from experiments.tracking.journal import FILE, Journal
from tests.support import raw_journal
from tests.support.tracked import begin, disown, write_run, written

HOLDER = """
import sys
from pathlib import Path
from experiments.tracking.journal import Journal

held = Journal(Path(sys.argv[1]))
held.start(name="run", store=None)
print("held", flush=True)
sys.stdin.read()
"""


class Holder:
    """Another process that trains the run in a folder."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=30)


@pytest.fixture
def held(tmp_path: Path) -> Holder:
    return Holder(tmp_path)


Patched = Callable[[list[int | None]], None]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Patched:
    """Let the next writes take so many bytes each, None being a full disk; the last one says it for all to come."""
    real = os.write

    def patch(script: list[int | None]) -> None:
        def write(file: int, content: bytes) -> int:
            taken = script.pop(0) if len(script) > 1 else script[0]
            if taken is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(file, content[:taken])

        monkeypatch.setattr(os, "write", write)

    return patch


WHOLE = 1_000_000


def test_each_figure_stands_once_for_each_step(tmp_path: Path) -> None:
    one = begin(tmp_path, None)
    one.metrics({"train/loss": 1.0}, 0)
    one.metrics({"train/loss": 2.0, "valid/loss": 3.0}, 0)
    one.metrics({"train/loss": 4.0}, 1)
    one.close()
    assert written(tmp_path) == {"train/loss": [(0, 1.0), (1, 4.0)], "valid/loss": [(0, 3.0)]}


def test_each_figure_stands_once_also_after_reopening(tmp_path: Path) -> None:
    write_run(tmp_path, None, steps=2, status=None)
    before = written(tmp_path)
    for _ in range(3):
        again = Journal(tmp_path, reopen=True)
        again.resume(changed={})
        again.metrics({"train/loss": 9.0, "valid/loss": 9.0}, 1)
        again.close()
    assert written(tmp_path) == before


def test_figures_that_are_no_finite_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    one = begin(tmp_path, None)
    one.metrics({"a": float("nan"), "b": float("inf"), "c": float("-inf"), "d": 0.1 + 0.2, "e": 5e-324}, 0)
    one.close()
    assert repr(raw_journal.read(tmp_path)[-1]["values"]) == repr(
        {"a": float("nan"), "b": float("inf"), "c": float("-inf"), "d": 0.30000000000000004, "e": 5e-324}
    )


def test_a_journal_is_never_begun_over_another(tmp_path: Path) -> None:
    write_run(tmp_path, None)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(FileExistsError):
        Journal(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_a_journal_is_there_with_its_start_or_not_at_all(tmp_path: Path) -> None:
    Journal(tmp_path).close()  # as a process that died then
    assert not (tmp_path / FILE).exists()
    begin(tmp_path, None).close()
    assert [event["event"] for event in raw_journal.read(tmp_path)] == ["start"]
    assert not list(tmp_path.glob("*.part"))


def test_a_torn_last_line_is_cut_on_reopening_wherever_it_was_torn(tmp_path: Path) -> None:
    write_run(tmp_path, None, steps=2, status=None)
    path, content = tmp_path / FILE, (tmp_path / FILE).read_bytes()
    last = content.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(content)):
        path.write_bytes(content[:end])
        Journal(tmp_path, reopen=True).close()
        assert path.read_bytes() == content[:last]


def test_a_figure_that_was_torn_off_is_taken_anew(tmp_path: Path) -> None:
    write_run(tmp_path, None, steps=2, status=None)
    whole = written(tmp_path)
    os.truncate(tmp_path / FILE, (tmp_path / FILE).stat().st_size - 9)
    again = Journal(tmp_path, reopen=True)
    again.metrics({name: points[1][1] for name, points in whole.items()}, 1)
    again.close()
    assert written(tmp_path) == whole


@pytest.mark.parametrize("damage", [b"\x00" * 40, b'{"event": "metrics", "ti', b"\xff\xfe not text", b"", b"[1]", b"7"])
def test_a_damaged_line_in_the_middle_is_left_out_with_a_warning(
    damage: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_run(tmp_path, None, steps=3)
    lines = (tmp_path / FILE).read_bytes().splitlines()
    lines[2] = damage
    (tmp_path / FILE).write_bytes(b"\n".join(lines) + b"\n")
    assert [step for step, _ in written(tmp_path)["train/loss"]] == [0, 2]
    assert record.read(tmp_path).status == "FINISHED"
    assert f"the line that ends at byte {len(b''.join(lines[:3])) + 3} is damaged" in caplog.text


@pytest.mark.parametrize(
    "script",
    [[None, None, WHOLE], [7, None, WHOLE], [7, 1, None, 3, None, WHOLE], [1] * 2000 + [WHOLE]],
    ids=["full", "partial", "partial twice", "byte by byte"],
)
def test_a_full_disk_loses_nothing_where_a_later_write_works(
    script: list[int | None], tmp_path: Path, disk: Patched
) -> None:
    one = begin(tmp_path, None)
    disk(script)
    for step in range(4):
        one.metrics({"train/loss": float(step)}, step)
    one.end("FINISHED")
    assert written(tmp_path) == {"train/loss": [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]}
    assert [event["event"] for event in raw_journal.read(tmp_path)] == ["start", *["metrics"] * 4, "end"]


def test_a_full_disk_is_told_when_it_happens(tmp_path: Path, disk: Patched, caplog: pytest.LogCaptureFixture) -> None:
    one = begin(tmp_path, None)
    disk([None, WHOLE])
    with caplog.at_level(logging.WARNING):
        one.metrics({"train/loss": 1.0}, 0)
    assert f"{tmp_path / FILE} cannot be written" in caplog.text
    one.end("FINISHED")


def test_a_sync_to_disk_that_fails_writes_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = begin(tmp_path, None)
    real = os.fsync

    def fail(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    one.metrics({"train/loss": 1.0}, 0)
    monkeypatch.setattr(os, "fsync", real)
    one.end("FINISHED")
    assert [event["event"] for event in raw_journal.read(tmp_path)] == ["start", "metrics", "end"]


def test_what_can_never_be_written_is_told_at_the_end_with_path_and_bytes(tmp_path: Path, disk: Patched) -> None:
    one = begin(tmp_path, None)
    disk([10, None])
    one.metrics({"train/loss": 0.125}, 0)
    with pytest.raises(TrainingError) as told:
        one.end("FINISHED")
    message = str(told.value)
    missing = message.partition("): ")[2].encode()
    assert message.startswith(f"{tmp_path / FILE} cannot be written, {len(missing)} bytes are missing there")
    assert b"0.125" in missing
    assert b'"FINISHED"' in missing


def test_a_run_that_could_not_be_ended_goes_on_once_there_is_room(
    tmp_path: Path, disk: Patched, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = begin(tmp_path, None)
    with monkeypatch.context():
        disk([10, None])
        one.metrics({"train/loss": 0.125}, 0)
        with pytest.raises(TrainingError):
            one.end("FINISHED")
    disk([WHOLE])
    again = Journal(tmp_path, reopen=True)
    again.metrics({"train/loss": 0.125}, 0)
    again.end("FINISHED")
    assert written(tmp_path) == {"train/loss": [(0, 0.125)]}
    assert record.read(tmp_path).status == "FINISHED"


def test_a_second_owner_is_refused_while_the_first_lives(held: Holder, tmp_path: Path) -> None:
    with pytest.raises(Timeout):
        Journal(tmp_path, reopen=True)
    with pytest.raises(Timeout):
        Journal(tmp_path, reopen=True, wait_seconds=0.2)
    held.kill()


def test_a_second_owner_in_the_same_process_is_refused_as_well(tmp_path: Path) -> None:
    one = begin(tmp_path, None)
    with pytest.raises(Timeout):
        Journal(tmp_path, reopen=True)
    one.close()
    Journal(tmp_path, reopen=True).close()


def test_a_refused_owner_changes_nothing(held: Holder, tmp_path: Path) -> None:
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"event": "being writ')
    with pytest.raises(Timeout):
        Journal(tmp_path, reopen=True)
    assert (tmp_path / FILE).read_bytes().endswith(b"being writ")
    held.kill()


def test_a_run_is_free_once_its_owner_is_killed(held: Holder, tmp_path: Path) -> None:
    held.kill()
    Journal(tmp_path, reopen=True).close()


def test_an_owner_that_could_not_open_the_journal_lets_go(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Journal(tmp_path, reopen=True)
    begin(tmp_path, None).close()


def test_the_run_of_a_dead_process_is_ended_as_killed(held: Holder, tmp_path: Path) -> None:
    held.kill()
    assert ownership.mark_killed(tmp_path, "its process died")
    run = record.read(tmp_path)
    assert (run.status, run.reason) == ("KILLED", "its process died")


def test_the_run_of_a_living_process_is_not_touched(held: Holder, tmp_path: Path) -> None:
    before = (tmp_path / FILE).read_bytes()
    assert not ownership.mark_killed(tmp_path, "its process died")
    assert (tmp_path / FILE).read_bytes() == before
    held.kill()


def test_another_hosts_run_is_not_touched(tmp_path: Path) -> None:
    write_run(tmp_path, None, status=None)
    disown(tmp_path, host="elsewhere")
    before = (tmp_path / FILE).read_bytes()
    assert not ownership.mark_killed(tmp_path, "its process died")
    assert (tmp_path / FILE).read_bytes() == before


def test_a_run_that_another_host_went_on_with_is_not_touched(tmp_path: Path) -> None:
    write_run(tmp_path, None)
    again = Journal(tmp_path, reopen=True)
    again.resume(changed={})
    again.close()
    lines = (tmp_path / FILE).read_text(encoding="utf-8").splitlines(keepends=True)
    event = json.loads(lines[-1])
    event["owner"]["host"] = "elsewhere"
    (tmp_path / FILE).write_text("".join([*lines[:-1], json.dumps(event) + "\n"]), encoding="utf-8")
    assert not ownership.mark_killed(tmp_path, "its process died")
    assert record.read(tmp_path).status == "RUNNING"


def test_an_ended_run_is_not_ended_again(tmp_path: Path) -> None:
    write_run(tmp_path, None, status="FAILED")
    before = (tmp_path / FILE).read_bytes()
    assert ownership.mark_killed(tmp_path, "its process died")
    assert (tmp_path / FILE).read_bytes() == before


def test_a_resumed_run_is_running_until_it_ends_again(tmp_path: Path) -> None:
    write_run(tmp_path, None, status="KILLED")
    again = Journal(tmp_path, reopen=True)
    again.resume(changed={})
    status = functools.partial(lambda: record.read(tmp_path).status)
    assert status() == "RUNNING"
    again.end("FINISHED")
    assert status() == "FINISHED"
