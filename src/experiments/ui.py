"""`python -m experiments.ui [--port N]`: the MLflow UI on this machine alone, on the store that runs go to."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from experiments.tracking.uri import masked, sqlite_path, store_uri, uri_fault


def command(uri: str, port: int) -> list[str]:
    """MLflow's own server, bound to loopback and answering to this machine's names only.

    MLflow by itself also trusts private address ranges and lets any page read: both are named explicitly.
    """
    hosts = f"localhost:{port},127.0.0.1:{port}"
    origins = f"http://localhost:{port},http://127.0.0.1:{port}"
    words = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    words += [
        "--port",
        str(port),
        "--workers",
        "1",
        "--allowed-hosts",
        hosts,
        "--cors-allowed-origins",
        origins,
    ]
    return words


def main(arguments: list[str] | None = None) -> int:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m experiments.ui", description=__doc__)
    parser.add_argument("--uri", help="the store; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here")
    parser.add_argument("--port", type=int, default=5000)
    given = parser.parse_args(arguments)
    uri = store_uri(given.uri)
    if problem := uri_fault(given.uri):
        print(f"error: {problem}", file=sys.stderr)
        return 2
    if uri.startswith("http"):
        print(f"the store is a server with a UI of its own: {masked(uri)}")
        return 0
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        print(f"error: there is no {database} yet; the first tracked run makes it", file=sys.stderr)
        return 2
    print(
        f"MLflow UI for {masked(uri)}: http://127.0.0.1:{given.port}  (no password; this machine only; Ctrl-C ends it)"
    )
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    try:
        return subprocess.run(command(uri, given.port), env=environment, check=False).returncode  # noqa: S603  # fixed words
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
