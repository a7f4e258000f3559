"""A newcomer in a fresh clone types what README and the tool print, up to the fourteen curves in the browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.support.places import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("ordinary_signals"),
    pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="there is no repository to clone"),
]

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/#/\S+")


def origin(address: str) -> str:
    return address.partition("/#")[0]


@dataclass
class Terminal:
    """A shell in the clone, whose environment is not activated."""

    folder: Path
    servers: list[subprocess.Popen[str]] = field(default_factory=list)

    def type(self, command: str) -> str:
        """Run a command to its end and return what it printed; it must not fail."""
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def serve(self, command: str) -> str:
        """Start a server, by the command that its refusal names where the port is in use; return its address."""
        while True:
            server = subprocess.Popen(
                command, shell=True, cwd=self.folder, env=self.environment, start_new_session=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            self.servers.append(server)
            assert server.stdout is not None
            lines = []
            for line in server.stdout:
                lines.append(line)
                if found := ADDRESS.search(line):
                    return found[0]
            free = re.search(r"use a free one: (.*)", "".join(lines))
            assert server.wait() == 2, "".join(lines)
            assert free, "".join(lines)
            command = free[1]

    @property
    def environment(self) -> dict[str, str]:
        """This one's, where no environment of Python's is active."""
        own = str(Path(sys.executable).parent)
        path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != own)
        kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
        return kept | {"PATH": path}


@pytest.fixture(scope="module")
def terminal(ordinary_signals: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A terminal in a clone whose set-up is done: its environment has this one's packages and the clone's code."""
    clone = tmp_path_factory.mktemp("first") / "experiments"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    venv.create(clone / ".venv")
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    (target,) = (clone / ".venv" / "lib").glob("python*/site-packages")
    # The clone's code first; the .pth files among the packages are not run, so the checkout's own code is not found.
    (target / "clone.pth").write_text(f"{clone / 'src'}\n{packages}\n", encoding="utf-8")
    (clone / ".venv" / ".installed").touch()
    opened = Terminal(clone)
    yield opened
    for server in opened.servers:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGINT)
            server.wait(30)
        assert server.stdout is not None
        server.stdout.close()


@pytest.fixture(scope="module")
def printed(terminal: Terminal) -> str:
    """What README's first command prints for the fourteen stages, on the digits that need no network."""
    return terminal.type('make run ARGS="experiment=tutorial dataset=mnist_5k"')


@pytest.fixture(scope="module")
def served(terminal: Terminal, printed: str) -> str:
    """The address that the printed command for the UI prints."""
    command = re.search(r"start the UI first: (.*)\)", printed)
    assert command
    return terminal.serve(command[1])


def test_the_tutorials_table_has_all_stages(printed: str) -> None:
    assert len(re.findall(r"^(?:\d\d_\w+) ", printed, re.MULTILINE)) >= 14


@pytest.mark.parametrize("which", ["served", "view", "curves"])
def test_a_printed_address_shows_the_fourteen_stages_with_their_curves(which: str, printed: str, served: str) -> None:
    address = served
    if which != "served":
        link = re.search(rf"^{which} +({ADDRESS.pattern})", printed, re.MULTILINE)
        assert link
        # The port may have been another's; the UI then named a free one.
        address = link[1].replace(origin(link[1]), origin(served))
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.goto(address, timeout=60_000)
        page.wait_for_selector(".scatterlayer .trace", timeout=60_000)
        if which == "curves":
            expected = page.get_by_text(re.compile(r"^\d\d_\w+ \(valid/loss\)$"))
        else:  # MLflow's page of runs draws ten of them until more are chosen
            expected = page.get_by_role("link", name=re.compile(r"^\d\d_\w+$"))
        deadline = time.monotonic() + 60
        while (count := expected.count()) < 14 and time.monotonic() < deadline:
            page.wait_for_timeout(500)
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=str(Path(folder) / f"first-hour-{which}.png"))
        browser.close()
    assert count == 14


def test_the_latest_sweep_is_compared_on_a_page(terminal: Terminal, printed: str) -> None:
    terminal.type('make compare ARGS="--html page.html"')
    page = (terminal.folder / "page.html").read_text(encoding="utf-8")
    assert all(f"{number:02d}_" in page for number in range(1, 15))


def test_the_links_of_the_next_run_open_without_another_command(terminal: Terminal, served: str) -> None:
    link = ADDRESS.search(terminal.type('make run ARGS="dataset=digits epochs=1"'))
    assert link
    assert origin(link[0]) == origin(served)
