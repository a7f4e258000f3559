"""Hydra still has what it does not promise and we use, and only the adapters use it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields

import pytest
from hydra import initialize_config_module
from hydra._internal.callbacks import Callbacks
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.config.hydra_internals import ConfigLoader, JobLoader, forget_option, load_plugins
from tests.support import internals
from tests.support.places import ROOT

READ_FROM = "1.3.8"
ADAPTERS = ("config/hydra_internals.py", "config/hydra_basic.py")
NAMES = (
    "hydra._internal.config_loader_impl:ConfigLoaderImpl._apply_overrides_to_config",
    "hydra._internal.config_loader_impl:ConfigLoaderImpl.load_sweep_config",
    "hydra._internal.config_loader_impl:ConfigLoaderImpl.get_search_path",
    "hydra._internal.config_loader_impl:get_overrides_dirname",
    "hydra._internal.config_repository:ConfigRepository.group_exists",
    "hydra._internal.core_plugins.basic_launcher:BasicLauncher.launch",
    "hydra._internal.core_plugins.basic_sweeper:BasicSweeper._parse_config",
    "hydra._internal.core_plugins.basic_sweeper:BasicSweeper.split_arguments",
    "hydra._internal.core_plugins.basic_sweeper:BasicSweeperConf",
    "hydra._internal.utils:_run_hydra",
    "hydra._internal.utils:get_args_parser",
    "hydra.core.config_store:ConfigStore.store",
    "hydra.core.config_store:ConfigStore.list",
    "hydra.core.global_hydra:GlobalHydra.is_initialized",
    "hydra.core.global_hydra:GlobalHydra.set_instance",
    "hydra.core.hydra_config:HydraConfig.get",
    "hydra.version:VersionBase.setbase",
    "hydra.core.override_parser.overrides_parser:OverridesParser.parse_overrides",
    "hydra.core.override_parser.types:IntervalSweep",
    "hydra.core.override_parser.types:Override.get_key_element",
    "hydra.core.override_parser.types:Override.get_value_element_as_str",
    "hydra.core.override_parser.types:Override.get_value_string",
    "hydra.core.override_parser.types:Override.is_interval_sweep",
    "hydra.core.override_parser.types:Override.is_sweep_override",
    "hydra.core.override_parser.types:Override.sweep_string_iterator",
    "hydra.core.override_parser.types:RangeSweep",
    "hydra.core.override_parser.types:ValueType.GLOB_CHOICE_SWEEP",
    "hydra.core.plugins:Plugins.instance",
    "hydra.core.utils:JobStatus.FAILED",
    "hydra.core.utils:configure_log",
)


def test_hydra_has_the_names_that_we_use() -> None:
    load_plugins()  # first, for the scan executes the sweeper's module again
    internals.require("hydra-core", READ_FROM, NAMES, " and ".join(ADAPTERS))


def test_hydras_objects_have_the_attributes_that_we_use() -> None:
    load_plugins()  # first, for the scan executes the sweeper's module again
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    attributes = {
        "JobReturn": ({field.name for field in fields(JobReturn)}, {"_return_value", "cfg", "hydra_cfg", "overrides"}),
        "BasicSweeper": (vars(BasicSweeper(None)), {"config", "hydra_context", "launcher", "max_batch_size"}),
        "Callbacks": (vars(Callbacks()), {"callbacks"}),
        "HydraContext": ({field.name for field in fields(HydraContext)}, {"callbacks", "config_loader"}),
        "ConfigStore": (vars(ConfigStore.instance()), {"repo"}),
    }
    lost = [f"{owner}.{name}" for owner, (there, used) in attributes.items() for name in used - set(there)]
    assert not lost, internals.message("hydra-core", READ_FROM, lost, ADAPTERS[0])


def test_a_name_that_vanished_is_named_with_both_versions_and_the_module() -> None:
    told = r"hydra-core [\d.]+ has no hydra.core.utils:Vanished; here.py was written for hydra-core 1.0: adapt it"
    with pytest.raises(AssertionError, match=told):
        internals.require("hydra-core", "1.0", ["hydra.core.utils:JobReturn", "hydra.core.utils:Vanished"], "here.py")


def test_an_option_is_forgotten_and_one_that_never_was_is_no_error() -> None:
    options = ConfigStore.instance()
    options.store(group="some/group", name="one", node={})
    forget_option("some/group", "one")
    forget_option("some/group", "other")
    forget_option("no/group", "one")
    assert options.list("some/group") == []


def test_only_the_adapters_use_what_hydra_does_not_promise() -> None:
    internal = re.compile(r"hydra\.core\b(?!-)|hydra\._internal|\._return_value|_parse_config")
    using = [
        str(path.relative_to(ROOT / "src" / "experiments"))
        for path in (ROOT / "src" / "experiments").rglob("*.py")
        if internal.search(path.read_text(encoding="utf-8"))
    ]
    assert sorted(using) == sorted(ADAPTERS)
    plugins = ROOT / "src" / "hydra_plugins"
    texts = [path.read_text(encoding="utf-8") for path in (plugins / "experiments_sweeper").rglob("*.py")]
    # A launcher uses what Hydra's own example of one does; nothing private.
    texts += [
        path.read_text("utf-8").replace("hydra.core", "") for path in (plugins / "experiments_slots").rglob("*.py")
    ]
    assert len(texts) == 4 and not any(map(internal.search, texts))


JOBS = [
    [],
    ["optim.lr=0.5", "seed=3"],
    ["model=cnn_adaptive", "optim=adam", "optim.lr=0.5"],
    ["optim.lr=0.5", "model=mlp", "model.width=5", "+model.extra=[1,2]", "++note=a"],
    ["~optim.momentum", "optim=sgd_momentum"],
    ["optim={name: sgd, lr: 2}", "optim.lr=3"],
    ["stage=08_validation", "epochs=2", "loader={batch_size: 9}"],
    ["hydra.verbose=true", "optim.lr=0.5"],
    ["transforms=[cutmix,mixup]", "name=${seed}_x", "+tags.note='a, b=c'"],
]


@pytest.fixture
def loaders() -> Iterator[tuple[ConfigLoader, JobLoader, DictConfig]]:
    """Hydra's loader, that of a sweep, and the configuration of a sweep."""
    load_plugins()
    with initialize_config_module("experiments.conf", version_base="1.3", job_name="experiments"):
        hydra = GlobalHydra.instance().config_loader()
        given = ["epochs=1"]
        master = hydra.load_configuration("config", given, RunMode.MULTIRUN)
        yield hydra, JobLoader(hydra), master


def test_a_job_of_a_sweep_is_configured_as_by_hydra(loaders: tuple[ConfigLoader, JobLoader, DictConfig]) -> None:
    hydra, ours, master = loaders
    for job in [*JOBS, *JOBS]:  # composed, and copied
        found, expected = (one.load_sweep_config(master, ["epochs=1", *job]) for one in (ours, hydra))
        assert OmegaConf.to_yaml(found) == OmegaConf.to_yaml(expected)
    assert len(ours.composed) < len(JOBS)


@pytest.mark.parametrize("job", [["optim.nothing=1"], ["model=nothing"], ["seed.a=1"], ["~nothing"], ["epochs=${"]])
def test_a_job_that_hydra_refuses_is_refused_in_its_words(
    loaders: tuple[ConfigLoader, JobLoader, DictConfig], job: list[str]
) -> None:
    hydra, ours, master = loaders
    told = list[str]()
    for one in (ours, hydra):
        with pytest.raises((HydraException, OmegaConfBaseException)) as refused:
            one.load_sweep_config(master, job)
        told.append(str(refused.value))
    assert told[0] == told[1]


def test_no_job_changes_another(loaders: tuple[ConfigLoader, JobLoader, DictConfig]) -> None:
    _, ours, master = loaders
    first = ours.load_sweep_config(master, ["loader.batch_size=7"])
    second = ours.load_sweep_config(master, ["seed=1"])
    first.optim.lr = 9.0
    assert (second.loader.batch_size, second.optim.lr) == (master.loader.batch_size, master.optim.lr)
