"""The rows of a sweep's table: best first, only settings that differ; the stages with what the tutorial prints."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from experiments.config.language import Language
from experiments.runs.job_record import JobRecord
from experiments.sweeps import best
from experiments.sweeps.rows import are_stages, job_rows, stage_rows
from experiments.tracking import record
from tests.support.compared import run

STAGE = "language: en\ntutorial:\n  gain: {{en: {gain}}}\n  prints: {{{prints}}}\n"


def job(folder: Path, loss: float, lr: str) -> JobRecord:
    run(folder, [loss], settings={"optim.lr": lr})
    found = record.read(folder)
    return JobRecord.of(found, folder.name, metrics={**found.metrics, "best/valid_loss": {0: loss}})


@pytest.fixture
def jobs(tmp_path: Path) -> list[JobRecord]:
    losses = {"0": 0.5, "1": math.nan, "2": 0.3}
    return [job(tmp_path / name, loss, f"0.{name}") for name, loss in losses.items()]


def test_jobs_are_best_first_and_those_without_a_loss_last(jobs: list[JobRecord]) -> None:
    rows = job_rows(jobs, [])
    assert [row["job"] for row in rows] == ["2", "0", "1"]
    assert list(rows[0]) == ["job", "optim.lr", "best/valid_loss", "valid/loss", "seconds", "status"]
    assert [row["optim.lr"] for row in rows] == ["0.2", "0.0", "0.1"]
    assert [row["status"] for row in rows] == ["FINISHED", "FINISHED", "diverged"]


def test_what_was_swept_over_is_a_column_even_where_all_have_the_same(jobs: list[JobRecord]) -> None:
    assert "loss.name" in job_rows(jobs, ["loss.name"])[0]


def test_the_best_job_has_the_smallest_finite_loss(jobs: list[JobRecord]) -> None:
    found = best.of(jobs, ["loss.name"])
    assert found is not None
    assert found.metrics == {"best/valid_loss": 0.3, "valid/loss": 0.3}
    assert found.tags["best/job"] == "2" and found.tags["best/optim.lr"] == "0.2"
    assert found.text.startswith("job 2, best/valid_loss 0.3: loss.name=cross_entropy optim.lr=0.2; ")
    assert Language("uz")(found.text).startswith("2-ish, best/valid_loss 0.3: ")
    assert best.of(jobs[1:2], []) is None


def test_a_stage_has_what_the_tutorial_prints_beside_its_own_loss_and_its_verdict(tmp_path: Path) -> None:
    found = []
    for name, prints in (("01", ""), ("02", "valid/loss: 0.25")):
        folder = run(tmp_path / name, [0.5, 0.4], tags={"stage": name})
        (folder / "config.yaml").write_text(STAGE.format(gain=f"gain of {name}", prints=prints), encoding="utf-8")
        found.append(JobRecord.of(record.read(folder), name))
    assert are_stages(found) and not are_stages([found[0], found[0]])
    first, second = stage_rows(found, [{"pair": ["01", "02"], "verdict": "differs", "where": "weight"}])
    assert (first["printed"], first["parity"]) == ("-", "")
    assert second == {
        "stage": "02",
        "gain": "gain of 02",
        "printed": "0.2500",
        "ours": "0.5000  0.4000",
        "valid/loss": "0.5000  0.4000",
        "parity": "differs (weight)",
        "seconds": "3.0",
        "status": "FINISHED",
    }
    assert "parity" not in stage_rows(found)[0]


def test_the_heads_are_in_the_language_of_the_runs(tmp_path: Path) -> None:
    folder = run(tmp_path / "a", [0.5], tags={"stage": "01"})
    words = "language: uz\ntutorial:\n  gain: {en: less, uz: kam}\n  prints: {}\n"
    (folder / "config.yaml").write_text(words, encoding="utf-8")
    (found,) = [JobRecord.of(record.read(folder), "0")]
    assert {"ish", "soniya", "holat"} <= set(job_rows([found], [])[0])
    (row,) = stage_rows([found])
    assert (row["bosqich"], row["foyda"], row["qo'llanmada"]) == ("01", "kam", "-")


def test_a_sweep_without_jobs_has_no_rows() -> None:
    assert job_rows([], []) == []
