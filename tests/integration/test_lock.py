"""requirements.lock, which CI installs: whole, hashed, and of the versions in constraints.txt."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TEXT = (ROOT / "requirements.lock").read_text(encoding="utf-8")
ENTRIES = [line for line in TEXT.splitlines() if not line.startswith("#")]
UNCONSTRAINED = {"setuptools"}  # pip freeze, which constraints.txt is from, leaves it out


def versions(lines: list[str]) -> dict[str, str]:
    """The version of each `name==version ...` line, by the name as registries compare it; "2.13.0+cpu" is a 2.13.0."""
    releases = [line.split()[0].partition("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version.partition("+")[0] for name, _, version in releases}


LOCKED = versions(ENTRIES)
CONSTRAINED = versions((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
EXTRAS = PROJECT["project"]["optional-dependencies"]
NEEDED = [
    *PROJECT["project"]["dependencies"],
    *(need for extra in EXTRAS.values() for need in extra if not need.startswith("experiments[")),
    *PROJECT["build-system"]["requires"],
]


def test_each_entry_has_one_version_and_a_hash() -> None:
    form = re.compile(r"[\w.-]+==[\w.+]+( --hash=sha256:[0-9a-f]{64})+")
    assert [entry for entry in ENTRIES if not form.fullmatch(entry)] == []


def test_no_package_stands_twice_and_all_are_sorted() -> None:
    names = [entry.partition("==")[0].lower() for entry in ENTRIES]
    assert names == sorted(set(names))


def test_versions_are_those_of_the_constraints() -> None:
    assert {name: version for name, version in LOCKED.items() if name not in UNCONSTRAINED} == CONSTRAINED


@pytest.mark.parametrize("requirement", [Requirement(need) for need in NEEDED], ids=lambda need: need.name)
def test_what_the_project_asks_for_is_locked(requirement: Requirement) -> None:
    assert requirement.specifier.contains(LOCKED[canonicalize_name(requirement.name)])


def test_the_extra_for_everything_has_every_other() -> None:
    """And the one for developers has it, so that the tests run every launcher and sweeper."""
    assert set(Requirement(EXTRAS["all"][0]).extras) == EXTRAS.keys() - {"all", "dev", "docs"}
    assert "experiments[all]" in EXTRAS["dev"]


def test_the_lock_names_no_place_to_fetch_from() -> None:
    assert not re.search(r"://|--(extra-)?index-url|--find-links", TEXT)


def test_the_installing_page_names_the_version_of_torch_that_is_tested() -> None:
    (pinned,) = re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"torch==([\d.]+\d)", (ROOT / "docs/install.md").read_text(encoding="utf-8"))
    assert named and set(named) == {pinned}
