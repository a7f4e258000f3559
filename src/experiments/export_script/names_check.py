"""Whether a finished script is one: Python, with a definition for all that it names."""

from __future__ import annotations

import builtins
import symtable
from collections.abc import Iterator

from experiments.errors import ConfigError, Fault

# What a module has beside its own names and the built-in ones.
GIVEN = {*vars(builtins), "__file__"}


def require_sound(text: str) -> None:
    """See that a script can run as far as its names go.

    Raises:
        ConfigError: it is no Python, or names what it has not.
    """
    try:
        top = symtable.symtable(text, "plain.py", "exec")
    except SyntaxError as error:
        problem = f"the script would be no Python, at {(error.text or '').strip()!r}: {error.msg}"
        raise ConfigError(Fault("export_script", problem)) from None
    names = [symbol for table in _tables(top) for symbol in table.get_symbols() if symbol.is_global()]
    had = {name.get_name() for name in names if name.is_assigned() or name.is_imported()}
    if missing := sorted({name.get_name() for name in names if name.is_referenced()} - had - GIVEN):
        named = ", ".join(missing)
        problem = f"the script would name {named} and not have it; what it takes is a def, class, import or constant"
        raise ConfigError(Fault("export_script", problem))


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)
