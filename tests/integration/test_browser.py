"""What a person sees in the MLflow UI, in a real browser, at the addresses that the product prints."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, sync_playwright

from experiments import ui
from experiments.sweeps import summary
from experiments.tracking import delivered, links
from experiments.tracking.delivered import Delivered

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep over the fourteen stages on the small digits."""
    place = tmp_path_factory.mktemp("stages")
    command = [sys.executable, "-m", "experiments", "experiment=tutorial", "dataset=mnist_5k"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = (place / "outputs" / "sweeps").glob("*/*")
    return folder


@pytest.fixture(scope="module")
def address(sweep: Path) -> Iterator[str]:
    """`python -m experiments.ui` on the sweep's store."""
    place, port = sweep.parents[3], free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.ui", "--port", str(port)], cwd=place, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    waiting = time.monotonic() + 90
    while time.monotonic() < waiting:
        try:
            requests.get(f"{url}/health", timeout=2)
            break
        except requests.ConnectionError:
            time.sleep(0.3)
    yield url
    os.killpg(process.pid, 15)
    process.wait()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        opened = browser.new_page(viewport={"width": 1500, "height": 1000})
        opened.set_default_timeout(60_000)
        yield opened
        browser.close()


def states(sweep: Path) -> list[Delivered]:
    return [delivered.state(job.folder) for job in summary.collect(sweep)]


def shoot(page: Page, name: str) -> None:
    """Keep a screenshot where one is asked for: SCREENSHOTS=folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def test_the_printed_link_shows_the_stages_validation_curves_over_steps(sweep: Path, address: str, page: Page) -> None:
    printed = links.runs(f"sqlite:///{sweep.parents[3]}/mlflow.db", states(sweep))
    page.goto(printed)
    page.wait_for_selector(".scatterlayer .trace")
    page.wait_for_timeout(1500)
    shoot(page, "comparison")
    for job in summary.collect(sweep):
        assert page.get_by_text(f"{job.start.name} (valid/loss)", exact=True).count() == 1
    assert page.locator(".xtitle").text_content() == "Step"


def test_the_experiments_page_shows_the_runs_as_rows_with_their_curves(sweep: Path, address: str, page: Page) -> None:
    printed = links.experiment(f"sqlite:///{sweep.parents[3]}/mlflow.db", states(sweep)[0].experiment_id)
    page.goto(printed)
    page.wait_for_selector("text=10_cnn")
    page.wait_for_selector(".scatterlayer .trace")
    page.wait_for_timeout(2500)
    shoot(page, "experiment")
    assert page.get_by_text("14 matching runs").is_visible()
    assert page.get_by_text("14_mnist_sample (best/valid").count() > 0
    assert page.locator(".scatterlayer .trace").count() > 0


def test_the_link_to_a_sweep_shows_its_runs_alone(sweep: Path, address: str, page: Page) -> None:
    experiment, parent = states(sweep)[0].experiment_id, delivered.state(sweep).run_id
    for run_id, runs in ((parent, 14), (32 * "0", 0)):
        printed = links.experiment(f"sqlite:///{sweep.parents[3]}/mlflow.db", experiment, run_id)
        page.goto(printed)
        page.wait_for_selector(f"text={runs} matching runs")


def test_a_runs_page_shows_the_stages_words(sweep: Path, address: str, page: Page) -> None:
    printed = links.runs(f"sqlite:///{sweep.parents[3]}/mlflow.db", states(sweep)[9:10])
    page.goto(printed)
    page.wait_for_selector("text=Stage 10")
    page.wait_for_timeout(1000)
    shoot(page, "run")


@pytest.mark.parametrize("number", [1, 2])
def test_a_link_to_runs_opens_the_pages_of_model_training(number: int, sweep: Path, address: str, page: Page) -> None:
    printed = links.runs(f"sqlite:///{sweep.parents[3]}/mlflow.db", states(sweep)[:number])
    browser = page.context.browser
    assert browser is not None
    with browser.new_context() as fresh:  # MLflow remembers which of its two kinds of pages was open last
        first = fresh.new_page()
        first.goto(printed, timeout=60_000)
        first.wait_for_selector("text=Model registry", timeout=60_000)
        assert first.get_by_text("Evaluation runs", exact=True).count() == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 200), ({"Host": "evil.example"}, 403), ({"Origin": "https://evil.example"}, 403)],
)
def test_the_ui_answers_this_machine_only(headers: dict[str, str], status: int, address: str) -> None:
    answer = requests.post(
        f"{address}/api/2.0/mlflow/experiments/search", json={"max_results": 1}, headers=headers, timeout=10
    )
    assert answer.status_code == status


def test_the_ui_binds_loopback_and_names_hosts_and_origins() -> None:
    command = ui.command(5000)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--allowed-hosts") + 1] == "localhost:5000,127.0.0.1:5000"
    assert command[command.index("--cors-allowed-origins") + 1] == "http://localhost:5000,http://127.0.0.1:5000"
