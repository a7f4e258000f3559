"""The command line: Hydra's flags, which may stand anywhere among the overrides."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from experiments.config import options
from experiments.config.hydra_internals import get_args_parser
from experiments.config.overrides import readable
from experiments.errors import ConfigError, Fault
from experiments.files import expanded

# Flags that would replace what ships, or unpickle a file; and what to do instead.
REFUSED = {
    "config_path": "it would replace every option that ships; --config-dir FOLDER adds own ones",
    "config_name": f"a run resumes with its overrides, so they have to be whole; {options.AS_PRESET} with --config-dir",
    "experimental_rerun": "it would run code from a file; python -m experiments.resume FOLDER resumes a run",
}


def parsed(arguments: Sequence[str]) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    """Parse a command line for Hydra; return its flags and overrides, and the parser.

    Raises:
        ConfigError: a flag is unknown or cannot be used, or an override cannot be read.
    """
    parser = get_args_parser()
    parser.add_argument(
        "--again", metavar="RUN", help="the settings of a run (folder, MLflow id, latest), with changes"
    )
    parser.error = _refuse  # type: ignore[method-assign,assignment]
    parser.add_argument("--json", action="store_true", help="print what the run or sweep came to as JSON")
    given = parser.parse_intermixed_args(arguments)
    for name, problem in REFUSED.items():
        if getattr(given, name) is not None:
            raise ConfigError(Fault(f"--{name.replace('_', '-')}", problem))
    if sum(word.partition("=")[0] in ("--config-dir", "-cd") for word in arguments) > 1:
        raise ConfigError(Fault("--config-dir", "given twice; several folders: 'hydra.searchpath=[one,two]'"))
    if given.config_dir is not None:
        given.config_dir = str(expanded(given.config_dir))
        options.require_folder("--config-dir", given.config_dir)
    if not given.shell_completion:
        given.overrides = readable(given.overrides)
    return given, parser


def _refuse(problem: str) -> NoReturn:
    raise ConfigError(Fault("command line", f"{problem}; settings are key=value (epochs=5); --help shows all"))
