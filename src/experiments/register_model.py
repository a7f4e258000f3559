"""`python -m experiments.register RUN --name NAME [--alias ALIAS]`: register a run's trained model in MLflow.

RUN is a run's folder or MLflow id; a sweep's folder stands for its best job. The model is logged to the run, in torch's
pt2 format and without a pickle, unless it is logged already; then its version NAME is made, unless there is one.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys

from experiments import cli, live
from experiments.compare import selection
from experiments.config.store_uri import masked
from experiments.errors import ConfigError, Fault, first_line
from experiments.runs.place import work_in
from experiments.runs.terminal import relative, ui_command
from experiments.sweeps import best
from experiments.sync import FAILED, OUTPUTS, UNTRACKED, Sync
from experiments.tracking import delivered, links, model_process


def main(arguments: list[str] | None = None) -> None:
    """Register the model. Exit code 1: the store is unavailable; 2: refused."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.register", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder or MLflow id, or a sweep's folder")
    parser.add_argument("--name", type=_name, required=True, help="of the registered model, such as mnist")
    parser.add_argument("--alias", type=_alias, help="names this version from now on, such as champion")
    parser.add_argument("--weights", choices=("last", "best"), help="default: as the run's tracking.model, else last")
    parser.add_argument("--uri", help="the store, instead of the one that the run was started for")
    given = parser.parse_args(arguments)
    cli.guarded(lambda: _register(given))


def _name(text: str) -> str:
    if text.strip() in ("", ".", "..") or set(text) & set("/:"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name that MLflow takes: it has no / and no :")
    return text


def _alias(text: str) -> str:
    if not re.fullmatch(r"[\w-]{1,255}", text) or re.fullmatch(r"(?i)latest|v\d+", text):
        rule = "letters, digits, _ and -, but neither latest nor v1, v2, ..."
        raise argparse.ArgumentTypeError(f"{text!r} is not an alias that MLflow takes: {rule}")
    return text


@live.phase("registering the model")
def _register(given: argparse.Namespace) -> None:
    jobs, _ = selection.choose([given.run], OUTPUTS)
    finest = best.of(jobs, ())
    found = jobs[0] if len(jobs) == 1 else finest.job if finest else None
    if found is None:
        raise ConfigError(Fault(given.run, "no run of it has a validation loss yet"))
    folder, told, which = found.folder, relative(found.folder), given.weights or model_process.chosen(found.folder)
    work_in(found.start.place)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before MLflow is imported
    from mlflow.exceptions import MlflowException

    from experiments.runs import model_export  # needs torch and MLflow
    from experiments.tracking import models

    logging.getLogger("torch").setLevel(logging.ERROR)  # what it cannot export is one message
    exported = model_export.export(folder, "best" if which == "best" else "last")
    sync = Sync(given.uri)
    outcome = sync.upload(folder)
    if outcome == UNTRACKED:
        raise ConfigError(Fault(told, "the run was not tracked (tracking=none); name a store with --uri"))
    if outcome == FAILED:
        sys.exit(1)
    store, run_id = sync.store(folder), delivered.state(folder).run_id
    try:
        model_id = models.log(store, run_id, exported)
        version = models.register(store, model_id, run_id, given.name, given.alias)
    except MlflowException as error:
        print(f"error: MLflow at {masked(store.uri)} did not register the model: {first_line(error)}", file=sys.stderr)
        sys.exit(1)
    alias = f" and models:/{given.name}@{given.alias}" if given.alias else ""
    print(f"model    models:/{model_id} (the {exported.weights} weights of {told})")
    print(f"version  models:/{given.name}/{version}{alias}")
    print(f"view     {links.version(store.uri, given.name, version)}")
    if served := ui_command(store.uri):
        print(f"         (start the UI first: {served})")
