"""A user's text: the next token at each place, or the class of each text; tokens are those of the training text."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge

from experiments.config.registry import register
from experiments.data import text_files
from experiments.data.splits import Splits
from experiments.data.stratify import Division, Fold, Folds, Seed, TestFraction, ValidFraction
from experiments.data.vocabulary import Vocabulary
from experiments.errors import DataError

log = logging.getLogger(__name__)


@register.dataset("text")
def text(
    *,
    path: Path,
    tokens: Literal["auto", "characters", "words", "pairs"] = "auto",
    vocabulary: Annotated[int, Ge(3)] = 10_000,
    length: Annotated[int, Ge(1)] = 64,
    text: str = "text",
    label: str = "label",
    group: str | None = None,
    valid_fraction: ValidFraction = 0.2,
    test_fraction: TestFraction = 0.0,
    seed: Seed = 0,
    stratify: bool | None = None,
    folds: Folds = None,
    fold: Fold = None,
) -> Splits:
    """Read text files, or a table of labelled texts, as conf/dataset/text.yaml explains.

    Raises:
        DataError: there is no such text, it is not UTF-8, it is too short, or all of it has one label.
    """
    division = Division(valid_fraction, test_fraction, seed, stratify, folds, fold)
    labelled = text_files.is_labelled(path)
    kind = {"auto": "words" if labelled else "characters"}.get(tokens, tokens)
    sides: dict[str, Any] = {}
    labels: list[str] = []
    try:
        if labelled:
            texts, labels, y, groups = text_files.labelled(path, text, label, group)
            parts = division.parts(len(texts), labels=y, groups=groups)
            known = Vocabulary.learn([texts[row] for row in parts["train"]], kind, vocabulary)
            x = text_files.padded([known.encode(each) for each in texts], length)
            sides = {part: (x[rows], y[rows]) for part, rows in parts.items()}
        else:
            pieces = text_files.consecutive(path, division, group)
            known = Vocabulary.learn([pieces["train"]], kind, vocabulary)
            sides = {part: text_files.windows(known.encode(piece), length, part) for part, piece in pieces.items()}
    except DataError as error:
        raise DataError(f"dataset.path={path}: {error}") from None
    size = len(known.tokens)
    what = f"texts of {len(labels)} classes ({', '.join(labels)})" if labels else "windows for the next token"
    log.info("%s: %s of %d %s, %d different ones", path, what, length, kind, size)
    extra = {"vocabulary": size, "text": {**asdict(known), "length": length}}
    return Splits.of(**sides, classes=len(labels) or size, labels=labels, source=str(path), extra=extra)
