"""Addresses of MLflow's store: each works, or is refused before a run with its remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.config.store_uri import experiment, store_uri, uri_fault


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "databricks",
            "databricks://profile",
            "http://h:5000/",
            "https://user:word@h/mlflow",
            "sqlite:///a b#c%20é.db",
        ),
        *("sqlite:///x.db?timeout=3", "sqlite:///~/x.db", "sqlite:///new/x.db"),
    ],
)
def test_an_address_that_mlflow_takes_is_accepted(uri: str, workplace: Path) -> None:
    assert uri_fault(uri) is None


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("localhost:5000", "write http://localhost:5000"),
        ("mlflow.db", "write sqlite:///mlflow.db"),
        ("runs/", "is a plain folder"),
        ("file:runs", "is a plain folder"),
        (r"C:\runs", "is a plain folder"),
        ("sqlite:///C:/x.db", "has a path of Windows"),
        ("sqlite:///:memory:", "would be lost with the process"),
        ("sqlite://", "names no file"),
        ("postgres://u:word@h/d", "write postgresql://"),
        ("mysql+nodriver://u:word@h/d", "needs the driver nodriver, which is not installed"),
        ("http://h:5000/#/experiments/1", "names no host, or more"),
        ("http://h:x", "names no host"),
        ("http://a b", "names no host"),
        ("ftp://h", "is not the address of an MLflow store"),
    ],
)
def test_any_other_address_is_refused_with_its_remedy(uri: str, told: str, workplace: Path) -> None:
    problem = uri_fault(uri)
    assert problem is not None and told in problem
    assert ":word@" not in problem


def test_a_question_mark_in_the_projects_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "why?").mkdir()
    monkeypatch.chdir(tmp_path / "why?")
    assert "has a '?' in its path" in str(uri_fault(None))


def test_a_scheme_may_be_in_capitals() -> None:
    assert store_uri("HTTP://Host:5000") == "http://Host:5000"


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert store_uri("sqlite:///~/x.db") == "sqlite:////home/me/x.db"


@pytest.mark.parametrize(
    ("configured", "variable", "name"),
    [(None, "", "experiments"), (None, "thesis", "thesis"), ("own", "thesis", "own")],
)
def test_the_experiment_is_the_configured_one_else_mlflows_variable(
    configured: str | None, variable: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", variable)
    assert experiment(configured) == name
