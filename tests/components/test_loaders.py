"""Every registered loader yields the same batches, bit for bit: those of plain indexing in the order's order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from experiments.components import loaders
from experiments.components.loaders import in_memory
from experiments.config.registry import register
from experiments.data.batches import Batches, Order
from experiments.data.split import Split
from experiments.data.splits import Splits
from experiments.seeds import epoch_order
from experiments.training.checks import class_weights

LOADERS = register.loader
BATCH, SIZE, SHAPE = 4, 30, (2, 3, 5)
GENERATOR = torch.Generator().manual_seed(0)
BYTES = torch.randint(0, 256, (SIZE, *SHAPE), generator=GENERATOR).to(torch.uint8)
FLOATS = torch.randn(SIZE, *SHAPE, generator=GENERATOR)
LABELS = torch.randint(0, 4, (SIZE,), generator=GENERATOR)
REALS = torch.randn(SIZE, 2, generator=GENERATOR)

every_loader = pytest.mark.parametrize("name", LOADERS.names)
with_workers = [name for name in LOADERS.names if "num_workers" in LOADERS.arguments(name)]


class Items(Dataset[Any]):
    """A map-style dataset that is no tensor."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.x[index], self.y[index]


def split_of(source: Any, shape: tuple[int, int, int] | None = None) -> Split:
    return Splits.of(train=source, valid=source, shape=shape).train


def load(name: str, split: Split, shape: tuple[int, ...], *, shuffle: bool = True, **arguments: Any) -> Batches:
    order = Order(len(split), shuffle=shuffle, seed=11)
    loader = LOADERS.bind(name, arguments)(split, BATCH, order, shape)
    return Batches(loader, order, split, BATCH, shape)


def plain(x: Tensor, y: Tensor, shape: tuple[int, ...], epoch: int, *, shuffle: bool = True) -> list[Any]:
    """Rows one by one, in the order that the definition gives."""
    if x.dtype == torch.uint8:
        x = x.to(torch.float32) / 256
    order = list(range(SIZE))
    if shuffle:
        order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(1_000_003 * 11 + epoch)).tolist()
    chunks = [order[start : start + BATCH] for start in range(0, SIZE, BATCH)]
    return [(torch.stack([x[i].reshape(shape) for i in rows]), torch.stack([y[i] for i in rows])) for rows in chunks]


def assert_same(found: Any, expected: list[Any]) -> None:
    found = list(found)
    assert len(found) == len(expected)
    for (xb, yb), (x, y) in zip(found, expected, strict=True):
        assert (xb.dtype, yb.dtype) == (x.dtype, y.dtype)
        assert torch.equal(xb, x) and torch.equal(yb, y)


@every_loader
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("shape", [(30,), SHAPE], ids=["flat", "pictures"])
@pytest.mark.parametrize("x", [BYTES, FLOATS], ids=["bytes", "floats"])
def test_batches_are_those_of_plain_indexing(name: str, x: Tensor, shape: tuple[int, ...], shuffle: bool) -> None:
    batches = load(name, split_of((x, LABELS)), shape, shuffle=shuffle)
    for epoch in (0, 1, 0):
        assert_same(batches.epoch(epoch), plain(x, LABELS, shape, epoch, shuffle=shuffle))


@every_loader
def test_real_targets_come_as_columns(name: str) -> None:
    assert_same(load(name, split_of((FLOATS, REALS)), (30,)).epoch(0), plain(FLOATS, REALS, (30,), 0))


@every_loader
def test_the_length_counts_the_last_partial_batch(name: str) -> None:
    batches = load(name, split_of((FLOATS, LABELS)), (30,))
    assert len(batches) == math.ceil(SIZE / BATCH) == len(list(batches.epoch(0)))
    assert len(list(batches.epoch(0))[-1][0]) == SIZE % BATCH


@every_loader
def test_a_pass_leaves_the_noise_stream_alone(name: str) -> None:
    batches, state = load(name, split_of((BYTES, LABELS)), (30,)), torch.get_rng_state()
    list(batches.epoch(0))
    assert torch.equal(state, torch.get_rng_state())


@every_loader
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("x", [BYTES, FLOATS], ids=["bytes", "floats"])
def test_what_is_changed_in_place_is_a_batch_and_not_the_data(name: str, x: Tensor, shuffle: bool) -> None:
    batches = load(name, split_of((x.clone(), LABELS.clone())), (30,), shuffle=shuffle)
    for xb, yb in [*batches.epoch(0), batches.as_stored(0)]:
        xb += 1
        yb += 1
    assert_same(batches.epoch(0), plain(x, LABELS, (30,), 0, shuffle=shuffle))


class Doubled(TensorDataset):
    """A TensorDataset whose rows are other than its tensors', as augmentation is written."""

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        x, y = (tensor[index] for tensor in self.tensors)
        return x * 2, y


@every_loader
def test_the_rows_of_an_own_tensor_dataset_are_its_own(name: str) -> None:
    batches = load(name, split_of(Doubled(FLOATS, LABELS)), (30,))
    assert_same(batches.epoch(0), plain(FLOATS * 2, LABELS, (30,), 0))


KINDS = {
    "tensors of bytes": (Items(BYTES, LABELS), BYTES, LABELS),
    "plain whole numbers as labels": (Items(FLOATS, LABELS.tolist()), FLOATS, LABELS),
    "labels of 32 bits": (Items(FLOATS, LABELS.to(torch.int32)), FLOATS, LABELS),
    "doubles of numpy": (Items(FLOATS.double().numpy(), LABELS.numpy()), FLOATS, LABELS),
    "plain numbers as targets": (Items(FLOATS, REALS[:, 0].tolist()), FLOATS, REALS[:, :1]),
    "columns of doubles as targets": (Items(FLOATS, REALS.double().numpy()), FLOATS, REALS),
    "a TensorDataset": (TensorDataset(FLOATS.double(), REALS[:, 0]), FLOATS, REALS[:, :1]),
}


@every_loader
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(30,), SHAPE], ids=["flat", "pictures"])
def test_a_map_style_dataset_gives_the_same_batches(name: str, kind: str, shape: tuple[int, ...]) -> None:
    dataset, x, y = KINDS[kind]
    assert_same(load(name, split_of(dataset), shape).epoch(2), plain(x, y, shape, 2))


@every_loader
def test_a_map_style_dataset_may_have_flat_items(name: str) -> None:
    split = split_of(Items(FLOATS.view(SIZE, 30), LABELS), SHAPE)
    assert_same(load(name, split, SHAPE).epoch(0), plain(FLOATS, LABELS, SHAPE, 0))


@pytest.mark.process
@pytest.mark.parametrize("name", with_workers)
@pytest.mark.parametrize("source", [(BYTES, LABELS), Items(BYTES, LABELS)], ids=["arrays", "map-style"])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # a machine with a single core
def test_workers_give_the_same_batches(name: str, source: Any) -> None:
    batches = load(name, split_of(source), SHAPE, num_workers=2)
    state = torch.get_rng_state()
    assert_same(batches.epoch(1), plain(BYTES, LABELS, SHAPE, 1))
    assert torch.equal(state, torch.get_rng_state())


def test_some_loader_has_workers() -> None:
    assert with_workers == ["dataloader", "wrapped_dataloader"]


@pytest.mark.parametrize("size", [5 * BATCH - 1, 5 * BATCH, 5 * BATCH + 1, 23 * BATCH + 1])
@pytest.mark.parametrize("gathered", [0, 5])
@pytest.mark.parametrize("shuffle", [True, False])
def test_gathering_many_batches_at_once_changes_none(
    size: int, gathered: int, shuffle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaders, "GATHERED_BYTES", gathered * BATCH * 4 * 4)
    x, y = torch.arange(size * 4).view(size, 2, 2) % 256, torch.arange(size) % 3
    split = split_of((x.to(torch.uint8), y))
    one, other = (load(name, split, (4,), shuffle=shuffle) for name in ("in_memory", "slices"))
    assert_same(one.epoch(0), list(other.epoch(0)))
    assert len(one) == len(other)


@every_loader
@pytest.mark.parametrize("shuffle", [True, False])
def test_rows_as_stored_do_not_depend_on_the_order(name: str, shuffle: bool) -> None:
    batches = load(name, split_of((BYTES, LABELS)), SHAPE, shuffle=shuffle)
    expected = plain(BYTES, LABELS, SHAPE, 0, shuffle=False)
    assert_same([batches.as_stored(0), batches.as_stored(7)], [expected[0], expected[7]])


def test_numpy_arrays_are_taken_as_tensors_are() -> None:
    one = split_of((np.asarray(BYTES), np.asarray(LABELS)))
    assert torch.equal(one.tensors[0], split_of((BYTES, LABELS)).tensors[0])


def labels_of(loader: Any, epoch: int, order: Order) -> Tensor:
    order.epoch = epoch
    return torch.cat([yb for _, yb in loader])


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("loader", [in_memory, loaders.slices, loaders.dataloader])
def test_an_order_of_fewer_rows_leaves_the_last_ones_out(loader: Any, shuffle: bool) -> None:
    x, y = torch.arange(10.0).reshape(10, 1), torch.arange(10)
    split = Splits.of(train=(x, y), valid=(x, y), classes=10).train.given_as("flat")
    order = Order(8, shuffle=shuffle, seed=3, rows=10)
    whole = epoch_order(10, 3, 1) if shuffle else torch.arange(10)
    assert torch.equal(labels_of(loader(split, 4, order, (1,)), 1, order), whole[:8])


def test_a_weighted_order_draws_each_class_as_often_and_the_same_in_an_epoch() -> None:
    x, y = torch.zeros(2000, 1), (torch.arange(2000) % 10 == 0).long()
    split = Splits.of(train=(x, y), valid=(x, y)).train.given_as("flat")
    order = Order(2000, shuffle=True, seed=3, weights=class_weights(split))
    loader = in_memory(split, 64, order, (1,))
    first = labels_of(loader, 0, order)
    assert abs(float(first.float().mean()) - 0.5) < 0.05
    assert torch.equal(first, labels_of(loader, 0, order)) and not torch.equal(first, labels_of(loader, 1, order))
