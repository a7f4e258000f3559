"""A user's text: windows for the next token, labelled texts, and the vocabulary of the training text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments.components.datasets.text import text
from experiments.config.registry import register
from experiments.data.vocabulary import Vocabulary
from experiments.errors import ConfigError, DataError
from experiments.training.checks import require_input

BOOK = "the cat sat on the mat. " * 40 + "zebra " * 30


def book(folder: Path, content: str = BOOK) -> Path:
    (folder / "book.txt").write_text(content, encoding="utf-8")
    return folder / "book.txt"


def test_y_is_the_token_after_each_place(tmp_path: Path) -> None:
    splits = text(path=book(tmp_path), length=8)
    x, y = splits.train.tensors
    assert splits.spec.shape == (8,)
    assert splits.spec.places == (8,)
    assert torch.equal(x.flatten()[1:], y.flatten()[:-1])


def test_the_vocabulary_is_that_of_the_training_text(tmp_path: Path) -> None:
    splits = text(path=book(tmp_path), tokens="words", length=4)
    assert "zebra" not in splits.spec.extra["text"]["tokens"]
    assert 1 in splits.valid.tensors[0]
    assert splits.spec.outputs == splits.spec.extra["vocabulary"]


def test_a_folder_of_class_folders_is_labelled(tmp_path: Path) -> None:
    for label, words in {"bad": "poor film", "good": "fine film indeed"}.items():
        (tmp_path / label).mkdir()
        for number in range(5):
            (tmp_path / label / f"{number}.txt").write_text(words)
    splits = text(path=tmp_path, length=4)
    x, y = splits.train.tensors
    assert splits.spec.labels == ("bad", "good")
    assert (x == 0).sum(dim=1).tolist() == [2 - label for label in y.tolist()]


def test_a_table_of_labelled_texts(tmp_path: Path) -> None:
    (tmp_path / "own.tsv").write_text("text\tlabel\n" + "good film\t1\nbad film\t0\n" * 10)
    assert text(path=tmp_path / "own.tsv").spec.labels == ("0", "1")


@pytest.mark.parametrize("kind", ["characters", "words", "pairs"])
def test_tokens_are_the_text_again(kind: str) -> None:
    if kind == "pairs":
        pytest.importorskip("tokenizers")
    known = Vocabulary.learn([BOOK], kind, 300)
    again = Vocabulary(known.kind, known.tokens, known.merges)
    assert again.decode(again.encode("the cat sat")) == "the cat sat"


@pytest.mark.parametrize(("content", "reason"), [(" ", "book.txt is empty"), ("short", "dataset.length=64 needs 65")])
def test_a_bad_text_is_refused_in_a_line(content: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason):
        text(path=book(tmp_path, content))


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(DataError, match=r"book.txt is not UTF-8 .*byte 3"):
        text(path=tmp_path / "book.txt")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        text(path=tmp_path / "book.txt")


def test_folders_of_splits_are_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "train" / "good").mkdir(parents=True)
    (tmp_path / "train" / "good" / "1.txt").write_text("fine")
    with pytest.raises(DataError, match="a folder for each class has all its .txt files; dataset.valid_fraction"):
        text(path=tmp_path)


def test_a_missing_label_names_what_this_dataset_can_do(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("text,label\nfine,good\npoor,\n")
    with pytest.raises(DataError, match="missing in 2 rows: label 1; fill them, or remove the rows$"):
        text(path=tmp_path / "own.csv")


def test_a_column_is_asked_for_by_its_key(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("review,label\nfine,good\npoor,bad\n")
    with pytest.raises(DataError, match=r"dataset\.text names no column 'text'; available: label, review"):
        text(path=tmp_path / "own.csv")


def test_a_model_of_numbers_is_refused(tmp_path: Path) -> None:
    spec = text(path=book(tmp_path)).spec
    with pytest.raises(
        ConfigError, match=r"mlp takes numbers, dataset .*has tokens; models of tokens: lstm, transformer_small"
    ):
        require_input(register.model.get("mlp"), spec)
