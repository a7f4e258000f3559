"""Lay out the parts of a script: imports in the usual order, blank lines as usual."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def imports(statements: set[str]) -> str:
    """Return import statements in the usual order, those from one module together."""
    from_modules: dict[str, set[str]] = {}
    whole = set()
    for statement in statements:
        if statement.startswith("from "):
            module, _, names = statement.removeprefix("from ").partition(" import ")
            from_modules.setdefault(module, set()).update(names.split(", "))
        else:
            whole.add(statement)
    lines = [*whole, *(f"from {module} import {', '.join(sorted(names))}" for module, names in from_modules.items())]
    groups: list[list[str]] = [[], []]
    for line in sorted(lines, key=lambda line: (line.startswith("from "), line)):
        groups[line.split()[1].partition(".")[0] not in sys.stdlib_module_names].append(line)
    return "\n\n".join("\n".join(group) for group in groups if group)


def joined(parts: Sequence[str]) -> str:
    """Return the parts with two blank lines around definitions, one elsewhere."""
    text = ""
    for index, part in enumerate(parts):
        defines = [piece.startswith(("def ", "class ", "@")) for piece in parts[max(0, index - 1) : index + 1]]
        text += ("" if not text else "\n\n\n" if any(defines) else "\n\n") + part.strip()
    return text + "\n"
