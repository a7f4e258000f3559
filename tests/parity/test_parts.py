"""Matching tensors, what may differ by how much, scripts that print losses, and the command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import experiments
from experiments import parity
from experiments.errors import ConfigError
from experiments.parity.__main__ import _compare, _parser, _words
from experiments.parity.differences import Comparison
from experiments.parity.matching import match
from tests.support.places import Cli
from tests.support.planted import FLAT, STEPS
from tests.support.scripts import exported
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

# Matching


def tensors(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name.replace("_", "."): torch.zeros(shape) for name, shape in shapes.items()}


def matched(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[tuple[str, str, bool]]:
    return [(pair.a, pair.b, pair.transposed) for pair in match(a, b).pairs]


def test_equal_names_are_matched_in_whatever_order_they_come() -> None:
    a, b = tensors(x=(2, 2), y=(2, 2)), tensors(y=(2, 2), x=(2, 2))
    assert matched(a, b) == [("x", "x", False), ("y", "y", False)]


def test_other_names_are_matched_in_order_by_shape() -> None:
    a, b = tensors(one_weight=(3, 2), two_weight=(3, 2)), tensors(p_weight=(3, 2), q_weight=(3, 2))
    assert matched(a, b) == [("one.weight", "p.weight", False), ("two.weight", "q.weight", False)]


def test_the_last_word_of_a_name_says_its_role() -> None:
    a, b = tensors(n_weight=(3,), n_bias=(3,)), tensors(m_bias=(3,), m_weight=(3,))
    assert matched(a, b) == [("n.weight", "m.weight", False), ("n.bias", "m.bias", False)]


def test_an_index_in_a_name_is_a_place_and_no_name() -> None:
    """With a layer more before them, 2.weight is what was 0.weight."""
    a = {"0.weight": torch.zeros(3, 3), "2.weight": torch.zeros(3, 3)}
    b = {"2.weight": torch.zeros(3, 3), "4.weight": torch.zeros(3, 3)}
    assert matched(a, b) == [("0.weight", "2.weight", False), ("2.weight", "4.weight", False)]


def test_a_matrix_is_transposed_only_where_nothing_else_fits() -> None:
    assert matched(tensors(a=(2, 3)), tensors(b=(3, 2))) == [("a", "b", True)]
    assert matched(tensors(a=(2, 3)), tensors(b=(3, 2), c=(2, 3))) == [("a", "c", False)]
    assert matched(tensors(a=(2, 2)), tensors(b=(2, 2))) == [("a", "b", False)]


def test_what_has_no_other_is_listed_with_its_shape() -> None:
    found = match(tensors(a=(2, 3), same=(1,)), tensors(b=(4,), same=(1,)))
    assert (found.only_a, found.only_b, found.complete) == (("a (2, 3)",), ("b (4,)",), False)


def test_numbers_of_another_kind_do_not_match() -> None:
    assert not match({"a": torch.zeros(())}, {"b": torch.zeros((), dtype=torch.int64)}).complete


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("wieght", "no tensor is called 'wieght'; did you mean 'weight'?"),
        ("bias", r"bias is \(2,\); only a square matrix has to be named"),
        ("wide", r"wide is \(2, 3\); only a square matrix has to be named"),
    ],
)
def test_what_cannot_be_transposed_by_name_is_refused(name: str, problem: str) -> None:
    state = tensors(weight=(2, 2), bias=(2,), wide=(2, 3))
    with pytest.raises(ConfigError, match=f"--transpose: {problem}"):
        match(state, state, [name])


# What may differ


def test_the_bits_of_a_zero_and_of_a_negative_zero_are_not_the_same() -> None:
    plus, minus = torch.zeros(2), -torch.zeros(2)
    comparison = Comparison("weight", "w", plus, minus, torch.tensor(0.0))
    assert not comparison.same_bits()
    assert (comparison.difference(0).value, comparison.difference(0).share) == (0.0, 0.0)


def test_the_worst_place_is_the_one_farthest_beyond_what_is_allowed_there() -> None:
    a, b = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 2.5], [3.25, 4.0]])
    found = Comparison("weight", "w", a, b, torch.tensor([[1.0, 1.0], [0.125, 1.0]])).difference(7)
    assert (found.step, found.value, found.share, found.detail) == (7, 0.25, 2.0, "3 and 3.25 at [1, 0]")


def test_what_is_not_a_number_is_farther_than_anything() -> None:
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([1.0, float("nan")])
    assert Comparison("weight", "w", a, b, torch.tensor(1.0)).difference(0).share == float("inf")


# Scripts


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> list[list[float]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        history = experiments.run([*FLAT, "figures=false"]).history
    return [[figures["train/loss"], figures["valid/loss"]] for figures in history]


def script(folder: Path, rows: list[list[float]], end: str = "") -> Path:
    lines = [f"epoch {epoch}  train/loss {row[0]!r}  valid/loss {row[1]!r}" for epoch, row in enumerate(rows)]
    path = folder / "script.py"
    path.write_text("\n".join([*(f"print({line!r})" for line in lines), end]))
    return path


def test_a_script_that_prints_the_runs_losses_is_identical(losses: list[list[float]], workplace: Path) -> None:
    verdict = parity.against(FLAT, script(workplace, losses))
    assert (verdict.verdict, str(verdict)) == ("identical", "identical: every bit of 2 epochs")


def test_what_a_script_prints_of_a_training_before_is_left_out(losses: list[list[float]], workplace: Path) -> None:
    path = script(workplace, losses)
    path.write_text("print('epoch 0  train/loss 9.0  valid/loss 9.0')\nprint('then')\n" + path.read_text())
    assert parity.against(FLAT, path).verdict == "identical"


def test_a_script_that_only_rounds_otherwise_is_equal(losses: list[list[float]], workplace: Path) -> None:
    (first, second) = losses
    verdict = parity.against(FLAT, script(workplace, [first, [second[0], second[1] + 1e-7]]))
    assert (verdict.verdict, verdict.step, verdict.where) == ("equal", 1, "valid/loss")


def test_a_script_with_another_loss_differs_from_its_epoch_on(losses: list[list[float]], workplace: Path) -> None:
    (first, second) = losses
    verdict = parity.against(FLAT, script(workplace, [first, [second[0] + 0.5, second[1]]]))
    assert (verdict.verdict, verdict.step, verdict.where) == ("differs", 1, "train/loss")
    assert repr(second[0]) in str(verdict) and "differs from epoch 1 on, in train/loss" in str(verdict)


def test_a_script_that_ends_earlier_differs(losses: list[list[float]], workplace: Path) -> None:
    verdict = parity.against(FLAT, script(workplace, losses[:1]))
    assert (verdict.verdict, verdict.step) == ("differs", 1)
    assert "the run has 2 epochs, the script prints 1" in str(verdict)


def test_a_script_gets_the_datasets_own_file_or_the_one_that_is_given(
    losses: list[list[float]], workplace: Path
) -> None:
    (workplace / "rows").touch()
    path = script(workplace, losses, end="import sys; assert sys.argv[1:] == ['rows']")
    assert parity.against(FLAT, path, data=Path("rows")).verdict == "identical"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("print('hello')", "prints no lines like 'epoch 0  train/loss 0.5  valid/loss 0.4'"),
        ("print('epoch 0  train/loss none')", "prints 'train/loss none' where a number was expected"),
        ("raise ValueError('oh')", "ended with exit code 1: ValueError: oh"),
    ],
)
def test_a_script_that_tells_no_losses_is_an_error(text: str, problem: str, workplace: Path) -> None:
    (workplace / "script.py").write_text(text)
    with pytest.raises(ConfigError, match=f"--against: script.py {problem}"):
        parity.against(FLAT, Path("script.py"))


def test_files_that_are_not_there_are_told(workplace: Path) -> None:
    with pytest.raises(ConfigError, match=r"--against: there is no file no\.py"):
        parity.against(FLAT, Path("no.py"))
    with pytest.raises(ConfigError, match=r"--data: there is no file no\.gz"):
        parity.against(FLAT, script(workplace, []), data=Path("no.gz"))


@pytest.mark.slow
def test_an_exported_script_is_identical_to_its_run(workplace: Path) -> None:
    overrides = [*FLAT, "model=mlp", "model.dropout=0.5", "optim=adam"]
    path = exported(overrides, workplace)
    assert parity.against(overrides, path, data=workplace / "rows.npz").verdict == "identical"


# The command


def test_texts_are_split_as_a_shell_does() -> None:
    assert _words('stage=03_module optim.lr=1 name="a b"') == ["stage=03_module", "optim.lr=1", "name=a b"]
    assert _words("") == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "A B: two configurations are compared, 0 given; for example"),
        (["model=mlp"], "A B: two configurations are compared, 1 given"),
        (["model=mlp 'x", ""], "model=mlp 'x: its quotes are not closed"),
        (["model=mpl", ""], "model=mpl: there is no such option; did you mean 'mlp'?"),
        (["dataset=mnist_5k", "optim.lrr=1"], "optim.lrr: unknown key; did you mean 'lr'?"),
        (["", "", "--steps", "0"], "--steps: 0 is not allowed: it should be at least 1"),
        (["", "", "--tolerance", "1"], "--tolerance: 1 is not allowed: it should be at least 0 and below 1"),
        (["", "", "--tolerance", "nan"], "--tolerance: nan is not allowed"),
        (["", "", "--transpose", "lim.bias", *FLAT], "--transpose: no tensor is called 'lim.bias'; did you mean 'lin."),
        (["--resume-at", str(STEPS), *FLAT], f"--resume-at: {STEPS} is not within the steps"),
        (["--stages", "--steps", "-1"], "--steps: -1 is not allowed"),
        (["--stages", "stage=01_tensors"], "stage: it is chosen by --stages"),
        (["--data", "x", "", ""], "--data: it goes with --against"),
        (["--resume-at", "2", "--transpose", "x"], "--transpose: it goes with two configurations"),
        (["--resume-at", "2", "--tolerance", "1e-3"], "--tolerance: it does not go with --resume-at, where every bit"),
    ],
)
def test_a_mistake_is_told_in_one_message(arguments: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _compare(_parser().parse_intermixed_args(arguments))
    assert problem in str(caught.value)


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    code = _compare(_parser().parse_intermixed_args(arguments))
    return code, capsys.readouterr().out


def test_a_verdict_is_printed_with_what_was_compared(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = told(["", "seeds.noise=3", "--steps", "3", "model=mlp", *FLAT], capsys)
    assert (code, out) == (0, "A  (defaults)\nB  seeds.noise=3\nidentical: every bit of 3 steps\n")


def test_a_difference_ends_with_1_and_is_told_with_both_values(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = told(["optim.lr=0.1", "optim.lr=0.2", *FLAT], capsys)
    assert code == 1
    lines = out.splitlines()
    assert lines[2] == "differs from step 0 on, in weight lin.weight"
    assert lines[3].startswith("  by ") and " times what is allowed): " in lines[3] and " and " in lines[3]


def test_a_verdict_is_in_uzbek_where_that_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = told(["", "seeds.noise=3", "--steps", "3", "model=mlp", "language=uz", *FLAT], capsys)
    assert (code, out) == (0, "A  (standart)\nB  seeds.noise=3\naynan bir xil: 3 ta qadamning har bir biti\n")


@pytest.mark.slow
def test_the_stages_are_a_table_that_ends_with_1_where_an_expectation_is_broken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = "++tutorial.expects={verdict: identical, why: {en: because, uz: chunki}}"
    code, out = told(["--stages", "--steps", "1", f"'{broken}'", *FLAT[:4], "loader.valid_batch_size=8"], capsys)
    assert code == 1
    assert "07_dataloader -> 08_validation" in out
    assert "08_validation, expected identical (because)\ndiffers from step 0 on, in batch x" in out
    assert out.rstrip().endswith("pairs are as expected")


@pytest.mark.slow
def test_exit_codes_are_those_of_a_check(cli: Cli) -> None:
    same = cli("", "", *FLAT, "--steps", "2", module="experiments.parity")
    assert (same.returncode, same.stderr) == (0, "")
    other = cli("optim.lr=0.1", "optim.lr=0.2", *FLAT, module="experiments.parity")
    assert other.returncode == 1
    wrong = cli("only=one", module="experiments.parity")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: A B: two configurations are compared, 1 given") and not wrong.stdout


@pytest.mark.slow
def test_help_is_quick_and_tells_the_tolerance(cli: Cli) -> None:
    done = cli("--help", module="experiments.parity", options=("-X", "importtime"))
    assert "Of a batch and a loss, the tolerance is that part" in done.stdout
    assert " torch\n" not in done.stderr and " mlflow\n" not in done.stderr
