"""`python -m experiments.ui [--port N]`: the MLflow UI on this machine alone, on the store that runs go to."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

from experiments import cli, errors
from experiments.config.store_uri import masked, sqlite_path, store_uri, uri_fault
from experiments.tracking import moved

# What would take MLflow's guard away, or have it served by something that has none.
UNGUARDED = ("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "MLFLOW_GUNICORN_OPTS", "MLFLOW_UVICORN_OPTS")


def command(port: int) -> list[str]:
    """MLflow's own server, bound to loopback and answering to this machine's names only.

    MLflow by itself also trusts private address ranges and lets any page read: both are named explicitly. The store's
    address is not, for it may hold a password, and everybody on the machine can read a command line.
    """
    hosts = f"localhost:{port},127.0.0.1:{port}"
    origins = f"http://localhost:{port},http://127.0.0.1:{port}"
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [*words, "--allowed-hosts", hosts, "--cors-allowed-origins", origins]


def environment(uri: str) -> dict[str, str]:
    """The server's environment, with the store's address and nothing that takes its guard away."""
    kept = {name: value for name, value in os.environ.items() if name not in UNGUARDED}
    return kept | {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:  # in use, or not allowed to this user
            return False
    return True


def main(arguments: list[str] | None = None) -> int:
    """Serve until Ctrl-C. Return 2 if there is no store here, or the port cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m experiments.ui", description=__doc__)
    parser.add_argument("--uri", help="the store; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here")
    parser.add_argument("--port", type=int, default=5000)
    given = parser.parse_args(arguments)
    uri = store_uri(given.uri)
    if problem := uri_fault(given.uri):
        print(f"error: {problem}", file=sys.stderr)
        return 2
    if uri.startswith("http"):
        print(f"the store is a server; its UI is at {masked(uri)}")
        return 0
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        print(f"error: there is no {database} yet; the first tracked run makes it", file=sys.stderr)
        return 2
    if database is not None:
        moved.follow(database, Path("outputs", "artifacts"))
    if not 0 < given.port < 65536 or not _is_free(given.port):
        reason = "is in use" if 0 < given.port < 65536 else "is not a port (1 to 65535)"
        other = next(port for port in range(5000, 65536) if _is_free(port))
        print(
            f"error: port {given.port} {reason}; use a free one: {errors.command('ui')} --port {other}",
            file=sys.stderr,
        )
        return 2
    print(
        f"MLflow UI for {masked(uri)}: http://127.0.0.1:{given.port}  (no password; this machine only; Ctrl-C ends it)"
    )
    try:
        return subprocess.run(command(given.port), env=environment(uri), check=False).returncode  # noqa: S603  # fixed words
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    cli.guarded(lambda: sys.exit(main()))
