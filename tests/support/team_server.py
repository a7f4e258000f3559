"""A team's server on 127.0.0.1: PostgreSQL from the system's packages, and `mlflow server` over it with its files."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import requests

from tests.support.tracked import eventually, free_port

DATABASE = "postgres"  # the one that initdb makes
OWNER = "postgres"  # PostgreSQL refuses to run as root


def programs() -> Path | None:
    """Where PostgreSQL's programs are; Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


class Postgres:
    """A PostgreSQL in a new folder of its own, with a password, that listens on loopback alone."""

    def __init__(self, bin_folder: Path) -> None:
        self.bin_folder = bin_folder
        self.port, self.password = free_port(), secrets.token_hex(12)
        self.place = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.uri = f"postgresql+psycopg2://mlflow:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        password = self.place / "password"
        password.write_text(self.password)
        if os.geteuid() == 0:
            for path in (self.place, password):
                shutil.chown(path, OWNER, OWNER)
        self._call("initdb", "--username=mlflow", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync")
        password.unlink()
        listening = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        self._call("pg_ctl", "start", "-w", f"--options={listening}", f"--log={self.place / 'log'}")

    def stop(self) -> None:
        self._call("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(self.place)

    def _call(self, program: str, *words: str) -> None:
        lower = ["runuser", "-u", OWNER, "--"] if os.geteuid() == 0 else []
        command = [*lower, str(self.bin_folder / program), f"--pgdata={self.place / 'data'}", *words]
        subprocess.run(command, cwd=self.place, stdout=subprocess.DEVNULL, check=True, timeout=60)


class TeamServer:
    """`mlflow server` over a database, its artifacts in a folder, in a session of its own.

    Args:
        place: where the artifacts lie, and its log.
        store: the database's address.
        options: more words of its command line.
        environment: more variables.
    """

    def __init__(self, place: Path, store: str, options: tuple[str, ...] = (), **environment: str) -> None:
        self.place, self.store, self.options, self.environment = place, store, options, environment
        self.artifacts = place / "artifacts"
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ["--host", "127.0.0.1", "--port", str(self.port), "--artifacts-destination", str(self.artifacts)]
        self.place.mkdir(parents=True, exist_ok=True)
        with (self.place / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--workers", "1", *words, *self.options],
                cwd=self.place,
                env=os.environ
                | {"MLFLOW_BACKEND_STORE_URI": self.store, "MLFLOW_DISABLE_TELEMETRY": "true"}
                | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
                | self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self.answers)

    def answers(self) -> bool:
        assert self.process is None or self.process.poll() is None, (self.place / "server.log").read_text()
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            return requests.get(f"{self.address}/health", timeout=5).ok
        return False

    def kill(self) -> None:
        """All of it: a worker whose server is gone goes on answering."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=30)
            self.process = None
