"""The command line as a user types it: what a rejected command leaves, what Hydra's own switches still do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.places import ROOT, Cli

slow = pytest.mark.slow
QUICK = ["dataset=synthetic", "dataset.train=200", "dataset.valid=50", "tracking=none", "figures=false"]
DIGITS = ["dataset=digits", "tracking=none", "figures=false"]
ARRAYS = ["dataset=arrays", *DIGITS[1:]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param([*QUICK, "optim.lr=0"], "optim.lr: 0 is not allowed: it should be greater than 0\n", marks=slow),
        ([*QUICK, "optim.lrr=1"], "optim.lrr: unknown key; did you mean 'lr'?"),
        pytest.param(
            ["-m", *QUICK, "stage=10,11"],
            "2 faults:\n  stage=10: there is no such option; did you mean '10_cnn'? ",
            marks=slow,
        ),
        pytest.param([*QUICK, "hydra.job.chdir=true"], "hydra.job.chdir: every path would be below", marks=slow),
        pytest.param([*QUICK, "output_root="], "output_root: '' is not allowed: ", marks=slow),
        pytest.param(
            [*QUICK, "model=[logistic,mlp]"],
            "model: it takes one option; to compare several: -m model=logistic,mlp\n",
            marks=slow,
        ),
        pytest.param(
            [*QUICK, "+dataset._target_=os.system"],
            "dataset._target_: configuration names registered components",
            marks=slow,
        ),
        (["-m", *QUICK, "model=logistic,mlp", "optim.lr=0.1,-1"], "optim.lr: -1 is not allowed"),
        pytest.param(
            ["-m", *QUICK, "model=logistic,mpl"], "model=mpl: there is no such option; did you mean 'mlp'?", marks=slow
        ),
        pytest.param(
            [*QUICK, "tracking=mlflow", "tracking.uri=./mlruns"],
            "tracking.uri: './mlruns' is a plain folder",
            marks=slow,
        ),
        pytest.param(
            [*QUICK, "loss=mse"],
            "loss: mse takes real targets, dataset synthetic has class labels; losses that do: cross_entropy",
            marks=slow,
        ),
        (
            [*DIGITS, "model=cnn"],
            "model: cnn takes images of shape (1, 28, 28), dataset digits has (1, 8, 8); models",
        ),
        pytest.param([*ARRAYS, "dataset.path=no.npz"], "dataset.path=no.npz: there is no such file\n", marks=slow),
        pytest.param(
            [*QUICK, "callbacks=early_stopping", "callbacks.early_stopping.monitor=x"],
            "callbacks.early_stopping: watches",
            marks=slow,
        ),
        pytest.param(
            ["-m", *QUICK, "seed=1,2", "hydra.sweep.subdir=same"],
            "hydra.sweep.subdir: jobs 0 and 1 would share the fo",
            marks=slow,
        ),
        pytest.param(
            [*QUICK, f"hydra.run.dir={__file__}/x"],
            f"hydra.run.dir: {__file__} is not a folder; the run's folder would",
            marks=slow,
        ),
        pytest.param(
            ["-m", *QUICK, "seed=1,2", f"hydra.sweep.dir={__file__}/x"],
            f"hydra.sweep.dir: {__file__} is not a folder; ",
            marks=slow,
        ),
    ],
)
def test_a_rejected_command_says_why_in_one_message_and_leaves_nothing(
    arguments: list[str], expected: str, cli: Cli, workplace: Path
) -> None:
    done = cli(*arguments)
    assert done.stderr.startswith(f"error: {expected}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert list(workplace.iterdir()) == []


OWN = "import experiments\n@experiments.register.model('mlp')\ndef mlp(data): ...\n"


@pytest.mark.parametrize(
    ("source", "told", "arguments"),
    [
        (OWN, "model 'mlp' is shipped; register yours under another name", QUICK),
        pytest.param(OWN, "is shipped; register yours under another name", ["-m", *QUICK, "seed=1,2"], marks=slow),
        pytest.param("1 / 0", "division by zero", QUICK, marks=slow),
    ],
)
def test_own_components_that_fail_are_one_message_and_leave_nothing(
    source: str, told: str, arguments: list[str], cli: Cli, workplace: Path
) -> None:
    (workplace / "mine.py").write_text(source, encoding="utf-8")
    done = cli(*arguments, env={"EXPERIMENTS_COMPONENTS": "mine.py", "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: EXPERIMENTS_COMPONENTS: {workplace / 'mine.py'}:")
    assert told in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in workplace.iterdir()] == ["mine.py"]


@pytest.mark.slow
def test_a_sweep_with_names_for_its_folders_ends_with_its_table(cli: Cli, workplace: Path) -> None:
    done = cli("-m", *DIGITS, "++optim.lr=0.1,0.2", "hydra.sweep.subdir=of_${optim.lr}")
    rows = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines() if line.startswith("of_")}
    assert rows == {"of_0.1": "FINISHED", "of_0.2": "FINISHED"}
    assert "lr=0.1: digits" in done.stdout


@pytest.mark.slow
def test_a_second_sweep_in_the_same_folder_is_refused(cli: Cli, workplace: Path) -> None:
    options = ["-m", *DIGITS, "seed=1,2", "hydra.sweep.dir=here", "epochs=1"]
    assert cli(*options).returncode == 0
    done = cli(*options)
    told = "error: hydra.sweep.dir: here already holds a sweep; to resume it: python -m experiments.resume here\n"
    assert (done.returncode, done.stderr) == (2, told)


def test_hydras_full_error_switch_keeps_working(cli: Cli) -> None:
    done = cli(*QUICK, "optim.lrr=1", env={"HYDRA_FULL_ERROR": "1"})
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_failed_job_and_lists_all_states(cli: Cli, workplace: Path) -> None:
    done = cli("-m", *DIGITS, "model=cnn,logistic")
    assert done.returncode == 1
    rows = {line.split()[1]: line.split()[-1] for line in done.stdout.splitlines() if re.match(r"[01] +\w", line)}
    assert rows == {"cnn": "FAILED", "logistic": "FINISHED"}
    assert "job 0 (model=cnn) failed: model: cnn takes images of shape (1, 28, 28)" in done.stdout


@pytest.mark.slow
def test_a_second_run_in_the_same_folder_is_refused(cli: Cli, workplace: Path) -> None:
    assert cli(*QUICK, "hydra.run.dir=here").returncode == 0
    before = sorted((path, path.stat().st_size) for path in workplace.rglob("*") if path.name == "journal.jsonl")
    done = cli(*QUICK, "hydra.run.dir=here")
    assert done.returncode == 2
    assert "here already holds a run; to resume it: python -m experiments.resume here" in done.stderr
    assert before == sorted(
        (path, path.stat().st_size) for path in workplace.rglob("*") if path.name == "journal.jsonl"
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["--info", "config"]])
def test_looking_imports_neither_torch_nor_mlflow(arguments: list[str], cli: Cli) -> None:
    done = cli(*arguments, options=("-X", "importtime"))
    assert done.returncode == 0
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "hydra" in imported
    assert not imported & {"torch", "mlflow", "rich", "pydantic", "matplotlib", "numpy"}


@pytest.mark.parametrize(
    ("module", "mistake", "code"),
    [
        ("evaluate", ["nowhere"], 2),
        ("predict", ["nowhere", "a.png"], 2),
        ("parity", ["--data", "x", "", ""], 2),
        ("export_script", ["--rows"], 2),
    ],
)
def test_a_commands_help_and_mistakes_need_neither_torch_nor_mlflow(
    module: str, mistake: list[str], code: int, cli: Cli
) -> None:
    for arguments, expected in ((["--help"], 0), (mistake, code)):
        done = cli(*arguments, module=f"experiments.{module}", options=("-X", "importtime"))
        imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
        assert done.returncode == expected and "experiments" in imported, done
        assert not imported & {"torch", "mlflow", "rich", "matplotlib", "numpy", "scipy"}


def test_help_lists_every_group_and_the_users_command(cli: Cli) -> None:
    told = cli("--help").stdout
    assert "python -m experiments model=cnn_adaptive optim=sgd_momentum" in told
    assert "model: autoencoder, cnn, cnn_adaptive, cnn_norm, cnn_sequential, logistic" in told


def test_help_says_what_each_key_of_the_chosen_options_is_for(cli: Cli) -> None:
    chosen = ["model=mlp", "transforms=normalize", "callbacks=early_stopping", "scheduler=one_cycle"]
    told = cli("--help", *chosen).stdout.partition("== Config ==")[2]
    keys = [line for line in told.splitlines() if re.match(r" *\w+:", line)]
    groups = re.findall(r"^\w+:\n  name:", told, re.MULTILINE)
    bare = [line.strip() for line in keys if "  # " not in line]
    assert len(keys) > 60 and len(groups) == 9
    assert [line for line in bare if f"\n{line}\n  " not in told] == []  # but for the heads of groups


def test_help_names_every_other_command(cli: Cli) -> None:
    told = cli("--help").stdout
    package = ROOT / "src" / "experiments"
    files = [path for path in package.glob("*.py") if '== "__main__"' in path.read_text(encoding="utf-8")]
    names = {path.stem for path in files} | {path.parent.name for path in package.glob("*/__main__.py")}
    assert {name for name in names if name not in re.findall(r"\w+", told)} == {"__main__"}


def test_completion_offers_a_groups_options(cli: Cli) -> None:
    line = "experiments model=cnn_"
    done = cli("-sc", "query=bash", env={"COMP_LINE": line, "COMP_POINT": str(len(line))})
    assert done.stdout.split() == ["model=cnn_adaptive", "model=cnn_norm", "model=cnn_sequential"]


def test_completion_offers_own_components(cli: Cli, workplace: Path) -> None:
    source = "import experiments\n@experiments.register.model('my_net')\ndef my_net(data, *, width: int = 8): ...\n"
    (workplace / "mine.py").write_text(source, encoding="utf-8")
    env = {"EXPERIMENTS_COMPONENTS": "mine.py", "COMP_LINE": "experiments model=my", "COMP_POINT": "20"}
    assert cli("-sc", "query=bash", env=env).stdout.split() == ["model=my_net"]


def test_a_users_own_config_folder_is_used(cli: Cli, workplace: Path) -> None:
    (workplace / "my_conf" / "model").mkdir(parents=True)
    (workplace / "my_conf" / "model" / "wide.yaml").write_text("name: mlp\nwidth: 7\ndepth: 1\ndropout: 0.0\n")
    done = cli("--config-dir", "my_conf", "--cfg", "job", "--package", "model", "model=wide")
    assert "width: 7" in done.stdout


def test_a_file_that_is_no_yaml_is_told(cli: Cli, workplace: Path) -> None:
    (workplace / "my_conf" / "model").mkdir(parents=True)
    (workplace / "my_conf" / "model" / "wide.yaml").write_text("name: mlp\nwidth: [3\n")
    done = cli("--config-dir", "my_conf", *QUICK, "model=wide")
    assert done.returncode == 2
    assert done.stderr.startswith("error: configuration: invalid YAML: ") and "wide.yaml" in done.stderr


@slow
def test_the_log_file_has_a_line_an_epoch(cli: Cli, workplace: Path) -> None:
    cli(*QUICK, "epochs=3")
    (log,) = workplace.rglob("experiments.log")
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if " epoch " in line]
    assert [re.search(r"epoch (\d)", line)[1] for line in lines if "train/loss" in line] == ["0", "1", "2"]  # type: ignore[index]  # each has one


@slow
def test_an_exception_in_training_keeps_its_traceback(cli: Cli, workplace: Path) -> None:
    source = (
        "import experiments\n"
        "@experiments.register.metric('bad')\n"
        "def bad(pred, target):\n"
        "    if len(pred) > 100: raise RuntimeError('out of luck')  # a training pass's, no trial's\n"
        "    return pred.sum()\n"
    )
    (workplace / "mine.py").write_text(source, encoding="utf-8")
    done = cli(*QUICK, "metrics=bad", env={"EXPERIMENTS_COMPONENTS": "mine.py"})
    assert done.returncode == 1
    assert "RuntimeError: out of luck" in done.stderr
    (error,) = workplace.rglob("error.txt")
    assert "mine.py" in error.read_text(encoding="utf-8")
