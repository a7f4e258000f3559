"""The tutorial inside MLflow: a stage's description shows what it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

import experiments
from experiments.export_script.refactoring import Refactoring
from experiments.tracking.markdown import LONGEST
from tests.support import raw_journal, small_mnist
from tests.support.scripts import measured, run_script

QUIET = ["tracking=none", "figures=false", "dataset.source=mnist.pkl.gz", "loader.batch_size=8"]


@pytest.fixture
def digits(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_mnist.install(monkeypatch.setattr)
    (workplace / "mnist.pkl.gz").write_bytes(small_mnist.packed())
    return workplace


def trained(*overrides: str) -> tuple[Path, str]:
    """A stage's folder and description."""
    folder = experiments.run([*overrides, *QUIET]).folder
    assert folder is not None
    note: str = raw_journal.read(folder)[0]["note"]
    return folder, note


def test_a_stages_description_holds_its_words_the_verdict_and_the_diff(digits: Path) -> None:
    folder, note = trained("stage=05_optim")
    assert note.startswith("## Stage 5: An optimiser from torch.optim\n")
    assert "**Against the stage before, from the same weights: identical.**" in note
    assert "-optimizer = ByHand(model.parameters(), 0.5)\n+optimizer = optim.SGD(" in note
    assert (folder / "refactoring.diff.txt").read_text().strip() in note and len(note) < LONGEST


def test_it_is_told_in_uzbek_where_that_is_chosen(digits: Path) -> None:
    _, note = trained("stage=03_module", "language=uz")
    assert note.startswith("## 3-bosqich: Parametrli modul\n")
    assert "### Kodda nima o'zgaradi" in note and "aynan bir xil" in note
    assert "**Qo'llanma chop etadi (seed belgilanmagan):**" in note


def test_the_first_stage_has_a_script_and_no_diff(digits: Path) -> None:
    folder, note = trained("stage=01_tensors")
    assert (folder / "plain.py").is_file() and not (folder / "refactoring.diff.txt").exists()
    assert note.endswith("### What changes in the code\n\nThe whole script is the artifact `script/plain.py`.")


def test_a_setting_that_the_stage_before_has_not_is_told(digits: Path) -> None:
    _, note = trained("stage=12_wrapped_dataloader", "model.width=4")
    assert "There is no script to set against the stage before: model.width: unknown key" in note


def test_the_script_beside_a_run_is_that_runs(digits: Path) -> None:
    result = experiments.run(["stage=09_fit", *QUIET, "seed=3"])
    assert result.folder is not None
    assert run_script(result.folder / "plain.py", str(digits / "mnist.pkl.gz")) == measured(result)


def test_exporting_leaves_the_training_as_it_is(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["stage=04_linear", *QUIET, "model=mlp", "model.dropout=0.5"]
    before = measured(experiments.run(settings))
    monkeypatch.setattr("experiments.api.refactoring", lambda *_: Refactoring(problem="not asked for"))
    assert measured(experiments.run(settings)) == before


def test_a_run_that_is_no_stage_has_no_script_beside_it(digits: Path) -> None:
    folder, note = trained("model=logistic")
    assert note == "" and not (folder / "plain.py").exists()
