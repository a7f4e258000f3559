"""What is never written down: values from the environment, passwords and tokens; masked in all that a run leaves.

A value that the configuration takes from the environment is shown as where it comes from, `${oc.env:NAME}`; one under
a key that is called a password, secret, token or the like, and passwords in addresses, as `***`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.files import replacing
from experiments.tracking.uri import masked as masked_addresses

FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*([A-Za-z_]\w*)")
SECRET_KEY = re.compile(r"(?i)(?:^|[_.-])(?:password|passwd|secret|token|api_?key|credentials?)$")
SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
HIDDEN = "***"
# A shorter value would be found everywhere ("1", "cpu"), and be no secret.
SHORTEST = 6

_known: dict[str, str] = {}


def learn(cfg: DictConfig) -> None:
    """Remember what is secret in a configuration, for as long as this process lives."""
    raw = OmegaConf.to_container(cfg, resolve=False)
    variables = set()
    for key, value in _leaves(raw):
        variables |= set(FROM_ENVIRONMENT.findall(value))
        if SECRET_KEY.search(key) and not value.startswith("${"):
            _remember(value, HIDDEN)
    for name in variables:
        _remember(os.environ.get(name, ""), f"${{oc.env:{name}}}")
    for name in SECRET_VARIABLES:
        _remember(os.environ.get(name, ""), HIDDEN)


def masked(text: str) -> str:
    """A text as it may be shown."""
    for secret, stand_in in _known.items():
        text = text.replace(secret, stand_in)
    return masked_addresses(text)


def masked_deep(value: Any) -> Any:
    """Plain values with every text in them masked."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: masked_deep(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked_deep(item) for item in value]
    return value


def mask_file(path: Path) -> None:
    """Mask a text file that somebody else has written (Hydra keeps what was given on the command line)."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    if masked(text) != text:
        with replacing(path) as temporary:
            temporary.write_text(masked(text), encoding="utf-8")


def mask_logs() -> None:
    """Mask what goes through every handler that is set up."""
    for handler in [*logging.getLogger().handlers, *logging.getLogger("experiments").handlers]:
        if not any(isinstance(known, _Filter) for known in handler.filters):
            handler.addFilter(_Filter())


class _Filter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if masked(text) != text:
            record.msg, record.args = masked(text), ()
        return True


def _remember(secret: str, stand_in: str) -> None:
    if len(secret) >= SHORTEST:
        _known[secret] = stand_in


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, key)
    elif isinstance(value, str):
        yield key, value
