"""Check a finished script: valid Python, with a definition for every name."""

from __future__ import annotations

import builtins
import symtable
from collections.abc import Iterator

from experiments.errors import ConfigError, Fault

GIVEN = {*vars(builtins), "__file__"}


def require_sound(text: str) -> None:
    """Raise a ConfigError where a script is invalid Python, or has an undefined name."""
    try:
        top = symtable.symtable(text, "plain.py", "exec")
    except SyntaxError as error:
        problem = f"the script would be invalid Python, at {(error.text or '').strip()!r}: {error.msg}"
        raise ConfigError(Fault("export_script", problem)) from None
    names = [symbol for table in _tables(top) for symbol in table.get_symbols() if symbol.is_global()]
    had = {name.get_name() for name in names if name.is_assigned() or name.is_imported()}
    if missing := sorted({name.get_name() for name in names if name.is_referenced()} - had - GIVEN):
        problem = f"the script would not define {', '.join(missing)}; make each a def, class, import or constant"
        raise ConfigError(Fault("export_script", problem))


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)
