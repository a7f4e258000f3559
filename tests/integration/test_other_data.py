"""Data of other shapes and kinds than MNIST, trained from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import experiments
from tests.support.places import FASHION, needs_fashion

QUIET = ["tracking=none", "figures=true"]


def save(path: Path, shape: tuple[int, ...], *, rows: int = 240, real: bool = False) -> Path:
    """Rows of three kinds of noise around three pictures; labels 0 to 2, or the pictures' numbers as real targets."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, rows)
    x = generator.normal(size=(3, *shape))[y] + 0.3 * generator.normal(size=(rows, *shape))
    np.savez(path, x=x.astype(np.float32), y=y.astype(np.float32) if real else y)
    return path


@pytest.mark.parametrize("shape", [(17, 23), (3, 17, 23)])
def test_pictures_of_any_shape_train_with_cnn_adaptive(shape: tuple[int, ...], workplace: Path) -> None:
    path = save(workplace / "pictures.npz", shape)
    options = [
        "dataset=arrays",
        f"dataset.path={path}",
        "model=cnn_adaptive",
        "optim=adam",
        "optim.lr=0.01",
        "epochs=15",
    ]
    result = experiments.run([*options, *QUIET])
    assert result.history[-1]["valid/accuracy"] > 0.9
    assert result.folder is not None
    assert {picture.stem for picture in (result.folder / "figures").iterdir()} >= {"digits", "confusion_matrix"}


def test_real_targets_train_with_mse(workplace: Path) -> None:
    path = save(workplace / "pictures.npz", (9, 11), real=True)
    options = ["dataset=arrays", f"dataset.path={path}", "loss=mse", "metrics=none", "optim=adam", "epochs=20"]
    result = experiments.run([*options, *QUIET])
    assert result.best_valid_loss < 0.2 * result.untrained["untrained/valid_loss"]


def test_digits_train_with_cnn_adaptive(workplace: Path) -> None:
    result = experiments.run(["dataset=digits", "model=cnn_adaptive", "optim=sgd_momentum", "epochs=8", *QUIET])
    assert result.history[-1]["valid/accuracy"] > 0.4  # of ten classes


@pytest.mark.slow
@needs_fashion
def test_fashion_mnist_trains_with_cnn_adaptive(workplace: Path) -> None:
    options = ["dataset=fashion_mnist", f"dataset.source={FASHION}", "model=cnn_adaptive", "optim=sgd_momentum"]
    result = experiments.run([*options, *QUIET])
    assert result.history[-1]["valid/accuracy"] > 0.6
