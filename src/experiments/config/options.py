"""The options of the configuration groups: those that ship, and own ones."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from experiments.config.discovery import SETTING
from experiments.config.hydra_internals import ConfigStore
from experiments.config.registry import register
from experiments.errors import ConfigError, Fault, suggestion

SHIPPED = ("experiments.conf", "hydra.conf")  # which Hydra searches before any other folder
AS_PRESET = "name it experiment/mine.yaml, '# @package _global_' its first line, and choose experiment=mine"


def names(group: str) -> list[str]:
    """Return the options of a group, shipped and own."""
    shipped = resources.files(SHIPPED[0]).joinpath(group)
    found = [file.name for file in shipped.iterdir()] if group and shipped.is_dir() else []
    with contextlib.suppress(OSError):  # no option is stored
        found += ConfigStore.instance().list(group)
    return sorted({name.removesuffix(".yaml") for name in found if name.endswith(".yaml")})


def missing(group: str, option: str, available: Sequence[str] | None) -> Fault:
    """Return the fault of an option that a group does not have; Hydra lists the available ones, but not for a list."""
    problem = f"there is no such option{suggestion(option, names(group) if available is None else available)}"
    if group == "device" and ":" in option:
        problem += "; to choose one card of several: device=cuda device.index=1"
    if "did you mean" not in problem and group in {registry.group for registry in register}:
        own = os.environ.get(SETTING)
        problem += f"; own ones come from {f'{SETTING}={own}' if own else f'files that {SETTING} names'}"
    return Fault(f"{group}={option}", problem)


def require_folder(key: str, address: str) -> None:
    """Check a folder of own options: instead of one with a shipped one's name, Hydra would silently use that.

    Raises:
        ConfigError: it does not exist, or has such a file.
    """
    if address.startswith("pkg://"):
        return
    folder = Path(address.removeprefix("file://"))
    if not folder.is_dir():
        raise ConfigError(Fault(key, f"there is no folder {folder}"))
    faults = []
    for root in (Path(str(resources.files(package))) for package in SHIPPED):
        for shipped in sorted(root.rglob("*.yaml")):
            own = folder / shipped.relative_to(root)
            if own.is_file() and own.read_bytes() != shipped.read_bytes():
                faults.append(Fault(str(own), f"{shipped} ships and hides it; {_remedy(own, folder)}"))
    if faults:
        raise ConfigError(*faults)


def _remedy(own: Path, folder: Path) -> str:
    group = own.parent.relative_to(folder).as_posix()
    if group != ".":
        return f"rename it, to {group}/my_{own.name} for example, and choose {group}=my_{own.stem}"
    for run, kept in ((folder.parent, folder), (folder, folder / ".hydra")):
        if (kept / "overrides.yaml").is_file():
            return f"to train as that run: python -m experiments --again {shlex.quote(str(run))}"
    return AS_PRESET
