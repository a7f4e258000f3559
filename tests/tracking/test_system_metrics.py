"""Samples of the machine and of the training process, under MLflow's own names."""

from __future__ import annotations

import os

import pytest

from experiments.tracking import ownership, system_metrics
from experiments.tracking.record import Owner
from experiments.tracking.system_metrics import Sampler


def test_a_sample_has_the_machine_and_the_process() -> None:
    sampler = Sampler(ownership.this_process())
    assert sampler.due
    sample = sampler.sample()
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(sample.values)
    assert sample.values["system/process_memory_megabytes"] > 10
    assert not sampler.due


def test_another_hosts_process_is_not_sampled() -> None:
    assert not Sampler(Owner("elsewhere", os.getpid())).due


@pytest.mark.parametrize(
    ("configured", "variable", "expected"),
    [(None, "", False), (None, "true", True), (False, "true", False), (True, "", True)],
)
def test_the_switch_decides_before_mlflows_variable(
    configured: bool | None, variable: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(system_metrics.SWITCH, variable)
    assert system_metrics.enabled(configured) == expected
