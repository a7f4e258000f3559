"""The cache of MNIST: checked at each load, memory-mapped, made again where it is damaged."""

from __future__ import annotations

import builtins
import gzip
import io
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from experiments.components.datasets import mnist
from experiments.data import idx
from experiments.data.sources import PACKED
from experiments.data.splits import Splits
from experiments.errors import DataError
from tests.support import small_mnist

IMAGES = idx.PARTS[0]
CACHE = Path("data/mnist")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, workplace: Path) -> None:
    """80 digits stand for MNIST; the test's folder holds its mnist.pkl.gz."""
    small_mnist.install(monkeypatch.setattr)
    Path(PACKED).write_bytes(small_mnist.packed())


def load(source: str | None = PACKED) -> Splits:
    return mnist.mnist(source=source)


def damage() -> None:
    content = (CACHE / IMAGES).read_bytes()
    (CACHE / IMAGES).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_the_second_load_opens_no_pickle_and_makes_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load()

    def never(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError

    for owner, name in ((gzip, "open"), (requests, "get"), (subprocess, "run"), (mnist, "read_pickle")):
        monkeypatch.setattr(owner, name, never)
    assert load(None).spec == first.spec


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="tells what is mapped only on Linux")
def test_inputs_are_mapped_from_the_cache_not_copied() -> None:
    x = load().train.tensors[0]
    maps = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in maps if line.endswith(str((CACHE / IMAGES).resolve()))]
    assert any(int(start, 16) <= x.data_ptr() < int(end, 16) for start, end in spans)


def test_the_cache_stays_as_it_is_when_inputs_are_written_to() -> None:
    load().train.tensors[0].zero_()
    assert (CACHE / IMAGES).read_bytes() == small_mnist.contents()[IMAGES]


@pytest.mark.parametrize("content", [b"", b"short", None], ids=["empty", "short", "a flipped bit"])
def test_a_damaged_cache_is_told_once_and_made_again(content: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    load()
    damage() if content is None else (CACHE / IMAGES).write_bytes(content)
    load()
    assert [record.levelname for record in caplog.records if "is damaged" in record.message] == ["WARNING"]
    assert (CACHE / IMAGES).read_bytes() == small_mnist.contents()[IMAGES]


def test_a_damaged_cache_that_cannot_be_made_again_is_an_error() -> None:
    load()
    damage()
    Path(PACKED).write_bytes(b"damaged too")
    with pytest.raises(DataError, match="could not get mnist"):
        load()


def test_a_missing_file_of_the_cache_is_made_again() -> None:
    load()
    (CACHE / IMAGES).unlink()
    load()
    assert (CACHE / IMAGES).is_file()


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called, nothing can be made or opened for writing; the owner's rights do not matter."""
    plain_open, plain_os_open = builtins.open, os.open

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    def guarded_open(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        return refuse() if set(mode) & set("wax+") else plain_open(file, mode, *arguments, **options)

    def guarded_os_open(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        refuse() if writing else None
        return plain_os_open(path, flags, *arguments, **options)

    def call() -> None:
        monkeypatch.setattr(builtins, "open", guarded_open)
        monkeypatch.setattr(io, "open", guarded_open)
        monkeypatch.setattr(os, "open", guarded_os_open)
        monkeypatch.setattr(os, "mkdir", refuse)

    return call


def test_a_read_only_cache_is_read(read_only: Callable[[], None]) -> None:
    first = load()
    read_only()
    assert load().spec == first.spec


def test_a_read_only_folder_without_the_data_is_told(read_only: Callable[[], None]) -> None:
    read_only()
    with pytest.raises(DataError, match=r"data/mnist cannot be used: .*Permission denied"):
        load()


def test_a_file_in_the_place_of_the_folder_is_told() -> None:
    Path("data").write_text("a file")
    with pytest.raises(DataError, match="data/mnist cannot be used"):
        load()


def test_a_link_in_the_cache_is_not_written_through() -> None:
    CACHE.mkdir(parents=True)
    Path("victim").write_bytes(b"mine")
    (CACHE / IMAGES).symlink_to(Path("victim").resolve())
    with pytest.raises(DataError, match="is a link"):
        load()
    assert Path("victim").read_bytes() == b"mine"
