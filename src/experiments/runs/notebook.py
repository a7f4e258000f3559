"""A run in a notebook: its result so far, shown in the cell while it trains."""

from __future__ import annotations

import sys
import time
from typing import Any

SECONDS = 2.0  # between two drawings, which take a tenth of a second


class Live:
    """The place in a notebook's cell; elsewhere nothing. IPython is not imported, only used where it is already."""

    def __init__(self) -> None:
        ipython: Any = sys.modules.get("IPython")
        self._display: Any = ipython.display if ipython and hasattr(ipython.get_ipython(), "kernel") else None
        self._handle: Any = None
        self._due = time.monotonic() + SECONDS

    def show(self, result: Any) -> None:
        """Show the result so far, unless one was shown just now."""
        if self._display is not None and time.monotonic() > self._due:
            if self._handle is None:
                self._handle = self._display.display(display_id=True)
            self._handle.update(result)
            self._due = time.monotonic() + SECONDS

    def close(self) -> None:
        """Clear the place: what the run returns shows the same."""
        if self._handle is not None:
            self._handle.update(self._display.HTML(""))
