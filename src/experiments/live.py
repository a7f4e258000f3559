"""The live lines at the bottom of a terminal: what is being done, how far it is, and how long the rest takes.

In a pipe or a file nothing is drawn: what takes minutes logs a plain line each, and rich is not imported.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from experiments import ranks

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

T = TypeVar("T")

log = logging.getLogger(__name__)

PER_SECOND = 8  # how often the lines are drawn
QUIET_SECONDS = 60.0  # between log lines where nothing is drawn
STYLES = {logging.WARNING: "yellow", logging.ERROR: "bold red", logging.CRITICAL: "bold red"}
ADDRESS = re.compile(r"(https?://\S+\w)")
LONGEST = 200  # characters of an address that is shown whole; the link is whole in any case


class Phase:
    """A live line: what is done, how much of it, and a note; where it is not drawn, a log line a minute."""

    def __init__(self, title: str, total: int | None, done: int) -> None:
        self.title, self.total, self.done, self.note, self.drawn = title, total, done, "", False
        self._before, self._started = done, time.monotonic()
        self.due = self._started + QUIET_SECONDS

    def at(self, done: int, note: Callable[[], str] | None = None) -> None:
        """Set how much is done; the note, which may wait for a device, is read as often as the line is drawn."""
        self.done = done
        if (now := time.monotonic()) >= self.due:
            self.note = note() if note else self.note
            self.due = now + (1 / PER_SECOND if self.drawn else QUIET_SECONDS)
            if not self.drawn:
                amount = f"{done:,} of {self.total:,}" if self.total else ""
                log.info("%s: %s", self.title, ", ".join(filter(None, [amount, self.note, self.left])))

    @property
    def left(self) -> str:
        """Return about how long the rest takes; nothing is known before the first part is done."""
        done = self.done - self._before
        if self.total is None or done <= 0 or self.done >= self.total:
            return ""
        return f"{duration((time.monotonic() - self._started) / done * (self.total - self.done))} left"


class _Screen:
    """The live lines of this process, and rich's display of them while there are any."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []
        self.off = False
        self.live: Live | None = None

    def add(self, phase: Phase, console: Console) -> None:
        """Draw one more line."""
        from rich.live import Live

        self.phases.append(phase)
        phase.drawn, phase.due = True, 0.0
        if self.live is None:
            if sys.breakpointhook is sys.__breakpointhook__ and "PYTHONBREAKPOINT" not in os.environ:
                sys.breakpointhook = _debug
            self.live = Live(
                console=console,
                get_renderable=self.drawn,
                auto_refresh=False,
                transient=True,
                redirect_stdout=_is_terminal(sys.stdout),
                redirect_stderr=_is_terminal(sys.stderr),
            )
            with console:
                self.live.start(refresh=True)
                console.show_cursor()  # a killed process could not show it again
            threading.Thread(target=self._redraw, args=(self.live, console), daemon=True).start()

    def remove(self, *phases: Phase) -> None:
        """Draw lines no more."""
        self.phases = [phase for phase in self.phases if phase not in phases]
        if not self.phases and self.live is not None:
            with self.live.console:
                self.live.stop()
                self.live = None

    def _redraw(self, live: Live, console: Console) -> None:
        while self.live is live:
            with console:
                if self.live is live:
                    live.refresh()
            time.sleep(1 / PER_SECOND)

    def drawn(self) -> Table:
        """Return the lines as a table."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        rows = Table.grid(padding=(0, 1))
        for _ in range(5):
            rows.add_column(no_wrap=True, overflow="ellipsis")
        for phase in self.phases:
            bar = ProgressBar(phase.total, phase.done, width=20) if phase.total else ""
            rows.add_row(r"-\|/"[int(time.monotonic() * PER_SECOND) % 4], phase.title, bar, phase.note, phase.left)
        return rows


class LogHandler(logging.StreamHandler[Any]):
    """Writes log lines above the live ones: with colour and links on a terminal, plain elsewhere.

    A record's `styles` are those of its lines, by number; at its `breaks` a wide line, no command, may be broken.
    """

    def __init__(self, stream: Any = None) -> None:
        super().__init__(getattr(stream or sys.stdout, "rich_proxied_file", stream or sys.stdout))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        console = terminal() if _is_terminal(self.stream) else None
        if console is None:
            super().emit(record)
            return
        from rich.text import Text

        styles, usual = getattr(record, "styles", {}), STYLES.get(record.levelno, "")
        for number, line in enumerate(self.format(record).split("\n")):
            text, style = Text(), styles.get(number, usual)
            for part in ADDRESS.split(fold(line, getattr(record, "breaks", ""), console.width)):
                linked = bool(ADDRESS.match(part))
                cut = part if not linked or len(part) < LONGEST else f"{part[: console.width - 12]}..."
                text.append(cut, f"{style} link {part}" if linked else style)
            console.print(text)


@contextlib.contextmanager
def phase(title: str, total: int | None = None, done: int = 0) -> Iterator[Phase]:
    """Show a live line while something is done."""
    shown = Phase(title, total, done)
    console = None if _screen.off or ranks.follows() else terminal() or _console(stderr=True)
    if console is not None:
        _screen.add(shown, console)
    try:
        yield shown
    finally:
        _screen.remove(shown)


def hide(shown: Phase) -> None:
    """Draw a line no more, although what it shows goes on."""
    _screen.remove(shown)


def track(items: Iterable[T], title: str, total: int) -> Iterator[T]:
    """Yield items, and show how many there were."""
    with phase(title, total) as shown:
        for done, item in enumerate(items, 1):
            yield item
            shown.at(done)


def terminal() -> Console | None:
    """Return the terminal that lines are written to; None where they go elsewhere, or another process draws there."""
    return None if _screen.off else _console()


def turn_off() -> str:
    """Draw nothing from here on. Return what to write before a line where another process draws on this terminal."""
    _screen.off = True
    _screen.remove(*_screen.phases)
    return "\r\x1b[K" if _is_terminal(sys.stdout) else ""


def fold(line: str, breaks: str, width: int) -> str:
    """Break a line that is too wide before its `breaks`, spaces, and indent the rest; an empty one breaks nothing."""
    folded, *parts = re.split(rf"(?<=\S)(?={breaks}\S)", line) if breaks else [line]
    for part in parts:
        folded += part if len(folded.split("\n")[-1] + part) <= width else f"\n{'':9}{part.lstrip()}"
    return folded


def duration(seconds: float) -> str:
    """Return a time in words."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _debug() -> None:
    """Stop in the debugger, which has the terminal for itself."""
    import pdb  # noqa: T100

    turn_off()
    pdb.Pdb().set_trace(sys._getframe(1))


def _leave() -> None:
    """Leave the display to the process that forked this one: a thread there may have held its locks."""
    _screen.off, _screen.live, _screen.phases = True, None, []
    for name in ("stdout", "stderr"):
        setattr(sys, name, getattr(getattr(sys, name), "rich_proxied_file", getattr(sys, name)))


def _is_terminal(stream: Any) -> bool:
    return hasattr(stream, "isatty") and not getattr(stream, "closed", False) and bool(stream.isatty())


def _console(*, stderr: bool = False) -> Console | None:
    if stderr and Path("/dev/stdout").is_fifo():  # what reads the pipe, such as tee, may write to the terminal too
        return None
    return _made(stderr) if _is_terminal(sys.stderr if stderr else sys.stdout) else None


@cache
def _made(stderr: bool) -> Console | None:
    made = console(stderr=stderr)
    return made if made.is_interactive else None


def console(**options: Any) -> Console:
    """Return a console that writes what one thread prints before another's is begun.

    A print of rich's moves up by the height of the live lines as they were last drawn. Were they drawn anew, by another
    thread, before that is written, it would move to a wrong line.
    """
    from rich.console import Console

    class OneAtATime(Console):
        def __enter__(self) -> Console:
            _printing.acquire()
            return super().__enter__()

        def __exit__(self, *error: Any) -> None:
            try:
                super().__exit__(*error)
            finally:
                _printing.release()

    return OneAtATime(highlight=False, markup=False, emoji=False, soft_wrap=True, **options)


# Of the module: a process has one terminal.
_screen, _printing = _Screen(), threading.RLock()
atexit.register(turn_off)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave)
