"""Hydra's messages in one line of our words, and a composition of ours inside another application of Hydra."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose as foreign_compose
from hydra import initialize_config_dir, version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer

import experiments
from experiments.config import check
from experiments.config.compose import compose, is_users, searching
from experiments.errors import ConfigError


def message(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check.configured(overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("lr=0.1", "lr: unknown key; did you mean 'optim.lr'? "),
        ("train.batch_size=8", "train.batch_size: unknown key; did you mean 'loader.batch_size'? "),
        ("batchsize=8", "batchsize: unknown key; did you mean 'loader.batch_size'? "),
        ("nam=x", "nam: unknown key; did you mean 'name'? "),
        ("best=false", "best: unknown key; did you mean 'checkpoint.best'? "),
        ("stage=5", "stage=5: there is no such option; did you mean '05_optim'? "),
        ("stage=05", "stage=05: there is no such option; did you mean '05_optim'? "),
        ("stage=optim", "stage=optim: there is no such option; did you mean '05_optim'? "),
        ("stage=null", "stage=null: there is no such option; available: "),
        ("optim=momentum", "optim=momentum: there is no such option; did you mean 'sgd_momentum'? "),
        ("dataset=fashion", "dataset=fashion: there is no such option; did you mean 'fashion_mnist'? "),
        ("seed=0,1", "seed=0,1: a sweep needs -m (or --multirun): python -m experiments -m ... seed=0,1; "),
        ("seed=range(3)", "seed=range(3): a sweep needs -m (or --multirun): python -m experiments -m ... 'seed="),
        ("optim.lr=interval(0,1)", "optim.lr=interval(0,1): a sweep needs -m (or --multirun): "),
        ("-m", "-m: a sweep is started from the command line: python -m experiments -m ..."),
        (
            "tags.paper=a,b",
            "tags.paper=a,b: a sweep needs -m (or --multirun): python -m experiments -m ... tags.paper=a,b",
        ),
        ("tags.мақола=1", "tags.мақола=1: 'м' cannot be part of a key"),
        ("model.эни=2", "model.эни=2: 'э' cannot be part of a key"),
        ("name=a{b", "name=a{b: '{' does not fit Hydra's grammar of values; as text: \"name='a{b'\""),
        ("name=[a", "name=[a: '[' does not fit Hydra's grammar of values; as text: \"name='[a'\""),
        ("ключ=1", "ключ=1: 'к' cannot be part of a key"),
        ("seed=fo(1)", "seed=fo(1): Unknown function 'fo'"),
        ("epochs", "epochs: an override is key=value without spaces, for example epochs=5"),
        ("--epochs=5", "--epochs=5: an override is key=value without spaces, for example epochs=5"),
        ("name=123", "name: 123 is not allowed: it should be a valid string; as text: \"name='123'\""),
        ("hydra.job.chdir=true", "hydra.job.chdir: every path would be below the run's own folder"),
        ("hydra.job.name=mine", "hydra.job.name: it is the name of a run's log; to name a run: name=..."),
        ("hydra/job_logging=disabled", "hydra/job_logging: a run's lines and its experiments.log would be lost"),
    ],
)
def test_a_mistake_is_one_line_with_its_remedy(override: str, told: str) -> None:
    found = message(override)
    assert found.startswith(told)
    assert "\n" not in found


@pytest.mark.parametrize(("module", "expected"), [("experiments.training.build", False), ("omegaconf.omegaconf", True)])
def test_a_text_that_an_own_component_cannot_decode_is_not_reported_as_invalid_yaml(
    module: str, *, expected: bool
) -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        eval(r"b'\xe9'.decode('ascii')", {"__name__": module})
    assert is_users(caught.value) is expected


def test_an_own_file_that_a_shipped_one_hides_is_refused_with_both_places(tmp_path: Path) -> None:
    own = tmp_path / "optim" / "adam.yaml"
    own.parent.mkdir()
    own.write_text("name: adam\nlr: 0.5\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"^{own}: .*conf/optim/adam.yaml ships and hides it; rename it") as caught:
        searching(tmp_path)
    assert "choose optim=my_adam" in str(caught.value)


def test_a_copy_of_a_shipped_file_hides_nothing(tmp_path: Path) -> None:
    shipped = Path(str(experiments.__path__[0])) / "conf" / "optim" / "adam.yaml"
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "adam.yaml").write_bytes(shipped.read_bytes())
    assert compose([searching(tmp_path), "optim=adam"]).optim.name == "adam"


@pytest.mark.parametrize("named", [".hydra", "."])
def test_the_record_of_a_run_is_no_folder_of_options(named: str, tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    for folder in (tmp_path, tmp_path / ".hydra"):
        (folder / "config.yaml").write_text("epochs: 7\n", encoding="utf-8")
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- model=cnn\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"to train as that run: python -m experiments --again {tmp_path}$"):
        searching(tmp_path / named)


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Path]:
    """Another application that Hydra composes: its primary config is called like ours, and so is a stored option."""
    (tmp_path / "config.yaml").write_text("epochs: many\nlr: 3\n", encoding="utf-8")
    store, before = ConfigStore.instance(), dict(ConfigStore.instance().repo)
    resolvers = dict(BaseContainer._resolvers)
    store.store(group="dataset", name="digits", node={"theirs": 1})
    with initialize_config_dir(str(tmp_path), version_base="1.2"):
        yield tmp_path
    store.repo, BaseContainer._resolvers = before, resolvers


def test_inside_another_application_of_hydra_our_configuration_is_composed(foreign: Path) -> None:
    assert check.configured(["model=mlp", "dataset=digits"]).root.epochs == 2


def test_another_application_of_hydra_is_left_as_it_was(foreign: Path) -> None:
    OmegaConf.register_new_resolver("now", lambda pattern: "theirs", replace=True)
    instance, hydra, repo = GlobalHydra.instance(), GlobalHydra.instance().hydra, ConfigStore.instance().repo
    compose(["model=mlp"])
    assert GlobalHydra.instance() is instance and instance.hydra is hydra
    assert ConfigStore.instance().repo is repo and str(version.getbase()) == "1.2"
    assert foreign_compose("config").lr == 3
    assert OmegaConf.create({"x": "${now:%Y}"}).x == "theirs"
