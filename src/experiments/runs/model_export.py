"""A run's trained model as a program of torch.export: its evaluation, with its transforms and in its precision.

`python -m experiments.runs.model_export FOLDER WHICH` logs it to the run; an uploader calls this after the run.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments import cli
from experiments.config.registry import register
from experiments.config.store_uri import store_uri
from experiments.errors import ConfigError, Fault, first_line
from experiments.runs import load
from experiments.runs.reading import as_data
from experiments.runs.terminal import relative
from experiments.seeds import noise_kept
from experiments.tracking import delivered, models
from experiments.tracking.mlflow_store import Store
from experiments.tracking.models import Exported
from experiments.training import weights
from experiments.training.runner import weights_of
from experiments.training.step import Forward

AUTO = torch.export.Dim.AUTO


class Served(nn.Module):
    """Predictions for images (batch, channels, height, width) as the dataset has them."""

    def __init__(self, forward: Forward, *, flat: bool) -> None:
        super().__init__()
        self.predict, self.flat = forward.predict, flat
        model = forward.model.eval()
        for parameter in model.parameters():
            parameter.requires_grad_(requires_grad=False)
        if isinstance(model, nn.Module):  # the tensors of any other become constants of the program
            self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return the model's outputs."""
        outputs: Tensor = self.predict(images.flatten(1) if self.flat else images)
        return outputs


def export(folder: Path, which: load.Which) -> Exported:
    """Return a run's trained model, for images of any height and width if the model takes them.

    Raises:
        ConfigError: the run has no such weights, or torch.export cannot capture its model.
    """
    root = load.configuration(folder, [*load.here(folder), "loader.valid_shuffle=false"])
    spec, model = load.data_spec(folder), register.model.get(root.model["name"])
    flat = model.metadata.get("input") == "flat"
    # Two, since torch.export takes a size of one for a constant.
    images = torch.rand(2, *spec.shape, generator=torch.Generator().manual_seed(0))
    with noise_kept():
        runner, epoch = load.trained_runner(folder, root, as_data(spec, images), torch.device("cpu"), which)
        digest = weights.digest(weights_of(runner.model))
        served = Served(runner.step.forward, flat=flat)
        problems = []
        for shape in [spec.shape] if flat or "shape" in model.metadata else [(spec.shape[0], -1, -1), spec.shape]:
            try:
                return Exported(served, _program(served, images, shape), images, shape, digest, which, epoch)
            except Exception as error:  # noqa: BLE001  # torch.export and the model's own code may raise any
                problems.append(first_line(error))
    size = "x".join(map(str, spec.shape))
    problem = f"torch.export cannot capture model {model.name}, even for images of {size} alone: {problems[-1]}"
    raise ConfigError(Fault(relative(folder), f"{problem}; if it branches on a tensor's values, use torch.where"))


def _program(served: Served, images: Tensor, shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    """Return the exported program, checked to give the model's bits for other images as well."""
    free = [size for size, length in enumerate((-1, *shape)) if length == -1]
    other = torch.nn.functional.pad(images, (0, 5, 0, 8)) if len(free) > 1 else images
    # Torch prints the graph that it cannot capture.
    with torch.no_grad(), _readable_precision(), contextlib.redirect_stderr(io.StringIO()):
        program = torch.export.export(served, (images,), dynamic_shapes=[dict.fromkeys(free, AUTO)])
        for batch in (images, other[:1], other.repeat(2, 1, 1, 1)):
            if not torch.allclose(program.module()(batch), served(batch), rtol=0, atol=0, equal_nan=True):
                raise ValueError("its program gives other outputs than the model, which may be random in evaluation")
    return program


@contextlib.contextmanager
def _readable_precision() -> Iterator[None]:
    """Let torch.export read whether float32 is in TF32: it raises where only torch's newer settings say so."""
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    with contextlib.ExitStack() as stack:
        for older, newer in ((matmul, [matmul]), (cudnn, [cudnn.conv, cudnn.rnn])):
            for operation in newer:
                stack.callback(setattr, operation, "fp32_precision", operation.fp32_precision)
            for value in ("tf32", "ieee"):
                with contextlib.suppress(RuntimeError):
                    _ = older.allow_tf32
                    break
                for operation in newer:
                    operation.fp32_precision = value
        yield


def main() -> None:
    """Log the model to the run that the store in MLFLOW_TRACKING_URI has."""
    folder, which = Path(sys.argv[1]), sys.argv[2]
    exported = export(folder, "best" if which == "best" else "last")
    models.log(Store(store_uri(None)), delivered.state(folder).run_id, exported)


if __name__ == "__main__":
    cli.guarded(main)
