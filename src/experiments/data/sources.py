"""Load MNIST-like data from its cache, else from the first source that has it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.data import idx
from experiments.data.download import download, exclusive, replacing
from experiments.data.splits import Splits
from experiments.errors import DataError, suggestion
from experiments.files import expanded, scratch

log = logging.getLogger(__name__)

# Returns the four files' contents; its argument is the data set's folder.
Source = Callable[[Path], Mapping[str, bytes]]
CAP = 64 << 20  # bytes of one download
PACKED = "mnist.pkl.gz"


def load(
    idx_set: idx.IdxSet,
    root: str,
    source: str | None,
    named: Mapping[str, Source],
    *,
    manual: str,
    read_packed: Source | None = None,
) -> Splits:
    """Load a data set from its cache below `root`, else from its sources.

    Args:
        idx_set: its layout and content.
        root: the folder of all data; the set's own is root/name.
        source: `dataset.source`: a source's name, an https address, a file or a folder; None tries all of `named`.
        named: the known sources, in the order they are tried.
        manual: how to get the data by hand, for the error.
        read_packed: reads and checks one file with the whole set; None where the set has no such form.

    Raises:
        DataError: no source has it; the message has each one's reason.
    """
    tried = named if source is None else {source: named.get(source) or _given(idx_set, source, named, read_packed)}
    folder = Path(root) / idx_set.name
    try:
        maps = _cached(idx_set, folder)
        if maps is None:
            with exclusive(folder):
                maps = _cached(idx_set, folder, warn=True)  # another process may have filled it meanwhile
                if maps is None:
                    _fill(idx_set, folder, tried, manual)
                    maps = idx_set.open(folder)
    except OSError as error:
        raise DataError(f"{idx_set.name}: {folder} cannot be used: {error}") from error
    assert maps is not None
    return idx_set.splits(maps, str(folder))


def _given(idx_set: idx.IdxSet, source: str, named: Mapping[str, Source], read_packed: Source | None) -> Source:
    """Return the source that an address, a file or a folder means."""
    if "://" in source:
        if not source.startswith("https://"):
            raise DataError(f"dataset.source={source}: only https:// addresses are read")
        if read_packed is None or source.endswith("/"):
            return idx_files(idx_set, f"{source.removesuffix('/')}/")
        return packed_file(source, read_packed)
    path = expanded(source)
    file = path / PACKED if path.is_dir() else path
    if read_packed is not None and file.is_file():
        return lambda _folder: read_packed(file)
    if path.is_dir():
        return lambda _folder: idx_set.read_folder(path)
    kinds = "file, folder" if read_packed else "folder"
    raise DataError(f"dataset.source={source}: not a {kinds}, https:// address or source{suggestion(source, named)}")


def idx_files(idx_set: idx.IdxSet, address: str) -> Source:
    """Return the source of four compressed idx files below an address that ends in a slash."""

    def fetch(folder: Path) -> dict[str, bytes]:
        contents = {}
        for part in idx.PARTS:
            with scratch(folder / f"{part}.gz") as temporary:
                download(f"{address}{part}.gz", temporary, cap=CAP)
                contents[part] = idx_set.read_gzip(temporary, part)
        return contents

    return fetch


def packed_file(url: str, read_packed: Source) -> Source:
    """Return the source of one file with the whole set, which is kept if its content is right."""

    def fetch(folder: Path) -> Mapping[str, bytes]:
        with replacing(folder / PACKED) as temporary:
            download(url, temporary, cap=CAP)
            return read_packed(temporary)

    return fetch


def _cached(idx_set: idx.IdxSet, folder: Path, *, warn: bool = False) -> Mapping[str, idx.Bytes] | None:
    try:
        return idx_set.open(folder)
    except DataError as error:
        if warn:
            log.warning("%s: the cache in %s is damaged (%s); rebuilding it", idx_set.name, folder, error)
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
            log.info("%s: from %s, checked and stored in %s", idx_set.name, name, folder)
            return
    listed = "\n  ".join(reasons)
    raise DataError(f"could not get {idx_set.name}:\n  {listed}\n{manual}")
