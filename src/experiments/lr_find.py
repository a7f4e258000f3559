"""`python -m experiments.lr_find OVERRIDE ...`: try growing learning rates, and suggest one as an override.

The learning rate range test (Smith, 2015): one training step at each rate. The suggestion is where the smoothed loss
falls fastest; it is not applied. No run is started; the plot is all that is written.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import answer, cli
from experiments.config import check
from experiments.config.registry import register
from experiments.errors import ConfigError, Fault
from experiments.files import folder_fault, replacing
from experiments.runs.tables import table
from experiments.runs.terminal import relative


@dataclass(frozen=True)
class RangeAnswer:
    """A learning rate range test.

    Args:
        rates: the first parameter group's, by step.
        losses: of each step's batch, before its update.
        smoothed: the same, smoothed.
        suggested: the rate where the smoothed loss falls most steeply; None where it falls by less than a tenth.
        stopped: why the test ended before its last rate; else empty.
        overrides: that set the suggestion, rounded to two digits; none without one.
        left_out: what is configured and no part of the test: the scheduler, callbacks.
        plot: its file.
    """

    rates: Sequence[float]
    losses: Sequence[float]
    smoothed: Sequence[float]
    suggested: float | None
    stopped: str
    overrides: Sequence[str]
    left_out: Sequence[str]
    plot: Path


def main(arguments: list[str] | None = None) -> None:
    """Print the losses and the suggestion; exit codes as those of a run."""
    parser = cli.parser("lr_find", __doc__, answers=True)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as on the command line of a run")
    parser.add_argument("--from", dest="low", type=float, default=1e-7, help="the first rate (default: %(default)s)")
    parser.add_argument("--to", dest="high", type=float, default=10.0, help="the last rate (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=100, help="how many rates (default: %(default)s)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="the PNG (default: below outputs/lr_ranges)")
    given = parser.parse_intermixed_args(arguments)
    cli.guarded(lambda: _find(given), json=given.json)


def _find(given: argparse.Namespace) -> None:
    from experiments.runs import lr_range, preparation  # need torch
    from experiments.training import device
    from experiments.training.build_optimizer import groups_of

    rates, root = lr_range.growing(given.low, given.high, given.steps), check.configured(given.overrides).root
    now = datetime.datetime.now().astimezone()
    plot = given.plot or Path(root.output_root, "lr_ranges", f"{now:%Y-%m-%d}", f"{now:%H-%M-%S-%f}.png")
    if problem := "it is a folder; name a file" if plot.is_dir() else folder_fault(plot.parent):
        raise ConfigError(Fault(f"--plot {plot}", problem))
    if (step := root.step["name"]) != "supervised":
        raise ConfigError(Fault("step", f"{step} decides itself how and at which rates it updates, so none is tested"))
    steers = register.scheduler.get(scheduler := root.scheduler["name"]).metadata.get("steers", True)
    left_out = [f"scheduler={scheduler}"] * steers + [f"callbacks={name}" for name in root.callbacks]
    tested = root.model_copy(update={"scheduler": {"name": "constant"}, "callbacks": {}})
    with device.settings_kept():
        runner = preparation.prepare(tested, given.overrides).runner(plot.parent)
        test = lr_range.lr_range(runner, rates)
    first, rate, groups = lr_range.rate_groups(runner.optimizer)[0]["lr"], test.suggested, groups_of(root)
    overrides = () if rate is None else tuple(_overrides(root.optim, groups, float(first), rate))
    _draw(test, plot)
    answer.give(RangeAnswer(**vars(test), overrides=overrides, left_out=left_out, plot=plot))
    shown = sorted({round(number * (len(test.rates) - 1) / 9) for number in range(10)})
    columns = {"rate": test.rates, "loss": test.losses, "smoothed": test.smoothed}
    print(table([{name: f"{values[at]:.4g}" for name, values in columns.items()} for at in shown]), end="\n\n")
    if test.stopped:
        print(f"stopped after rate {test.rates[-1]:.2g}: {test.stopped}")
    if left_out:
        print("left out of the test:", ", ".join(left_out))
    nothing = "nothing, since the smoothed loss falls by less than a tenth; try more --steps, or other rates"
    print("suggested:", shlex.join(overrides) or (nothing if rate is None else f"{rate:.2g}, which no override sets"))
    print("plot", relative(plot))


def _overrides(optim: Mapping[str, Any], groups: Any, first: float, rate: float) -> Iterator[str]:
    """Yield overrides that make the first rate `rate` and multiply the others as much; none without an argument."""
    own = register.optim.own(optim)
    if key := "lr" if "lr" in own else next((key for key, value in own.items() if value == first), None):
        yield f"optim.{key}={own[key] * rate / first:.2g}"
    if isinstance(groups, Mapping) and (own := {name: one["lr"] for name, one in groups.items() if "lr" in one}):
        rates = ", ".join(f"{name}: {{lr: {each * rate / first:.2g}}}" for name, each in own.items())
        yield f"optim.groups={{{rates}}}"


def _draw(test: Any, path: Path) -> None:
    from matplotlib.figure import Figure  # late: it takes a second

    figure = Figure(layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="loss")
    axes.plot(test.rates, test.losses, color="#56B4E9", linewidth=0.8, label="loss")
    axes.plot(test.rates, test.smoothed, color="#0072B2", label="smoothed")
    if test.suggested is not None:
        axes.axvline(test.suggested, color="#D55E00", linestyle="--", label=f"suggested: {test.suggested:.2g}")
    low, high = min(test.losses), max(test.smoothed[: test.smoothed.index(min(test.smoothed)) + 1])
    axes.set_ylim(low - (margin := 0.2 * (high - low) or 1), high + margin)  # a loss that diverges would hide the rest
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


if __name__ == "__main__":
    main()
