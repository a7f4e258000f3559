"""A project that is moved or copied with its MLflow database: its runs' files are where the project is now."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from mlflow import MlflowClient

from experiments import sync
from experiments.tracking import moved
from experiments.tracking.delivery import Delivery
from experiments.tracking.mlflow_store import Store
from experiments.tracking.sqlite_store import StoreError
from tests.support.tracked import make_store, run_of, store_of, write_run


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one run in its store, with a file."""
    place = tmp_path / "it's 100% mine"
    place.mkdir()
    monkeypatch.chdir(place)
    make_store(place)
    deliver(place, "first")
    return place


def deliver(place: Path, name: str) -> None:
    folder = place / "outputs" / name
    folder.mkdir(parents=True)
    (folder / "summary.md").write_text("text", encoding="utf-8")
    run = write_run(folder, store_of(place), place={"folder": str(place), "components": ""})
    delivery = Delivery(run, Store(store_of(place), place / "outputs" / "artifacts"))
    assert delivery.advance() and delivery.finish()


def files(place: Path, name: str) -> Path:
    """Where the store says that a run's file is."""
    run = run_of(store_of(place), place / "outputs" / name)
    return Path(url2pathname(urlsplit(str(run.info.artifact_uri)).path), "summary.md")


def test_moved_its_runs_show_their_files_and_new_ones_come_beside_them(project: Path, tmp_path: Path) -> None:
    there = project.rename(tmp_path / "there")
    deliver(there, "second")
    assert all(there in files(there, name).parents and files(there, name).is_file() for name in ("first", "second"))
    assert not project.exists()


def test_copied_the_copy_has_its_own_files(project: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    shutil.copytree(project, there)
    deliver(there, "second")
    assert all(there in files(there, name).parents and files(there, name).is_file() for name in ("first", "second"))
    assert project in files(project, "first").parents
    assert len(list((project / "outputs" / "artifacts").iterdir())) == 1


def locations(place: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(place / "mlflow.db")) as store:
        return {location for (location,) in store.execute("SELECT artifact_location FROM experiments")}


def test_another_projects_runs_in_the_same_store_keep_their_place(project: Path, tmp_path: Path) -> None:
    before = locations(project)
    moved.follow(project / "mlflow.db", tmp_path / "other" / "outputs" / "artifacts")
    assert locations(project) == before


@pytest.mark.parametrize("location", ["s3://bucket/outputs/artifacts", "/somewhere/mlruns/7", "file:///gone/mlruns/7"])
def test_what_this_package_did_not_make_stays(location: str, project: Path) -> None:
    MlflowClient(store_of(project)).create_experiment("theirs", artifact_location=location)
    before = locations(project)
    moved.follow(project / "mlflow.db", project / "outputs" / "artifacts")
    assert locations(project) == before


def test_a_file_that_is_no_database_is_left_to_mlflow(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database, but a text that is long enough to look like one")
    moved.follow(tmp_path / "mlflow.db", tmp_path)


def test_a_run_of_the_moved_project_is_uploaded_to_the_store_that_moved_with_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = project.rename(tmp_path / "there")
    monkeypatch.chdir(there)
    assert sync.main([]) == 0
    # Its files: MLflow's client remembers a run's place for the life of a process, which has moved here.
    assert not (project / "mlflow.db").exists() and there in files(there, "first").parents


def test_a_file_that_cannot_be_copied_is_named_with_what_to_do(project: Path) -> None:
    store = Store(store_of(project), project / "outputs" / "artifacts")
    run = run_of(store_of(project), project / "outputs" / "first")
    shutil.rmtree(project / "outputs" / "artifacts")
    (project / "outputs" / "artifacts").write_text("a file is in the way", encoding="utf-8")
    with pytest.raises(StoreError, match=r"summary\.md cannot be copied to .*artifacts .*; once it can, .*\.sync"):
        store.file(run.info.run_id, project / "outputs" / "first" / "summary.md")
