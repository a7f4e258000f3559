"""What each key is for, by the comments in the files of the configuration, beside its value in `--help`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources

from experiments.config.options import SHIPPED

KEY = re.compile(r"(?P<indent> *)(?P<name>[\w/]+):(?P<value> [^#]*?)?(?:\s+# (?P<comment>.+))?")
COLUMN = 34  # where comments begin


def described(shown: str) -> str:
    """Return Hydra's help with a comment after each key of its configuration that has one."""
    before, heading, config = shown.partition("== Config ==")
    lines = config.splitlines()
    known = {**comments("config.yaml"), **_of_groups(lines)}
    paths = dict(_paths(lines))
    said = {number: known[path] for number, path in paths.items() if path in known}
    shown = "\n".join(f"{line:{COLUMN}}  # {said[n]}" if n in said else line for n, line in enumerate(lines))
    return before + heading + shown


def _of_groups(lines: list[str]) -> Mapping[str, str]:
    """Return the comments of the chosen options of all groups, by dotted key."""
    found = dict[str, str]()
    for number, path in _paths(lines):
        group, _, key = path.partition(".")
        value = lines[number].partition(":")[2].strip()
        option = value if key == "name" else key
        if option and "." not in option and resources.files(SHIPPED[0]).joinpath(group, f"{option}.yaml").is_file():
            texts = comments(f"{group}/{option}.yaml")
            heading = texts.pop("", None)
            found |= {f"{group}.{name}": text for name, text in texts.items()}
            found |= {f"{group}.{key}": heading} if heading else {}
    return found


def comments(file: str) -> dict[str, str]:
    """Return a file's comments by dotted key: the one beside it, else those above it; that of the file by ''."""
    lines = (resources.files(SHIPPED[0]) / file).read_text(encoding="utf-8").splitlines()
    above, found, paths = list[str](), dict[str, str](), dict(_paths(lines))
    for number, line in enumerate(lines):
        if line.lstrip().startswith("# "):
            above += [] if "@package" in line else [line.strip(" #")]
            continue
        if not found and above and number in paths:
            found[""], above = " ".join(above), []
        if number in paths and (match := KEY.fullmatch(line)):
            comment = match["comment"] or " ".join(above)
            found |= {paths[number]: comment} if comment else {}
        above = []
    return found


def _paths(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Yield the number of each line with a key, and its dotted path."""
    parents: list[tuple[int, str]] = []
    for number, line in enumerate(lines):
        if match := KEY.fullmatch(line):
            indent = len(match["indent"])
            parents = [*(parent for parent in parents if parent[0] < indent), (indent, match["name"])]
            yield number, ".".join(name for _, name in parents)
