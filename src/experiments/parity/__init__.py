"""Compare two configurations step by step: are they the same training? Importing it does not import torch.

verdict = experiments.parity.compare(["stage=03_module"], ["stage=04_linear"], steps=200)
verdict.verdict, verdict.where, verdict.step, verdict.difference
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.parity.differences import Difference
    from experiments.parity.judge import compare, resumed
    from experiments.parity.script import against
    from experiments.parity.stage_pairs import StageVerdict, stages
    from experiments.parity.verdict import Drift, Verdict

__all__ = ["Difference", "Drift", "StageVerdict", "Verdict", "against", "compare", "resumed", "stages"]

_HOMES = {
    "Difference": "differences",
    "StageVerdict": "stage_pairs",
    "stages": "stage_pairs",
    "compare": "judge",
    "resumed": "judge",
    "against": "script",
    "Drift": "verdict",
    "Verdict": "verdict",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'experiments.parity' has no attribute {name!r}")
    return getattr(import_module(f"experiments.parity.{_HOMES[name]}"), name)
