"""The checks of settings that must fit together, of one another and of the processes that torchrun started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from experiments import ranks
from experiments.config.device import pick
from experiments.config.registry import register
from experiments.config.root import RootConfig
from experiments.config.store_uri import uri_fault
from experiments.errors import Fault
from experiments.files import folder_fault


def faults(root: RootConfig) -> Iterator[Fault]:
    """Find settings that do not fit together."""
    if root.tracking.name == "mlflow" and (problem := uri_fault(root.tracking.uri)):
        yield Fault("tracking.uri", problem)
    if root.tracking.model == "best" and not root.checkpoint.best:
        yield Fault("tracking.model", "the best weights are not kept with checkpoint.best=false; last works without")
    scheduler, optim = register.scheduler.get(root.scheduler["name"]), register.optim.get(root.optim["name"])
    if scheduler.metadata.get("steers", True) and not optim.metadata.get("schedulable", True):
        yield Fault("scheduler", f"{scheduler.name} steers a torch optimiser; optim {optim.name} is not one")
    if root.init_from is None and (root.init_only is not None or root.init_match != "strict"):
        yield Fault(
            "init_only" if root.init_only else "init_match",
            "selects from the weights that init_from names; set init_from",
        )
    if root.accumulate > 1 and root.device.graph:
        yield Fault("accumulate", "a CUDA graph holds the pass of one batch; set device.graph=false")
    if root.limit_batches and root.limit_batches % root.accumulate:
        yield Fault("limit_batches", f"{root.limit_batches} is not a multiple of accumulate, {root.accumulate}")
    if root.device.graph and root.inspect.breakpoint:
        yield Fault("device.graph", "a debugger cannot stop within a graph; device.graph=false with debug=step")
    loss, model = register.loss.get(root.loss["name"]), register.model.get(root.model["name"])
    if loss.metadata.get("input") == "log_probabilities" != model.metadata.get("output"):
        problem = f"{loss.name} takes log-probabilities, model {model.name} returns logits; loss=cross_entropy fits"
        yield Fault("loss", problem)
    if problem := folder_fault(Path(root.output_root)):
        yield Fault("output_root", f"{problem}; everything a run leaves behind goes there")


def ranks_faults(root: RootConfig) -> Iterator[Fault]:
    """Find why the processes that torchrun started cannot train a configuration together."""
    if ranks.world() == 1:
        return
    device, here, cards = pick(root.device), ranks.here(), torch.cuda.device_count()
    if root.device.index is not None:
        yield Fault("device.index", "torchrun gives each process its own card; leave it out, or do not use torchrun")
    if device.type == "mps":
        yield Fault("device", "torch does not exchange gradients between processes on mps; device=cpu does")
    if device.type == "cuda" and here > cards:
        problem = f"torchrun started {here} processes on this machine, which has {cards} cards"
        yield Fault("device", f"{problem}; --nproc-per-node {cards}, or device=cpu")
    if root.device.graph:
        problem = "a CUDA graph holds the work of one card, but the processes exchange gradients in each step"
        yield Fault("device.graph", f"{problem}; set device.graph=false")
    if root.inspect.breakpoint:
        problem = f"a debugger can stop in one process, not in {ranks.world()}; do not use torchrun"
        yield Fault("inspect.breakpoint", problem)
    for key in ("batch_size", "valid_batch_size"):
        if (rows := root.loader[key]) < ranks.world():
            problem = f"{rows} rows cannot be shared among {ranks.world()} processes; {ranks.world()} are the least"
            yield Fault(f"loader.{key}", problem)
