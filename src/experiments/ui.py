"""`python -m experiments.ui [--port N]`: the MLflow UI on this machine alone, on the store that runs go to."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from experiments import cli, errors
from experiments.config.store_uri import masked, sqlite_path, store_uri, uri_fault
from experiments.tracking import links, moved

# What would take MLflow's guard away, or have it served by something that has none.
UNGUARDED = ("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "MLFLOW_GUNICORN_OPTS", "MLFLOW_UVICORN_OPTS")
# What a server that works prints at its start.
USUAL = re.compile(r"\[MLflow\] Security middleware enabled|.*\bINFO\b")
RAISED = re.compile(r"[\w.]+(Error|Exception): ")  # a traceback's last line
TELL_SECONDS = 1.5


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
        "PYTHONWARNINGS": "ignore",
    }


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:  # in use, or not allowed to this user
            return False
    return True


class _Server:
    """MLflow's server in a session of its own, so that Ctrl-C reaches this process alone, which then ends it."""

    def __init__(self, uri: str, port: int) -> None:
        self.port, self.answered, self.said = port, False, list[str]()
        self.process = subprocess.Popen(  # noqa: S603  # fixed words, no shell
            command(port),
            env=environment(uri),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # its log of requests
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        """Print the server's errors once it has answered; before, keep them as the reason why it has not."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.strip() and not USUAL.match(line):
                self.said.append(masked(line.rstrip()))
            while self.answered and self.said:
                print(self.said.pop(0), file=sys.stderr)

    def start(self) -> bool:
        """Wait until it answers. Return whether it does; it does not once it has ended."""
        told = time.monotonic()
        while self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
                connection.request("GET", "/health")
                self.answered = connection.getresponse().status == http.HTTPStatus.OK
            if self.answered:
                return True
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                print("  still starting ...", flush=True)
            time.sleep(0.1)
        self.reader.join(timeout=2)
        return False

    def stop(self) -> None:
        """End it with its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(timeout=10)


def _serve(uri: str, port: int) -> int:
    """Serve until this process is interrupted or terminated. Return 1 if the server ends by itself."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # not where nohup has it ignored
            signal.signal(number, signal.default_int_handler)
    print(f"starting the MLflow UI for {masked(uri)} ...", flush=True)
    server = _Server(uri, port)
    try:
        if server.start():
            links.remember(uri, port)
            print(f"{links.newest(uri)}\n(no password; this machine only; Ctrl-C ends it)", flush=True)
            server.process.wait()
        raised = [line for line in server.said if RAISED.match(line)] or server.said
        reason = raised[-1].strip() if raised else f"exit code {server.process.returncode}"
        print(f"error: the MLflow server ended: {reason}", file=sys.stderr)
    except KeyboardInterrupt:
        return 0
    finally:
        server.stop()
    return 1


def main(arguments: list[str] | None = None) -> int:
    """Serve until Ctrl-C. Return 1 if the server ends, 2 if there is no store here or the port cannot be used."""
    parser = cli.parser("ui", __doc__)
    parser.add_argument("--uri", help="the store; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here")
    parser.add_argument("--port", type=int, help="default: the port used last for this store, else 5000")
    given = parser.parse_args(arguments)
    uri = store_uri(given.uri)
    if problem := uri_fault(given.uri):
        print(f"error: {problem}", file=sys.stderr)
        return 2
    if uri.startswith("http"):
        print(f"the store is a server; its UI is at {links.newest(uri)}")
        return 0
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        print(f"error: there is no {database} yet; the first tracked run makes it", file=sys.stderr)
        return 2
    if database is not None:
        moved.follow(database, Path("outputs", "artifacts"))
    port = links.port(uri) if given.port is None else given.port
    if not 0 < port < 65536 or not _is_free(port):
        reason = "is in use" if 0 < port < 65536 else "is not a port (1 to 65535)"
        other = next(port for port in range(5000, 65536) if _is_free(port))
        print(f"error: port {port} {reason}; use a free one: {errors.command('ui')} --port {other}", file=sys.stderr)
        return 2
    return _serve(uri, port)


if __name__ == "__main__":
    cli.guarded(lambda: sys.exit(main()))
