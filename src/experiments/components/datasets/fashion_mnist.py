"""Fashion-MNIST (Zalando, MIT licence): clothes in MNIST's format, accepted by content alone."""

from __future__ import annotations

from experiments.config.registry import register
from experiments.data import idx, sources
from experiments.data.splits import Splits

FASHION = idx.IdxSet(
    name="fashion_mnist",
    hashes={
        idx.PARTS[0]: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        idx.PARTS[1]: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        idx.PARTS[2]: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        idx.PARTS[3]: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    labels=("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

ZALANDO = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"


@register.dataset("fashion_mnist", light_on_dark=True)
def fashion_mnist(*, root: str = "data", source: str | None = None) -> Splits:
    """50,000 training, 10,000 validation and 10,000 test images of 28x28 as bytes.

    Args:
        root: the folder of all data.
        source: a folder with the four idx files, an https address of such a folder, or zalando; None for zalando.

    Raises:
        DataError: no source has it; the message has the reason and the way by hand.
    """
    named = {"zalando": sources.idx_files(FASHION, ZALANDO)}
    manual = (
        f"By hand: put the four idx files (for example from {ZALANDO}) into a folder and name it with "
        f"dataset.source=...; the unpacked train images have the sha256 {FASHION.hashes[idx.PARTS[0]]}."
    )
    return sources.load(FASHION, root, source, named, manual=manual)
