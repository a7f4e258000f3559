"""Download files over HTTPS, with bounds on size, time, attempts and hosts, into a folder that is locked.

Not pooch: its HTTPDownloader bounds neither size nor time, follows redirects to http and to any host, and unpacks a
.gz file whose server declares it as an encoding; its retries repeat a 404.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from filelock import FileLock
from urllib3.exceptions import HTTPError, ReadTimeoutError

from experiments import files, live
from experiments.errors import DataError
from experiments.files import TEMPORARY

LOCK = ".lock"
# GitHub's `raw` addresses redirect from one to another.
GITHUB_HOSTS = {"github.com"} | {f"{name}.githubusercontent.com" for name in ("raw", "media", "objects")}


@dataclass(frozen=True)
class Limits:
    """Bounds of one download; times are in seconds."""

    connect: float = 10
    read: float = 30  # without a byte
    total: float = 1800  # for one attempt
    attempts: int = 3
    pause: float = 0.5  # before the second attempt, twice that before the third
    redirects: int = 5


class _TransientError(Exception):
    """A failure that may be gone in a moment."""


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock a folder for one process and remove what a killed one left there.

    The lock ends with its process. After an error its file and the folders made for it are removed, unless something
    was stored there.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    fresh = not (folder / LOCK).exists()
    with _lock(folder):
        for leftover in folder.glob(f"*{TEMPORARY}"):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # Windows keeps what is open
                if fresh and [path.name for path in folder.iterdir()] == [LOCK]:
                    (folder / LOCK).unlink()
                    for path in made:
                        path.rmdir()
            raise


def _lock(folder: Path) -> contextlib.AbstractContextManager[Any]:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # the process that had the lock removed the folder
            return FileLock(folder / LOCK).acquire()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` if no error occurs.

    Raises:
        DataError: `path` is a link.
    """
    if path.is_symlink():
        raise DataError(f"{path} is a link, and data is not written through links; remove it")
    with files.replacing(path) as temporary:
        yield temporary


def download(url: str, path: Path, *, cap: int, limits: Limits = Limits()) -> None:
    """Write the content of `url` to `path`.

    Raises:
        DataError: the download failed, is a web page, or has more than `cap` bytes.
    """
    for attempt in range(1, limits.attempts + 1):
        try:
            _stream(url, path, cap, limits)
        except _TransientError as error:
            if attempt == limits.attempts:
                raise DataError(f"{url}: {error} ({attempt} attempts)") from None
            time.sleep(limits.pause * attempt)
        else:
            return


def _stream(url: str, path: Path, cap: int, limits: Limits) -> None:
    deadline = time.monotonic() + limits.total
    with _open(url, limits) as response, path.open("wb") as file:
        announced = response.headers.get("Content-Length", "")
        length = int(announced) if announced.isdecimal() else 0
        if length > cap:
            raise DataError(f"{url}: {length:,} bytes are announced, at most {cap:,} are expected")
        with live.phase(f"downloading {path.name.split('.gz')[0]}", length or None) as bar:
            for chunk in _chunks(response):
                if file.tell() == 0 and _is_page(chunk, response):
                    raise DataError(f"{url}: the answer looks like a web page, not a data file")
                file.write(chunk)
                bar.at(file.tell(), lambda: f"{file.tell() / 1e6:.1f} MB")
                if file.tell() > cap:
                    raise DataError(f"{url}: more than {cap:,} bytes; stopped")
                if time.monotonic() > deadline:
                    raise DataError(f"{url}: not done after {limits.total:g} s; stopped")
        if file.tell() == 0:
            raise DataError(f"{url}: the answer is empty")


def _is_page(start: bytes, response: requests.Response) -> bool:
    return start.lstrip()[:1] == b"<" or response.headers.get("Content-Type", "").startswith("text/html")


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """Yield the bytes as sent, each piece when it arrives, so that the deadline holds for a server that drips."""
    try:
        while chunk := response.raw.read1(1 << 16):
            yield chunk
    except ReadTimeoutError:
        raise _TransientError("the server stopped sending") from None
    except HTTPError:
        raise _TransientError("the connection broke off") from None


def _open(url: str, limits: Limits) -> requests.Response:
    """Return the answer behind redirects, which stay on HTTPS and on known hosts."""
    hosts = {_host(url)}
    if hosts <= GITHUB_HOSTS:
        hosts |= GITHUB_HOSTS
    for _ in range(limits.redirects + 1):
        if (host := _host(url)) not in hosts:
            raise DataError(f"{url}: a redirect to another host, {host}, is not followed")
        response = _get(url, limits)
        if response.status_code == requests.codes.ok:
            return response
        response.close()
        if response.is_redirect:
            url = urljoin(url, response.headers["Location"])
        elif response.status_code >= 500 or response.status_code == requests.codes.too_many_requests:
            raise _TransientError(f"the server answers {response.status_code}")
        else:
            raise DataError(f"{url}: the server answers {response.status_code}")
    raise DataError(f"{url}: more than {limits.redirects} redirects")


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise DataError(f"{url}: not an address ({error})") from None
    if parts.scheme != "https":
        raise DataError(f"{url}: only https:// addresses are read")
    return parts.hostname or ""


def _get(url: str, limits: Limits) -> requests.Response:
    timeout, headers = (limits.connect, limits.read), {"Accept-Encoding": "identity"}
    try:
        return requests.get(url, stream=True, timeout=timeout, allow_redirects=False, headers=headers)
    except requests.Timeout:
        raise _TransientError("the server does not answer in time") from None
    except requests.RequestException as error:
        if "Connection aborted" in str(error):
            raise _TransientError("the connection broke off") from None
        raise DataError(f"{url}: {_reason(error)}") from error
    except ValueError as error:  # requests parses the address that a redirect leads to
        raise DataError(f"{url}: the answer is not HTTP ({error})") from error


def _reason(error: requests.RequestException) -> str:
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not trusted" if "CERTIFICATE" in text else "no TLS connection"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refuses"
    if "resolve" in text or "Name or service" in text:
        return "the host's name cannot be resolved"
    return "connection refused" if "refused" in text else f"no connection ({type(error).__name__})"
