"""The page of a comparison: whole, without script, readable where there is no network, and nothing in it is obeyed."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

from experiments.compare import page
from experiments.compare.comparison import compare
from experiments.compare.selection import choose
from experiments.config.language import Language
from tests.support.compared import pictures, run, sweep

HOSTILE = ("<script>document.title='owned'</script>", '"><img src=x onerror="document.title=1">', "$x$ & 'y' {z}")

browser = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")]


def written(folder: Path, *names: Path) -> Path:
    jobs, sweeps = choose([str(name) for name in names], folder)
    path = folder / "page.html"
    path.write_text(page.page(compare(jobs, "valid/loss"), sweeps, "epoch"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of a sweep whose names, labels, reasons and verdicts are attacks."""
    folder = tmp_path_factory.mktemp("hostile")
    place = sweep(folder / "s")
    for number, name in enumerate(HOSTILE):
        made = run(
            place / str(number),
            [0.9 - number / 10, 0.7 - number / 10],
            accuracies=[0.5, 0.6],
            settings={"model.name": name},
            status="FINISHED" if number != 1 else "FAILED",
            name=name,
        )
        pictures(made, labels=HOSTILE)
    verdict = {"pair": HOSTILE[:2], "verdict": HOSTILE[0], "where": HOSTILE[1], "difference": 1e-7, "expected": "equal"}
    (place / "parity.json").write_text(json.dumps([verdict]), encoding="utf-8")
    return written(folder, place)


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_nothing_in_a_page_is_a_script_a_handler_or_an_address(hostile: Path) -> None:
    elements = Elements(hostile.read_text(encoding="utf-8")).found
    assert {"script", "iframe", "object", "link", "a", "form", "base"}.isdisjoint(tag for tag, _ in elements)
    for tag, attributes in elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "style", "clip-path"):
            value = re.sub(r"url\(#\w+\)", "", attributes.get(name) or "")
            assert value.startswith(("data:image/png;base64,", "#")) or ("//" not in value and "url(" not in value), tag
    (policy,) = [given["content"] for _, given in elements if given.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_a_page_names_no_place_on_the_machine(hostile: Path) -> None:
    assert str(hostile.parent) not in hostile.read_text(encoding="utf-8")


def test_the_digits_are_those_of_each_of_few_runs_and_of_the_best_of_many(tmp_path: Path) -> None:
    for number in range(4):
        pictures(run(tmp_path / str(number), [1.0 - number / 10], settings={"optim.lr": str(number)}), wrong=2)
    few = written(tmp_path, tmp_path / "0", tmp_path / "1").read_text(encoding="utf-8")
    assert few.count("<img ") == 4 and "What optim.lr=1 reads wrongly" in few
    many = written(tmp_path, tmp_path).read_text(encoding="utf-8")
    assert many.count("<img ") == 2 and "What optim.lr=3 reads wrongly" in many


def test_pictures_that_are_missing_or_damaged_are_left_out(tmp_path: Path) -> None:
    one, other = run(tmp_path / "a", [1.0]), run(tmp_path / "b", [0.5], settings={"optim.lr": "2"})
    (other / "pictures.npz").write_bytes(b"PK\x03\x04 no such thing")
    assert "<img " not in written(tmp_path, one, other).read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"pair": 1}]', '{"a": 1}'])
def test_verdicts_that_cannot_be_read_are_told_as_that(content: str, tmp_path: Path) -> None:
    place = sweep(tmp_path / "s")
    run(place / "0", [1.0])
    (place / "parity.json").write_text(content, encoding="utf-8")
    told = written(tmp_path, place).read_text(encoding="utf-8")
    assert "parity.json of s cannot be read" in told or "No pair was compared" in told


def test_verdicts_are_a_table(tmp_path: Path) -> None:
    place = sweep(tmp_path / "s")
    run(place / "0", [1.0])
    found = {"pair": ["01", "02"], "verdict": "equal", "where": "weight", "difference": 2e-9, "expected": "equal"}
    (place / "parity.json").write_text(json.dumps([{**found, "holds": True}]), encoding="utf-8")
    told = written(tmp_path, place).read_text(encoding="utf-8")
    cells = re.findall(r"<td[^>]*>(.*?)</td>", told[told.index("Is it the same training?") :])
    assert cells == ["01", "02", "equal", "weight", "2.0e-09", "equal", "yes"]


def test_of_several_seeds_the_groups_come_first_and_no_run_is_marked_best(tmp_path: Path) -> None:
    told = written(tmp_path, sweep(tmp_path / "s", seeds=4)).read_text(encoding="utf-8")
    assert told.index("Is it more than chance?") < told.index("The runs")
    assert 'class="answer">lowest mean valid/loss: model=cnn' in told
    assert 'class="best"' not in told
    alone = written(tmp_path, run(tmp_path / "alone", [0.5])).read_text(encoding="utf-8")
    assert 'class="best"' in alone


def looks(text: str) -> set[str]:
    """The classes of all cells."""
    return {name for classes in re.findall(r'<td class="([^"]*)"', text) for name in classes.split()}


def test_a_colour_is_that_of_a_decided_group_and_of_nothing_else(tmp_path: Path) -> None:
    sweep(tmp_path / "s", seeds=8)
    better = written(tmp_path, tmp_path / "s").read_text(encoding="utf-8")
    assert "better" in looks(better) and better.count('class="words better"') == 1
    worse = written(tmp_path, *(tmp_path / "s" / str(number) for number in (*range(8, 16), *range(8))))
    assert "worse" in looks(worse.read_text(encoding="utf-8"))
    one_each = written(tmp_path, tmp_path / "s" / "0", tmp_path / "s" / "8").read_text(encoding="utf-8")
    assert not {"better", "worse"} & looks(one_each)


def test_the_page_states_the_sign_of_a_difference(tmp_path: Path) -> None:
    told = written(tmp_path, sweep(tmp_path / "s", seeds=2)).read_text(encoding="utf-8")
    assert "A difference is a value minus that of the first" in told


def test_a_run_with_more_epochs_behind_it_is_not_marked_best(tmp_path: Path) -> None:
    one = run(tmp_path / "a", [0.5], settings={"init_from": "null", "epochs": "1"})
    other = run(tmp_path / "b", [0.4], settings={"init_from": str(one), "epochs": "1"})
    told = written(tmp_path, one, other).read_text(encoding="utf-8")
    assert 'class="best"' not in told and "(+1 epoch)" in told


def test_a_page_in_uzbek_has_no_english_sentence(tmp_path: Path) -> None:
    jobs, sweeps = choose([str(sweep(tmp_path / "s", seeds=2))], tmp_path)
    text = page.page(compare(jobs, "valid/loss", None, Language("uz")), sweeps, "epoch")
    assert '<html lang="uz">' in text
    visible = re.sub(r"<style.*?</style>|<svg.*?</svg>|<[^>]*>", " ", text, flags=re.DOTALL)
    assert not re.findall(r"\b(?:the|is|of|and|runs|first|mean)\b", visible)


# In a browser


@pytest.fixture(scope="module")
def offline() -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, offline=True)
        context.set_default_timeout(60_000)
        yield context
        chromium.close()


@pytest.fixture
def opened(offline: BrowserContext, hostile: Path) -> Iterator[tuple[Page, list[str], list[str]]]:
    """The hostile page, what it asked for, and what the browser complained of."""
    tab, asked, complaints = offline.new_page(), list[str](), list[str]()
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(hostile.as_uri())
    if folder := os.environ.get("SCREENSHOTS"):
        tab.screenshot(path=str(Path(folder) / "page.png"), full_page=True)
    yield tab, asked, complaints
    tab.close()


class TestInABrowser:
    pytestmark = browser

    def test_the_page_asks_for_nothing_and_nothing_is_refused(
        self, opened: tuple[Page, list[str], list[str]], hostile: Path
    ) -> None:
        _, asked, complaints = opened
        assert [url for url in asked if not url.startswith("data:")] == [hostile.as_uri()]
        assert complaints == []

    def test_names_stay_text(self, opened: tuple[Page, list[str], list[str]]) -> None:
        tab, _, _ = opened
        assert tab.title() == "Runs compared by valid/loss"
        assert tab.locator("script").count() == 0 and tab.locator("img[src=x]").count() == 0
        for name in HOSTILE:
            assert tab.locator("td").filter(has_text=name).count() >= 1

    def test_the_table_the_curves_and_the_digits_are_seen(self, opened: tuple[Page, list[str], list[str]]) -> None:
        tab, _, _ = opened
        heads = tab.locator("table").first.locator("th").all_inner_texts()
        assert [head.split("\n")[0] for head in heads][:2] == ["run", "model.name"] or heads[1] == "model"
        assert tab.get_by_text("0.5000").count() >= 1
        for curve in tab.locator(".curves svg").all():
            box = curve.bounding_box()
            assert box is not None and box["width"] > 300 and box["height"] > 150
            assert curve.locator("[id^=line2d]").count() > 3
        assert tab.locator(".curves svg").count() == 2
        sizes = tab.locator(".digits img").evaluate_all("images => images.map(image => image.naturalWidth)")
        assert sizes == [8] * 9

    def test_the_verdicts_are_seen(self, opened: tuple[Page, list[str], list[str]]) -> None:
        tab, _, _ = opened
        assert tab.get_by_text("Is it the same training?").is_visible()
        assert tab.get_by_role("cell", name="1.0e-07").is_visible()

    @pytest.mark.parametrize("width", [360, 768])
    def test_on_a_small_screen_only_tables_are_wider_than_it(
        self, width: int, opened: tuple[Page, list[str], list[str]]
    ) -> None:
        tab, _, _ = opened
        tab.set_viewport_size({"width": width, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width

    def test_by_night_and_on_paper_letters_stand_out(self, opened: tuple[Page, list[str], list[str]]) -> None:
        tab, _, _ = opened
        colours = "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
        tab.emulate_media(color_scheme="dark")
        assert tab.evaluate(colours) == ["rgb(230, 237, 243)", "rgb(13, 17, 23)"]
        tab.emulate_media(color_scheme="dark", media="print")
        assert tab.evaluate(colours) == ["rgb(27, 31, 36)", "rgb(255, 255, 255)"]
