"""Prints the lowest version of each dependency that pyproject.toml allows, as a constraints file for pip.

Made from pyproject.toml each time, so that it cannot differ from it. Needs no package: CI runs it before any is there.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest(requirement: str) -> str:
    """`name==version` of a requirement `name>=version`, whatever else it asks for."""
    bound = re.match(r"([\w.-]+)>=([\w.]+)", requirement)
    if not bound:
        sys.exit(f'{PROJECT.name}: "{requirement}" names no lowest version; write it as "name>=version"')
    return f"{bound[1]}=={bound[2]}"


def main() -> None:
    """A line for each of the project's dependencies."""
    for requirement in tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]:
        print(lowest(requirement))


if __name__ == "__main__":
    main()
