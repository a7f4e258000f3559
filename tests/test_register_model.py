"""The command `experiments.register`: names that MLflow would refuse are refused before anything is logged."""

from __future__ import annotations

import pytest

from experiments.register_model import main


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", ".", ".."])
def test_a_name_that_mlflow_does_not_take_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--name", name])
    assert f"--name: {name!r} is not a name" in capsys.readouterr().err


@pytest.mark.parametrize("alias", ["", "v1", "V20", "latest", "Latest", "a b", "a/b", "x" * 256])
def test_an_alias_that_mlflow_does_not_take_is_refused(alias: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--name", "mnist", "--alias", alias])
    assert "is not an alias" in capsys.readouterr().err
