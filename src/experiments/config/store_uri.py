"""The address of the MLflow store, its check and its masking; without importing MLflow."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from experiments.files import folder_fault

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https", "databricks")
# Up to the last @ of an address, since databases take a password with @ and / in it.
# A reference to an environment variable is not a password.
PASSWORD = re.compile(r"(://[^:/@\s]*):(?!\$\{oc\.env:\w+\}@)((?:(?!://)[^\s'\"])*)@")
LONE_TOKEN = re.compile(r"(https?://)[^:/@\s'\"]+@")
IN_QUERY = re.compile(
    r"(?i)([?&][\w.-]*(?:password|passwd|pwd|token|(?:api|access)_?key|secret|signature|sig|credential)=)[^&\s'\"]+"
)
EXAMPLE = "for example sqlite:///mlflow.db or http://127.0.0.1:5000"


def store_uri(configured: str | None, folder: Path | None = None) -> str:
    """Return the configured store, else MLFLOW_TRACKING_URI, else mlflow.db in the folder; SQLite paths absolute."""
    uri = configured or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    match = re.fullmatch(r"sqlite:///(.+)", uri)
    return f"sqlite:///{(folder or Path.cwd()) / match[1]}" if match else uri


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite store; None for any other."""
    match = re.fullmatch(r"sqlite:///([^?]+)(\?.*)?", uri)
    return Path(match[1]) if match else None


def uri_fault(configured: str | None) -> str | None:
    """Return why a store's address cannot be used, checked without a connection; None where it can."""
    uri = store_uri(configured)
    scheme = uri.split(":", 1)[0].split("+")[0] if ":" in uri else ""
    if scheme in ("", "file") or re.match(r"[A-Za-z]:[\\/]", uri):
        return f"{masked(uri)!r} is a plain folder, which MLflow no longer supports; {EXAMPLE}"
    if scheme not in (*DATABASES, *SERVERS):
        return f"{masked(uri)!r} is not the address of an MLflow store; {EXAMPLE}"
    if scheme in ("http", "https") and not _host(uri):
        return f"{masked(uri)!r} names no host; {EXAMPLE}"
    if scheme == "sqlite":
        return _file_fault(sqlite_path(uri), uri)
    return None


def masked(text: str) -> str:
    """Mask the passwords and tokens in the addresses of a text."""
    text = PASSWORD.sub(r"\1:***@", text)
    text = LONE_TOKEN.sub(r"\1***@", text)
    return IN_QUERY.sub(r"\1***", text)


def passwords(text: str) -> list[str]:
    """Return the passwords in a text's addresses, as written."""
    return [found[2] for found in PASSWORD.finditer(text)]


def _host(uri: str) -> str | None:
    try:
        return urlsplit(uri).hostname
    except ValueError:  # a bracket that is not closed
        return None


def _file_fault(path: Path | None, uri: str) -> str | None:
    if path is None:
        return f"{uri!r} names no file; {EXAMPLE}"
    if path.is_dir():
        return f"{path} is a folder; name the database file in it, sqlite:///{path / 'mlflow.db'}"
    if path.exists() and not os.access(path, os.W_OK):
        return f"{path} cannot be written to"
    # SQLite writes its journal beside the database, so the folder counts as well.
    problem = folder_fault(path.parent)
    return f"{problem}, so {path} cannot be used" if problem else None
