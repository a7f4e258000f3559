"""`code.patch`: real git applies it to the commit and has the tree that a run was started from."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.config import secrets
from experiments.runs import code_patch, git
from experiments.runs.code_patch import FILE, KEPT, MASKED, OFF, TAG
from tests.support.repositories import answer, committed, tree, work_in

pytestmark = pytest.mark.process

SECRET = "planted-secret-4711"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository with one commit, which the test works in."""
    monkeypatch.chdir(tmp_path)
    folder = committed(tmp_path / "project", known_py="one = 1\n", notes="first\n")
    (tmp_path / "run").mkdir()
    work_in(folder)
    yield folder
    monkeypatch.undo()
    git.here.cache_clear()
    git.here()


def keep(repository: Path, *, wanted: bool = True) -> tuple[dict[str, str], Path]:
    """The tags, and the patch's path."""
    run = repository.parent / "run"
    return code_patch.keep(run, wanted=wanted), run / FILE


def imported(path: Path) -> None:
    """Have this process import a file, as own components are."""
    spec = importlib.util.spec_from_file_location(f"planted_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)


def edit(repository: Path) -> None:
    (repository / "known.py").write_text("one = 2\n", encoding="utf-8")


def delete(repository: Path) -> None:
    (repository / "notes").unlink()


def stage_binary(repository: Path) -> None:
    (repository / "weights.bin").write_bytes(bytes(range(256)))
    answer(repository, "add", "weights.bin")


def odd_bytes(repository: Path) -> None:
    (repository / "known.py").write_bytes("# caf\xe9\r\n".encode("latin-1"))


def own_component(repository: Path) -> None:
    (repository / "parts").mkdir()
    (repository / "parts" / "my own.py").write_text("two = 2\n", encoding="utf-8")
    imported(repository / "parts" / "my own.py")


@pytest.mark.parametrize("change", [edit, delete, stage_binary, odd_bytes, own_component])
def test_git_applies_it_and_has_the_tree(change: Callable[[Path], None], repository: Path) -> None:
    change(repository)
    tags, patch = keep(repository)
    answer(repository.parent, "clone", "--quiet", str(repository), "fresh")
    answer(repository.parent / "fresh", "apply", str(patch))
    assert tags == {TAG: KEPT}
    assert tree(repository.parent / "fresh") == tree(repository)


def test_the_users_settings_of_git_change_nothing(repository: Path) -> None:
    for setting in ("diff.noprefix=true", "color.ui=always", "diff.external=false", "diff.relative=true"):
        answer(repository, "config", *setting.split("="))
    edit(repository)
    (repository / "below").mkdir()
    os.chdir(repository / "below")
    _, patch = keep(repository)
    answer(repository.parent, "clone", "--quiet", str(repository), "fresh")
    answer(repository.parent / "fresh", "apply", str(patch))
    assert tree(repository.parent / "fresh") == tree(repository)


def test_of_a_clean_tree_nothing_is_kept(repository: Path) -> None:
    (repository / "unrelated.txt").write_text("not imported", encoding="utf-8")
    tags, patch = keep(repository)
    assert (tags, patch.exists()) == ({}, False)


def test_outside_a_repository_nothing_is_kept(repository: Path) -> None:
    work_in(repository.parent)
    tags, patch = keep(repository)
    assert (tags, patch.exists()) == ({}, False)


def test_switched_off_it_is_not_written_and_the_run_says_so(repository: Path) -> None:
    edit(repository)
    tags, patch = keep(repository, wanted=False)
    assert (tags, patch.exists()) == ({TAG: OFF}, False)


def test_a_secret_is_masked_and_the_run_says_so(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", {})
    secrets.learn_arguments([f"model.token={SECRET}"])
    (repository / "known.py").write_text(f"token = '{SECRET}'\n", encoding="utf-8")
    tags, patch = keep(repository)
    assert tags == {TAG: MASKED}
    assert SECRET not in patch.read_text(encoding="utf-8") and "+token = '***'" in patch.read_text(encoding="utf-8")


def test_one_over_the_cap_is_cut_and_said(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    (repository / "known.py").write_text("# a line of thirty-two bytes....\n" * 100_000, encoding="utf-8")
    with caplog.at_level("WARNING", "experiments"):
        tags, patch = keep(repository)
    assert tags == {TAG: "cut: 3.2 MiB"}
    assert patch.stat().st_size == 2**20
    assert len(caplog.messages) == 1 and "3.2 MiB" in caplog.text


def test_a_secret_at_the_cut_is_masked(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", {})
    secrets.learn_arguments([f"model.token={SECRET}"])
    (repository / "known.py").write_text(f"{SECRET}\n" * 100_000, encoding="utf-8")
    _, patch = keep(repository)
    assert SECRET[:8].encode() not in patch.read_bytes()


def test_where_git_fails_the_run_says_so(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(repository)
    git.here()
    monkeypatch.setattr(git, "SECONDS", 1e-6)
    tags, patch = keep(repository)
    assert tags[TAG].startswith("not kept: ") and not patch.exists()
