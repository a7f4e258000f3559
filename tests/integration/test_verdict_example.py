"""examples/verdict.sh: a program's way from a preview to a verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.support import json_reference
from tests.support.places import ROOT


@pytest.mark.slow
def test_the_script_comes_to_a_verdict_by_json_alone(workplace: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    quiet = os.environ | {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}
    script = [str(ROOT / "examples" / "verdict.sh")]
    done = subprocess.run(script, cwd=workplace, env=quiet, capture_output=True, text=True, timeout=280)
    assert (done.returncode, done.stdout) == (0, "improved\n"), done.stderr
    for name in ("preview", "sgd", "momentum", "verdict"):
        jsonschema.validate(json.loads((workplace / f"{name}.json").read_text()), json_reference.schema())
    assert json.loads((workplace / "preview.json").read_text())["answer"]["unknown"] == 16
    (candidate,) = json.loads((workplace / "verdict.json").read_text())["answer"]["candidates"]
    assert (candidate["verdict"], candidate["seeds"], candidate["paired"]) == ("improved", 8, True)
