"""The addresses of MLflow pages: the port of the UI, and the newest run's experiment."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from experiments.tracking import links


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A database with MLflow's tables, as far as they are read: three experiments and a sweep's parent run."""
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as made:
        made.executescript(
            """CREATE TABLE runs (run_uuid, experiment_id INTEGER, start_time INTEGER, lifecycle_stage);
            CREATE TABLE experiments (experiment_id INTEGER, lifecycle_stage);
            CREATE TABLE tags (key, value, run_uuid);
            INSERT INTO experiments VALUES (1, 'active'), (2, 'active'), (3, 'active'), (4, 'deleted');
            INSERT INTO runs VALUES ('a', 1, 10, 'active'), ('b', 2, 20, 'active'), ('c', 1, 30, 'deleted'),
                                    ('d', 3, 40, 'active'), ('e', 4, 50, 'active');
            INSERT INTO tags VALUES ('experiments.sweep', 'true', 'd');"""
        )
    made.close()
    return path


def test_the_page_with_charts_is_that_of_the_newest_run(store: Path) -> None:
    page = "http://127.0.0.1:5000/#/experiments/2/runs?compareRunsMode=CHART&workflowType=machine_learning"
    assert links.newest(f"sqlite:///{store}") == page


@pytest.mark.parametrize("content", [b"", b"not a database"])
def test_a_store_without_runs_has_its_list_of_experiments(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(content)
    page = "http://127.0.0.1:5000/#/experiments?workflowType=machine_learning"
    assert links.newest(f"sqlite:///{tmp_path}/mlflow.db") == page


def test_a_servers_list_of_experiments_is_at_the_server() -> None:
    assert (
        links.newest("https://me:secret@tracker/")
        == "https://me:***@tracker/#/experiments?workflowType=machine_learning"
    )


def test_the_port_used_last_is_in_later_links(store: Path) -> None:
    links.remember(f"sqlite:///{store}", 8123)
    assert links.port(f"sqlite:///{store}") == 8123
    assert links.experiment(f"sqlite:///{store}", "2").startswith("http://127.0.0.1:8123/#/experiments/2/")


@pytest.mark.parametrize("noted", [b"", b"port", b"0", b"70000", b"\xff"])
def test_a_damaged_note_of_the_port_counts_as_none(noted: bytes, store: Path) -> None:
    Path(f"{store}.ui-port").write_bytes(noted)
    assert links.port(f"sqlite:///{store}") == 5000
