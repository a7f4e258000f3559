"""The built site: it loads nothing from another host, and no page is wider than the screen."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.places import ROOT

pytestmark = pytest.mark.slow

LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
LOADS |= {"embed": "src", "object": "data", "link": "href"}
POINTS_ONLY = {"index", "search", "next", "prev", "canonical", "author", "help", "alternate"}  # relations of a link
IN_CSS = re.compile(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)")
ELSEWHERE = re.compile(r"(?:[a-z][a-z+.-]*:)?//", re.IGNORECASE)
# How much farther than it is wide a page can be scrolled, or its text, which scrolls by itself.
TOO_WIDE = """Math.max(...[document.documentElement, ...document.querySelectorAll(".bd-article-container, .bd-main")]
    .map(part => part.scrollWidth - part.clientWidth))"""
WIDTHS = {"a desktop": 1280, "a phone": 390}


class Loaded(HTMLParser):
    """The addresses that a page loads: of its elements, its styles and its image sets."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found, self.in_style = list[str](), False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.in_style = tag == "style"
        if tag in LOADS and not (tag == "link" and set(given.get("rel", "").split()) <= POINTS_ONLY):
            self.found.append(given.get(LOADS[tag], ""))
        self.found += [each.split()[0] for each in given.get("srcset", "").split(",") if each.strip()]
        self.found += in_css(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        self.found += in_css(data) if self.in_style else []


def in_css(text: str) -> list[str]:
    return [first or second for first, second in IN_CSS.findall(text)]


def loaded(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return Loaded(text).found if path.suffix == ".html" else in_css(text)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make docs` builds."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "source").mkdir()
    options = ["--quiet", "--fail-on-warning", "-c", "docs/site", "-d", str(folder / "cache")]
    command = [sys.executable, "-m", "sphinx", *options, str(folder / "source"), str(folder / "built")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "built"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not shutil.which("chromium"):
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        yield opened
        opened.close()


@pytest.mark.parametrize(
    ("page", "address"),
    [
        ('<script src="https://a.org/x.js"></script>', "https://a.org/x.js"),
        ('<link rel="stylesheet" href="//a.org/x.css">', "//a.org/x.css"),
        ('<link rel="icon" href="http://a.org/x.png">', "http://a.org/x.png"),
        ('<img alt="a" src="https://a.org/x.png">', "https://a.org/x.png"),
        ('<img srcset="x.png 1x, https://a.org/x.png 2x">', "https://a.org/x.png"),
        ('<iframe src="https://a.org"></iframe>', "https://a.org"),
        ('<p style="background: url(https://a.org/x.png)">', "https://a.org/x.png"),
        ('<style>@import "https://a.org/x.css";</style>', "https://a.org/x.css"),
    ],
)
def test_what_a_page_loads_from_another_host_is_found(page: str, address: str) -> None:
    assert [each for each in Loaded(page).found if ELSEWHERE.match(each)] == [address]


def test_a_link_to_another_host_loads_nothing() -> None:
    assert not [each for each in Loaded('<a href="https://a.org">a</a> url(https://b.org)').found if each]


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    addresses = {path.relative_to(site).as_posix(): loaded(path) for path in files}
    assert sum(map(len, addresses.values())) > len(files)
    assert not {name: each for name, found in addresses.items() for each in found if ELSEWHERE.match(each)}


def test_each_picture_is_there_and_has_an_alternative_text(site: Path) -> None:
    for page in site.rglob("*.html"):
        for image in re.findall(r"<img [^>]*>", page.read_text(encoding="utf-8")):
            assert re.search(r'alt="[^"]{8,}"', image), (page, image)
            assert (page.parent / re.search(r'src="([^"]*)"', image)[1]).is_file(), (page, image)  # type: ignore[index]  # None fails too


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_no_page_scrolls_sideways_or_asks_another_host(width: int, site: Path, browser: Browser) -> None:
    view, requests, wide = browser.new_page(viewport={"width": width, "height": 900}), list[str](), {}
    view.on("request", lambda request: requests.append(request.url))
    for path in sorted(site.rglob("*.html")):
        view.goto(path.as_uri(), wait_until="load")
        if more := view.evaluate(TOO_WIDE):
            wide[path.relative_to(site).as_posix()] = more
    view.evaluate("document.querySelector('article').append(document.createElement('hr'))")
    view.evaluate("document.querySelector('article hr').style.width = '2000px'")
    assert view.evaluate(TOO_WIDE) > 700  # what is too wide would be found
    view.close()
    assert wide == {}
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert any("/uz/" in url for url in requests) and len(requests) > 100
