"""Python's garbage collector, told that a process of ours imports much and leaves little behind.

Importing torch or MLflow makes a million objects that live until the end. Looking through them again and again while
they are made, and once more at the exit, took a third of a start and 0.8 s of an exit.
"""

from __future__ import annotations

import atexit
import gc

THRESHOLD = 100_000  # new objects, beside those that went, before a look; Python's own is 700 to 2,000


def collect_rarely() -> None:
    """Look for garbage seldom, and not at the exit; for a process of our own only."""
    gc.set_threshold(THRESHOLD)
    atexit.register(gc.freeze)
