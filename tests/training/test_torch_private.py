"""Private names of torch: the installed torch has each, and without one the same training takes the public way."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from experiments.training.torch_private import clearing, mark_stepped, stepping
from tests.support.places import ROOT
from tests.support.training import make

NAMES = {
    "torch.optim.optimizer": [
        "_global_optimizer_pre_hooks",
        "_global_optimizer_post_hooks",
        "_optimizer_step_pre_hooks",
        "_optimizer_step_post_hooks",
        "profile_hook_step",
    ],
    "torch.optim.lr_scheduler": ["_opt_called"],
}

# Renames one name in a module of torch, as another release might, and trains.
RENAMED = """
import json
import sys
from importlib.machinery import PathFinder, SourceFileLoader

module, name = sys.argv[1:]

class Renamed(SourceFileLoader):
    def get_code(self, fullname):
        return self.source_to_code(self.get_data(self.path).replace(name.encode(), b"renamed"), self.path)

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        found = super().find_spec(fullname, path, target) if fullname == module else None
        if found is not None:
            found.loader = Renamed(fullname, found.origin)
        return found

sys.meta_path.insert(0, Finder)
import experiments.training.build
from tests.training.test_torch_private import figures, is_fast
print(json.dumps([is_fast(), figures()]))
"""


def figures() -> list[dict[str, float]]:
    torch.set_num_threads(1)
    history = make().fit(2).history
    return [{name: value for name, value in epoch.items() if "second" not in name} for epoch in history]


def is_fast() -> bool:
    """Whether a step and a clearing leave no mark for torch's profiler."""
    marks: list[str] = []

    class Marking(torch.autograd.profiler.record_function):
        def __init__(self, name: str, args: Any = None) -> None:
            marks.append(name)
            super().__init__(name, args)

    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    step, clear = stepping(optimizer), clearing(optimizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.autograd.profiler, "record_function", Marking)
        step()
        clear()
        found = list(marks)
        optimizer.step()
        optimizer.zero_grad()
    assert len(marks) - len(found) == 2  # what it is fast against
    return not found


def test_the_installed_torch_has_the_names_that_make_a_step_fast() -> None:
    assert is_fast()


def test_the_installed_torch_reads_the_mark_of_a_step_that_was_left_out() -> None:
    def warned(*, marked: bool) -> bool:
        optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        if marked:
            mark_stepped(optimizer)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scheduler.step()
        return bool(caught)

    assert (warned(marked=False), warned(marked=True)) == (True, False)


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in NAMES for name in NAMES[module]])
def test_without_a_private_name_the_numbers_are_the_same(module: str, name: str) -> None:
    command = [sys.executable, "-W", "error", "-c", RENAMED, module, name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    fast, found = json.loads(done.stdout)
    assert fast == (name == "_opt_called") and found == figures()
