"""The examples run as their own words say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.places import ROOT, Cli

EXAMPLES = ROOT / "examples"
slow = pytest.mark.slow
QUICK = ["tracking=none", "figures=false"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "overrides", "figure"),
    [
        ("my_net", ["dataset=digits", "model=my_net", "model.width=64"], "valid/accuracy"),
        ("my_dataset", ["dataset=stripes", "model=cnn_adaptive"], "valid/accuracy"),
        pytest.param(
            "my_dataset", ["dataset=stripes", "model=cnn_adaptive", "loader=dataloader"], "valid/accuracy", marks=slow
        ),
        pytest.param(
            "my_metric", ["dataset=digits", "metrics=[accuracy,top_k]", "metrics.top_k.k=2"], "valid/top_k", marks=slow
        ),
    ],
)
def test_an_example_trains(example: str, overrides: list[str], figure: str, cli: Cli) -> None:
    done = cli(*overrides, *QUICK, env={"EXPERIMENTS_COMPONENTS": str(EXAMPLES / f"{example}.py")})
    assert done.returncode == 0, done.stderr
    assert figure in done.stdout


@pytest.mark.slow
def test_an_own_loader_is_chosen_as_a_model_is(cli: Cli, workplace: Path) -> None:
    source = (
        "import experiments\n"
        "from experiments.components.loaders import in_memory\n"
        "@experiments.register.loader('mine')\n"
        "def mine(split, batch_size, order, shape): return in_memory(split, batch_size, order, shape)\n"
    )
    (workplace / "mine.py").write_text(source, encoding="utf-8")
    done = cli("dataset=digits", "loader=mine", "epochs=1", *QUICK, env={"EXPERIMENTS_COMPONENTS": "mine.py"})
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_notebook_runs(workplace: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    text = (EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]  # not annotated
    folder = {"metadata": {"path": str(workplace)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]  # on red ground
    assert "text/html" in next(output for output in outputs if output.output_type == "execute_result").data
    lines = "".join(output.text for output in outputs if output.output_type == "stream")
    last = [float(found) for found in re.findall(r"epoch 9 .*valid/accuracy (\S+)", lines)]
    assert len(last) == 2 and min(last) > 0.9
