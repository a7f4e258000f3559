"""Layer b: rules over the data as a training would get it; nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.config.root import RootConfig
from experiments.data.items import CHANNELS
from experiments.data.nested import Nested
from experiments.data.own_arrays import LARGE
from experiments.data.split import Split, is_stream
from experiments.data.splits import DataSpec
from experiments.data.tensors import IGNORED, is_arrays, is_image, viewed
from experiments.doctor.finding import Found, Rules
from experiments.seeds import fixed_noise
from experiments.training import build_batches
from experiments.training.runner import Runner

MOST = 2000  # rows that are read of a dataset which gives them one by one
FEW = 50  # of fewer rows, means and shares say little
NONE = torch.zeros(0, 0)


@dataclass(frozen=True)
class Rows:
    """A split's rows as stored, flat, and their labels or real targets; empty where there are several or none."""

    x: Tensor
    labels: Tensor
    reals: Tensor

    def shares(self, classes: int) -> Tensor:
        """Return each class's share."""
        return torch.bincount(self.labels, minlength=classes) / max(1, len(self.labels))


@dataclass(frozen=True)
class Data:
    """The data of a training; `given` are training rows as the model gets them, empty for tokens."""

    root: RootConfig
    spec: DataSpec
    train: Rows
    valid: Rows
    given: Tensor
    counts: tuple[int, ...]


rule: Rules[Data] = Rules()


def observe(runner: Runner, root: RootConfig, spec: DataSpec, counts: tuple[int, ...]) -> Data:
    """Read the rows of a training's splits."""
    kind, given = build_batches.input_kind(root), NONE
    x, _ = _read(runner.train.split)
    if isinstance(x, Tensor) and kind != "tokens" and "vocabulary" not in spec.extra:
        forward, rows = runner.step.forward, runner.train.split.inputs(x[:MOST])
        with fixed_noise():
            given = forward.prepared(forward.moved(viewed(rows, build_batches.input_shape(root, spec)))).cpu().float()
    return Data(root, spec, _rows(runner.train.split, spec), _rows(runner.valid.split, spec), given, counts)


def _rows(split: Split, spec: DataSpec) -> Rows:
    x, y = (part if isinstance(part, Tensor) else NONE for part in _read(split))
    labels = y[y != IGNORED].long() if spec.classes else NONE.long().flatten()
    return Rows(x, labels, NONE if spec.classes else y)


def _read(split: Split) -> tuple[Nested, Nested]:
    if is_arrays(split.dataset):
        return split.tensors
    with fixed_noise():
        return (
            split.begin(MOST)
            if is_stream(split)
            else split.rows([split.dataset[n] for n in range(min(MOST, len(split)))])
        )


@rule("sorted-labels")
def _sorted(data: Data) -> Found:
    y, shares = data.train.labels, data.train.shares(data.spec.outputs)
    changes, expected = int((y.diff() != 0).sum()), float(1 - shares.square().sum()) * len(y)
    mixed = data.spec.places or data.root.loader["shuffle"] or data.root.loader["draw"]
    said = f"the training rows, in their order, change the label {changes} times; shuffled, about {expected:,.0f} times"
    # In a tenth of the places where rows in any order do: whole batches of one class.
    return (said, "loader.shuffle=true") if not mixed and expected > FEW and changes < 0.1 * expected else None


@rule("rows-in-both")
def _both(data: Data) -> Found:
    train, valid = ([hash(row.tobytes()) for row in rows.x.numpy()] for rows in (data.train, data.valid))
    known, few = set(train), data.train.x.shape[1:].numel() < 16 or not data.train.x.is_floating_point()
    share = sum(row in known for row in valid) / max(1, len(valid))
    usual = 1 - len(known) / max(1, len(train)) if few else 0.0  # rows of few values coincide, in one split too
    said = f"{share:.1%} of the {len(valid):,} validation rows are training rows"
    return (said, "remove duplicates before the split, or dataset.group=COLUMN") if share > 0.02 + 2 * usual else None


@rule("one-hot-targets")
def _one_hot(data: Data) -> Found:
    y = data.train.reals
    hot = y.ndim == 2 and y.shape[1] > 2 and bool(((y.sum(1) == 1) & (y * y == y).all(1)).all())
    said = f"the {y.shape[-1]} real targets of each row are a single 1 and zeros"
    return (said, "y.argmax(1) as labels, with loss=cross_entropy") if hot else None


@rule("channels-last")
def _channels_last(data: Data) -> Found:
    shape = data.spec.shape
    last = isinstance(data.spec.dtype, str) and is_image(shape) and shape[2] in CHANNELS and shape[0] not in CHANNELS
    said = f"images of the shape {tuple(shape)} are {shape[-1]} wide and have {shape[0]} channels"
    return (said, "np.moveaxis(x, -1, -3) in the dataset") if last else None


@rule("input-scale")
def _scale(data: Data) -> Found:
    if not data.given.numel():
        return None
    mean, spread, largest = (float(value) for value in (data.given.mean(), data.given.std(), data.given.abs().max()))
    said = f"the model's input has mean {mean:.4g}, standard deviation {spread:.4g} and values up to {largest:.4g}"
    remedy = f"transforms=normalize transforms.normalize.mean={mean:.4g} transforms.normalize.std={spread:.4g}"
    remedy = "x / 255, or pixels saved as uint8" if 200 < largest < 256 else remedy
    # Initial weights are made for numbers around 1; a few far ones, as a table may have, do no harm.
    return (said, remedy) if largest > LARGE and (spread > 10 or abs(mean) > 10 * max(spread, 1)) else None


@rule("constant-features")
def _constant(data: Data) -> Found:
    x = data.given.flatten(1) if len(data.given) >= FEW else NONE
    constant = int((x == x[:1]).all(0).sum())
    said = f"{constant:,} of {x.shape[1]:,} features are the same in {len(x):,} training rows"
    # Of MNIST, the border is constant: a tenth.
    return (said, "check how the rows are read: most of the input is lost") if constant > 0.95 * x.shape[1] else None


@rule("empty-class")
def _empty(data: Data) -> Found:
    empty = [str(n) for n, count in enumerate(data.counts) if not count]
    said = f"no training row has {len(empty)} of the {len(data.counts)} classes: {', '.join(empty[:10])}"
    remedy = "number the labels from 0 without gaps, or stratify the split"
    return (said, remedy) if empty and "vocabulary" not in data.spec.extra else None


@rule("class-shares")
def _shares(data: Data) -> Found:
    share, label = (float(each) for each in data.train.shares(data.spec.outputs).max(0))
    weighted = data.root.loader["draw"] or data.root.loss["name"] == "weighted_cross_entropy"
    said = f"{share:.1%} of the training labels are {label:.0f}, so that a constant guess is nearly always right"
    return (said, "loss=weighted_cross_entropy, or loader.draw=balanced") if share > 0.9 and not weighted else None


@rule("split-drift")
def _drift(data: Data) -> Found:
    (train, valid), few = (data.train, data.valid), min(len(data.train.x), len(data.valid.x)) < FEW
    apart = float((train.shares(data.spec.outputs) - valid.shares(data.spec.outputs)).abs().sum() / 2)
    if few:
        return None
    spread = train.x.float().std(0)
    shift = ((train.x.float().mean(0) - valid.x.float().mean(0)).abs() / spread)[spread > 0].median()
    said = f"the means of most features are {shift:.2g} standard deviations apart, and {apart:.0%} of the labels differ"
    # By chance, of 50 rows, 0.14 deviations, and of labels a share that grows with the classes.
    drifts = (len(data.given) and shift > 0.5) or apart > 0.2 + 0.5 * (
        data.spec.outputs / max(1, len(valid.labels))
    ) ** 0.5
    return (said, "split the rows at random: dataset.stratify, or shuffle before the split") if drifts else None
