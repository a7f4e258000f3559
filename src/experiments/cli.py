"""What every command does around its work: one message for a user's mistake, exit codes, rare garbage collection.

A command whose output nobody reads any more (`| head -1`, a closed terminal) ends as it would have, without a word.

Importing torch or MLflow makes a million objects that live until the end. Garbage collection over them took a third of
a start and 0.8 s of an exit.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import errno
import gc
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from experiments import answer, ranks
from experiments.config import secrets
from experiments.config.compose import in_words, is_users
from experiments.errors import TrainingError, UserError
from experiments.files import UNWRITABLE

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

FULL_ERROR = "HYDRA_FULL_ERROR"
THRESHOLD = 100_000  # objects created, less those freed, before a collection; Python's own is 700 to 2,000


def collect_rarely() -> None:
    """Collect garbage rarely, and not at the exit; for a process of our own only."""
    gc.set_threshold(THRESHOLD)
    atexit.register(gc.freeze)


class _Output(io.FileIO):
    """Standard output or error; once its reader is gone (a closed pipe or terminal), what is written is dropped."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return memoryview(data).nbytes


def outlive_readers() -> None:
    """Let this process work on when the reader of its output is gone: a run ends as it should, and a save is whole."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        found = getattr(stream, "buffer", None)  # none where it is closed
        raw = getattr(found, "raw", found)  # itself with PYTHONUNBUFFERED
        if stream is not getattr(sys, f"__{name}__") or type(raw) is not io.FileIO:
            continue  # a notebook's, a test's, or a console of Windows
        stream.flush()
        output = _Output(stream.fileno(), "wb", closefd=False)
        buffer: Any = output if raw is found else io.BufferedWriter(output)
        options = {"line_buffering": stream.line_buffering, "write_through": raw is found}
        setattr(sys, name, io.TextIOWrapper(buffer, stream.encoding, stream.errors, **options))
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
                handler.setStream(getattr(sys, name))


def parser(name: str, description: str | None, *, answers: bool = False) -> argparse.ArgumentParser:
    """Return the parser of `python -m experiments.NAME`; its help shows the description as it is written.

    One that `answers` takes `--json`, which sets `json` to the command's name, for `guarded`.
    """
    style = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(f"python -m experiments.{name}", description=description, formatter_class=style)
    if answers:
        made.add_argument("--json", action="store_const", const=name, help="print the answer as JSON (docs/json.md)")
    return made


def guarded(action: Callable[[], int | None], *, together: bool = False, json: str | None = None) -> None:
    """Run a command, and end the process with one message and its exit code where that fails.

    Args:
        action: the command; it may return its exit code.
        together: whether several processes, started by torchrun, can run it together.
        json: the command's name, where what it gives (`answer.give`) is printed as JSON, and nothing else.
    """
    collect_rarely()
    outlive_readers()
    secrets.mask_process()
    secrets.learn_arguments(sys.argv[1:])
    wanted = os.environ.get(FULL_ERROR) == "1"
    # Hydra then raises its exceptions, which become messages here.
    os.environ[FULL_ERROR] = "1"
    with contextlib.ExitStack() as owned:
        output = None if json is None else owned.enter_context(answer.alone())
        exit_code, error = _done(action, wanted, together)
        if output is not None and json is not None and ranks.speaks():
            print(secrets.masked(answer.document(json, exit_code, error)), file=output)
    if together and ranks.follows():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)  # torch may abort a process that ends while a thread of its group still does (SIGABRT)
    if exit_code:
        sys.exit(exit_code)


def _done(action: Callable[[], int | None], wanted: bool, together: bool) -> tuple[int, str | None]:
    """Return a command's exit code and the error that ended it; where it is `wanted`, the error passes."""
    try:
        if not together:
            ranks.require_one()
        return action() or 0, None
    except KeyboardInterrupt:
        if not ranks.follows():
            print("interrupted", file=sys.stderr)
        return 130, "interrupted"
    except SystemExit as error:
        if isinstance(error.code, str):
            raise
        reason = _text(error.__cause__) if isinstance(error.__cause__, UserError) else f"exit {error.code}"
        return error.code or 0, reason if error.code else None
    except Exception as error:
        if wanted:
            raise
        return report(error), _text(error)


def _text(error: Exception) -> str:
    words = error if isinstance(error, UserError) or not is_users(error) else in_words(error)
    return secrets.masked(str(words))


def report(error: Exception) -> int:
    """Print the message of an error; return the exit code."""
    if isinstance(error, UserError):
        if ranks.speaks() and not (ranks.follows() and isinstance(error, TrainingError)):  # the first process does
            print(f"error: {_text(error)}", file=sys.stderr)
        return 1 if isinstance(error, TrainingError) else 2
    if is_users(error):
        if ranks.speaks():
            print(f"error: {_text(error)}", file=sys.stderr)
        return 2
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        print(f"error: {secrets.masked(str(error.filename or 'output'))}: {error.strerror}", file=sys.stderr)
        return 1
    print(secrets.masked("".join(traceback.format_exception(error))), file=sys.stderr)
    print(f"set {FULL_ERROR}=1 for Hydra's own frames as well", file=sys.stderr)
    return 1
