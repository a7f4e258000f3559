"""Where the repository and the real data are, and what tests that need the data are marked with."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
MNIST = SHARED / "mnist.pkl.gz"
FASHION = SHARED / "fashion-mnist"

needs_mnist = pytest.mark.skipif(not MNIST.is_file(), reason=f"the real MNIST is not at {MNIST}")
needs_fashion = pytest.mark.skipif(not FASHION.is_dir(), reason=f"the real Fashion-MNIST is not at {FASHION}")

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
