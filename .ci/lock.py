"""Writes requirements.lock: what `.[dev]` and its build need under constraints.txt, each with the hash of its file.

One hash a package: of two files of a version pip prefers the one whose index tells its hash, so beside a CPU build of
torch that lies in a folder, the hash of the ordinary build would bring that one, and CUDA with it.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
PLATFORM = "Linux x86_64 / CPython 3.11"
HEADER = f"""\
# What CI installs, each file known by its hash: the closure of ".[dev]" and of its build; made by `make lock`.
# Only for {PLATFORM}, torch in its CPU build, which pip must be set up to find.
# Elsewhere: `make setup`, which takes the same versions from constraints.txt.
"""


def chosen(wanted: list[str]) -> dict[str, str]:
    """The SHA-256 of each archive that pip would install for what is wanted, by `name==version`."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--only-binary", ":all:", "--no-binary", "antlr4-python3-runtime"]  # as in .ci/run
        command += ["--report", str(report), "-c", "constraints.txt", *wanted]
        subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603  # fixed words and names from constraints.txt, no shell
        packages = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {
        f"{package['metadata']['name']}=={package['metadata']['version']}": archive["hashes"]["sha256"]
        for package in packages
        if (archive := package["download_info"].get("archive_info"))  # the project itself is a folder
    }


def main() -> None:
    """Asks pip what it would install, and writes that down."""
    version = ".".join(platform.python_version_tuple()[:2])
    here = f"{platform.system()} {platform.machine()} / {platform.python_implementation()} {version}"
    if here != PLATFORM:
        sys.exit(f"requirements.lock is for {PLATFORM}; this is {here}")
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    hashes = chosen([".[dev]", *build])
    by_name = sorted(hashes, key=lambda release: release.partition("==")[0].lower())
    LOCK.write_text(HEADER + "".join(f"{release} --hash=sha256:{hashes[release]}\n" for release in by_name))


if __name__ == "__main__":
    main()
