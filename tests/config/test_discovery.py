"""Own components: named by one setting, read for their presets without being run, imported for a run."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore

from experiments import register
from experiments.config import check, compose, discovery
from experiments.errors import ConfigError

NET = """
from typing import Annotated
import experiments
from experiments import register

@register.model("own_net", input="image")
def own_net(data, *, width: Annotated[int, "units"] = 64, lr: float, names: list[str] = ["a"], deep=None, on=True):
    return data, width
"""


@pytest.fixture(autouse=True)
def own_registrations(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers or imports is gone after it."""
    for registry in register:
        monkeypatch.setattr(registry, "_components", dict(registry._components))
    discovery.register_with_hydra()  # Hydra fills its own store when it is first asked, and only once
    monkeypatch.setattr(ConfigStore.instance(), "repo", copy.deepcopy(ConfigStore.instance().repo))
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith(("own_", "experiments_own.")):
            del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def write(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a file in the folder one works in and, unless `listed` is False, name it in the setting."""

    def write(text: str, name: str = "own_net.py", *, listed: bool = True) -> Path:
        path = workplace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if listed:
            setting(monkeypatch, str(path))
        return path

    return write


def setting(monkeypatch: pytest.MonkeyPatch, *entries: str) -> None:
    monkeypatch.setenv(discovery.SETTING, os.pathsep.join(entries))


def scanned(path: Path) -> dict[str, dict[str, Any]]:
    found = discovery._scan(path)
    assert found is not None, "only its import has them"
    return {f"{registry.group}.{name}": preset for registry, name, preset in found}


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        discovery._scan(path)
    return str(caught.value)


def test_a_file_is_loaded_and_registers_its_components(write: Any) -> None:
    write(NET)
    discovery.load()
    assert "own_net" in register.model.names


def test_a_file_is_found_from_the_folder_one_works_in(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(NET, listed=False)
    setting(monkeypatch, "own_net.py")
    discovery.load()
    assert "own_net" in register.model.names


def test_a_module_is_loaded_under_its_own_name(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(NET, listed=False)
    setting(monkeypatch, "own_net")
    discovery.load()
    assert register.model.get("own_net").factory.__module__ == "own_net"


def test_a_module_of_a_package_may_import_its_neighbours(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write("", "own_pkg/__init__.py", listed=False)
    write("WIDTH = 7", "own_pkg/sizes.py", listed=False)
    write("from .sizes import WIDTH\n" + NET, "own_pkg/nets.py", listed=False)
    setting(monkeypatch, "own_pkg.nets")
    discovery.load()
    assert register.model.get("own_net").factory.__module__ == "own_pkg.nets"


def test_modules_that_import_each_other_register_once(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(NET, listed=False)
    write("import own_net", "own_more.py", listed=False)
    setting(monkeypatch, "own_net", "own_more")
    discovery.load()
    assert "own_net" in register.model.names


def test_several_are_loaded_in_turn_and_empty_entries_left_out(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(NET)
    second = write(NET.replace("own_net", "own_other"), "own_other.py")
    setting(monkeypatch, str(first), "", f" {second} ")
    discovery.load()
    assert discovery.own_files() == [first, second]
    assert {"own_net", "own_other"} <= set(register.model.names)


def test_without_the_setting_there_are_no_own_files() -> None:
    assert discovery.own_files() == []


def test_another_process_unpickles_what_an_own_file_defines(write: Any) -> None:
    path = write("class Rows:\n    size = 3\n", name="own.rows 1.py")  # a name that is not an identifier
    discovery.load()
    (module,) = [each for each in list(sys.modules.values()) if getattr(each, "__file__", None) == str(path)]
    rows = pickle.dumps(module.Rows())
    code = f"import pickle; print(pickle.loads({rows!r}).size)"  # as a spawned worker does; nothing is imported before
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr


def test_loading_twice_is_no_duplicate(write: Any) -> None:
    write(NET)
    discovery.load()
    once = register.model.get("own_net")
    discovery.load()
    assert register.model.get("own_net") is once


def test_a_file_whose_import_failed_can_be_mended_and_loaded_again(write: Any) -> None:
    write(NET + "\n1 / 0")
    with pytest.raises(ConfigError):
        discovery.load()
    assert "own_net" not in register.model.names
    write(NET + "\n# now without a fault, and longer than before")
    discovery.load()
    assert "own_net" in register.model.names


def test_a_file_is_read_for_its_presets_without_being_run(write: Any, workplace: Path) -> None:
    write(NET + "\nopen('ran', 'w')\nraise SystemExit")
    discovery.register_with_hydra()
    assert compose.compose(["model=own_net"]).model.width == 64
    assert not (workplace / "ran").exists()
    assert "own_net" not in register.model.names


def test_a_preset_read_from_the_source_is_the_one_of_the_signature(write: Any) -> None:
    path = write(NET)
    discovery.load()
    expected = {"name": "own_net", "width": 64, "lr": "???", "names": ["a"], "deep": None, "on": True}
    assert scanned(path) == {"model.own_net": expected}
    assert register.model.preset("own_net") == expected


def test_a_required_argument_is_asked_for_when_composed(write: Any) -> None:
    write(NET)
    with pytest.raises(ConfigError, match=r"^model\.lr: a value is required: model\.lr=\.\.\.$"):
        check.resolve(compose.compose(["model=own_net"]))


@pytest.mark.parametrize(
    "path", sorted((Path(discovery.__file__).parents[1] / "components").rglob("*.py")), ids=lambda path: path.stem
)
def test_every_component_of_the_product_reads_as_its_signature_does(path: Path) -> None:
    for registry, name, preset in discovery._scan(path) or ():
        assert preset == registry.preset(name)


def test_the_constructor_of_a_class_is_its_signature(write: Any) -> None:
    path = write(
        """
import torch, experiments
@experiments.register.model("own_class")
class Net(torch.nn.Module):
    def __init__(self, data, width: int = 3, *, depth: int) -> None:
        super().__init__()
"""
    )
    discovery.load()
    expected = {"name": "own_class", "width": 3, "depth": "???"}
    assert scanned(path) == {"model.own_class": expected}
    assert register.model.preset("own_class") == expected


def test_a_component_of_a_kind_with_many_is_a_mapping_by_name(write: Any) -> None:
    path = write("from experiments import register\n@register.transform('own_t')\ndef t(xb, data, *, p=2): return xb")
    assert scanned(path) == {"transforms.own_t": {"own_t": {"p": 2}}}
    assert compose.compose(["transforms=[normalize,own_t]"]).transforms.own_t == {"p": 2}


def test_what_is_imported_for_a_type_checker_only_can_be_an_annotation(write: Any) -> None:
    write(
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "import experiments\n"
        "if TYPE_CHECKING:\n    from experiments import DataSpec\n"
        "@experiments.register.model('own_hinted')\n"
        "def hinted(data: DataSpec, *, width: int = 8): ...\n"
    )
    discovery.load()
    assert register.model.faults("own_hinted", {"width": 3}) == []
    (fault,) = register.model.faults("own_hinted", {"width": "x"})
    assert fault.key == "model.width"


def test_other_decorators_are_left_alone(write: Any) -> None:
    path = write("@other.model('b')\n@cache\ndef f(data): ...")
    assert scanned(path) == {}


HEAD = "import experiments\nfrom experiments import register\n"
FORMS = {
    "another name of the register": "from experiments import register as R\n"
    + "@R.model('own')\ndef f(data, *, width=3): ...",
    "called with a definition": HEAD + "def f(data, *, width=3): ...\nregister.model('own')(f)",
    "a constant as the name": HEAD + "NAME = 'own'\n@register.model(NAME)\ndef f(data, *, width=3): ...",
    "the name as a keyword": HEAD + "@register.model(name='own')\ndef f(data, *, width=3): ...",
    "a calculated default": HEAD + "W = 1\n@register.model('own')\ndef f(data, *, width=W + 2): ...",
    "a base's constructor": HEAD
    + "class Base:\n    def __init__(self, data, *, width=3): ...\n@register.model('own')\nclass Net(Base): ...",
    "in a loop": HEAD + "for name in ['own', 'own2']:\n    @register.model(name)\n    def f(data, *, width=3): ...",
}


@pytest.mark.parametrize("source", FORMS.values(), ids=FORMS)
def test_every_form_of_a_registration_gives_an_option(source: str, write: Any) -> None:
    write(source)
    discovery.register_with_hydra()
    assert compose.compose(["model=own"]).model == {"name": "own", "width": 3}


NETS = "import experiments\nclass Net: ...\n@experiments.register.model('own')\ndef own(data, *, width=3): ...\n"
TASK = "import experiments, own_nets\n@experiments.register.model('own_task')\ndef task(data): return own_nets.Net()\n"


@pytest.mark.parametrize(
    "entries",
    [
        ("own_nets.py", "own_task.py"),
        ("own_task.py", "own_nets.py"),
        ("own_task.py",),
        ("own_task",),
        ("own_nets", "own_task.py"),
        ("own_task", "own_nets.py"),
        ("own_nets.py", "own_task"),
    ],
    ids=os.pathsep.join,
)
def test_own_files_may_import_each_other(entries: tuple[str, ...], write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(NETS, "own_nets.py", listed=False)
    write(TASK, "own_task.py", listed=False)
    setting(monkeypatch, *entries)
    discovery.register_with_hydra()
    assert compose.compose(["model=own"]).model.width == 3
    assert compose.compose(["model=own_task"]).model.name == "own_task"
    discovery.load()
    import own_nets  # type: ignore[import-not-found]

    assert type(register.model.get("own_task").factory(None)) is own_nets.Net
    assert register.model.get("own").factory is own_nets.own


@pytest.mark.parametrize("line", ["from . import nets", "from .nets import own", "import own_pkg.nets"])
def test_a_package_gives_what_its_modules_register(line: str, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(line, "own_pkg/__init__.py", listed=False)
    write(NETS, "own_pkg/nets.py", listed=False)
    setting(monkeypatch, "own_pkg")
    discovery.register_with_hydra()
    assert compose.compose(["model=own"]).model.width == 3


def test_a_file_that_was_loaded_alone_is_the_same_in_its_package(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write("from . import nets", "own_pkg/__init__.py", listed=False)
    write(NETS, "own_pkg/nets.py", listed=False)
    setting(monkeypatch, "own_pkg/nets.py", "own_pkg")
    discovery.load()
    assert register.model.get("own").factory.__module__ == "own_pkg.nets"


def test_a_file_may_import_its_neighbour_from_any_folder(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(NETS, "own_folder/own_nets.py", listed=False)
    write(TASK, "own_folder/own_task.py", listed=False)
    setting(monkeypatch, "own_folder/own_task.py")
    discovery.load()
    assert "own_task" in register.model.names


def test_what_a_failed_import_imported_can_be_loaded_again(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(NETS + "1 / 0", "own_nets.py", listed=False)
    write(TASK, "own_task.py", listed=False)
    setting(monkeypatch, "own_task.py", "own_nets.py")
    with pytest.raises(ConfigError):
        discovery.load()
    write(NETS + "# now without a fault", "own_nets.py", listed=False)
    discovery.load()
    assert {"own", "own_task"} <= set(register.model.names)


def test_what_is_registered_live_can_be_chosen() -> None:
    register.model("own_live")(_live)
    assert compose.compose(["model=own_live"]).model == {"name": "own_live", "width": 5}


def _live(data: Any, *, width: int = 5) -> None: ...


def test_a_default_that_yaml_has_no_form_of_is_refused_with_its_place(write: Any) -> None:
    path = write(HEAD + "@register.model('own')\ndef own(data, *, width=print): ...")
    with pytest.raises(ConfigError) as caught:
        discovery.register_with_hydra()
    expected = f"model 'own' in {path}:3 has the default <built-in function print> of 'width', which YAML cannot hold"
    assert expected in str(caught.value)


def test_a_syntax_error_is_told_with_its_line(write: Any) -> None:
    path = write("x = 1\ndef f(:\n")
    assert refused(path) == f"EXPERIMENTS_COMPONENTS: {path}:2 is not Python: invalid syntax"


def test_bytes_that_are_no_text_are_told_as_such(write: Any) -> None:
    path = write("")
    path.write_bytes(b"x = '\xff'\n")
    assert refused(path).startswith(f"EXPERIMENTS_COMPONENTS: {path}:")


def test_a_byte_order_mark_is_no_fault(write: Any) -> None:
    path = write("\ufeff" + NET)
    assert list(scanned(path)) == ["model.own_net"]


def test_a_missing_file_is_told_with_its_whole_path(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting(monkeypatch, "own_nope.py")
    with pytest.raises(ConfigError) as caught:
        discovery.load()
    assert str(caught.value) == f"EXPERIMENTS_COMPONENTS: there is no file {workplace / 'own_nope.py'}"


@pytest.mark.parametrize("entry", ["own_nope", "own_nope.deeper", "json.own_nope"])
def test_a_missing_module_is_told(entry: str, monkeypatch: pytest.MonkeyPatch, workplace: Path) -> None:
    setting(monkeypatch, entry)
    with pytest.raises(ConfigError) as caught:
        discovery.load()
    expected = f"EXPERIMENTS_COMPONENTS: there is no module '{entry}' (a file is named with its .py)"
    assert str(caught.value) == expected


def test_what_a_package_misses_is_not_told_as_the_package_missing(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write("import own_dependency", "own_pack/__init__.py", listed=False)
    write(NET, "own_pack/nets.py", listed=False)
    setting(monkeypatch, "own_pack.nets")
    expected = "own_pack.nets cannot be imported: ModuleNotFoundError: No module named 'own_dependency'"
    with pytest.raises(ConfigError, match=f"^{discovery.SETTING}: {expected}$"):
        discovery.register_with_hydra()


def test_a_module_that_is_no_python_source_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    setting(monkeypatch, "sys")
    with pytest.raises(ConfigError, match=r"module 'sys' is not Python source \(built-in\)$"):
        discovery.own_files()


@pytest.mark.parametrize(
    ("source", "line", "problem"),
    [
        ("import own_dependency", 1, "ModuleNotFoundError: No module named 'own_dependency'"),
        ("x = 1\ny = x / 0", 2, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_fails_is_told_with_its_line_and_reason(write: Any, source: str, line: int, problem: str) -> None:
    path = write(source)
    with pytest.raises(ConfigError) as caught:
        discovery.load()
    told = f"{discovery.SETTING}: {path}:{line} cannot be imported: {problem.format(path=path)}"
    assert str(caught.value) == told


def test_all_registrations_that_a_file_gets_wrong_are_told_at_once(write: Any) -> None:
    wrong = ["metric('own')\ndef own(pred): ...", "model('a')\ndef a(data, *rest, **more): ...", "loss('b', kind=1)\n"]
    wrong[2] += "def b(pred, target): ..."
    path = write("\n".join(["from experiments import register", *(f"@register.{one}" for one in wrong), "1 / 0"]))
    with pytest.raises(ConfigError) as caught:
        discovery.load()
    assert [fault.problem for fault in caught.value.faults] == [
        f"metric 'own' in {path}:2 takes 1 positional parameters; the run passes 2: pred, target; write them first",
        f"model 'a' in {path}:4 takes *rest, **more; its parameters are its schema, so write each one out",
        f"loss 'b' in {path}:6 declares 'kind', which does not exist; available: input, targets",
        f"{path}:8 cannot be imported: ZeroDivisionError: division by zero",
    ]
    assert "own" not in register.metric.names


def test_a_name_that_is_taken_is_told_with_both_places(write: Any) -> None:
    path = write("import experiments\n@experiments.register.model('mlp')\ndef mlp(data): ...")
    with pytest.raises(ConfigError) as caught:
        discovery.load()
    text = str(caught.value)
    assert text.startswith(f"{discovery.SETTING}: model 'mlp' is registered twice: in ")
    assert f"linear.py:{register.model.get('mlp').factory.__code__.co_firstlineno} and in {path}:2" in text
