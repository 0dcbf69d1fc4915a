"""The report's page in a browser: whoever reads it, on whatever screen, by mouse, by keyboard or on paper."""

import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from circlemlp.report.write import write_report
from circlemlp.store.records import Store
from conftest import SOURCE, chromium
from made_up import DATA, GRID, RUNS, SETTINGS, made_up

WIDTHS = (360, 820, 1600)
RATES = dict(zip([1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0], [20, 9, 4, 2, 1.5, 1, 1.2, 4, 21], strict=True))
SIZES = {(64,): 0.1, (128,): 0.09, (64, 32): 0.05, (128, 64): 0.04}
CONFIRMED = [*((size, 0.03) for size in SIZES), ((64, 32), 0.01)]


def spread(n):
    return np.linspace(0.8, 1.3, n)


WHOLE = [made_up(size, rate, list(x * y * spread(10))) for size, x in SIZES.items() for rate, y in RATES.items()]
JUDGES = [made_up(size, rate, list(SIZES[size] * spread(30)), first=10) for size, rate in CONFIRMED]
"""As many cells and replicates as the shipped experiment has."""
SMALL = [made_up((4,), 0.1, [0.3]), made_up((6, 3), 0.1, [None]), made_up((6, 3), 0.01, [0.25])]
"""One replicate of each cell, of which one diverged and one is missing."""
LARGE = [made_up((64, width), float(f"{x:.3g}"), [0.1]) for width in range(1, 31) for x in np.geomspace(1e-4, 1, 26)]
SHIPPED = SOURCE / "reports" / "report.html"
MADE = pytest.param("shipped", marks=pytest.mark.skipif(not SHIPPED.exists(), reason="make repro makes it"))
REPORTS = {"whole": (WHOLE, JUDGES), "small": (SMALL, None)}


def test_without_chromium_tests_are_skipped_but_fail_in_ci(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception):
        chromium()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(AssertionError, match="CI installs Chromium"):
        chromium()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Return where the page of a report is."""
    folder = tmp_path_factory.mktemp("reports")
    for name, (records, judges) in REPORTS.items():
        write_report(folder / name, "A title", records, DATA, Store(folder / "runs"), SETTINGS, RUNS, judges)
    for name, records in (("grid", GRID), ("large", LARGE)):
        write_report(folder / name, "A title", records, DATA, Store(folder / "runs"), SETTINGS, RUNS)
    return lambda name: (SHIPPED if name == "shipped" else folder / name / "report.html").as_uri()


@pytest.fixture
def opened(browser, address):
    """Open the page of a report; at the end, nothing has been said in the console, and nothing has been asked for."""
    contexts, told = [], []

    def open_(name, fragment="", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: request.url.startswith(address(name)) or told.append(request.url))
        page.goto(address(name) + fragment)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert told == []


LONGEST_LINE = """() => Math.max(...[...document.querySelectorAll("p, li, figcaption")].map(e => {
  const range = document.createRange(), lines = {};
  const walker = document.createTreeWalker(e, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) for (let i = 0; i < walker.currentNode.length; i++) {
    range.setStart(walker.currentNode, i); range.setEnd(walker.currentNode, i + 1);
    const box = range.getBoundingClientRect(), y = Math.round(box.bottom / 8);
    if (box.width) lines[y] = (lines[y] || 0) + 1;
  }
  return e.closest(".more, nav, td") ? 0 : Math.max(0, ...Object.values(lines));
}))"""


@pytest.mark.parametrize("name", [*REPORTS, MADE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_accessible_and_fits_at_every_width(opened, name, scheme):
    page = opened(name, color_scheme=scheme)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert 30 < page.evaluate(LONGEST_LINE) <= 70


@pytest.mark.parametrize("width", [360, 499, 1600])
def test_a_page_of_many_cells_fits_too(opened, width):
    page = opened("large", viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_where_there_is_room_the_answer_and_its_figure_are_side_by_side(opened):
    page = opened("whole")
    for width, beside in ((1600, True), (820, False)):
        page.set_viewport_size({"width": width, "height": 900})
        first, figure = (page.locator(f"section:first-child > {tag}").first.bounding_box() for tag in ("p", "figure"))
        assert (first["x"] + first["width"] <= figure["x"]) == beside
        assert (first["y"] + first["height"] <= figure["y"]) != beside
        assert figure["x"] + figure["width"] <= width


def test_what_was_asked_and_run_is_two_lines(opened):
    page = opened("whole", viewport={"width": 1600, "height": 900})
    lines = page.locator("section:nth-child(2) > p").all()
    assert [line.inner_text().count(" ") > 5 for line in lines] == [True, True]
    assert all(line.bounding_box()["height"] < 40 for line in lines)


def test_on_a_phone_a_cell_is_a_small_card_that_says_all_of_it(opened):
    page = opened("whole", viewport={"width": 360, "height": 900})
    cards = page.locator("table.many > tbody")
    assert cards.count() == len(WHOLE)
    for card in cards.all():
        assert card.bounding_box()["height"] <= 160
        assert all(cell.is_visible() for cell in card.locator("td").all())


ROWS = "table.many > tbody:not([hidden]) > tr:first-child > td:nth-child(2)"


@pytest.mark.parametrize(
    ("state", "expected", "shown"),
    [
        ("", ["0.03", "0.01", "0.1", "0.01", "0.1"], "5 of 5"),
        ("#sort=1,up&filter=2-6", ["0.01", "0.03", "0.1"], "3 of 5"),
        ("#sort=1,down&filter=0.01", ["0.01", "0.01"], "2 of 5"),
        ("#sort=99,up", ["0.03", "0.01", "0.1", "0.01", "0.1"], "5 of 5"),
    ],
)
def test_the_table_of_every_cell_is_sorted_and_filtered_by_the_fragment(opened, state, expected, shown):
    page = opened("grid", state)
    assert page.locator(ROWS).all_inner_texts() == expected
    assert page.locator("output").inner_text() == shown
    assert page.locator("[aria-sort]").count() == (len(state) > 1 and "99" not in state)


def test_without_a_script_all_is_there(opened):
    page = opened("grid", java_script_enabled=False)
    assert page.locator(ROWS).count() == len(GRID)
    page.locator("summary", has_text="More").first.click()
    expect(page.locator(".more details").first.locator("code")).to_be_visible()
    assert page.locator("input, button").count() == 0


def test_a_cell_of_the_grid_leads_to_its_row_and_opens_it(opened):
    page = opened("grid", "#filter=2-4")
    page.locator("td a", has_text="0.025 good, chosen").click()
    row = page.locator("tbody:target")
    expect(row.locator("code").first).to_be_visible()
    assert row.locator("td").first.inner_text() == "2-6-3-1"


FOCUS = """() => {
  const e = document.activeElement, box = e.getBoundingClientRect();
  const every = [...document.querySelectorAll("a, button, input, summary, [tabindex]")];
  const seen = box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  return [every.indexOf(e), e.tagName, e.textContent, seen];
}"""


@pytest.mark.parametrize("width", [360, 1600])
def test_every_control_is_reached_and_used_by_keys_alone(opened, width):
    page = opened("small", viewport={"width": width, "height": 900}, permissions=["clipboard-read", "clipboard-write"])
    reached = set()
    for _ in range(300):
        page.keyboard.press("Tab")
        place, tag, text, seen = page.evaluate(FOCUS)
        if place in reached or place < 0:
            break
        reached.add(place)
        assert seen, (tag, text)
        if tag == "SUMMARY":
            page.keyboard.press("Enter")
            assert page.evaluate("document.activeElement.parentElement.open")
        elif tag == "BUTTON" and text == "Copy":
            page.keyboard.press("Enter")
            expect(page.locator(":focus")).to_have_text("Copied")
            copied = page.evaluate("navigator.clipboard.readText()")
            assert copied == page.evaluate("document.activeElement.previousElementSibling.textContent")
            assert copied.startswith("python pipelines/train.py")
        elif tag == "BUTTON":
            page.keyboard.press("Space")
            assert page.locator("[aria-sort=ascending] :focus").count() == 1
            assert re.search(r"#sort=\d%2Cup$", page.url)
        elif tag == "INPUT":
            page.keyboard.type("2-6")
            assert page.locator("output").inner_text() == "2 of 3"
            for _ in range(3):
                page.keyboard.press("Backspace")
            assert page.locator("output").inner_text() == "3 of 3"
    assert reached == set(range(page.locator("a, button, input, summary, [tabindex]").count()))


def test_what_is_printed_is_light_and_whole(opened, tmp_path):
    page = opened("whole", color_scheme="dark", viewport={"width": 688, "height": 1000})  # what A4 has between margins
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(31, 35, 40)"
    figures = page.locator("figure").all()
    assert len(figures) == 7
    for figure in figures:
        box = figure.locator("svg").first.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 688
        assert figure.bounding_box()["height"] <= 1000
        assert figure.evaluate("e => getComputedStyle(e).breakInside") == "avoid"
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    pages = re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())
    assert 5 <= len(pages) <= 12
