"""Trained models in MLflow: logged to their run, and registered under a name. Never imported by a training process."""

from __future__ import annotations

import contextlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow.pytorch
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from torch import Tensor, nn
from torch.export import ExportedProgram

from experiments.tracking.mlflow_store import Store

DIGEST = "experiments.weights_digest"


@dataclass(frozen=True)
class Exported:
    """A trained model as torch.export captured it."""

    module: nn.Module  # what was exported
    program: ExportedProgram
    images: Tensor  # an example of what it takes
    shape: tuple[int, ...]  # of one image, with -1 for each size that is free
    digest: str  # of its weights
    weights: str  # last or best
    epoch: int  # of the weights

    def save_model(self, path: str, mlflow_model: Model) -> None:
        """Write the files of an MLflow model, as `Model.log` asks for them."""
        images, outputs = self.images.numpy(), self.module(self.images).numpy()
        taken = TensorSpec(images.dtype, (-1, *self.shape))
        returned = TensorSpec(outputs.dtype, (-1, *outputs.shape[1:]))
        mlflow.pytorch.save_model(
            self.module,
            path,
            mlflow_model=mlflow_model,
            signature=ModelSignature(Schema([taken]), Schema([returned])),
            input_example=images,
            pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],  # else MLflow tries what it needs
            serialization_format="pt2",
        )
        self.program.example_inputs = ((None,), {})  # torch would pickle the images
        torch.export.save(self.program, Path(path, "data", "model.pt2"))


def log(store: Store, run_id: str, exported: Exported) -> str:
    """Return the id of a run's logged model with these weights; log it if there is none."""
    run = store.client.get_run(run_id)
    for output in run.outputs.model_outputs if run.outputs else ():
        known = store.client.get_logged_model(output.model_id)
        if known.status == "READY" and known.tags.get(DIGEST) == exported.digest:
            return str(known.model_id)
    mlflow.set_tracking_uri(store.uri)
    mlflow.set_experiment(experiment_id=run.info.experiment_id)
    flavor: Any = exported
    tags = {DIGEST: exported.digest, "experiments.weights": exported.weights}
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of weights that are stored channels-last
        info = Model.log(None, flavor, name="model", run_id=run_id, step=exported.epoch, tags=tags)
    return str(info.model_id)


def register(store: Store, model_id: str, run_id: str, name: str, alias: str | None) -> int:
    """Return the newest version of the registered model `name` that is this model; create it if there is none."""
    client, source = store.client, f"models:/{model_id}"
    with contextlib.suppress(MlflowException):  # it exists, or the next calls report what is wrong
        client.create_registered_model(name)
    versions = client.search_model_versions(f"run_id = '{run_id}'")
    known = [int(found.version) for found in versions if found.name == name and found.source == source]
    version = max(known) if known else int(client.create_model_version(name, source, run_id, model_id=model_id).version)
    if alias:
        client.set_registered_model_alias(name, alias, str(version))
    return version
