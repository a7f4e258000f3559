"""`python -m experiments.exercise`: what it prints and keeps, with the learner's script in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.exercise import __main__ as exercise
from experiments.exercise import checking, learner
from experiments.exercise.checking import Checked, exported
from experiments.exercise.learner import Learner
from experiments.exercise.tasks import Task, task


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(one: Task, text: str) -> Checked:
    with Learner() as process:
        return checking.check(one, text, process.traces)


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What a command prints, on standard error for a mistake."""
    if code:
        with pytest.raises(SystemExit) as ended:
            exercise.main(list(words))
        assert ended.value.code == code
    else:
        exercise.main(list(words))
    out, error = capsys.readouterr()
    return error if code == 2 else out


@pytest.mark.process
def test_an_exercise_is_begun_mended_and_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "exercises" / "05_optim.py"
    assert "exercise check 05" in said(capsys, "start", "5")
    assert "it does not run: line" in said(capsys, "check", "5", code=1)
    text = file.read_text()
    file.write_text(text.replace("raise NotImplementedError", "optimizer = optim.SGD(model.parameters(), lr=0.1)"))
    assert said(capsys, "check", "5", code=1).startswith("step 1: before it, lin.weight differs: ")
    file.write_text(file.read_text().replace("lr=0.1", "lr=0.5"))
    assert said(capsys, "check", "5").startswith("Right: ")
    assert "[x] 05  optim\n" in said(capsys, "list")
    assert json.loads((folder / "exercises" / "progress.json").read_text())["done"] == [5]


def test_hints_follow_one_another_in_the_language_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    one = task("7")
    heard = [said(capsys, "hint", "7", "language=uz").strip() for _ in range(3)]
    assert heard == [hint["uz"] for hint in (*one.hints, one.hints[-1])]


def test_a_solution_is_the_stages_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "solution", "6").splitlines()[0] == "dataset = TensorDataset(x, y)"


def test_what_is_there_is_not_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "exercises").mkdir()
    (folder / "exercises" / "05_optim.py").write_text("mine")
    assert said(capsys, "start", "5", code=2).endswith("it exists; delete it to start again\n")
    assert (folder / "exercises" / "05_optim.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["check", "25"], "error: exercise: there is no exercise '25'; they are 1 .. 24"),
        (["start", "five"], "error: exercise: there is no exercise 'five'; they are 1 .. 24"),
        (["check"], "error: exercise: check needs a number: 1 .. 24"),
        (["check", "5"], "error: exercises/05_optim.py: there is none; first: python -m experiments.exercise start 05"),
    ],
)
def test_mistakes_are_one_message(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, *words, code=2) == f"{told}\n"


@pytest.mark.process
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("while True: pass", "it did not end within 6 s"),
        ("import os; os._exit(3)", "exit code 3"),
        ("import sys; sys.exit()", "it does not run: line 69: SystemExit"),
        ("optimizer = (", "it does not run: line 69: SyntaxError: '(' was never closed"),
    ],
)
def test_a_script_that_does_not_end_as_it_should_is_an_answer(
    code: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "while" in code:
        monkeypatch.setattr(learner, "SECONDS", 6)
    found = check(task("5"), task("5").filled(exported(task("5")).text, [code]))
    assert found.rung == "runs" and told in found.said, found


@pytest.mark.process
def test_the_comments_around_the_code_may_go(folder: Path) -> None:
    text = exported(task("5")).text
    assert task("5").answer(text) is None
    assert check(task("5"), text) == Checked()
