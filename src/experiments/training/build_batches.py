"""Build the batches of a split: what order its rows come in, and the loader that reads them."""

from __future__ import annotations

import math

import torch

from experiments.config.registry import register
from experiments.config.root import LoaderSettings, RootConfig
from experiments.data.batches import Batches, Order
from experiments.data.split import Split
from experiments.data.splits import DataSpec, Splits, is_stream
from experiments.data.tensors import Shape
from experiments.errors import ConfigError, Fault
from experiments.seeds import Seeds
from experiments.training import checks, protocols
from experiments.training.distributed import sampler
from experiments.training.distributed.group import Group


def input_kind(root: RootConfig) -> str:
    """Return what the configured model takes: image, flat, tokens or any."""
    return str(register.model.get(root.model["name"]).metadata.get("input", "any"))


def input_shape(root: RootConfig, spec: DataSpec) -> Shape:
    """Return the shape of one input as the configured model takes it; of each, where there are several."""
    return (spec.features,) if input_kind(root) == "flat" else spec.shape


def batches(
    root: RootConfig, splits: Splits, part: str, device: torch.device, seeds: Seeds, group: Group | None = None
) -> Batches:
    """Return the configured batches of the "train" or the "valid" rows; in a group, this process's share of each.

    Raises:
        ConfigError: there are fewer rows than processes.
    """
    chosen, given = register.loader.get(root.loader["name"]), root.loader.items()
    settings = LoaderSettings(**{key: value for key, value in given if key in LoaderSettings.model_fields})
    split: Split = getattr(splits, part).given_as(input_kind(root))
    settings.batch_size *= root.accumulate  # a step's, which takes it in parts
    size, shuffle = settings.batch_size, settings.shuffle
    limit = root.limit_batches and root.limit_batches // root.accumulate
    if part == "valid":
        size, shuffle, limit = settings.valid_batch_size, settings.valid_shuffle, root.limit_batches
    shape = input_shape(root, splits.spec)
    checks.require_fixed_items(split, chosen)
    order, own = _order(settings, split, part, shuffle=shuffle, seed=seeds.data_order), size
    whole = len(order)
    if group is not None:
        if is_stream(split):
            raise ConfigError(Fault("dataset", "processes cannot share a stream; train it in one"))
        if len(split) < group.world:
            problem = f"{splits.spec.name} has {len(split)} {part} rows, too few for {group.world} processes"
            raise ConfigError(Fault("dataset", problem))
        order = sampler.ShareOrder(order, size, group.rank, group.world)
        own = sampler.size(size, group.rank, group.world)
    loader = protocols.made(register.loader, root.loader, split, own, order, shape)
    if not len(loader):
        problem = f"{chosen.name} yields no batch of the {whole:,} {part} rows; try {min(size, whole)}"
        raise ConfigError(Fault("loader.batch_size" if part == "train" else "loader.valid_batch_size", problem))
    if part == "train":
        checks.require_whole_steps(loader, math.ceil(len(order) / own) if own else 0, root)
    if chosen.metadata.get("on_device"):
        loader.to(device)
    if group is not None and part == "train":
        loader = sampler.EveryBatch(loader, math.ceil(whole / size))
    return Batches(loader, order, split, size, shape, limit)


def _order(settings: LoaderSettings, split: Split, part: str, *, shuffle: bool, seed: int) -> Order:
    """Return the order of a split's rows; only the training's leaves out rows or draws them."""
    rows, trains = len(split), part == "train"
    size = rows // settings.batch_size * settings.batch_size if trains and settings.drop_last else rows
    if size == 0:
        problem = f"the {rows} training rows do not fill one batch of {settings.batch_size}, and no other is kept"
        raise ConfigError(Fault("loader.drop_last", problem))
    weights = checks.class_weights(split) if trains and settings.draw == "balanced" else None
    return Order(size, shuffle=shuffle, seed=seed, rows=rows, weights=weights)
