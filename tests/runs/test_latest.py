"""`latest` names the run or sweep that was started or resumed last, wherever a run or a sweep is named."""

from __future__ import annotations

from pathlib import Path

import pytest

import experiments
from experiments import api
from experiments.compare.selection import choose
from experiments.config import latest
from experiments.errors import ConfigError
from experiments.runs.find import find
from experiments.tracking import record
from tests.support.commands import SMALL, command, resumed

SHORT = [*SMALL, "epochs=1"]
LATEST = Path("outputs/latest")


def run(*overrides: str) -> Path:
    folder = experiments.run([*SHORT, *overrides]).folder
    assert folder is not None
    return folder


def test_it_is_the_run_that_was_started_or_resumed_last(workplace: Path) -> None:
    first, second = run(), run()
    assert find("latest") == LATEST.resolve() == second
    api.resume(first, ["epochs=2"])
    assert find("latest") == first


def test_a_run_that_was_refused_is_not_it(workplace: Path) -> None:
    first = run()
    with pytest.raises(ConfigError):
        run("init_from=nowhere")
    assert find("latest") == first


def test_its_weights_are_started_from_and_its_folder_is_recorded(workplace: Path) -> None:
    first = run()
    second = run("init_from=latest")
    assert record.start_of(second).params["init_from"] == str(first.relative_to(workplace))
    api.resume(second, ["epochs=2"])  # from the same weights, although it is the latest itself by now
    assert len(record.read(second).history) == 2


def test_another_output_folder_has_its_own(workplace: Path) -> None:
    first, other = run(), run("output_root=other")
    assert (find("latest"), find("latest", "other"), find("other/latest")) == (first, other, other)


def test_a_job_that_reuses_a_run_is_it(workplace: Path) -> None:
    first = run()
    run("seed=1")
    run("reuse=finished")
    assert find("latest") == first


def test_of_a_sweep_it_is_the_sweep_and_not_a_job(workplace: Path) -> None:
    first = run()
    done = command("-m", *SHORT, "init_from=latest,null", "hydra.sweep.dir=sweep")
    assert done.code == 0, done
    assert LATEST.resolve() == workplace / "sweep"
    assert record.start_of(Path("sweep/0")).params["init_from"] == str(first.relative_to(workplace))
    assert [job.folder.name for job in choose(["latest"], Path("outputs"))[0]] == ["0", "1"]
    with pytest.raises(ConfigError, match=r"^latest: sweep is a sweep; name one of its runs, for example sweep/0$"):
        find("latest")
    assert find("latest/1") == workplace / "sweep/1"
    run()
    assert resumed("latest", "epochs=1").code == 0  # the run now
    assert resumed("sweep").code == 0 and LATEST.resolve() == workplace / "sweep"


def test_where_nothing_was_started_that_is_said(workplace: Path) -> None:
    with pytest.raises(ConfigError, match=r"^latest: no run; .* there is none below outputs$"):
        find("latest")


@pytest.mark.parametrize("content", [b"\xff\x00", b"", b"nowhere", b"/nowhere"])
def test_another_file_of_that_name_names_no_run(content: bytes, workplace: Path) -> None:
    LATEST.parent.mkdir()
    LATEST.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^latest: no run; "):
        find("latest")
    assert latest.meant("latest") == LATEST


def test_a_job_is_named_where_latest_is_a_file_with_the_path(workplace: Path) -> None:
    (workplace / "sweep").mkdir()
    LATEST.parent.mkdir()
    LATEST.write_text(str(workplace / "sweep"), encoding="utf-8")  # as on Windows
    assert latest.meant("latest/0") == workplace / "sweep/0"
