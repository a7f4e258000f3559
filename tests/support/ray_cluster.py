"""A real Ray cluster of two nodes on this machine: a head and a worker node, one core each, reached by loopback alone.

Where the system allows it, the cluster has a network of its own, since a node binds every interface it finds; elsewhere
it is on 127.0.0.1, and nobody without its token is let in.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.tracked import free_port

RAY = str(Path(sys.executable).with_name("ray"))
START_SECONDS = 120


class NoRayError(Exception):
    """A cluster does not come up here."""


class Cluster:
    """A head and one worker node.

    Args:
        folder: for the token and what the nodes print; their working folder too, unlike that of a sweep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir()
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.env = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }
        self.address = f"127.0.0.1:{self.port}"
        self._started: list[subprocess.Popen[bytes]] = []
        self._network = self._own_network()
        self.around = ("nsenter", "--target", str(self._network.pid), "--net") if self._network else ()
        self.head = self._node("head", "--head", f"--port={self.port}", "--include-dashboard=false")
        self.worker = self._node("worker", f"--address={self.address}")
        self._wait()

    def kill_worker(self) -> None:
        """Kill the second node with all its processes, as a machine that loses its power does."""
        _kill_all(self.worker.pid)

    def close(self) -> None:
        """Leave no process."""
        for started in reversed(self._started):
            _kill_all(started.pid)
            started.wait()

    def nodes(self) -> int:
        """How many nodes are alive; 0 where none answers."""
        counted = "import ray; ray.init(address='auto', log_to_driver=False)\n"
        counted += "print('alive', sum(node['Alive'] for node in ray.nodes()))"
        done = subprocess.run(
            [*self.around, sys.executable, "-c", counted],
            env=os.environ | self.env | {"RAY_ADDRESS": self.address},
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        told = [line for line in done.stdout.splitlines() if line.startswith("alive")]
        return int(told[0].split()[1]) if told else 0

    def _own_network(self) -> subprocess.Popen[bytes] | None:
        script = "ip link set lo up && echo ready && exec sleep infinity"
        try:
            holder = subprocess.Popen(["unshare", "--net", "bash", "-c", script], stdout=subprocess.PIPE)
        except FileNotFoundError:
            return None
        assert holder.stdout is not None
        with holder.stdout as said:
            ready = said.readline() == b"ready\n"
        if not ready:
            holder.wait()
            return None
        self._started.append(holder)
        return holder

    def _node(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        place = self.folder / name
        place.mkdir()
        with (place / "log.txt").open("wb") as log:
            node = subprocess.Popen(
                [
                    *(*self.around, RAY, "start", "--block", "--node-ip-address=127.0.0.1", "--num-cpus=1", *options),
                    *("--object-store-memory=100000000", "--disable-usage-stats"),
                ],
                cwd=place,
                env=os.environ | self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(node)
        if name == "head":
            self._until(lambda: b"Ray runtime started" in (place / "log.txt").read_bytes(), node)
        return node

    def _wait(self) -> None:
        self._until(lambda: self.nodes() == 2, self.worker)

    def _until(self, true, node: subprocess.Popen[bytes]) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + START_SECONDS
        while not true():
            if node.poll() is not None or time.monotonic() > deadline:
                said = "".join(path.read_text()[-1500:] for path in self.folder.glob("*/log.txt"))
                self.close()
                raise NoRayError(said)
            time.sleep(0.5)


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster that does not outlive the test.

    Raises:
        NoRayError: it does not come up here.
    """
    started = Cluster(folder)
    try:
        yield started
    finally:
        started.close()


def _kill_all(root: int) -> None:
    """Kill a process and all that it has started, whatever sessions they are in."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
