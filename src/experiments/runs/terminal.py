"""A run on the terminal and in its log: one line for each epoch, and at the end where everything is."""

from __future__ import annotations

import logging
import math
import os
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import live
from experiments.config.language import Language
from experiments.config.store_uri import masked
from experiments.errors import command
from experiments.runs.tables import WIDTH, head, table
from experiments.tracking import delivered, links
from experiments.training.result import not_finite

if TYPE_CHECKING:
    import torch

    from experiments.data.splits import DataSpec
    from experiments.training.result import Result
    from experiments.training.runner import Runner

log = logging.getLogger(__name__)

BEST = "bold green"  # of a line on a terminal
CHARTED = 10  # runs in the charts of MLflow's page of an experiment, until more are chosen


def stage(tutorial: Mapping[str, Any] | None, language: str) -> None:
    """Print what a stage of the tutorial changes, in the run's language."""
    if tutorial:
        text = f"{tutorial['number']}: {tutorial['title'][language]}. {tutorial['changes'][language]}"
        console = live.terminal()
        log.info("%s", textwrap.fill(text, console.width if console else WIDTH, break_on_hyphens=False))


def show(rows: Sequence[Mapping[str, str]], *, best: bool = False, least: Sequence[str] = (), whole: str = "") -> None:
    """Print rows as a table; on a terminal, with the keys and the best row, which is the first one, marked."""
    text = table(rows, least=least, whole=whole)
    keys = head(text)
    styles = dict.fromkeys(range(1, keys + 1), "bold") | ({keys + 2: BEST} if best else {})
    log.info("\n%s\n", text, extra={"styles": styles})


def opening(name: str, device: torch.device, spec: DataSpec, runner: Runner, processes: int = 1) -> None:
    """Print what is trained on which data and device, and where a resumed training continues."""
    rows = ", ".join(f"{size:,} {part}" for part, size in spec.sizes.items() if part != "test")
    where = str(device) if processes == 1 else f"{processes} x {device.type}"
    from experiments.training import describe  # torch is here by now

    shape, count = describe.size(spec.shape), f"{describe.parameters(runner.model):,} parameters"
    log.info("%s: %s (%s; %s) on %s, %s", name, spec.name, shape, rows, where, count, extra={"breaks": " "})
    if runner.untrained:
        log.info("resumes at epoch %d, step %d", len(runner.history), runner.progress.step)


def already_done(result: Result) -> None:
    """Print that a run has nothing left to do."""
    assert result.folder is not None
    epochs = len(result.history)
    log.info("%s is finished, after %d epochs; more of them: epochs=%d", relative(result.folder), epochs, epochs + 1)


def figures(values: Mapping[str, float], epoch: int, warned: set[str] | None = None) -> None:
    """Print the metrics of one epoch, or those measured outside the epochs; warn once of each that is not finite."""
    looks: dict[str, Any] = {"breaks": "  "}
    if "train/loss" in values:
        shown = [f"{name} {value:.4f}" for name, value in values.items() if name.split("/")[0] in ("train", "valid")]
        looks["styles"] = {0: BEST} if values["best/valid_loss"] == values["valid/loss"] else {}
        log.info("epoch %d  %s  %.1f s", epoch, "  ".join(shown), values["time/epoch_seconds"], extra=looks)
    else:
        log.info("         %s", "  ".join(f"{name} {value:.4f}" for name, value in values.items()), extra=looks)
    warned = set() if warned is None else warned
    if fresh := not_finite([values]).keys() - warned:
        warned |= fresh
        log.warning(
            "epoch %d: not finite: %s (a lower optim.lr or max_grad_norm=1.0 may help)", epoch, ", ".join(sorted(fresh))
        )


def closing(result: Result, folder: Path) -> None:
    """Print the result with all digits."""
    say = Language.of(folder)
    if result.stopped:
        log.info("stopped early: %s", result.stopped)
    if math.isfinite(result.best_valid_loss):
        best = say("best valid/loss {loss!r} at epoch {epoch}", loss=result.best_valid_loss, epoch=result.best_epoch)
        log.info("%s", best, extra={"styles": {0: BEST}})
    log.info("%-7s %s", say("run"), relative(folder))


def interrupted(folder: Path) -> None:
    """Print the command that resumes the run or sweep that a signal or `pause_after` ended."""
    say = Language.of(folder, *folder.glob("*"))
    log.info("%s %s %s", say("stopped; to resume:"), command("resume"), shlex.quote(relative(folder)))


def arrived(uri: str, folders: Sequence[Path], missing: Sequence[Path], sweep: Path | None = None) -> None:
    """Print where the runs are in MLflow and how to view them; of missing ones, how to upload them later.

    Args:
        uri: the store's address.
        folders: the runs'.
        missing: those that have not arrived.
        sweep: the folder of the sweep that all of them are jobs of; None if there is none.
    """
    say = Language.of(*folders)
    if states := [delivered.state(folder) for folder in folders if folder not in missing]:
        log.info("MLflow  %s", masked(uri))
        if len(states) > 1:
            parent = delivered.state(sweep).run_id if sweep else ""
            log.info("%-7s %s", say("view"), links.experiment(uri, states[0].experiment_id, parent))
            if len(states) > CHARTED:
                text = "(MLflow's charts show {some} of the {count} runs at first; curves: all)"
                log.info("        %s", say(text, some=CHARTED, count=len(states)))
        log.info("%-7s %s", say("view" if len(states) == 1 else "curves"), address := links.runs(uri, states))
        if live.terminal() and len(address) >= live.LONGEST:
            log.info("        %s", say("(not clickable? {command} prints it whole)", command=command("compare")))
        if served := links.ui_command(uri):
            log.info("        %s", say("(start the UI first: {command})", command=served))
    if missing:
        reason = delivered.state(missing[0]).error or "it has not answered yet"
        log.warning(
            "%d of %d runs are not in MLflow (%s): %s\n"
            "Nothing is lost, the journal in each run's folder has every metric. Upload them later:\n"
            "  %s %s%s",
            len(missing),
            len(folders),
            masked(uri),
            reason,
            command("sync"),
            shlex.quote(os.path.commonpath([relative(folder) for folder in missing])),
            links.option(uri),
        )


def relative(folder: Path) -> str:
    """Return a folder relative to the working folder, if it is below."""
    try:
        return str(folder.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(folder)
