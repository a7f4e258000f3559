"""The doctor's command, and its line at a run's end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.config import check
from experiments.doctor import examine
from experiments.doctor.__main__ import main
from experiments.runs.preparation import prepare
from experiments.seeds import noise_state, same_noise
from experiments.training import build
from tests.support import raw_journal
from tests.support.commands import command
from tests.support.forked import forked

DIGITS = ("dataset=digits", "model=mlp", "device=cpu", "device.threads=1")
RUN = (*DIGITS, "epochs=10", "tracking=none", "hydra.run.dir=run")
CREEPS = (*RUN, "optim.lr=1e-6")


def end() -> dict[str, Any]:
    return [event for event in raw_journal.read(Path("run")) if event["event"] == "end"][-1]


def said(text: str) -> list[str]:
    return [line for line in text.splitlines() if "doctor: " in line]


def test_a_run_ends_with_one_line_and_a_tag(workplace: Path) -> None:
    ended = command(*CREEPS)
    (line,) = said(ended.out)
    assert ended.code == 0
    assert "doctor: creeping: valid/loss fell by " in line
    assert "(try optim.lr=1e-05" in line
    assert end()["status"] == "FINISHED"
    names = end()["tags"]["experiments.doctor"].split(", ")
    assert names[0] == "creeping"
    assert (f"and {len(names) - 1} more: " in line) == (len(names) > 1)


def test_fail_ends_the_run_as_failed_and_names_the_finding(workplace: Path) -> None:
    ended = command(*CREEPS, "doctor=fail")
    assert ended.code == 1
    assert ended.err.startswith("error: doctor: creeping: ")
    assert (end()["status"], end()["reason"]) == ("FAILED", ended.err.removeprefix("error: ").strip())
    assert end()["tags"]["experiments.doctor"].startswith("creeping")
    assert Path("run/weights.pt").is_file()


@pytest.mark.parametrize("given", [("doctor=off", "optim.lr=1e-6"), ("doctor=fail", "optim.lr=0.1")])
def test_switched_off_or_healthy_it_is_silent(given: tuple[str, ...], workplace: Path) -> None:
    ended = command(*RUN, *given)
    assert (ended.code, said(ended.out + ended.err), end()["tags"]) == (0, [], {})


def test_it_is_no_part_of_a_runs_identity() -> None:
    keys = {prepare(check.configured([*DIGITS, f"doctor={way}"]).root, []).key for way in ("off", "warn", "fail")}
    assert len(keys) == 1


def test_off_may_be_written_as_yaml_reads_it(workplace: Path) -> None:
    Path("mine/experiment").mkdir(parents=True)
    Path("mine/experiment/quiet.yaml").write_text("# @package _global_\ndoctor: off\n", encoding="utf-8")
    found = command("--config-dir", "mine", "experiment=quiet", *RUN, "optim.lr=1e-6")
    assert (found.code, said(found.out)) == (0, [])


def test_the_command_examines_overrides_and_starts_nothing(workplace: Path) -> None:
    rows = np.random.default_rng(0).random((300, 1, 8, 8), "f4") * 255
    np.savez("pixels.npz", x=rows, y=np.arange(300) % 3)
    given = ["dataset=arrays", "dataset.path=pixels.npz", "model=mlp", "device=cpu", "device.threads=1"]
    ended = forked(lambda: main([*given, "--json"]))
    found = json.loads(ended.out)
    assert (ended.code, found["command"], found["answer"]["examined"]) == (1, "doctor", " ".join(given))
    first = found["answer"]["findings"][0]
    assert first.keys() == {"rule", "evidence", "remedy", "docs"}
    assert (first["rule"], first["docs"]) == ("input-scale", "docs/doctor.md#input-scale")
    assert f"standard deviation {rows[:240].std():.2g}"[:-1] in first["evidence"]
    assert "divide x" not in ended.err  # the dataset's own warning says the same
    assert [path.name for path in workplace.iterdir()] == ["pixels.npz"]


def test_the_command_examines_a_run(workplace: Path) -> None:
    command(*CREEPS, "doctor=off")
    ended = forked(lambda: main(["run"]))
    assert ended.code == 1
    assert ended.out.startswith("update-too-small: ")  # the cause comes before the symptom
    rate = re.findall(r"  try   (optim\.lr=\S+)\n  read  docs/doctor\.md#(\S+)\n", ended.out)
    assert [name for _, name in rate] == ["update-too-small", "creeping"]
    assert len({value for value, _ in rate}) == 1  # two findings, one remedy


def test_a_healthy_configuration_has_no_findings(workplace: Path) -> None:
    ended = forked(lambda: main([*DIGITS]))
    assert (ended.code, ended.out) == (0, "nothing found\n")


def test_the_random_streams_are_put_back() -> None:
    before, threads = noise_state(torch.device("cpu")), torch.get_num_threads()
    examine([*DIGITS, "model.dropout=0.5"])
    build.forget_dataset()
    assert same_noise(before, noise_state(torch.device("cpu")))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["nowhere"], "nowhere: no run; "),
        (["run", "epochs=2"], "run: a run is examined as it was; "),
        (["modle=cnn"], "modle: unknown key"),
    ],
)
def test_mistakes_are_one_message(given: list[str], expected: str, workplace: Path) -> None:
    ended = forked(lambda: main(given))
    assert (ended.code, ended.err.splitlines()[0][: len(f"error: {expected}")]) == (2, f"error: {expected}")
