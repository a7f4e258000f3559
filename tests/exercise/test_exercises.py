"""Each exercise: its solution is right, each wrong answer leads to its rung, one for one setting alone is found out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import yaml

from experiments.config.language import NAMES, Language
from experiments.exercise import checking, ladder, tracing
from experiments.exercise.checking import exported
from experiments.exercise.tasks import Task, task, tasks
from experiments.exercise.tracing import Trace
from experiments.export_script.exporting import Exported

ANSWERS = yaml.safe_load(Path(__file__).with_name("answers.yaml").read_text(encoding="utf-8"))
WRONG, FAULTS, HARD_CODED = (ANSWERS[key] for key in ("wrong", "faults", "hard_coded"))
STAGES = [each.number for each in tasks() if each.first]


@cache
def script(number: int, *more: str) -> Exported:
    return exported(task(str(number)), *more)


@pytest.fixture(autouse=True)
def exported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script is exported once."""
    monkeypatch.setattr(checking, "exported", lambda one, *more: script(one.number, *more))


def traced(jobs: Sequence[tuple[Path, Path]], _: Path) -> list[Trace]:
    """Traces in this process, which takes 30 ms each."""
    return [tracing.trace(*job) for job in jobs]


def check(one: Task, text: str) -> checking.Checked:
    return checking.check(one, text, traced)


def answered(number: int, code: str) -> str:
    return task(str(number)).filled(script(number).text, code.splitlines())


@pytest.mark.parametrize("number", STAGES)
def test_the_stages_own_solution_is_right(number: int) -> None:
    solution = task(str(number)).solution(script(number).text)
    assert check(task(str(number)), answered(number, solution)) == checking.Checked()


@pytest.mark.parametrize("number", STAGES)
def test_an_exercise_that_is_only_begun_does_not_run(number: int) -> None:
    for language in NAMES:
        begun = task(str(number)).begun(script(number).text, Language(language))
        found = check(task(str(number)), begun)
        assert (found.rung, "NotImplementedError" in found.said) == ("runs", True)
        lines = begun.splitlines()
        assert task(str(number)).todo[language].split()[0] in lines[0]


@pytest.mark.parametrize(("number", "place"), [(number, k) for number, each in WRONG.items() for k in range(len(each))])
def test_a_wrong_answer_leads_to_its_rung(number: int, place: int) -> None:
    answer = WRONG[number][place]
    found = check(task(str(number)), answered(number, answer["code"]))
    assert found.rung == answer["rung"], (answer["code"], found)
    assert found.hint == ladder.HINTS[found.rung]


def test_each_exercise_has_five_wrong_answers() -> None:
    assert {number: len(each) >= 5 for number, each in WRONG.items()} == dict.fromkeys(STAGES, True)


@pytest.mark.parametrize("number", FAULTS)
def test_a_planted_fault_is_found_and_its_repair_is_right(number: int) -> None:
    one = task(str(number))
    assert check(one, one.begun(script(number).text, Language())).rung == FAULTS[number]
    assert check(one, script(number).text) == checking.Checked()


@pytest.mark.parametrize("number", HARD_CODED)
def test_an_answer_for_one_setting_alone_is_found_out(number: int) -> None:
    found = check(task(str(number)), answered(number, HARD_CODED[number]))
    assert found.rung and found.variant, found


def test_every_text_is_there_in_each_language() -> None:
    for each in tasks():
        for text in (each.todo, *each.hints):
            assert text.keys() == set(NAMES) and all(text.values())
