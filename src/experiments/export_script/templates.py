"""Lines of a script that are the same for all that need them."""

from __future__ import annotations

import re

IMPORT = re.compile(r"(import|from) \w[^\n]*\n")
DEVICES = {
    "auto": '"cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"',
    "mps": '"mps"',
}
AUTOCAST = {"bf16": "torch.bfloat16", "fp16": "torch.float16"}
# With fp16: what overflowed when scaled is left out, and the scale is halved.
SCALED = ["scaler.scale(loss).backward()", "scaler.unscale_(optimizer)"]
STEPPED = [
    "# not scaler.step: where the first step is left out, it leaves fused SGD's momentum unset",
    "if all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None):",
    "    optimizer.step()",
    "scaler.update()",
]
# How a script reads the rows of any dataset that has no plain form of its own.
ROWS = """\
import sys

import numpy as np

# The data: the file that the script came with
with np.load(sys.argv[1] if len(sys.argv) > 1 else "{file}") as rows:
    x_train, y_train, x_valid, y_valid = (torch.from_numpy(rows[name]) for name in rows)
"""


def summed(*, by_rows: bool) -> list[str]:
    """Sums of a pass, weighted by rows, or each batch counting the same."""
    if by_rows:
        return ["total += loss.item() * len(xb)", "count += len(xb)"]
    return ["total += loss.item()", "count += 1"]
