"""The word `latest`: which folder it names, whoever marks it, and where links cannot be made."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from experiments.config import compose, latest
from experiments.config.overrides import readable


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / "outputs" / "runs" / name).mkdir(parents=True)
    return tmp_path / "outputs"


@pytest.fixture
def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)


def test_it_names_what_was_marked_last(outputs: Path) -> None:
    latest.mark(outputs, outputs / "runs/a")
    latest.mark(outputs, outputs / "runs/b")
    assert latest.meant("latest", outputs).resolve() == outputs / "runs/b"
    assert (outputs / "latest").resolve() == outputs / "runs/b"
    assert sorted(path.name for path in outputs.iterdir()) == ["latest", "runs"]


def test_where_links_cannot_be_made_a_file_takes_their_place(outputs: Path, without_links: None) -> None:
    latest.mark(outputs, outputs / "runs/a")
    latest.mark(outputs, outputs / "runs/b")
    assert latest.meant("latest", outputs) == latest.meant(outputs / "latest") == outputs / "runs/b"
    assert sorted(path.name for path in outputs.iterdir()) == ["latest", "runs"]


def test_its_jobs_are_named_by_it_too(outputs: Path) -> None:
    latest.mark(outputs, outputs / "runs")
    assert latest.meant("latest/b", outputs).resolve() == outputs / "runs/b"


def test_any_other_path_means_itself(outputs: Path) -> None:
    assert latest.meant(outputs / "runs/a", outputs) == outputs / "runs/a"
    assert latest.meant("later", outputs) == Path("later")


def test_two_who_mark_at_once_disturb_neither_each_other_nor_a_reader(outputs: Path) -> None:
    latest.mark(outputs, outputs / "runs/a")

    def mark(name: str) -> None:
        for _ in range(100):
            latest.mark(outputs, outputs / "runs" / name)

    threads = [threading.Thread(target=mark, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert latest.meant("latest", outputs).resolve().name in "ab"
    assert sorted(path.name for path in outputs.iterdir()) == ["latest", "runs"]


def test_it_holds_in_a_project_that_is_moved(outputs: Path, tmp_path: Path) -> None:
    latest.mark(outputs, outputs / "runs/a")
    moved = outputs.rename(tmp_path / "elsewhere")
    assert latest.meant("latest", moved).resolve() == moved / "runs/a"


def test_a_folder_of_that_name_stays_as_it_is(outputs: Path) -> None:
    (outputs / "latest" / "mine").mkdir(parents=True)
    latest.mark(outputs, outputs / "runs/a")
    assert (outputs / "latest" / "mine").is_dir()
    assert sorted(path.name for path in outputs.iterdir()) == ["latest", "runs"]


@pytest.mark.parametrize("name", ["plain", "with space", "it's, and=more", "back\\slash"])
def test_the_weights_to_start_from_are_those_of_the_folder_it_names_now(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "outputs" / name
    run.mkdir(parents=True)
    latest.mark(tmp_path / "outputs", run)
    cfg = compose.compose(["init_from=latest"])
    assert Path(str(OmegaConf.select(cfg, "init_from"))).resolve() == run


@pytest.mark.parametrize("given", ["other/latest", "latest/0", "{}/latest"])
def test_a_path_that_leads_through_it_is_replaced_too(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for root in ("other", "outputs"):
        (tmp_path / root / "sweep/0").mkdir(parents=True)
        latest.mark(tmp_path / root, tmp_path / root / "sweep")
    (pinned,) = readable([f"init_from={given.format(tmp_path / 'other')}"])
    assert pinned == f"init_from='{'outputs/sweep/0' if given == 'latest/0' else 'other/sweep'}'"


def test_what_is_not_there_is_left_to_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["init_from=latest", "init_from=my-latest-try", "model=latest"]
    assert readable(given) == given


def test_it_is_one_of_several_values_and_of_another_output_folder(tmp_path: Path) -> None:
    (tmp_path / "runs/a").mkdir(parents=True)
    latest.mark(tmp_path, tmp_path / "runs/a")
    given = ["+init_from=latest,null,13_gpu", f"output_root={tmp_path}", "name=latest", "seed=0"]
    first, *others = readable(given)
    assert first.startswith("+init_from='") and first.endswith("runs/a',null,13_gpu")
    assert others == given[1:]
