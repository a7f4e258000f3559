"""A sweep's jobs: each is composed once, checked, and what was checked is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from omegaconf import DictConfig, open_dict

from experiments.config.hydra_internals import JobLoader
from experiments.sweeps import monitor
from tests.support import raw_journal
from tests.support.commands import SMALL, command
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

SWEEP = ("-m", *SMALL, "hydra.sweep.dir=sweep")
COMPOSED = Path("composed.txt")


def counted() -> None:
    """Have each composition of a job leave a line, and give the jobs after the third another learning rate."""
    original = JobLoader.load_sweep_config

    def load(self: JobLoader, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        with COMPOSED.open("a", encoding="utf-8") as file:
            file.write("composed\n")
        cfg = original(self, master_config, sweep_overrides)
        if compositions(Path.cwd()) > 3:
            with open_dict(cfg):
                cfg.optim.lr = 0.5
        return cfg

    JobLoader.load_sweep_config = load  # type: ignore[method-assign]  # in a process that ends soon


def told_of() -> None:
    """Have the sweep tell which of its returned jobs still have their configuration."""
    original = monitor.Watch.take

    def take(
        self: monitor.Watch, returned: Sequence[JobReturn], numbers: Sequence[int], batch: Sequence[Sequence[str]]
    ) -> None:
        Path("configured.txt").write_text(str([job.cfg is not None for job in returned]), encoding="utf-8")
        original(self, returned, numbers, batch)

    monitor.Watch.take = take  # type: ignore[method-assign]  # in a process that ends soon


def compositions(folder: Path) -> int:
    return len((folder / COMPOSED).read_text(encoding="utf-8").splitlines())


def rates(sweep: Path) -> list[Any]:
    return [raw_journal.summary(sweep / number)["start"]["params"]["optim.lr"] for number in "012"]


def test_a_job_in_the_sweeps_own_process_is_composed_once(workplace: Path) -> None:
    assert command(*SWEEP, "optim.lr=0.01,0.02,0.03", before=counted).code == 0
    assert compositions(workplace) == 3


def test_what_was_checked_is_trained(workplace: Path) -> None:
    assert command(*SWEEP, "optim.lr=0.01,0.02,0.03", before=counted).code == 0
    assert rates(workplace / "sweep") == ["0.01", "0.02", "0.03"]


def test_jobs_that_are_alike_are_all_trained(workplace: Path) -> None:
    assert command(*SWEEP, "optim.lr=0.01,0.01,0.02").code == 0
    assert rates(workplace / "sweep") == ["0.01", "0.01", "0.02"]


def test_jobs_in_batches_are_composed_once_too(workplace: Path) -> None:
    done = command(*SWEEP, "optim.lr=0.01,0.02,0.03", "hydra.sweeper.max_batch_size=2", before=counted)
    assert (done.code, compositions(workplace)) == (0, 3)


def test_a_job_that_is_over_keeps_no_configuration_in_memory(workplace: Path) -> None:
    assert command(*SWEEP, "optim.lr=0.01,0.02,0.03", before=told_of).code == 0
    assert (workplace / "configured.txt").read_text(encoding="utf-8") == "[False, False, True]"
