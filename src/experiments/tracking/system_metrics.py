"""Sample the machine and the training process for MLflow's system metrics; in the uploader, never in the training.

Samples go to MLflow alone: they say nothing of the result, so that the journal does not have them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from experiments.tracking.record import Measured, Owner

log = logging.getLogger(__name__)

SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
INTERVAL = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"
SECONDS = 10.0  # between two samples, as MLflow's own
NO_CARDS = "system metrics: those of the card are missing; pip install nvidia-ml-py"


def enabled(configured: bool | None) -> bool:
    """Return whether they are sampled: as configured, else as MLflow's own variable says."""
    return os.environ.get(SWITCH, "").lower() in ("true", "1") if configured is None else configured


def warn_of_missing_cards() -> None:
    """Warn where the library that reads the cards is not installed."""
    if importlib.util.find_spec("pynvml") is None:
        log.warning("%s", NO_CARDS)


class Sampler:
    """Samples this machine and one process on it; nothing of a process on another host.

    Args:
        owner: the process.
    """

    def __init__(self, owner: Owner) -> None:
        import psutil
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._monitors: list[Any] = []
        self._process: Any = None
        self._taken, self._started = 0, time.monotonic()
        self._seconds = float(os.environ.get(INTERVAL) or SECONDS)
        self._gone = psutil.Error
        if owner.host != socket.gethostname():
            return
        makers: tuple[Callable[[], Any], ...] = (CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor)
        for maker in makers:
            try:
                self._monitors.append(maker())
            except (ImportError, RuntimeError):  # no card, or no library for it
                continue
        try:
            self._process = psutil.Process(owner.pid)
            self._process.cpu_percent()  # the first call returns 0
        except psutil.Error:
            self._monitors = []  # it has ended

    @property
    def due(self) -> bool:
        """Return whether it is time for the next sample."""
        return bool(self._monitors) and time.monotonic() - self._started >= self._taken * self._seconds

    def sample(self) -> Measured:
        """Return the next sample, its number as its step."""
        values: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        values |= self._of_process()
        self._taken += 1
        named = {f"system/{name}": float(value) for name, value in values.items()}
        return Measured(time.time_ns() // 1_000_000, self._taken - 1, named)

    def _of_process(self) -> dict[str, float]:
        try:
            used = self._process.memory_info().rss / 1e6
            return {"process_cpu_percentage": self._process.cpu_percent(), "process_memory_megabytes": round(used, 1)}
        except self._gone:
            return {}
