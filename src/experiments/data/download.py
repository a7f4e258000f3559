"""Getting files over the network: HTTPS only, bounded in size, time, retries and hosts, never half a file."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
from filelock import FileLock
from tqdm import tqdm
from urllib3.exceptions import HTTPError, ReadTimeoutError

from experiments import files
from experiments.errors import DataError
from experiments.files import TEMPORARY

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0  # without a byte
DEADLINE_SECONDS = 1800.0  # for one file
ATTEMPTS = 3
PAUSE_SECONDS = 0.5  # before the second attempt, twice that before the third
REDIRECTS = 5
CHUNK = 1 << 16
LOCK = ".lock"

# Where GitHub keeps what its `raw` addresses redirect to.
GITHUB_HOSTS = frozenset(
    {
        "github.com",
        "raw.githubusercontent.com",
        "media.githubusercontent.com",
        "objects.githubusercontent.com",
    }
)


class _TransientError(Exception):
    """A failure that may be gone in a moment."""


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """One process at a time in a folder; what a dead one left half done there is removed.

    The lock is the operating system's, so that a dead process holds none. Where nothing comes of it, neither the lock's
    file nor a folder that was made for it stays.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    fresh = not (folder / LOCK).exists()
    with _locked(folder):
        for leftover in folder.glob(f"*{TEMPORARY}"):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # something is kept there, or Windows keeps what is open
                if fresh and [path.name for path in folder.iterdir()] == [LOCK]:
                    (folder / LOCK).unlink()
                    for path in made:
                        path.rmdir()
            raise


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / LOCK)
    while not lock.is_locked:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # who had it before took the folder away
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A `scratch` file that takes the place of `path` if all goes well.

    Raises:
        DataError: `path` is a link, which is never written through.
    """
    if path.is_symlink():
        raise DataError(f"{path} is a link; it would be written through, so it is refused")
    with files.replacing(path) as temporary:
        yield temporary


def download(url: str, path: Path, *, cap: int) -> None:
    """Stream `url` into `path`, at most `cap` bytes.

    Raises:
        DataError: it cannot be had, or is a web page, or is too long.
    """
    host = _host(url)
    hosts = {host} | (GITHUB_HOSTS if host in GITHUB_HOSTS else set())
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _stream(url, path, cap, hosts)
        except _TransientError as error:
            if attempt == ATTEMPTS:
                raise DataError(f"{url}: {error} ({ATTEMPTS} attempts)") from None
            time.sleep(PAUSE_SECONDS * attempt)
        else:
            return


def _stream(url: str, path: Path, cap: int, hosts: set[str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    with _open(url, hosts) as response:
        announced = response.headers.get("Content-Length", "")
        length = int(announced) if announced.isdecimal() else 0
        if length > cap:
            raise DataError(f"{url}: {length:,} bytes are announced, at most {cap:,} are expected")
        received = 0
        bar = tqdm(total=length or None, unit="B", unit_scale=True, desc=path.name.split(".gz")[0], disable=None)
        with path.open("wb") as file, bar:
            for chunk in _chunks(response):
                if received == 0:
                    _refuse_page(chunk, response, url)
                received += len(chunk)
                if received > cap:
                    raise DataError(f"{url}: more than {cap:,} bytes; stopped")
                if time.monotonic() > deadline:
                    raise DataError(f"{url}: not done after {DEADLINE_SECONDS:g} s; stopped")
                file.write(chunk)
                bar.update(len(chunk))
    if received == 0:
        raise DataError(f"{url}: the answer is empty")


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """The bytes as they are sent, each piece as soon as it comes: a server that drips is seen to be slow."""
    try:
        while chunk := response.raw.read1(CHUNK):
            yield chunk
    except ReadTimeoutError:
        raise _TransientError("the server stopped sending") from None
    except HTTPError:
        raise _TransientError("the connection broke off") from None


def _open(url: str, hosts: set[str]) -> requests.Response:
    """The final answer behind redirects that stay on HTTPS and on known hosts."""
    for _ in range(REDIRECTS + 1):
        if (host := _host(url)) not in hosts:
            raise DataError(f"{url}: a redirect to another host, {host}, is not followed")
        response = _get(url)
        if response.is_redirect:
            url = urljoin(url, response.headers["Location"])
            response.close()
            continue
        if response.status_code >= 500 or response.status_code == requests.codes.too_many_requests:
            response.close()
            raise _TransientError(f"the server answers {response.status_code}")
        if response.status_code != requests.codes.ok:
            response.close()
            raise DataError(f"{url}: the server answers {response.status_code}")
        return response
    raise DataError(f"{url}: more than {REDIRECTS} redirects")


def _host(url: str) -> str:
    """The host of an https address."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise DataError(f"{url}: not an address ({error})") from None
    if parts.scheme != "https":
        raise DataError(f"{url}: only https:// addresses are read")
    return parts.hostname or ""


def _get(url: str) -> requests.Response:
    try:
        return requests.get(
            url,
            stream=True,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            allow_redirects=False,
            headers={"Accept-Encoding": "identity"},
        )
    except requests.Timeout as error:
        connecting = isinstance(error, requests.ConnectTimeout)
        raise _TransientError("no connection in time" if connecting else "the server does not answer in time") from None
    except requests.RequestException as error:
        if "Connection aborted" in str(error):
            raise _TransientError("the connection broke off") from None
        raise DataError(f"{url}: {_reason(error)}") from error
    except ValueError as error:  # requests looks at where a redirect leads
        raise DataError(f"{url}: the answer is no HTTP ({error})") from error


def _refuse_page(start: bytes, response: requests.Response, url: str) -> None:
    if start.lstrip()[:1] == b"<" or response.headers.get("Content-Type", "").startswith("text/html"):
        raise DataError(f"{url}: the answer looks like a web page, not a data file")


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not trusted" if "CERTIFICATE" in text else "no TLS connection"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refuses"
    if "resolve" in text or "Name or service" in text:
        return "the host's name cannot be resolved"
    return "connection refused" if "refused" in text else f"no connection ({type(error).__name__})"
