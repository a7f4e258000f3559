"""What is never written down: values from the environment, passwords and tokens; masked in all that a run leaves.

A value that the configuration takes from the environment is shown as where it comes from, `${oc.env:NAME}`; one under
a key that is called a password, secret, token or the like, and passwords in addresses, as `***`. Where things lie on
disk is no secret, whatever tells it, for it has to be found again.
"""

from __future__ import annotations

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
# Keys of the configuration that name a place, and those of a journal that do.
PLACE_KEY = re.compile(r"(?:^|_)(?:root|dir|path|folder)$")
PLACES = ("parent", "place", "experiments.folder")
HIDDEN = "***"
# A shorter value would be found everywhere ("1", "cpu"), and be no secret.
SHORTEST = 6

_known: dict[str, str] = {}
_patterns: list[tuple[re.Pattern[str], str]] = []  # of what is known, the longest first


def learn(cfg: DictConfig) -> None:
    """Remember what is secret in a configuration, for as long as this process lives."""
    raw = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(raw, dict)
    variables = set()
    for key, value in _leaves({key: item for key, item in raw.items() if key != "hydra"}):
        if not PLACE_KEY.search(key):
            variables |= set(FROM_ENVIRONMENT.findall(value))
        _learn(key, value)
    for key, value in _leaves(raw.get("hydra", {})):  # its folders, and the overrides, which were seen above
        _learn(key, value)
    for name in variables:
        _learn("", os.environ.get(name, ""))
        _remember(os.environ.get(name, ""), f"${{oc.env:{name}}}")
    for name in SECRET_VARIABLES:
        _remember(os.environ.get(name, ""), HIDDEN)
    _learn("uri", os.environ.get("MLFLOW_TRACKING_URI", ""))


def learn_arguments(arguments: Sequence[str]) -> None:
    """Remember what is secret on a command line, which may be told before there is a configuration."""
    for argument in arguments:
        key, _, given = argument.partition("=")
        for value in given.split(","):
            _learn(key, value.strip(" '\""))


def masked(text: str) -> str:
    """A text as it may be shown."""
    for pattern, stand_in in _patterns:
        text = pattern.sub(lambda _, shown=stand_in: shown, text)  # type: ignore[misc]  # no escapes in it
    return masked_addresses(text)


def masked_deep(value: Any) -> Any:
    """Plain values with every text in them masked, and numbers that are secrets; places are left."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: item if key in PLACES else masked_deep(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked_deep(item) for item in value]
    return _known.get(str(value), value)


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


def mask_process() -> None:
    """Mask all that this process logs, Hydra included, and what it dies of; for our own commands only."""
    logging.setLogRecordFactory(_masked_record)
    sys.excepthook = _tell


class _Filter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        _mask_record(record)
        return True


def _masked_record(*arguments: Any, **options: Any) -> logging.LogRecord:
    record = logging.LogRecord(*arguments, **options)
    _mask_record(record)
    return record


def _mask_record(record: logging.LogRecord) -> None:
    try:
        text = record.getMessage()
    except (TypeError, ValueError, KeyError):  # it does not fit its arguments, which logging itself tells
        return
    if masked(text) != text:
        record.msg, record.args = masked(text), ()
    if isinstance(record.exc_info, tuple) and record.exc_info[0]:  # formatters take the text that is there
        record.exc_text = masked("".join(traceback.format_exception(*record.exc_info))).rstrip("\n")


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(masked("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr)


def _learn(key: str, value: str) -> None:
    if SECRET_KEY.search(key) and not value.startswith("${"):
        _remember(value, HIDDEN)
    for password in passwords(value):
        if not password.startswith("${"):
            _remember(password, HIDDEN)
            _remember(unquote(password), HIDDEN)


def _remember(secret: str, stand_in: str) -> None:
    if len(secret.strip()) < SHORTEST or _known.get(secret) == stand_in:
        return
    _known[secret] = stand_in
    longest_first = sorted(_known.items(), key=lambda known: -len(known[0]))
    _patterns[:] = [(_pattern(known), shown) for known, shown in longest_first]


def _pattern(secret: str) -> re.Pattern[str]:
    """Finds a secret however it is written down: as it is, in JSON, YAML, Python, an address, Hydra's overrides."""
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
