"""What is refused: hostile weights and checkpoints, names that lead out of their folder, and a page that says so."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import pickle
import re
import stat
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra._internal import target_policy

import experiments
from experiments import files, ui
from experiments.config import check, secrets
from experiments.config.compose import compose
from experiments.config.registry import Registry
from experiments.errors import CheckpointError, ConfigError, RegistrationError
from experiments.runs import index, sweep_plan
from experiments.sweeps import hooks
from experiments.training import checkpoint, weights
from tests.support.places import ROOT, Cli
from tests.test_forbidden import SOURCES

PAGE = ROOT / "docs" / "threat-model.md"
QUICK = ["dataset=synthetic", "dataset.train=200", "dataset.valid=50", "tracking=none", "figures=false", "epochs=1"]


class Evil:
    """Makes a file called marker where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch marker",)


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def with_extra(content: bytes, name: str, extra: bytes) -> bytes:
    """A file of torch's with one member more."""
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(f"{archive.namelist()[0].split('/')[0]}/{name}", extra)
    return buffer.getvalue()


SCRIPTED = with_extra(saved({"w": torch.ones(1)}), "constants.pkl", pickle.dumps(Evil()))
PAYLOADS = {
    "as the content": saved(Evil()),
    "beside tensors": saved({"weight": torch.ones(2), "more": Evil()}),
    "in the old format": saved({"weight": torch.ones(2), "more": Evil()}, _use_new_zipfile_serialization=False),
    "in another protocol": saved(Evil(), pickle_protocol=4),
    "a plain pickle": pickle.dumps(Evil()),
    "a whole model": saved(torch.nn.Linear(2, 2)),
    "in a scripted model": SCRIPTED,
}


def from_weights(content: bytes) -> None:
    """As `init_from=FOLDER` reads it."""
    Path(weights.FILE).write_bytes(content)
    weights.load(Path.cwd())


def from_a_run(content: bytes) -> None:
    """A whole run that starts from them."""
    Path(weights.FILE).write_bytes(content)
    experiments.run([*QUICK, f"init_from={Path.cwd()}"])


def from_checkpoint(content: bytes) -> None:
    """As `resume` reads it, under a name that vouches for the content."""
    digest = hashlib.sha256(content).hexdigest()[:16]
    folder = Path(checkpoint.FOLDER)
    folder.mkdir()
    (folder / f"last-00001-000001-{digest}.pt").write_bytes(content)
    checkpoint.Checkpoints(folder).newest()


@pytest.mark.parametrize("load", [from_weights, from_a_run, from_checkpoint])
@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_payload_is_refused_by_every_way_in_whatever_torch_is_told(
    kind: str, load: Callable[[bytes], None], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises((ConfigError, CheckpointError)):
        load(PAYLOADS[kind])
    assert not (workplace / "marker").exists()


@pytest.mark.process
@pytest.mark.parametrize("kind", ["as the content", "beside tensors", "in the old format", "a plain pickle"])
def test_the_payloads_would_work_elsewhere(kind: str, workplace: Path) -> None:
    content = io.BytesIO(PAYLOADS[kind])
    pickle.loads(content.getvalue()) if kind == "a plain pickle" else torch.load(content, weights_only=False)
    assert (workplace / "marker").exists()


OTHERS = {
    "a list": [torch.ones(1)],
    "a number by name": {"weight": 1.0},
    "a tensor by number": {1: torch.ones(1)},
    "a state in a state": {"model": {"weight": torch.ones(1)}},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_weights_are_tensors_by_name_and_nothing_else(kind: str, workplace: Path) -> None:
    with pytest.raises(ConfigError, match="holds something else than tensors by name"):
        from_weights(saved(OTHERS[kind]))


def test_damaged_weights_are_told_wherever_the_damage_is(workplace: Path) -> None:
    content = saved({"weight": torch.ones(3, 4), "bias": torch.zeros(5)})
    for place in range(0, len(content), 7):
        try:
            from_weights(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        except ConfigError as error:
            assert str(error).startswith("init_from: ")  # damage to a number is no damage to the file


def mlflow_models(source: str) -> list[str]:
    """What a source text has of MLflow's models, which are pickles unless they are in the `pt2` format."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{name}" for name in names]
        if isinstance(node, ast.Attribute):
            names = [ast.unparse(node), node.attr]
        wanted = ("mlflow.pytorch", "mlflow.pyfunc", "mlflow.models", "mlflow.sklearn")
        found += [name for name in names if name.startswith(wanted) or name in ("log_model", "load_model")]
    return found


def test_only_the_module_for_it_gives_mlflow_a_model_and_none_reads_one() -> None:
    found = {path.name: mlflow_models(path.read_text(encoding="utf-8")) for path in SOURCES}
    writing = found.pop("models.py", [])
    assert [(name, uses) for name, uses in found.items() if uses] == []
    assert "mlflow.pytorch.save_model" in writing
    assert not [name for name in writing if "load" in name or name == "log_model"]


@pytest.mark.parametrize(
    "source",
    [
        "import mlflow.pytorch",
        "from mlflow import pytorch",
        "from mlflow.pytorch import log_model",
        "import mlflow; mlflow.pytorch.log_model(model, 'x')",
        "import mlflow as m; m.sklearn.load_model('x')",
    ],
)
def test_a_model_through_mlflow_would_be_found(source: str) -> None:
    assert mlflow_models(source)


def test_instantiate_is_never_called() -> None:
    nodes = [(path, node) for path in SOURCES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    assert [path for path, node in nodes if getattr(node, "id", getattr(node, "attr", "")) == "instantiate"] == []


def test_hydras_variable_for_a_shorter_list_is_still_called_so() -> None:
    assert hooks.LOOSENED in Path(target_policy.__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize("start", ["on_run_start", "on_multirun_start"])
def test_a_loosened_hydra_is_told_at_the_start(
    start: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = compose(QUICK)
    getattr(hooks.Hooks(), start)(cfg)
    assert caplog.messages == []
    monkeypatch.setenv("HYDRA_INSTANTIATE_ALLOWLIST_OVERRIDE", "os.unlink")
    getattr(hooks.Hooks(), start)(cfg)
    (told,) = caplog.messages
    assert told.startswith("HYDRA_INSTANTIATE_ALLOWLIST_OVERRIDE is set: ")


@pytest.mark.parametrize(
    "named",
    [
        "`--config-dir`",
        "`hydra.searchpath`",
        "`hydra.callbacks`",
        "`hydra.job_logging`",
        "`hydra.hydra_logging`",
        "`hydra.launcher`",
        "`hydra.sweeper`",
        "`EXPERIMENTS_COMPONENTS`",
    ],
)
def test_the_threat_model_names_what_must_be_trusted(named: str) -> None:
    assert named in PAGE.read_text(encoding="utf-8")


def page_rows() -> dict[int, list[str]]:
    """The checklist's rows by number: rule, what happens, test, state."""
    lines = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {int(number): [cell.strip() for cell in row.split(" | ")] for number, row in lines}


def test_the_threat_model_has_all_20_rows() -> None:
    assert list(page_rows()) == list(range(1, 21))
    assert {row[3] for row in page_rows().values()} <= {"yes", "not yet"}


def test_every_test_that_the_threat_model_names_is_there() -> None:
    for number, (_, _, named, state) in page_rows().items():
        for file, name in re.findall(r"`([\w/]*test_\w+)\.py(?:::(\w+))?`", named):
            text = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
            assert f"def {name}" in text, (number, name)
        assert "test_" in named or state == "not yet", number


def test_the_threat_model_can_be_found() -> None:
    assert "docs/threat-model.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "threat-model.md" in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["a/b", "../a", "..", "/a", "a\\b", "a\0", "a\nb", "a" * 101, "", None, 1])
def test_a_components_name_stays_inside_its_folder(name: Any) -> None:
    things = Registry("thing", group="things")
    with pytest.raises(RegistrationError, match="thing .* (is not a name|is too long for a name)"):
        things(name)
    assert things.names == []


@pytest.mark.parametrize("name", ["my_net", "12_wrapped", "my net", "top-5.1", "to\u02bbr", "a" * 100])
def test_a_components_name_may_be_any_other(name: str) -> None:
    things = Registry("thing", group="things")
    things(name)(lambda: None)
    assert things.names == [name]


def test_a_decorator_without_a_name_says_how_it_is_written() -> None:
    with pytest.raises(RegistrationError, match=r'write @register\.model\("name"\)'):
        experiments.register.model(lambda data: None)  # type: ignore[arg-type]  # what is shown here


@pytest.mark.parametrize(
    ("key", "name", "told"),
    [
        ("name", "a\0b", "it should have no line breaks or other control characters"),
        ("name", "a\nb", "it should have no line breaks or other control characters"),
        ("name", "\x1b[2J", "it should have no line breaks or other control characters"),
        ("name", "a" * 251, "should have at most 250 characters"),
        ("name", "", "should have at least 1 character"),
        ("tracking.experiment", "a\nb", "it should have no line breaks or other control characters"),
        ("tracking.experiment", "", "should have at least 1 character"),
        ("tracking.sweep_experiment", "a\nb", "it should have no line breaks or other control characters"),
        ("tracking.sweep_experiment", "", "should have at least 1 character"),
    ],
)
def test_a_runs_and_an_experiments_name_is_one_line(key: str, name: str, told: str) -> None:
    values = check.resolve(compose([]))
    target = values["tracking"] if "." in key else values
    target[key.rsplit(".", maxsplit=1)[-1]] = name
    with pytest.raises(ConfigError, match=f"^{re.escape(key)}: .*{told}"):
        check.check(values)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("..", "leads out of the sweep's folder"),
        (".", "leads out of the sweep's folder"),
        ("../other", "leads out of the sweep's folder"),
        ("a/../../other", "leads out of the sweep's folder"),
        ("/tmp/other", "leads out of the sweep's folder"),
        ("link/other", "leads out of the sweep's folder"),
        ("a\0b", "cannot be a folder"),
        ("a" * 256, "cannot be a folder"),
        ("./0", "jobs 0 and 1 would share the folder"),
        ("a/../0", "jobs 0 and 1 would share the folder"),
    ],
)
def test_a_jobs_folder_stays_inside_its_sweep(name: str, told: str, workplace: Path) -> None:
    sweep = workplace / "sweep"
    sweep.mkdir()
    (sweep / "link").symlink_to(workplace)
    with pytest.raises(ConfigError, match=f"^hydra.sweep.subdir: .*{told}"):
        sweep_plan.require_free(sweep, ["0", name])


def test_a_jobs_folder_may_lie_deeper(workplace: Path) -> None:
    sweep_plan.require_free(workplace / "sweep", ["lr/0.1", "lr/0.2"])


@pytest.mark.slow
def test_a_sweep_that_leads_out_of_its_folder_leaves_nothing(cli: Cli, workplace: Path) -> None:
    loosened = {"HYDRA_INSTANTIATE_ALLOWLIST_OVERRIDE": "os.unlink"}
    done = cli("-m", *QUICK, "seed=1,2", "hydra.sweep.subdir=../../${seed}", env=loosened)
    assert done.returncode == 2
    assert done.stdout.count("HYDRA_INSTANTIATE_ALLOWLIST_OVERRIDE is set") == 1
    assert done.stderr.startswith("error: hydra.sweep.subdir: ../../1 leads out of the sweep's folder")
    assert list(workplace.iterdir()) == []


@pytest.fixture
def open_umask() -> Any:
    """A user who lets everybody read."""
    before = os.umask(0)
    yield
    os.umask(before)


def write_weights(path: Path) -> None:
    weights.save(path.parent, {"weight": torch.ones(1)})


def mask(path: Path) -> None:
    path.write_text("https://me:canary@host", encoding="utf-8")
    secrets.mask_file(path)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_weights, weights.FILE),
        (mask, "config.yaml"),
        (lambda path: index.remember(path.parent.parent, "key", path.parent), "../keys/key"),
        (lambda path: sweep_plan.keep(path.parent, sweep_plan.SweepPlan()), sweep_plan.PLAN),
        (lambda path: checkpoint.Checkpoints(path.parent).save({}, epoch=0, step=0), "last-"),
    ],
    ids=["weights", "masked file", "run key", "sweep's plan", "checkpoint"],
)
def test_temporary_files_are_the_owners_alone_and_beside_their_target(
    write: Callable[[Path], None], name: str, open_umask: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    replace = Path.replace

    def looked_at(self: Path, target: Path) -> Path:
        seen.append((self.parent, self.name))
        return replace(self, target)

    modes = []
    make = tempfile.mkstemp

    def made(**options: Any) -> tuple[int, str]:
        handle, path = make(**options)
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        return handle, path

    monkeypatch.setattr(Path, "replace", looked_at)
    monkeypatch.setattr(tempfile, "mkstemp", made)
    folder = tmp_path / "run"
    folder.mkdir()
    write(folder / name)
    assert modes == [0o600]
    ((place, temporary),) = seen
    assert place.resolve() == (folder / name).parent.resolve()
    assert temporary.endswith(files.TEMPORARY)


def test_the_ui_keeps_its_guard_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "MLFLOW_GUNICORN_OPTS"):
        monkeypatch.setenv(name, "true")
    environment = ui.environment("sqlite:///mlflow.db")
    assert not {"MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "MLFLOW_GUNICORN_OPTS"} & set(environment)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == "sqlite:///mlflow.db"


def test_the_ui_is_this_machines_alone() -> None:
    command = ui.command(5000)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert {"--allowed-hosts", "--cors-allowed-origins"} <= set(command)
    assert "*" not in " ".join(command)
    assert not {"--disable-security-middleware", "--gunicorn-opts", "--waitress-opts"} & set(command)
