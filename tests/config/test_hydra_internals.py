"""Hydra still has what it does not promise and we use, and only the adapters use it."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from hydra._internal.callbacks import Callbacks
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.types import HydraContext

from experiments.config.hydra_internals import forget_option, load_plugins
from tests.support import internals
from tests.support.places import ROOT

READ_FROM = "1.3.8"
ADAPTERS = ("config/hydra_internals.py", "config/hydra_basic.py")
NAMES = (
    "hydra._internal.config_loader_impl:ConfigLoaderImpl.load_sweep_config",
    "hydra._internal.config_loader_impl:ConfigLoaderImpl.get_search_path",
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
