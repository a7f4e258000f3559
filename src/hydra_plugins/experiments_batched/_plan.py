"""Which jobs are trained together: those that differ in numbers alone, where a trial shows that it is right and faster.

What was decided is kept in the sweep's folder, for a model's last bits depend on the layout of its stack.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments import live
from experiments.config.root import RootConfig, flatten
from experiments.errors import first_line
from experiments.files import replacing
from experiments.runs.fingerprint import WITHOUT_EFFECT
from experiments.seeds import derive
from experiments.training import device
from hydra_plugins.experiments_batched._member import layout, trains_first
from hydra_plugins.experiments_batched._trial import Trial

log = logging.getLogger(__name__)

FILE = "stacks.json"
MOST = 64  # models of a stack, where nothing is configured: more gain nothing on a CPU


@dataclass
class Group:
    """Jobs that may be trained together.

    Args:
        roots: their configurations, by the jobs' names, those of their folders.
        batched: the layout of their stacks, as `device.batched` gives it; empty for one after the other.
        reason: why that is so.
    """

    roots: dict[str, RootConfig] = field(default_factory=dict)
    batched: str = ""
    reason: str = ""

    def stacks(self) -> Iterator[dict[int, str]]:
        """Yield the jobs of each stack by slot; or all that are trained one after the other."""
        if not self.batched:
            yield dict(enumerate(self.roots))
            return
        orders, sharing = layout(self.batched)
        rows = [jobs[start : start + sharing] for jobs in self.orders() for start in range(0, len(jobs), sharing)]
        for start in range(0, len(rows), orders):
            placed = enumerate(rows[start : start + orders])
            yield {place * sharing + slot: name for place, row in placed for slot, name in enumerate(row)}

    def orders(self) -> list[list[str]]:
        """Return the jobs by the order in which they take the rows."""
        found: dict[int, list[str]] = {}
        for name, root in self.roots.items():
            in_order = root.loader.get("shuffle") is False and not root.loader.get("draw")
            seed = 0 if in_order else derive(root.seed, root.seeds.model_dump()).data_order
            found.setdefault(seed, []).append(name)
        return list(found.values())

    def lay_out(self, most: int) -> str:
        """Return the layout of stacks of at most so many models, as equal as may be."""
        orders = self.orders()
        sharing = len(orders[0]) if len({len(jobs) for jobs in orders}) == 1 else 1
        count = len(orders) if sharing > 1 else len(self.roots)
        if sharing > most:
            return f"1x{_part(sharing, most)}"
        return f"{_part(count, max(1, most // sharing))}x{sharing}"


def _part(whole: int, most: int) -> int:
    """Return the size of equal parts of at most so many."""
    parts = -(-whole // most)
    return -(-whole // parts)


def planned(sweep: Path, roots: Mapping[str, RootConfig], stack: int | str) -> list[Group]:
    """Return the groups of jobs, as decided in the sweep's folder or by a trial now.

    `stack` is how many models there are in a stack at most; "auto": as many as half of the free memory holds.
    """
    path = sweep / FILE
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    decided: dict[str, Group] = {}
    undecided: dict[str, Group] = {}
    for name, root in roots.items():
        kind, batched = signature(root), known.get(name)
        if batched is None:
            undecided.setdefault(kind, Group()).roots[name] = root
        else:
            decided.setdefault(f"{kind} {batched}", Group({}, batched, "as decided before")).roots[name] = root
    found = [one for group in undecided.values() for one in decide(group, stack)]
    known |= {name: group.batched for group in found for name in group.roots}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(known), encoding="utf-8")
    return [*decided.values(), *found]


def signature(root: RootConfig, free: Sequence[str] = ("optim", "loss")) -> str:
    """Return what jobs have to share: all that determines a result but seeds, and numbers of the `free` components."""
    settings = flatten(root.model_dump(exclude=WITHOUT_EFFECT | {"seed", "seeds"}))
    kept = {key: value for key, value in settings.items() if not (key.split(".")[0] in free and is_free(key, value))}
    return json.dumps(kept, sort_keys=True, default=str)


def is_free(key: str, value: Any) -> bool:
    """Return whether a setting may differ: a number of the optimiser; of a loss one that a tensor may stand for."""
    if key.startswith("loss."):
        return type(value) is float
    return all(is_free(key, one) for one in value) if isinstance(value, list | tuple) else type(value) in (int, float)


def decide(group: Group, stack: int | str) -> list[Group]:
    """Return the group with its layout; several, where the loss takes no numbers of each model's own."""
    first, *others = group.roots.values()
    if trains_first(first):
        return [Group(group.roots, reason=f"init_from={first.init_from} trains that stage first")]
    if not others or first.device.batched is not None or stack == 1:
        given = "device.batched is given" if first.device.batched is not None else "hydra.launcher.stack=1"
        return [Group(group.roots, reason=given if others else "no other job has its settings")]
    try:
        with device.settings_kept(), live.phase(f"trying {len(group.roots)} jobs together"):
            other = [root for root in others if (root.seed, root.seeds) != (first.seed, first.seeds)]
            trial = Trial(first, (other or others)[-1])
            if trial.reason:
                return [Group(group.roots, reason=trial.reason)]
            if not trial.numbers and len(parts := _by_loss(group)) > 1:
                return [one for part in parts for one in decide(part, stack)]
            batched = group.lay_out(stack if isinstance(stack, int) else min(MOST, trial.fitting()))
            reason, gain = trial.verdict(layout(batched))
    except Exception as error:  # noqa: BLE001  # of the user's code, or of torch; the job itself will say it
        return [Group(group.roots, reason=first_line(str(error)) or type(error).__name__)]
    return [Group(group.roots, "" if reason else batched, reason or f"{gain:.1f} times as fast in a trial")]


def _by_loss(group: Group) -> list[Group]:
    parts: dict[str, Group] = {}
    for name, root in group.roots.items():
        parts.setdefault(signature(root, ("optim",)), Group()).roots[name] = root
    return list(parts.values())


def tell(names: Sequence[str], group: Group) -> None:
    """Log what is done with jobs."""
    how = "trained together" if group.batched else "trained one after the other" if len(names) > 1 else "trained alone"
    log.info("%s %s %s: %s", "jobs" if len(names) > 1 else "job", in_ranges(names), how, group.reason)


def in_ranges(names: Sequence[str]) -> str:
    """Return jobs' names in a row; of numbers three or more that follow each other as `0 to 31`."""
    if not all(name.isdigit() for name in names):
        return ", ".join(names)
    ranges = list[list[int]]()
    for number in sorted(map(int, names)):
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    parts = [[f"{one[0]} to {one[-1]}"] if len(one) > 2 else map(str, one) for one in ranges]
    return ", ".join(word for part in parts for word in part)
