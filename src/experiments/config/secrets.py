"""Secrets, masked in all that a run writes: values from the environment, passwords and tokens.

A value from the environment is shown as its reference, `${oc.env:NAME}`; one under a key like password, secret or
token, and passwords in addresses, as `***`. Paths are not secrets, as they have to be found again.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote

from omegaconf import DictConfig, OmegaConf

from experiments.config.store_uri import masked as masked_addresses
from experiments.config.store_uri import passwords
from experiments.files import replacing

FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*([A-Za-z_]\w*)")
SECRET_KEY = re.compile(
    r"(?i)(?:^|[_.-])(?:password|passwd|pwd|passphrase|secret|token|(?:api|access|private|secret)_?key|credentials?)$"
)
SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
# Keys of paths, in the configuration and in a journal.
PLACE_KEY = re.compile(r"(?:^|_)(?:root|dir|path|folder)$")
PLACES = ("parent", "place", "experiments.folder")
HIDDEN = "***"
# A shorter value would occur everywhere ("1", "cpu").
SHORTEST = 6

# Global: every log record and file of this process is masked, also where no configuration is at hand.
_known: dict[str, str] = {}  # secrets and what is shown instead


def learn(cfg: DictConfig) -> None:
    """Remember the secrets of a configuration until this process ends."""
    raw = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(raw, dict)
    variables = set()
    for key, value in _leaves({key: item for key, item in raw.items() if key != "hydra"}):
        if not PLACE_KEY.search(key):
            variables |= set(FROM_ENVIRONMENT.findall(value))
        _learn(key, value)
    for key, value in _leaves(raw.get("hydra", {})):  # no variables: its folders, and the overrides of the keys above
        _learn(key, value)
    for name in variables:
        _learn("", os.environ.get(name, ""))
        _remember(os.environ.get(name, ""), f"${{oc.env:{name}}}")
    for name in SECRET_VARIABLES:
        _remember(os.environ.get(name, ""), HIDDEN)
    _learn("uri", os.environ.get("MLFLOW_TRACKING_URI", ""))


def learn_arguments(arguments: Sequence[str]) -> None:
    """Remember the secrets of a command line, before there is a configuration."""
    for argument in arguments:
        key, _, given = argument.partition("=")
        for value in given.split(","):
            _learn(key, value.strip(" '\""))


def masked(text: str) -> str:
    """Mask the secrets in a text."""
    for secret in sorted(_known, key=len, reverse=True):
        text = _pattern(secret).sub(lambda _, shown=_known[secret]: shown, text)  # type: ignore[misc]  # no escapes
    return masked_addresses(text)


def masked_deep(value: Any) -> Any:
    """Mask every text in plain values, and numbers that are secrets; paths are left."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: item if key in PLACES else masked_deep(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked_deep(item) for item in value]
    return _known.get(str(value), value)


def mask_file(path: Path) -> None:
    """Mask a text file that was not written by us (Hydra keeps the command line)."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    if masked(text) != text:
        with replacing(path) as temporary:
            temporary.write_text(masked(text), encoding="utf-8")


def mask_logs() -> None:
    """Mask what goes through every handler that is set up."""
    for handler in [*logging.getLogger().handlers, *logging.getLogger("experiments").handlers]:
        handler.addFilter(_mask_record)  # once, however often it is added


def mask_process() -> None:
    """Mask all that this process logs, Hydra included, and its last traceback; for our own commands only."""
    logging.setLogRecordFactory(_masked_record)
    sys.excepthook = _print_masked


def _masked_record(*arguments: Any, **options: Any) -> logging.LogRecord:
    record = logging.LogRecord(*arguments, **options)
    _mask_record(record)
    return record


def _mask_record(record: logging.LogRecord) -> bool:
    """Mask a log record; as a filter, let it pass."""
    try:
        text = record.getMessage()
    except (TypeError, ValueError, KeyError):  # it does not fit its arguments, which logging itself reports
        return True
    if masked(text) != text:
        record.msg, record.args = masked(text), ()
    if isinstance(record.exc_info, tuple) and record.exc_info[0]:  # formatters use this text where it exists
        record.exc_text = masked("".join(traceback.format_exception(*record.exc_info))).rstrip("\n")
    return True


def _print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(masked("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr)


def _learn(key: str, value: str) -> None:
    if SECRET_KEY.search(key) and not value.startswith("${"):
        _remember(value, HIDDEN)
    for password in passwords(value):
        if not password.startswith("${"):
            _remember(password, HIDDEN)
            _remember(unquote(password), HIDDEN)


def _remember(secret: str, stand_in: str) -> None:
    if len(secret.strip()) >= SHORTEST:
        _known[secret] = stand_in


@functools.cache
def _pattern(secret: str) -> re.Pattern[str]:
    """Return a pattern for a secret in each form: plain, in JSON, YAML, Python, an address, Hydra's overrides."""
    forms = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        secret.replace("'", "''"),
        secret.replace("'", "\\'"),
        quote(secret),
        quote(secret, safe=""),
        re.sub(r"([\\()\[\]{}:=,\s])", r"\\\1", secret),
    }
    # YAML may break a line at any space.
    folded = (r"[\s\\]+".join(re.escape(part) for part in form.split()) for form in forms)
    return re.compile("|".join(sorted(folded, key=len, reverse=True)))


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, key if SECRET_KEY.search(key) else str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, key)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield key, str(value)
