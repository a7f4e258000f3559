"""An HTTPS server on 127.0.0.1 that answers as a script says, well or badly, and counts what it was asked."""

from __future__ import annotations

import contextlib
import functools
import http.server
import itertools
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Answer:
    """One answer of the server.

    Args:
        status: of HTTP; 0 drops the connection instead of answering.
        body: what is sent, announced by its length unless `headers` say otherwise.
        headers: beside Content-Length.
        delay: seconds before the answer.
        cut_at: bytes of the body after which the connection is dropped.
        silent_at: bytes of the body after which nothing more is sent, the connection being kept.
        drip: seconds between the single bytes of the body.
        endless: the body is sent again and again, without an announced length.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0
    cut_at: int | None = None
    silent_at: int | None = None
    drip: float = 0
    endless: bool = False


class FaultServer:
    """The script and the record of a running server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[str] = []
        self.scripts: dict[str, list[Answer]] = {}
        self.stopped = threading.Event()

    def script(self, *answers: Answer, path: str = "/data.gz") -> str:
        """The address at which these answers are given in turn, the last one from then on."""
        self.scripts[path] = list(answers)
        return f"https://{HOST}:{self.port}{path}"

    def next(self, path: str) -> Answer:
        self.requests.append(path)
        answers = self.scripts.get(path, [Answer(404)])
        return answers.pop(0) if len(answers) > 1 else answers[0]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.faults = self.server.faults
        answer = self.faults.next(self.path)
        self.faults.stopped.wait(answer.delay)
        if answer.status == 0:
            return
        length = {} if answer.endless else {"Content-Length": str(len(answer.body))}
        self.send_response(answer.status)
        for name, value in (length | dict(answer.headers)).items():
            self.send_header(name, value)
        self.end_headers()
        for piece in self._pieces(answer):
            self.wfile.write(piece)
        if answer.silent_at is not None:
            self.faults.stopped.wait()

    def _pieces(self, answer: Answer) -> Iterator[bytes]:
        if answer.endless:
            yield from itertools.repeat(answer.body)
        end = answer.cut_at if answer.cut_at is not None else answer.silent_at
        body = answer.body[:end]
        if not answer.drip:
            yield body
            return
        for byte in body:
            self.faults.stopped.wait(answer.drip)
            yield bytes([byte])

    def log_message(self, *_words: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    faults: FaultServer

    def handle_error(self, *_where: Any) -> None:
        """A client that went away is what these tests are about."""


@functools.cache
def _authority() -> tuple[trustme.CA, trustme.LeafCert]:
    authority = trustme.CA()
    return authority, authority.issue_cert(HOST, "localhost")


@contextlib.contextmanager
def running(folder: Path, setenv: Callable[[str, str], None]) -> Iterator[FaultServer]:
    """A server that this process and its children trust; `folder` keeps the authority's certificate."""
    authority, certificate = _authority()
    trusted = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    setenv("REQUESTS_CA_BUNDLE", str(trusted))
    for name in ("NO_PROXY", "no_proxy"):
        setenv(name, f"{HOST},localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    with _Server((HOST, 0), _Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        faults = server.faults = FaultServer(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield faults
        finally:
            faults.stopped.set()
            server.shutdown()
            thread.join()
