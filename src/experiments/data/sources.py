"""Where MNIST-like data comes from: the cache, else the sources in turn, each told in one line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.data import idx
from experiments.data.download import download, exclusive, replacing
from experiments.data.splits import Splits
from experiments.errors import DataError, suggestion
from experiments.files import scratch

log = logging.getLogger(__name__)

# A source brings the four files' contents, and may use the data set's folder.
Source = Callable[[Path], Mapping[str, bytes]]
COMPRESSED_CAP = 64 << 20


def load(idx_set: idx.IdxSet, root: str, sources: Mapping[str, Source], manual: str) -> Splits:
    """The data set from its cache below `root`, else from the first of `sources` that has it.

    Args:
        idx_set: what it should be.
        root: the folder of all data; the set's own is root/name.
        sources: by name, tried in this order.
        manual: how to bring the data by hand, for the error.

    Raises:
        DataError: no source has it; each one's reason is told.
    """
    folder = Path(root) / idx_set.name
    try:
        maps = _cached(idx_set, folder)
        if maps is None:
            with exclusive(folder):
                maps = _cached(idx_set, folder, tell=True)  # another process may have filled it meanwhile
                if maps is None:
                    _fill(idx_set, folder, sources, manual)
                    maps = idx_set.open(folder)
    except OSError as error:
        raise DataError(f"{idx_set.name}: {folder} cannot be used: {error}") from error
    assert maps is not None
    return idx_set.splits(maps, str(folder))


def chosen(source: str | None, sources: Mapping[str, Source], read_file: Source | None) -> Mapping[str, Source]:
    """What a user's `dataset.source` means: a source's name, an https address, a file or a folder.

    Args:
        source: the setting; None for all sources in turn.
        sources: those known by name.
        read_file: reads and checks one local file; None where a set is no single file.

    Raises:
        DataError: it is none of these.
    """
    if source is None:
        return sources
    if source in sources:
        return {source: sources[source]}
    return {source: _given(source, sources, read_file)}


def _given(source: str, sources: Mapping[str, Source], read_file: Source | None) -> Source:
    if "://" in source:
        if not source.startswith("https://"):
            raise DataError(f"dataset.source={source}: only https:// addresses are read")
        if read_file is None or source.endswith("/"):
            return idx_files(source if source.endswith("/") else f"{source}/")
        return lambda folder: _downloaded(source, folder, read_file)
    path = Path(source).expanduser()
    if path.is_dir():
        packed = path / "mnist.pkl.gz"
        if read_file is not None and packed.is_file():
            return lambda _folder: read_file(packed)
        return lambda _folder: idx.read_folder(path)
    if path.is_file() and read_file is not None:
        return lambda _folder: read_file(path)
    kinds = "file, folder" if read_file else "folder"
    raise DataError(
        f"dataset.source={source}: no {kinds}, https:// address or a source's name{suggestion(source, sources)}"
    )


def idx_files(address: str) -> Source:
    """The four compressed idx files below an address that ends in a slash."""

    def fetch(folder: Path) -> dict[str, bytes]:
        contents = {}
        for part in idx.PARTS:
            with scratch(folder / f"{part}.gz") as temporary:
                download(f"{address}{part}.gz", temporary, cap=COMPRESSED_CAP)
                contents[part] = idx.read_gzip(temporary, part)
        return contents

    return fetch


def _downloaded(url: str, folder: Path, read_file: Source) -> Mapping[str, bytes]:
    with replacing(folder / "mnist.pkl.gz") as temporary:
        download(url, temporary, cap=COMPRESSED_CAP)
        return read_file(temporary)


def _cached(idx_set: idx.IdxSet, folder: Path, *, tell: bool = False) -> Mapping[str, idx.Bytes] | None:
    try:
        return idx_set.open(folder)
    except DataError as error:
        if tell:
            log.warning("%s: the cache in %s is damaged (%s); it is made again", idx_set.name, folder, error)
        return None


def _fill(idx_set: idx.IdxSet, folder: Path, sources: Mapping[str, Source], manual: str) -> None:
    reasons = []
    for name, source in sources.items():
        try:
            idx_set.write(folder, source(folder))
        except DataError as error:
            reasons.append(f"{name}: {error}")
            log.info("%s: not from %s (%s)", idx_set.name, name, error)
        else:
            log.info("%s: from %s, checked and kept in %s", idx_set.name, name, folder)
            return
    listed = "\n  ".join(reasons)
    raise DataError(f"could not get {idx_set.name}:\n  {listed}\n{manual}")
