"""The address of the MLflow store, its check and its masking; without importing MLflow."""

from __future__ import annotations

import os
import re
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from experiments.files import expanded, folder_fault

DRIVERS = {"postgresql": "psycopg2", "mysql": "MySQLdb", "mssql": "pyodbc"}  # SQLAlchemy's defaults
UNUSED = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")  # variables of MLflow that would name another run
SERVERS = ("http", "https", "databricks")
# Up to the last @ of an address, since databases take a password with @ and / in it.
# A reference to an environment variable is not a password.
PASSWORD = re.compile(r"(://[^:/@\s]*):(?!\$\{oc\.env:\w+\}@)((?:(?!://)[^\s'\"])*)@")
LONE_TOKEN = re.compile(r"(https?://)[^:/@\s'\"]+@")
IN_QUERY = re.compile(
    r"(?i)([?&][\w.-]*(?:password|passwd|pwd|token|(?:api|access)_?key|secret|signature|sig|credential)=)[^&\s'\"]+"
)
EXAMPLE = "for example sqlite:///mlflow.db or http://127.0.0.1:5000"


def experiment(configured: str | None) -> str:
    """Return the configured MLflow experiment of the runs, else MLFLOW_EXPERIMENT_NAME, else `experiments`."""
    return configured or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "experiments"


def store_uri(configured: str | None, folder: Path | None = None) -> str:
    """Return the configured store, else MLFLOW_TRACKING_URI, else mlflow.db in the folder; SQLite paths absolute."""
    uri = (configured or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db").strip()
    uri = re.sub(r"^\w[\w+.-]+:", lambda scheme: scheme[0].lower(), uri)
    match = re.fullmatch(r"sqlite:///(.+)", uri)
    return f"sqlite:///{(folder or Path.cwd()) / expanded(match[1])}" if match else uri


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite store; None for any other."""
    match = re.fullmatch(r"sqlite:///([^?]+)(\?.*)?", uri)
    return Path(match[1]) if match else None


def uri_fault(configured: str | None) -> str | None:
    """Return why a store's address cannot be used, checked without a connection; None where it can."""
    uri = store_uri(configured)
    scheme, _, rest = uri.partition(":")
    if scheme in ("", "file") or not rest or re.match(r"[A-Za-z]:[\\/]", uri):
        return None if uri == "databricks" else _folder_fault(uri)
    if re.fullmatch(r"\d+(?:/.*)?", rest):
        return f"{uri!r} has no scheme; write http://{uri}"
    kind, _, driver = scheme.partition("+")
    if kind in SERVERS:
        return (
            None
            if kind == "databricks" or _is_server(uri)
            else f"{masked(uri)!r} names no host, or more (a # or ?); {EXAMPLE}"
        )
    if kind == "sqlite":
        return _file_fault(sqlite_path(uri), uri)
    if kind not in DRIVERS:
        plugins = (plugin.name for plugin in entry_points(group="mlflow.tracking_store"))
        remedy = "write postgresql://" if kind == "postgres" else EXAMPLE
        return None if scheme in plugins else f"{masked(uri)!r} is not the address of an MLflow store; {remedy}"
    module = driver or DRIVERS[kind]
    if find_spec("mysql" if module == "mysqlconnector" else module) is None:
        return f"{masked(uri)!r} needs the driver {module}, which is not installed; mysql+pymysql:// names another"
    return None


def masked(text: str) -> str:
    """Mask the passwords and tokens in the addresses of a text."""
    text = PASSWORD.sub(r"\1:***@", text)
    text = LONE_TOKEN.sub(r"\1***@", text)
    return IN_QUERY.sub(r"\1***", text)


def passwords(text: str) -> list[str]:
    """Return the passwords in a text's addresses, as written."""
    return [found[2] for found in PASSWORD.finditer(text)]


def _is_server(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return bool(parts.hostname) and parts.port != 0 and not (parts.query or parts.fragment or " " in uri)
    except ValueError:  # a bracket that is not closed, a port that is not a number
        return False


def _folder_fault(uri: str) -> str:
    if uri.endswith(".db"):
        return f"{masked(uri)!r} is a file's name, not its address; write sqlite:///{uri}"
    return f"{masked(uri)!r} is a plain folder, which MLflow no longer supports; {EXAMPLE}"


def _file_fault(path: Path | None, uri: str) -> str | None:
    if path is None:
        return f"{uri!r} names no file; {EXAMPLE}"
    if path.name == ":memory:":
        return f"{uri!r} would be lost with the process; {EXAMPLE}"
    if re.search(r"\?.*/", uri):
        return (
            f"{uri!r} has a '?' in its path, where SQLite's path ends; rename the folder, or name a database elsewhere"
        )
    if os.name != "nt" and re.search(r"/[A-Za-z]:[\\/]", uri):
        return f"{uri!r} has a path of Windows; {EXAMPLE}"
    if path.is_dir():
        return f"{path} is a folder; name the database file in it, sqlite:///{path / 'mlflow.db'}"
    if path.exists() and not os.access(path, os.W_OK):
        return f"{path} cannot be written to"
    # SQLite writes its journal beside the database, so the folder counts as well.
    problem = folder_fault(path.parent)
    return f"{problem}, so {path} cannot be used" if problem else None
