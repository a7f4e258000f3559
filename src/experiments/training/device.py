"""Settings of the whole process: threads, determinism, float32's precision, freed memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from experiments.config.device import DeviceConfig, faults, pick
from experiments.errors import ConfigError
from experiments.seeds import noise_kept

LARGEST_KEPT = 32 * 2**20 - 2**16  # bytes


def prepare(config: DeviceConfig, *, deterministic: bool) -> torch.device:
    """Set torch up for a run, and return its device.

    Raises:
        ConfigError: the device is not available.
    """
    if found := faults(config):
        raise ConfigError(*found)
    set_up(config, deterministic=deterministic)
    return pick(config)


def set_up(config: DeviceConfig, *, deterministic: bool) -> None:
    """Set threads, determinism and float32's precision for the whole process; see `settings_kept`."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if deterministic:
        # cuBLAS reads this before the first CUDA call of the process.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _set_deterministic(deterministic)
    # glibc returns freed memory to the system beyond a threshold, which grows to the largest block freed so far, of
    # 32 MiB at most; so nearly that much is freed here, untouched, and batches reuse their memory. See mallopt(3).
    torch.empty(LARGEST_KEPT, dtype=torch.uint8)
    if pick(config).type == "cuda":  # what autocast leaves in float32 is float32
        _set_fp32(["tf32" if config.precision == "tf32" else "ieee"] * len(_fp32_operations()))


@contextlib.contextmanager
def settings_kept() -> Iterator[None]:
    """Restore at the end what `prepare` sets and the random streams."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fp32 = _fp32()
    try:
        with noise_kept():
            yield
    finally:
        torch.set_num_threads(threads)
        _set_deterministic(deterministic)
        if _fp32() != fp32:
            _set_fp32(fp32)


def _set_deterministic(wanted: bool) -> None:
    # Only where it changes something: the call imports torch's compiler, which takes as long as torch itself.
    if torch.are_deterministic_algorithms_enabled() != wanted:
        torch.use_deterministic_algorithms(wanted)


def _fp32_operations() -> list[Any]:
    """Return what computes float32 on a card in IEEE's format or in TF32, torch's own choice for cuDNN."""
    cudnn: Any = torch.backends.cudnn
    return [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]


def _fp32() -> list[str]:
    return [operation.fp32_precision for operation in _fp32_operations()]


def _set_fp32(values: Sequence[str]) -> None:
    for operation, value in zip(_fp32_operations(), values, strict=True):
        operation.fp32_precision = value
