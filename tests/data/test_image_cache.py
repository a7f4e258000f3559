"""The cache of images: whole or not used, one writer at a time, and read without filling the memory."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.data import image_cache
from experiments.data.image_cache import DESCRIPTION, IMAGES, Wanted
from experiments.errors import DataError


def noise(folder: Path, count: int, side: int = 8) -> list[tuple[str, Path]]:
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(count):
        pixels = draw.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.bmp")
    return [(path.name, path) for path in sorted(folder.iterdir())]


def rows(files: list[tuple[str, Path]], cache: Path, **changed: Any) -> dict[str, Any]:
    y = np.arange(len(files))
    wanted = Wanted(None, "RGB", skip_damaged=False, folder=str(cache))._replace(**changed)
    return image_cache.rows({"train": files}, {"train": y}, "source", wanted)


def test_a_cache_is_used_again_without_its_files(tmp_path: Path) -> None:
    files = noise(tmp_path / "files", 3)
    first = rows(files, tmp_path / "cache")
    for _, path in files:
        path.unlink()
    again = rows(files, tmp_path / "cache")
    assert again["digest"] == first["digest"] and (again["train"][0] == first["train"][0]).all()


@pytest.mark.parametrize("settings", [{"size": 4}, {"size": [8, 4]}, {"mode": "L"}])
def test_each_setting_has_a_cache_of_its_own(settings: dict[str, Any], tmp_path: Path) -> None:
    files = noise(tmp_path / "files", 3)
    first = rows(files, tmp_path / "cache")
    assert rows(files, tmp_path / "cache", **settings)["shape"] != first["shape"]
    assert rows(files, tmp_path / "cache")["digest"] == first["digest"]


@pytest.mark.parametrize("lost", [DESCRIPTION, IMAGES, "half"])
def test_what_is_not_whole_is_written_again(lost: str, tmp_path: Path) -> None:
    files = noise(tmp_path / "files", 3)
    first = rows(files, tmp_path / "cache")
    before = first["train"][0].clone()
    (folder,) = (tmp_path / "cache").iterdir()
    if lost == "half":
        os.truncate(folder / IMAGES, 100)
    else:
        (folder / lost).unlink()
    again = rows(files, tmp_path / "cache")
    assert again["digest"] == first["digest"] and (again["train"][0] == before).all()


def test_a_change_in_place_does_not_reach_the_file(tmp_path: Path) -> None:
    files = noise(tmp_path / "files", 3)
    x = rows(files, tmp_path / "cache")["train"][0]
    before = x.clone()
    x.zero_()
    assert (rows(files, tmp_path / "cache")["train"][0] == before).all()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match=r"dataset.cache=.*cannot be used"):
        rows(noise(tmp_path / "files", 2), tmp_path / "cache")


def _digest(files: list[tuple[str, Path]], cache: Path, out: Any) -> None:
    out.put(rows(files, cache)["digest"])


@pytest.mark.slow
def test_two_processes_at_once_make_one_cache(tmp_path: Path) -> None:
    files = noise(tmp_path / "files", 200)
    context = multiprocessing.get_context("spawn")
    out: Any = context.Queue()
    both = [context.Process(target=_digest, args=(files, tmp_path / "cache", out)) for _ in range(2)]
    for process in both:
        process.start()
    found = {out.get(timeout=60) for _ in both}
    for process in both:
        process.join()
    assert len(found) == 1 and len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.slow
def test_a_killed_writer_leaves_nothing_that_is_used(tmp_path: Path) -> None:
    files = noise(tmp_path / "files", 1500, side=128)
    context = multiprocessing.get_context("spawn")
    out: Any = context.Queue()
    process = context.Process(target=_digest, args=(files, tmp_path / "cache", out))
    process.start()
    deadline = time.monotonic() + 60
    while not list((tmp_path / "cache").glob(f"*/{IMAGES}.*")) and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (folder,) = (tmp_path / "cache").iterdir()
    assert not (folder / DESCRIPTION).exists()
    found = rows(files, tmp_path / "cache")
    assert len(found["train"][0]) == 1500
    assert sorted(path.name for path in folder.iterdir()) == [".lock", IMAGES, DESCRIPTION]


LIMITED = """
import resource, sys
from pathlib import Path
import experiments
root, limit = sys.argv[1], int(sys.argv[2])
import torch, mlflow, experiments.api
def data():
    return next(
        int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line
    )
words = ["dataset=image_folder", f"dataset.root={root}/files", f"dataset.cache={root}/cache", f"output_root={root}/out"]
small = ["loader.batch_size=4", "loader.valid_batch_size=4"]
quiet = ["tracking=none", "figures=false", "device=cpu", "device.threads=1", "model=logistic", *small]
experiments.run(["dataset=digits", *quiet, "epochs=1", f"output_root={root}/warm"])
resource.setrlimit(resource.RLIMIT_DATA, (data() + limit,) * 2)
experiments.run([*words, *quiet, "epochs=2"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of memory")
def test_images_of_three_times_the_memory_train(tmp_path: Path) -> None:
    for label in "ab":
        noise(tmp_path / "files" / label, 2000, side=256)
    whole = 4000 * 256 * 256 * 3
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), str(whole // 3)],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"MALLOC_ARENA_MAX": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    described = [json.loads(path.read_text()) for path in (tmp_path / "cache").glob(f"*/{DESCRIPTION}")]
    assert [each["bytes"] for each in described] == [whole]
