"""Sample the machine and the training process for MLflow's system metrics; in the uploader, never in the training.

Samples go to MLflow alone: they say nothing of the result, so that the journal does not have them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import socket
import time
from typing import Any

import psutil

from experiments.tracking.record import Measured, Owner

log = logging.getLogger(__name__)

SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
INTERVAL = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"
SECONDS = 10.0  # between two samples, as MLflow's own


def enabled(configured: bool | None) -> bool:
    """Return whether they are sampled: as configured, else as MLflow's own variable says."""
    return os.environ.get(SWITCH, "").lower() in ("true", "1") if configured is None else configured


def warn_of_missing_cards() -> None:
    """Warn where the library that reads the cards is not installed."""
    if importlib.util.find_spec("pynvml") is None:
        log.warning("system metrics: those of the card are missing; pip install nvidia-ml-py")


class Sampler:
    """Samples this machine and one process on it; nothing of a process on another host."""

    def __init__(self, owner: Owner) -> None:
        from mlflow.system_metrics.metrics import cpu_monitor, disk_monitor, gpu_monitor, network_monitor

        self._seconds = float(os.environ.get(INTERVAL) or SECONDS)
        self._step, self._sampled_at, self._is_here = 0, -math.inf, owner.host == socket.gethostname()
        machine: list[Any] = [cpu_monitor.CPUMonitor, disk_monitor.DiskMonitor, network_monitor.NetworkMonitor]
        card: Any = gpu_monitor.GPUMonitor
        self._monitors = [monitor() for monitor in machine]
        with contextlib.suppress(ImportError, RuntimeError):  # no card, or no library for it
            self._monitors.append(card())
        self._process = psutil.Process(owner.pid if self._is_here else None)

    @property
    def due(self) -> bool:
        """Return whether it is time for the next sample."""
        return self._is_here and time.monotonic() - self._sampled_at >= self._seconds

    def sample(self) -> Measured:
        """Return the next sample, its number as its step."""
        self._step, self._sampled_at = self._step + 1, time.monotonic()
        values: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        with contextlib.suppress(psutil.Error):  # it has just ended
            values["process_memory_megabytes"] = round(self._process.memory_info().rss / 1e6, 1)
            values["process_cpu_percentage"] = self._process.cpu_percent()  # since the last sample; the first is 0
        named = {f"system/{name}": float(value) for name, value in values.items()}
        return Measured(time.time_ns() // 1_000_000, self._step - 1, named)
