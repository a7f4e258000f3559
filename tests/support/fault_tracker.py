"""MLflow's own REST server in a thread of this process, on 127.0.0.1, that fails as a script says."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from tests.support.tracked import free_port, make_store, store_of

# A fault is a status that is answered instead of anything being done, or one of these.
LOST = "done, and then answered with 503"
SLOW = "done, but answered after the client's patience"
PATIENCE_SECONDS = 1
# So that a test does not wait as long as a person would.
HURRY = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(PATIENCE_SECONDS),
}

Start = Callable[..., Any]


class FaultyTracker:
    """A tracking server over the SQLite store in a folder.

    Args:
        place: the folder.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.port = place, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.script: dict[str, list[int | str]] = {}
        self.always: int | None = None
        self.requests: list[str] = []
        self._server: BaseWSGIServer | None = None
        self._app = _mlflows_own()

    @property
    def store(self) -> str:
        """The store itself, to look what is in it."""
        return store_of(self.place)

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self.port, self, threaded=True, request_handler=_Silent)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path = str(environ["PATH_INFO"])
        self.requests.append(path)
        faults = self.script.get(path.rpartition("/mlflow/")[2], [])
        fault = self.always or (faults.pop(0) if faults else None)
        if isinstance(fault, int):
            return _answer(fault, start)
        answer = self._app(environ, start if fault is None else _nothing)
        if fault is None:
            return answer
        b"".join(answer)
        if fault == SLOW:
            time.sleep(PATIENCE_SECONDS + 1)
        return _answer(503, start)


def _mlflows_own() -> Callable[..., Iterable[bytes]]:
    """MLflow's server; imported late, since that takes a second."""
    import mlflow.server

    with warnings.catch_warnings():
        # It is imported with the first search of runs, and warns of a deprecation of its own.
        warnings.simplefilter("ignore")
        import mlflow.server.fastapi_app
    return mlflow.server.app


class _Silent(WSGIRequestHandler):
    def log(self, *_words: Any) -> None:
        pass


def _nothing(*_answer: Any) -> Callable[[bytes], object]:
    return lambda _content: None


def _answer(status: int, start: Start) -> list[bytes]:
    start(f"{status} as the script says", [("Content-Type", "application/json"), ("Content-Length", "2")])
    return [b"{}"]


@contextlib.contextmanager
def running(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyTracker]:
    """A server that is not started yet, and that hurried clients talk to."""
    from mlflow.server import constants, handlers

    make_store(place)
    for name, value in HURRY.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv(constants.BACKEND_STORE_URI_ENV_VAR, store_of(place))
    monkeypatch.setenv(constants.ARTIFACT_ROOT_ENV_VAR, "mlflow-artifacts:/")
    monkeypatch.setenv(constants.ARTIFACTS_DESTINATION_ENV_VAR, str(place / "served"))
    monkeypatch.setenv(constants.SERVE_ARTIFACTS_ENV_VAR, "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_of(place))  # MLflow sets it itself; this way it is put back
    for name in ("_tracking_store", "_model_registry_store", "_artifact_repo"):
        monkeypatch.setattr(handlers, name, None, raising=False)
    tracker = FaultyTracker(place)
    try:
        yield tracker
    finally:
        tracker.stop()
