"""The commands on the site's pages run, page by page, in the order of the page: shortened, without a network."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.places import ROOT

DOCS = ROOT / "docs"
PAGES = [*sorted((DOCS / "site").rglob("*.md")), DOCS / "tour.md", DOCS / "exercises.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = ["dataset=mnist_5k", "epochs=1", "limit_batches=4", "device=cpu", "device.threads=1"]
QUICK += ["tracking=none", "figures=false"]
FEWER = {r"seed=0,1,2\S*": "seed=0,1", r"experiment=tutorial": "experiment=tutorial stage=09_fit,10_cnn"}
FEWER |= {r"(?<=python -m experiments )(.*)epochs=\d+": r"\1epochs=1"}
RANGE = "dataset=mnist_5k device.threads=1 --steps 20"

# Commands that are not run, by how they begin, with the reason.
NOT_RUN = {
    "make run": "makes a virtual environment; integration/test_first_hour.py types it",
    "for lr in": "a script of the page's reader, without this package",
    "python src/train.py": "another project's command",
    "python -m experiments.ui": "a server, which does not end; integration/test_browser.py",
    "python -m experiments.parity --stages": "takes minutes; integration/test_stages.py",
    'python -m experiments.parity "stage=04': "the whole MNIST; integration/test_stages.py",
    "python -m experiments.export_script stage=0": "the whole MNIST; test_tutorial.py exports each stage",
    "diff 04.py": "the scripts of the line above; test_tutorial.py compares them",
    "python -m experiments.replay RUN": "a run in a commit of its own; integration/test_replay.py",
    "python -m experiments.evaluate latest --split test": "mnist_5k has no test rows; integration/test_evaluate.py",
    "python -m experiments.resume outputs/": "the folder stands for a run; integration/test_resume.py",
}
EXIT_CODES = {
    "python -m experiments.exercise check 5": 1,  # the hole is not filled yet
    "python -m experiments.compare --baseline latest/0": 3,  # a few batches tell nothing
}


def commands(page: Path) -> list[str]:
    """Return a page's commands: the lines of a shell's blocks, and those after a prompt."""
    found = []
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        lines = text.replace("\\\n", " ").splitlines()
        prompted = [line[2:] for line in lines if line.startswith("$ ")]
        found += [line for line in lines if line.strip()] if language == "bash" else prompted
    return found


def reason_not_to_run(command: str) -> str:
    return next((reason for start, reason in NOT_RUN.items() if command.startswith(start)), "")


def shortened(command: str) -> str:
    """Return a command with fewer jobs and epochs, and the settings that it does not name, for a few batches."""
    for long, short in FEWER.items():
        command = re.sub(long, short, command)
    missing = " ".join(each for each in QUICK if f"{each.split('=')[0]}=" not in command and "--again" not in command)
    command = re.sub(r"(python -m experiments)(?= |$)", rf"\1 {missing}", command)
    return command.replace("-m experiments.lr_find", f"-m experiments.lr_find {RANGE}")


RUN = {page: [line for line in commands(page) if not reason_not_to_run(line)] for page in PAGES}


@pytest.fixture
def files(workplace: Path) -> Path:
    """The files that the pages name."""
    page = (DOCS / "tour.md").read_text(encoding="utf-8")
    (workplace / "my_net.py").write_text(next(text for _, text in BLOCK.findall(page) if "# my_net.py" in text))
    (workplace / "book.txt").write_text("the cat sat on the mat. " * 40)
    rows = "".join(f"{area},{area % 4},{area * 1000}\n" for area in range(50, 90))
    (workplace / "houses.csv").write_text(f"area,rooms,price\n{rows}")
    shades = np.random.default_rng(0)
    for name in ("photo", "digits/0", *(f"pets/{kind}/{number}" for kind in ("cat", "dog") for number in range(10))):
        (workplace / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(shades.integers(0, 256, (32, 32), dtype=np.uint8)).save(workplace / f"{name}.png")
    return workplace


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, lines in RUN.items() if lines], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(page: Path, files: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for command in RUN[page]:
        if match := re.fullmatch(r"export (\w+)=(\S+)", command):
            environment[match[1]] = match[2]
            continue
        last = (files / "outputs" / "latest").resolve()  # a sweep, or nothing yet: the page means a run
        wants_run = re.search(r" latest\b", command.split("#")[0]) and "experiments.compare" not in command
        if wants_run and "runs" not in last.parts:
            train = shortened("python -m experiments model=cnn_adaptive")
            subprocess.run(train.split(), cwd=files, env=environment, check=True, capture_output=True)
        ran = ["bash", "-c", shortened(command)]
        done = subprocess.run(ran, cwd=files, env=environment, capture_output=True, text=True, timeout=200, check=False)
        expected = next((code for start, code in EXIT_CODES.items() if command.startswith(start)), 0)
        assert done.returncode == expected, f"{command}\n{done.stdout}\n{done.stderr}"


def test_each_reason_is_needed() -> None:
    every = [command for page in PAGES for command in commands(page)]
    assert len(every) > 40
    assert not [start for start in (*NOT_RUN, *EXIT_CODES) if not any(each.startswith(start) for each in every)]


def test_each_place_that_a_reason_names_is_a_file_of_tests() -> None:
    named = re.findall(r"[\w/]+\.py", " ".join(NOT_RUN.values()))
    tests = ROOT / "tests"
    assert len(named) > 8 and all((tests / name).is_file() or (tests / "website" / name).is_file() for name in named)
