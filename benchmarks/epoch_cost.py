"""Measure an epoch of this package against the tutorial's loop, written out by hand: stages 1, 7 and 12.

Ours is the runner that this package assembles from the stage's configuration, with its metrics, its checks and its
journal on disk. Plain does what the tutorial's text does at that stage and no more, with a validation after each epoch:
batches of 128, without gradients, the loss only. Both take turns in one process, one epoch each, with the same number
of threads, over copies of the same rows. One pair warms up first. A ratio is ours / plain of a pair.

    python benchmarks/epoch_cost.py --source data/mnist/mnist.pkl.gz
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import tempfile
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, TensorDataset

from experiments.components.models.convolutional import Lambda
from experiments.config.check import configured
from experiments.data.splits import Splits
from experiments.runs import preparation
from experiments.tracking.journal import Journal

Epoch = Callable[[], object]


def main() -> None:
    """Time the three stages and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="epochs of each, beside the warm-up (default 7)")
    parser.add_argument("--source", type=Path, help="a local mnist.pkl.gz; otherwise it is downloaded")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
    parser.add_argument("--stages", nargs="+", choices=PLAIN, default=list(PLAIN), help="only these")
    parser.add_argument("--json", type=Path, help="keep the seconds here")
    options = parser.parse_args()
    source = [f"dataset.source='{options.source.resolve()}'"] if options.source else []
    seconds = functools.partial(timeit.timeit, setup="gc.enable()", number=1)
    kept = {}
    for stage in options.stages:
        with tempfile.TemporaryDirectory(prefix="epoch-cost-") as folder:
            ours, splits = product(stage, [*source, f"device.threads={options.threads}"], Path(folder))
            plain = PLAIN[stage](splits)
            pairs = [(seconds(ours), seconds(plain)) for _ in range(options.pairs + 1)][1:]
        ratios = [a / b for a, b in pairs]
        print(
            f"{stage:22} ours {median(a for a, _ in pairs):6.3f} s  plain {median(b for _, b in pairs):6.3f} s  "
            f"ratio {median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f}; {len(ratios)} pairs), "
            f"of the fastest epochs {min(a for a, _ in pairs) / min(b for _, b in pairs):.3f}",
            flush=True,
        )
        kept[stage] = [{"ours": a, "plain": b} for a, b in pairs]
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1), encoding="utf-8")


def product(stage: str, overrides: list[str], folder: Path) -> tuple[Epoch, Splits]:
    """Return an epoch of the stage's runner, recorded in a journal, and the data it uses."""
    root = configured([*overrides, f"stage={stage}"]).root
    prepared = preparation.prepare(root, overrides)
    runner = prepared.runner(folder)
    runner.record = Journal(folder).metrics

    def epoch() -> None:
        number = len(runner.history)
        runner.history.append(runner.run_epoch(number))
        runner.record(runner.history[-1], number)

    return epoch, prepared.splits


def tensors(splits: Splits) -> Epoch:
    """Return stage 1: bare tensors, the update by hand."""
    (x_train, y_train), (x_valid, y_valid) = splits.train.floats(), splits.valid.floats()
    weights = (torch.randn(784, 10) / math.sqrt(784)).requires_grad_()
    bias = torch.zeros(10, requires_grad=True)
    n, bs, lr = len(x_train), 64, 0.5

    def log_softmax(x: Tensor) -> Tensor:
        return x - x.exp().sum(-1).log().unsqueeze(-1)

    def model(xb: Tensor) -> Tensor:
        return log_softmax(xb @ weights + bias)

    def loss_func(pred: Tensor, target: Tensor) -> Tensor:
        return -pred[range(target.shape[0]), target].mean()

    def epoch() -> None:
        for i in range((n - 1) // bs + 1):
            rows = slice(i * bs, (i + 1) * bs)
            loss = loss_func(model(x_train[rows]), y_train[rows])
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own is not annotated
            with torch.no_grad():
                for p in (weights, bias):
                    assert p.grad is not None
                    p -= p.grad * lr
                    p.grad.zero_()
        with torch.no_grad():
            starts = range(0, len(x_valid), 2 * bs)
            losses = [loss_func(model(x_valid[i : i + 2 * bs]), y_valid[i : i + 2 * bs]) for i in starts]
            torch.stack(losses).mean().item()

    return epoch


def dataloader(splits: Splits) -> Epoch:
    """Return stage 7: nn.Linear in a module, optim.SGD, a DataLoader over a TensorDataset, not shuffled."""

    class Logistic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(784, 10)

        def forward(self, xb: Tensor) -> Tensor:
            logits: Tensor = self.lin(xb)
            return logits

    train_dl = DataLoader(TensorDataset(*splits.train.floats()), batch_size=64)
    valid_dl = DataLoader(TensorDataset(*splits.valid.floats()), batch_size=128)
    model = Logistic()
    opt = optim.SGD(model.parameters(), lr=0.5)

    def epoch() -> None:
        model.train()
        for xb, yb in train_dl:
            loss = F.cross_entropy(model(xb), yb)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own is not annotated
            opt.step()
            opt.zero_grad()
        model.eval()
        with torch.no_grad():
            losses = [F.cross_entropy(model(xb), yb) for xb, yb in valid_dl]
            torch.stack(losses).mean().item()

    return epoch


def wrapped_dataloader(splits: Splits) -> Epoch:
    """Return stage 12: the CNN, momentum, shuffled batches, reshaped by a wrapper; the loop is `fit`."""

    class WrappedDataLoader:
        def __init__(self, dl: DataLoader[tuple[Tensor, ...]], func: Callable[..., tuple[Tensor, Tensor]]) -> None:
            self.dl, self.func = dl, func

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            for b in self.dl:
                yield self.func(*b)

    def preprocess(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x.view(-1, 1, 28, 28), y

    train_dl = WrappedDataLoader(DataLoader(TensorDataset(*splits.train.floats()), 64, shuffle=True), preprocess)
    valid_dl = WrappedDataLoader(DataLoader(TensorDataset(*splits.valid.floats()), 128), preprocess)
    conv = functools.partial(nn.Conv2d, kernel_size=3, stride=2, padding=1)
    layers = [conv(1, 16), nn.ReLU(), conv(16, 16), nn.ReLU(), conv(16, 10), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    model = nn.Sequential(*layers, Lambda(lambda x: x.view(x.size(0), -1)))
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def loss_batch(xb: Tensor, yb: Tensor, opt: optim.Optimizer | None = None) -> tuple[float, int]:
        loss = F.cross_entropy(model(xb), yb)
        if opt is not None:
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own is not annotated
            opt.step()
            opt.zero_grad()
        return loss.item(), len(xb)

    def epoch() -> None:
        model.train()
        for xb, yb in train_dl:
            loss_batch(xb, yb, opt)
        model.eval()
        with torch.no_grad():
            losses, nums = zip(*[loss_batch(xb, yb) for xb, yb in valid_dl], strict=True)
        np.sum(np.multiply(losses, nums)) / np.sum(nums)

    return epoch


PLAIN: dict[str, Callable[[Splits], Epoch]] = {
    "01_tensors": tensors,
    "07_dataloader": dataloader,
    "12_wrapped_dataloader": wrapped_dataloader,
}

if __name__ == "__main__":
    main()
