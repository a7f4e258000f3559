"""A run as one script of plain PyTorch: it prints the run's losses to the last bit, needs nothing of ours, is short."""

from __future__ import annotations

import ast
import difflib
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import experiments
from experiments.config.registry import register
from experiments.data.sources import PACKED
from experiments.export_script.exporting import export
from tests.integration.test_stages import STAGES
from tests.support import small_mnist
from tests.support.models import IMAGES
from tests.support.places import SHARED
from tests.support.scripts import exported, measured, printed, run_script
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

PACKED_MNIST = SHARED / PACKED
QUIET = ["tracking=none", "figures=false", "device=cpu"]
# Pictures of MNIST's size, which every model takes.
SMALL = [*QUIET, "dataset=synthetic", "dataset.train=45", "dataset.valid=21", "loader.batch_size=8", "epochs=2"]
SMALL += ["optim.lr=0.01"]
NEEDS = {"torch", "numpy", "requests"}


@pytest.fixture
def digits(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small MNIST in the tutorial's own file, in a folder of its own."""
    small_mnist.install(monkeypatch.setattr)
    (workplace / PACKED).write_bytes(small_mnist.packed())
    return workplace / PACKED


def same_losses(overrides: Sequence[str], folder: Path) -> bool:
    script = exported(overrides, folder)
    return run_script(script, str(folder / "rows.npz")) == measured(experiments.run(overrides))


def differences(before: str, now: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), now.splitlines(), lineterm="", n=0)
    return [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The script of each stage, on the small MNIST."""
    folder = tmp_path_factory.mktemp("scripts")
    (folder / PACKED).write_bytes(small_mnist.packed())
    with pytest.MonkeyPatch.context() as patch:
        small_mnist.install(patch.setattr)
        patch.chdir(folder)
        return {stage: export([f"stage={stage}", f"dataset.source={PACKED}"]).text for stage in STAGES}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_script_prints_its_losses_to_the_last_bit(stage: str, digits: Path) -> None:
    overrides = [f"stage={stage}", *QUIET, f"dataset.source={digits.name}", "loader.batch_size=8", "epochs=3"]
    losses = measured(experiments.run(overrides))
    # A script whose weights come from another stage trains that one first.
    assert run_script(exported(overrides, digits.parent), str(digits))[-3:] == losses


@pytest.mark.parametrize("source", ["file", "folder", "relative", "idx", "root"])
def test_a_script_of_mnist_reads_what_the_run_read(source: str, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = digits.parent / "mine" / "mnist"
    folder.mkdir(parents=True)
    contents = small_mnist.contents() if source == "idx" else {PACKED: digits.read_bytes()}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    sources = {"file": f"dataset.source={folder / PACKED}", "folder": f"dataset.source={folder}"}
    sources |= {"relative": f"dataset.source=mine/mnist/{PACKED}", "idx": "dataset.source=mine/mnist"}
    overrides = ["model=logistic", *QUIET, sources.get(source, "dataset.root=mine"), "loader.batch_size=8", "epochs=1"]
    losses = measured(experiments.run(overrides))
    script = exported(overrides, digits.parent)
    digits.unlink()
    given = [str(digits.parent / "rows.npz")] if source == "idx" else []
    monkeypatch.setattr("requests.get", lambda *_, **__: pytest.fail("it looked for another source"))
    if source == "root":  # an address that was fetched before
        assert 'Path("mine/mnist/mnist.pkl.gz")' in script.read_text("utf-8")
    assert run_script(script, *given) == losses


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_script_has_120_lines_at_most(stage: str, stages: dict[str, str]) -> None:
    assert len(stages[stage].splitlines()) <= 120


@pytest.mark.parametrize(("before", "now"), list(pairwise(STAGES))[:8])
def test_two_stages_scripts_differ_in_few_lines(before: str, now: str, stages: dict[str, str]) -> None:
    assert len(differences(stages[before], stages[now])) < 25


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_script_imports_three_packages_at_most(stage: str, stages: dict[str, str]) -> None:
    imported = set()
    for node in ast.walk(ast.parse(stages[stage])):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    assert imported - set(sys.stdlib_module_names) <= NEEDS


def test_stage_5_loses_the_update_by_hand_and_changes_one_line(stages: dict[str, str]) -> None:
    changed = differences(stages["04_linear"], stages["05_optim"])
    assert "+optimizer = optim.SGD(model.parameters(), lr=0.5, fused=True)" in changed
    added = [line for line in changed if line.startswith("+")]
    assert len(added) == 3  # beside that line, the import and the heading


@pytest.mark.parametrize("name", IMAGES)
def test_every_model_is_exported(name: str, workplace: Path) -> None:
    loss = ["loss=nll_by_hand"] if register.model.get(name).metadata.get("output") == "log_probabilities" else []
    assert same_losses([*SMALL, f"model={name}", *loss], workplace)


@pytest.mark.parametrize(("group", "name"), [(r.group, n) for r in (register.loader, register.optim) for n in r.names])
def test_every_loader_and_optimiser_is_exported(group: str, name: str, workplace: Path) -> None:
    assert same_losses([*SMALL, "model=mlp", "model.dropout=0.2", f"{group}={name}"], workplace)


@pytest.mark.parametrize("name", register.scheduler.names)
def test_every_scheduler_is_exported(name: str, workplace: Path) -> None:
    assert same_losses([*SMALL, "model=mlp", "optim=sgd_momentum", f"scheduler={name}"], workplace)


@pytest.mark.parametrize("name", register.transform.names)
def test_every_transform_is_exported(name: str, workplace: Path) -> None:
    assert same_losses([*SMALL, "model=cnn_adaptive", f"transforms={name}"], workplace)


@pytest.mark.parametrize(
    "settings",
    [
        ["limit_batches=3"],
        ["max_grad_norm=0.1"],
        ["evaluation.mean=batches"],
        ["loader.shuffle=false"],
        ["loader.drop_last=true"],
        ["loader.drop_last=true", "loader.shuffle=false"],
        ["loader.draw=balanced"],
        ["loader.valid_shuffle=true", "loader=dataloader"],
        ["model=cnn_adaptive", "model.width=3", "loader=wrapped_dataloader"],
        ["seeds.noise=1", "model=mlp", "model.depth=2", "model.dropout=0.5", "loader=dataloader"],
        ["scheduler=one_cycle", "scheduler.warmup=0.5", "limit_batches=4"],
        ["accumulate=2", "scheduler=one_cycle", "limit_batches=4", "model=mlp", "model.dropout=0.5"],
        ["accumulate=3", "optim=lbfgs", "max_grad_norm=0.1"],
        ["accumulate=2", "loader.drop_last=true", "scheduler=cosine", "loader.shuffle=false"],
        ["optim=adamw", "optim.groups={lin.bias: {weight_decay: 0, lr: 0.1}}", "scheduler=one_cycle"],
        ["optim=adamw", "optim.groups=no_decay", "optim.weight_decay=0.1"],
        ["scheduler=plateau", "scheduler.monitor=train/loss", "scheduler.patience=0", "optim.lr=2.0"],
        ["dataset=digits", "model=cnn_adaptive", "~dataset.train", "~dataset.valid", "limit_batches=4"],
    ],
    ids=" ".join,
)
def test_a_setting_changes_the_script_as_it_changes_the_run(settings: list[str], workplace: Path) -> None:
    small = [part for part in SMALL if f"~{part.partition('=')[0]}" not in settings and part != "dataset=synthetic"]
    dataset = [] if "dataset=digits" in settings else ["dataset=synthetic"]
    assert same_losses([*dataset, *small, *(part for part in settings if part[0] != "~")], workplace)


def test_a_scheduler_that_watches_what_a_script_does_not_compute_is_refused(workplace: Path) -> None:
    with pytest.raises(experiments.ConfigError, match="watches valid/accuracy, which a script does not compute"):
        export([*SMALL, "scheduler=plateau", "scheduler.monitor=valid/accuracy"])


def test_real_targets_are_exported(workplace: Path) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.random((60, 4, 4)), generator.random((60, 2))
    np.savez(workplace / "own.npz", x=x, y=y)
    data = ["dataset=arrays", "dataset.path=own.npz", "loss=mse", "~metrics.accuracy", "optim.lr=0.1"]
    assert same_losses([*QUIET, *data, "epochs=3"], workplace)


OWN = '''
"""A model, a loss, an optimiser and a loader of one's own."""
import torch
from torch import nn
from torch.utils.data import DataLoader
from typing import Annotated
from annotated_types import Ge

from experiments import register

SCALE = 0.5


def scaled(x):
    """Half of it."""
    return x * SCALE


class Block(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.lin = nn.Linear(size, size)

    def forward(self, x):
        return scaled(torch.relu(self.lin(x)))


@register.model("exported_net", input="flat")
class OwnNet(nn.Module):
    """Mine."""

    def __init__(self, data, *, width: Annotated[int, Ge(1)] = 6, title: str = 'a "b"') -> None:
        super().__init__()
        self.words = f"{title} of {width}"
        self.body = nn.Sequential(nn.Linear(data.features, width), Block(width), nn.Linear(width, data.outputs))

    def forward(self, xb):
        return self.body(xb)


@register.loss("exported_loss", targets="classes")
def own_loss(pred, target, *, smoothing: float = 0.1):
    """With a name that the script has, too."""
    fit = nn.functional.cross_entropy(pred, target, label_smoothing=smoothing)
    return fit * 2


@register.optim("exported_optim")
def optimizer(params, *, lr: float = 0.05):
    chosen = list(params)
    return torch.optim.SGD(chosen, lr=lr)


@register.loader("exported_loader")
def own_loader(split, batch_size, order, shape):
    x, y = split.floats()
    rows = [(x[i].view(*shape), y[i]) for i in range(len(split))]
    return DataLoader(rows, batch_size, sampler=order, generator=torch.Generator())
'''


@pytest.fixture(scope="module")
def own_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own_parts.py"
    path.write_text(OWN)
    return path


def test_components_of_ones_own_are_exported(own_parts: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", str(own_parts))
    chosen = [
        "model=exported_net",
        "model.width=7",
        "loss=exported_loss",
        "optim=exported_optim",
        "loader=exported_loader",
    ]
    assert same_losses([*SMALL, *chosen], workplace)


def test_a_component_typed_into_a_shell_is_told(workplace: Path) -> None:
    typed = "@experiments.register.model('shell', input='flat')\n"
    typed += "def shell(data):\n    return nn.Linear(data.features, data.outputs)\n"
    # Python 3.13 keeps the text of `python -c` and of its own shell; not every shell does.
    code = f"import experiments\nfrom torch import nn\nexec(compile({typed!r}, '<shell>', 'exec'))\n"
    code += "from experiments.export_script.exporting import export\n"
    code += (
        f"try:\n    export([*{SMALL!r}, 'model=shell'])\nexcept experiments.ConfigError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=workplace, check=False)
    assert "shell: its source cannot be found (was it typed into a shell?)" in done.stdout, done


def test_a_past_run_is_exported_with_its_name_and_its_losses(workplace: Path) -> None:
    result = experiments.run([*SMALL, "model=mlp", "name=my run"])
    assert result.folder is not None
    script = exported([str(result.folder)], workplace)
    assert script.read_text().startswith('"""Plain PyTorch of the run my run (not in MLflow) in outputs/runs/')
    assert run_script(script) == measured(result)


def test_a_run_that_starts_from_another_runs_weights_trains_both(workplace: Path) -> None:
    first = experiments.run([*SMALL, "model=mlp"])
    overrides = [*SMALL, "model=mlp", f"init_from={first.folder}", "optim=adam"]
    losses = measured(first) + measured(experiments.run(overrides))
    assert run_script(exported(overrides, workplace)) == losses


def test_early_stopping_is_left_out_and_that_is_told(workplace: Path) -> None:
    found = export([*SMALL, "callbacks=early_stopping"])
    assert found.notes == ["Without early stopping: it trains all epochs, and prints the metrics of the last ones too."]
    assert found.notes[0] in found.text


def test_code_that_has_changed_since_the_run_is_told(workplace: Path) -> None:
    folder = experiments.run([*SMALL, "epochs=1", "model=mlp"]).folder
    assert folder is not None
    journal = folder / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"code of model.mlp": "', '"code of model.mlp": "x'))
    assert any("code of model.mlp" in note for note in export([str(folder)]).notes)


def test_the_command_writes_the_script_and_says_what_it_reads(workplace: Path) -> None:
    words = [sys.executable, "-m", "experiments.export_script", *SMALL, "model=mlp"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=workplace, check=False)
    assert done.returncode == 0 and done.stdout.startswith('"""Plain PyTorch of python -m experiments tracking=none ')
    assert done.stderr == "note: it reads its rows from rows.npz; --rows rows.npz writes them\n"


@pytest.mark.parametrize(
    ("words", "told"), [(["nowhere"], "error: nowhere: no run; "), (["modle=cnn"], "did you mean 'model'?")]
)
def test_a_mistake_is_one_message(words: list[str], told: str, workplace: Path) -> None:
    command = [sys.executable, "-m", "experiments.export_script", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=workplace, check=False)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not PACKED_MNIST.is_file(), reason="the whole MNIST is not beside the checkout")
@pytest.mark.parametrize(
    "choice", ["stage=01_tensors", "stage=08_validation", "stage=12_wrapped_dataloader", "experiment=mnist_99 epochs=1"]
)
def test_on_the_whole_data_in_a_process_of_its_own(choice: str, workplace: Path) -> None:
    overrides = [*choice.split(), *QUIET, f"dataset.source={PACKED_MNIST}", "device.threads=1"]
    script = exported(overrides, workplace)
    words = [sys.executable, "-I", script.name, str(PACKED_MNIST)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=workplace, check=True)
    assert printed(done.stdout) == measured(experiments.run(overrides))
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 150
