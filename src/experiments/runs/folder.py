"""A run's folder holds one run, and nothing of a run that was refused before its start."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

from experiments.config import secrets
from experiments.errors import ConfigError, Fault, UserError, command
from experiments.files import folder_fault
from experiments.tracking import journal

# What Hydra and the log put into a run's folder before the run starts.
BEFORE = (".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "experiments.log")
ERROR = "error.txt"
TRACEBACK = "Traceback "


def in_use(folder: Path) -> Fault:
    """Return the fault of a folder that already holds a run."""
    problem = f"{folder} already holds a run; to resume it: {command('resume')} {folder}"
    return Fault("hydra.run.dir", problem)


def require_free(folder: Path) -> None:
    """Check that a run can have this folder, before anything is created.

    Raises:
        ConfigError: it holds a run already, or cannot be written to.
    """
    if (folder / journal.FILE).exists():
        raise ConfigError(in_use(folder))
    if problem := folder_fault(folder):
        raise ConfigError(Fault("hydra.run.dir", f"{problem}; the run's folder would be {folder}"))


@contextlib.contextmanager
def cleanup_on_rejection(folder: Path, *, keep_reason: bool = False) -> Iterator[None]:
    """Remove the folder of a run that is refused before its start; or keep the reason in it, for a sweep's table."""
    held = (folder / journal.FILE).exists()
    if keep_reason:
        (folder / ERROR).unlink(missing_ok=True)  # of an earlier attempt
    try:
        yield
    except UserError as error:
        if keep_reason:
            # Once it has started, its traceback is there, or the disk is full.
            with contextlib.suppress(OSError), (folder / ERROR).open("x", encoding="utf-8") as file:
                file.write(secrets.masked(f"{error}\n"))
        elif not held and not (folder / journal.FILE).exists():
            _discard(folder)
        raise
    except Exception:
        if not held:
            (folder / ERROR).write_text(secrets.masked(traceback.format_exc()), encoding="utf-8")
        raise


def refusal(folder: Path) -> str:
    """Return why a job was refused at its last start or resumption, in one line; empty if it was not."""
    text = _error(folder)
    return "" if text.startswith(TRACEBACK) else " ".join(text.split())


def reason(folder: Path) -> str:
    """Return why a job failed or was refused the last time, in one line; empty if it did neither."""
    return refusal(folder) or _error(folder).rpartition("\n")[2]


def keep_error(folder: Path, error: BaseException) -> None:
    """Write the traceback of a failed job into its folder, unless it is there."""
    if not (folder / ERROR).exists():
        whole = "".join(traceback.format_exception(error))
        (folder / ERROR).write_text(secrets.masked(whole), encoding="utf-8")


def _error(folder: Path) -> str:
    return (folder / ERROR).read_text(encoding="utf-8").strip() if (folder / ERROR).is_file() else ""


def _discard(folder: Path) -> None:
    """Remove what was written before the run's start, and the folders that are empty then."""
    for handler in list(logging.getLogger().handlers):
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).parent == folder.resolve():
            logging.getLogger().removeHandler(handler)
            handler.close()
    for name in BEFORE:
        (folder / name).unlink(missing_ok=True)
    here = Path.cwd()
    above = [parent for parent in list(folder.resolve().parents)[:3] if parent != here and parent not in here.parents]
    with contextlib.suppress(OSError):  # a folder that holds something else stays, and so do those above it
        for empty in (folder / ".hydra", folder, *above):
            empty.rmdir()
