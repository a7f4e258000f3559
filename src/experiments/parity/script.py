"""Compare a run with a script that should print the same losses, exported or hand-written."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from experiments.config.language import Phrase
from experiments.config.registry import register
from experiments.config.root import RootConfig
from experiments.errors import ConfigError, Fault
from experiments.parity.differences import TOLERANCE, Comparison, Difference, differing, infinite, worst
from experiments.parity.judge import check, prepared
from experiments.parity.verdict import Verdict, Word
from experiments.runs.preparation import Preparation
from experiments.training import build
from experiments.training import device as devices
from experiments.training.result import Metrics

LINE = re.compile(r"epoch (\d+)  (.+)")


def against(
    overrides: Sequence[str], script: Path, *, data: Path | None = None, tolerance: float = TOLERANCE
) -> Verdict:
    """Train a configuration as a run does, run a script beside it, and compare the losses of each epoch.

    The script prints a line an epoch, `epoch 0  train/loss 0.31...  valid/loss 0.27...`, in full. What it prints
    before its last epoch 0 belongs to an earlier training.

    Args:
        overrides: of the configuration.
        script: run as `python SCRIPT DATA`.
        data: the file it reads (default: the dataset's source, else the downloaded file).
        tolerance: for `equal`, as of a loss.

    Raises:
        ConfigError: the script fails or prints no losses, or the configuration cannot be run.
        DataError: the dataset is unavailable.
        TrainingError: the training has to stop.
    """
    check(1, tolerance)
    if not script.is_file():
        raise ConfigError(Fault("--against", f"there is no file {script}"))
    if data is not None and not data.exists():
        raise ConfigError(Fault("--data", f"there is no file {data}"))
    build.forget_dataset()
    (training,) = prepared(overrides)
    began = time.perf_counter()
    printed = _printed(script, data or _data(training.root))
    history = _trained(training)
    found = worst(_differences(history, printed, tolerance))
    word: Word = "identical" if found is None else "differs" if found.share > 1 else "equal"
    return Verdict(word, len(history), tolerance, found, seconds=time.perf_counter() - began, unit="epoch")


def _trained(training: Preparation) -> list[Metrics]:
    with devices.settings_kept():
        devices.set_up(training.root.device, deterministic=training.root.deterministic)
        return training.runner(None).fit(training.root.epochs).history


def _printed(script: Path, data: Path | None) -> list[dict[str, float]]:
    """Run a script; return the metrics that it prints, by epoch."""
    command = [sys.executable, str(script), *([str(data)] if data else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # the user's own script
    if done.returncode != 0:
        said = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        raise ConfigError(Fault("--against", f"{script} ended with exit code {done.returncode}: {said}"))
    epochs: list[dict[str, float]] = []
    for line in done.stdout.splitlines():
        if match := LINE.fullmatch(line.strip()):
            if match[1] == "0":
                epochs.clear()
            epochs.append(_figures(match[2], script))
    if not epochs:
        problem = f"{script} prints no lines like 'epoch 0  train/loss 0.5  valid/loss 0.4'"
        raise ConfigError(Fault("--against", problem))
    return epochs


def _figures(text: str, script: Path) -> dict[str, float]:
    found = {}
    for field in text.split("  "):
        name, _, value = field.strip().rpartition(" ")
        try:
            found[name] = float(value)
        except ValueError:
            problem = f"{script} prints {field.strip()!r} where a number was expected"
            raise ConfigError(Fault("--against", problem)) from None
    return found


def _differences(
    history: Sequence[Mapping[str, float]], printed: Sequence[Mapping[str, float]], tolerance: float
) -> Iterator[Difference]:
    """Yield what differs, epoch by epoch."""
    for epoch, (ours, theirs) in enumerate(zip(history, printed, strict=False)):
        for name in [name for name in theirs if name in ours]:
            one, other = (torch.tensor(value, dtype=torch.float64) for value in (ours[name], theirs[name]))
            comparison = Comparison("figure", name, one, other, tolerance * one.abs().clamp(min=1))
            yield from differing([comparison], epoch)
        for name in ("train/loss", "valid/loss"):
            if name not in theirs:
                yield infinite("figure", name, epoch, Phrase("the script does not print it"))
    if len(history) != len(printed):
        counts = Phrase("the run has {a} epochs, the script prints {b}", a=len(history), b=len(printed))
        yield infinite("figure", "epochs", min(len(history), len(printed)), counts)


def _data(root: RootConfig) -> Path | None:
    """Return the file that the dataset was read from, if there is one."""
    source = root.dataset.get("source")
    candidates = [Path(source)] if source else []
    if packed := register.dataset.get(root.dataset["name"]).metadata.get("packed"):
        candidates.append(Path(root.dataset["root"]) / packed)
    return next((path for path in candidates if path.is_file()), None)
