"""What becomes of a job's folder when the job could not even begin."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from experiments.errors import UserError
from experiments.tracking import journal

# What Hydra and its logging put into a job's folder before the job begins.
HYDRAS = (".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "experiments.log")


@contextlib.contextmanager
def discarding() -> Iterator[None]:
    """Leave nothing of a single run that was rejected; in a sweep's job, the reason."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    try:
        yield
    except UserError as error:
        if not (folder / journal.FILE).exists():
            if hydra.mode == RunMode.MULTIRUN:
                (folder / "error.txt").write_text(f"{error}\n", encoding="utf-8")
            else:
                _discard(folder)
        raise
    except Exception:
        (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        raise


def _discard(folder: Path) -> None:
    """Remove the files that Hydra has made, and the folders that are empty then."""
    for handler in list(logging.getLogger().handlers):
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).parent == folder.resolve():
            logging.getLogger().removeHandler(handler)
            handler.close()
    for name in HYDRAS:
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # a folder that holds something else stays, and so do those above it
        for empty in (
            folder / ".hydra",
            folder,
            folder.parent,
            folder.parent.parent,
            folder.parent.parent.parent,
        ):
            empty.rmdir()
