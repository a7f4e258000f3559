"""Live lines and colour on a terminal; plain lines, and no escape code, in a pipe or a file."""

from __future__ import annotations

import io
import itertools
import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments import live
from tests.support.places import ROOT
from tests.support.terminal import Shown

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\]8;[^\x1b]*\x1b\\")


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """A terminal of 80 columns as this process's output."""
    stream = io.StringIO()
    monkeypatch.setattr(live, "_is_terminal", lambda _stream: True)
    console = live.console(
        file=stream,
        force_terminal=True,
        color_system="standard",
        width=80,
    )
    monkeypatch.setattr(live, "_made", lambda _stderr: console)
    monkeypatch.setattr(live, "_screen", live._Screen())
    monkeypatch.setattr(sys, "breakpointhook", sys.breakpointhook)
    yield stream
    live._screen.remove(*live._screen.phases)


def logged(stream: io.StringIO, text: str, **extra: object) -> str:
    before = len(stream.getvalue())
    live.LogHandler(stream).emit(logging.makeLogRecord({"msg": text, "levelno": logging.INFO, **extra}))
    return stream.getvalue()[before:]


def test_a_log_line_in_a_pipe_has_no_escape_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    line = "view http://127.0.0.1:5000/#/" + 300 * "x"
    assert logged(io.StringIO(), line, styles={0: "bold"}, levelno=logging.ERROR) == f"{line}\n"


def test_an_output_that_can_only_write_is_no_terminal() -> None:
    class Output:
        def write(self, text: str) -> int:
            return len(text)

    assert not live._is_terminal(Output())
    assert not live._is_terminal(None)


def test_nothing_is_drawn_in_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    with live.phase("epoch 0 of 2", 10) as shown:
        shown.at(5)
        assert not shown.drawn
    assert capfd.readouterr() == ("", "")


def test_what_takes_minutes_logs_a_plain_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with live.phase("epoch 0 of 2", 2000) as shown:
        shown.due = 0.0
        for done in (1000, 1001):
            shown.at(done, lambda: "loss 0.3021")
    (line,) = (record.getMessage() for record in caplog.records)
    assert re.fullmatch(r"epoch 0 of 2: 1,000 of 2,000, loss 0\.3021, 0\.\d s left", line)


def test_a_live_line_shows_its_title_note_and_rest(screen: io.StringIO) -> None:
    with live.phase("job 12 of 36", 36, 11) as shown:
        time.sleep(0.02)
        shown.at(12, lambda: "best 0.2611 of job 3")
        live._screen.live.refresh()  # type: ignore[union-attr]
    drawn = ESCAPES.sub("", screen.getvalue()).split("\r")
    assert any(re.search(r"job 12 of 36 .* best 0\.2611 of job 3 \d\.\d s left", line) for line in drawn)


def test_a_live_line_is_one_line_on_a_narrow_terminal(screen: io.StringIO) -> None:
    with live.phase("a title " * 10, 10) as shown:
        shown.at(1, lambda: "a note " * 10)
        live._screen.live.refresh()  # type: ignore[union-attr]
    assert "\n" not in ESCAPES.sub("", screen.getvalue()).strip()


def test_nothing_is_left_of_live_lines(screen: io.StringIO) -> None:
    with live.phase("loading"), live.phase("uploading", 3):
        pass
    assert live._screen.live is None
    assert ESCAPES.sub("", screen.getvalue().rpartition("\x1b[2K")[2]).strip() == ""


def test_the_note_is_read_no_more_often_than_the_line_is_drawn(screen: io.StringIO) -> None:
    reads = itertools.count()
    with live.phase("epoch", 10**6) as shown:
        until, done = time.monotonic() + 0.5, 0
        while time.monotonic() < until:
            shown.at(done := done + 1, lambda: str(next(reads)))
    assert 1 <= next(reads) <= 0.5 * live.PER_SECOND + 2


def test_a_long_address_is_cut_and_the_link_is_whole(screen: io.StringIO) -> None:
    address = f"http://127.0.0.1:5000/#/metric?runs={500 * 'x'}"
    text = logged(screen, f"curves  {address}")
    assert f";{address}\x1b\\" in text
    assert len(ESCAPES.sub("", text).rstrip("\n")) <= 80


def test_a_short_address_is_whole(screen: io.StringIO) -> None:
    text = logged(screen, "view    http://127.0.0.1:5000/#/experiments/1/runs?a=b")
    assert ESCAPES.sub("", text) == "view    http://127.0.0.1:5000/#/experiments/1/runs?a=b\n"


def test_a_line_of_a_record_has_its_style(screen: io.StringIO) -> None:
    assert logged(screen, "job  loss\n0    0.1", styles={0: "bold"}) == "\x1b[1mjob  loss\x1b[0m\n0    0.1\n"


def test_a_process_that_leaves_the_terminal_to_another_writes_plain_lines_over_its_live_line(
    screen: io.StringIO,
) -> None:
    assert live.turn_off() == live.turn_off() == "\r\x1b[K"
    assert logged(screen, "[0] epoch 0", styles={0: "bold"}) == "[0] epoch 0\n"
    with live.phase("epoch") as shown:
        assert not shown.drawn


@pytest.mark.parametrize(
    ("seconds", "words"), [(1.2, "1.2 s"), (119, "119.0 s"), (120, "2.0 min"), (7199, "120.0 min"), (9000, "2.5 h")]
)
def test_a_time_is_in_the_unit_of_which_it_has_two(seconds: float, words: str) -> None:
    assert live.duration(seconds) == words


def test_rich_is_not_imported_before_there_is_a_terminal() -> None:
    code = "import sys, experiments.live as live\nwith live.phase('x'): print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("line", "breaks", "width", "folded"),
    [
        ("epoch 0  a 1.0  b 2.0  0.1 s", "  ", 80, ["epoch 0  a 1.0  b 2.0  0.1 s"]),
        ("epoch 0  a 1.0  b 2.0  0.1 s", "  ", 15, ["epoch 0  a 1.0", "         b 2.0", "         0.1 s"]),
        ("         a 1.0  b 2.0", "  ", 15, ["         a 1.0", "         b 2.0"]),
        ("tail a-word-that-is-wider", " ", 10, ["tail", "         a-word-that-is-wider"]),
        ("resume: python -m experiments.resume latest", "", 10, ["resume: python -m experiments.resume latest"]),
    ],
)
def test_a_wide_line_is_broken_where_its_record_permits(line: str, breaks: str, width: int, folded: list[str]) -> None:
    assert live.fold(line, breaks, width).split("\n") == folded


def test_a_pipe_gets_a_wide_line_whole() -> None:
    assert logged(io.StringIO(), 50 * "a 1  ", breaks="  ") == f"{50 * 'a 1  '}\n"


def test_a_terminal_breaks_no_metric_from_its_value(screen: io.StringIO) -> None:
    text = ESCAPES.sub("", logged(screen, "  ".join(f"metric_{number} 0.5" for number in range(9)), breaks="  "))
    assert max(map(len, text.splitlines())) <= 80
    assert all(f"metric_{number} 0.5" in text for number in range(9))


def test_a_line_that_is_written_while_the_live_ones_change_leaves_none_of_these(
    screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        """Text that takes many frames of the live lines."""

        def __rich_console__(self, *_: object) -> Iterator[str]:
            time.sleep(0.2)
            yield "a line"

    monkeypatch.setattr(live, "PER_SECOND", 500)
    with live.phase("job", 3), live.phase("epoch", 3):
        live._made(False).print(Slow())  # type: ignore[union-attr]
    assert [line for line in Shown(0, screen.getvalue(), 0, 0).screen if line] == ["a line"]


def test_no_other_handler_writes_log_lines_on_a_terminal() -> None:
    """A line of another handler ends up behind the live one."""
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")}
    assert not [path.name for path, text in sources.items() if re.search(r"StreamHandler\(|basicConfig\(", text)]


@pytest.mark.parametrize("piped", [False, True], ids=["to a file", "to tee"])
def test_where_a_reader_of_the_pipe_may_write_to_the_terminal_nothing_is_drawn(
    piped: bool, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_fifo", lambda _path: piped)
    monkeypatch.setattr(live, "_is_terminal", lambda stream: stream is sys.stderr)
    with live.phase("loading"):
        pass
    assert bool(screen.getvalue()) != piped
