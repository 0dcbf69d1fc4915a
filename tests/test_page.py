"""What the report's pages and pictures look like, as far as a program can see it."""

import html
import re
import tomllib
from html.parser import HTMLParser
from itertools import combinations

import numpy as np
import pytest
import yaml
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.transforms import Bbox

from circlemlp.config import Paths
from circlemlp.report import answer, costs, health, style, svg
from circlemlp.report import rates as learning_rates
from circlemlp.report.colors import COLORS, KNOWN, of_architecture
from circlemlp.report.comparison import compare
from circlemlp.report.pairs import matrix
from circlemlp.report.write import write_report
from circlemlp.store.records import Store
from conftest import SOURCE
from made_up import DATA, GRID, RUNS, SETTINGS, made_up, with_losses

SPREAD = np.linspace(0.9, 1.1, 10)


def page_of(folder, records=GRID, confirmation=None):
    write_report(folder, "A title", records, DATA, Store(folder / "runs"), SETTINGS, RUNS, confirmation)
    return (folder / "report.html").read_text()


class Ids(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.labels = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if tag == "a" else []
        self.labels += [attributes.get("aria-label")] if attributes.get("role") == "img" else []


def luminance(color):
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_can_be_read_on_what_is_behind_it(mode):
    colors = {name: getattr(color, mode) for name, color in COLORS.items()}
    behind = ["paper", "wash", "too-slow", "good", "unstable", "collapsed", "diverged"]
    architectures = [name for name in colors if re.fullmatch(r"a\d+", name)]
    for text, place in [
        *((text, place) for text in ("ink", "link") for place in behind[:2]),
        *(("ink", place) for place in behind),
        *((text, "paper") for text in ("soft", *architectures)),
    ]:
        assert contrast(colors[text], colors[place]) >= 4.5, (text, place)


def test_an_architecture_has_its_colour_whatever_else_is_there():
    assert len({color.light for color in COLORS.values()}) == len(COLORS)
    known = [of_architecture(name) for name in KNOWN]
    assert len(set(known)) == len(KNOWN)
    others = {of_architecture(f"2-{width}-1") for width in range(3, 60)}
    assert len(others) == 8
    assert not others & set(known)


def grid(architectures, rates, shape):
    """Return a comparison of many cells, in which errors are lowest at rates in the middle."""
    random, tuning, judges = np.random.default_rng(0), [], []
    for place in range(architectures):
        hidden = (4 + 2 * place,) if place % 2 else (8 + place, 4 + place)
        for rate in np.geomspace(1e-4, 1, rates).round(6):
            loss = 0.04 + 0.01 * place + 0.2 * (np.log10(rate) + 1.5) ** 2
            tuning.append(made_up(hidden, float(rate), list(loss * np.exp(0.3 * random.normal(size=10)))))
            judges.append(made_up(hidden, float(rate), list(loss * SPREAD), first=10))
    for record in (*tuning, *judges):
        record.ingredients["config"]["data"] |= {"shape": shape, "radius": 0.8 if shape == "disk" else 1.0}
    return compare(tuning, SETTINGS, judges)


class Texts(RendererAgg):
    """Draws, and notes where level lines of text are."""

    def draw_text(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):
        width, height, descent = self.get_text_width_height_descent(s, prop, ismath)
        if angle == 0:
            self.__dict__.setdefault("found", []).append((s, Bbox.from_bounds(x, y + descent - height, width, height)))
        super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)


@pytest.mark.parametrize(
    ("architectures", "rates", "shape"),
    [
        (1, 26, "quarter_circle"),
        (4, 100, "quarter_circle"),
        (13, 12, "quarter_circle"),
        (30, 2, "quarter_circle"),
        (2, 3, "disk"),
    ],
)
def test_however_large_a_grid_is_no_text_in_a_picture_hides_another(architectures, rates, shape):
    comparison = grid(architectures, rates, shape)
    for picture in (answer, learning_rates, costs):
        with style.context():
            figure = picture.draw(comparison).figure
            renderer = Texts(*figure.bbox.size, figure.dpi)
            figure.draw(renderer)
        assert renderer.found
        assert [(a, b) for (a, one), (b, other) in combinations(renderer.found, 2) if one.overlaps(other)] == []


def test_a_simplified_picture_has_no_more_than_shows():
    drawn, style = (
        "M 1.04 2.06 \nL -0.04 7 \nL -0.01 7.04 \nL 8.949 9.96 \nz\nM 1.04 2 \nL 1.04 2 \n",
        'style="stroke-width: 0.35"',
    )
    simple = "M 1 2.1 \nL 0 7 \nL 8.9 10 \nz\nM 1 2 \nL 1 2 \n"
    assert svg.simplified(f'<path d="{drawn}" {style}/>') == f'<path d="{simple}" {style}/>'


def test_in_a_page_a_path_has_no_space_that_it_does_not_need():
    picture = '<svg viewBox="0 0 9 9">\n <g id="a">\n  <path d="M 1 2 \nL 1 2 \nM 3 4 \nL 5 6 \nz\n"/>\n </g>\n</svg>'
    assert svg.for_page(picture, "one").partition(">")[2] == '<g><path d="M1 2h0M3 4L5 6z"/></g></svg>'


def test_a_picture_in_a_page_has_the_page_s_colours_and_names_of_its_own(tmp_path):
    page = page_of(tmp_path)
    drawings = re.findall("<figure.*?</svg>", page, re.DOTALL)
    assert len(drawings) == len(list((tmp_path / "figures").iterdir())) == 7
    for drawing in drawings:
        assert not re.search(r"#[0-9a-f]{6}\b", drawing)
        assert "var(--ink)" in drawing
    found = Ids(page)
    assert len(set(found.ids)) == len(found.ids)
    inside = {link for link in found.links if not link.startswith("http://127.0.0.1:5000/#/runs/")}
    assert {link.removeprefix("#") for link in inside} <= set(found.ids)
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(found.ids)
    assert set(re.findall(r"var\(--([\w-]+)\)", page)) - {"sans", "mono"} <= set(COLORS)


def test_every_picture_says_in_words_what_it_shows(tmp_path):
    page = page_of(tmp_path)
    captions = re.findall(r"<figcaption><strong>(.*?)</strong>", page, re.DOTALL)
    labels = [label for label in Ids(page).labels if not label.startswith(("True errors:", "Median validation loss:"))]
    assert [html.unescape(re.sub("<[^>]*>", "", caption)) for caption in captions] == labels
    assert all(re.search(r"\d", label) for label in labels)
    assert page.count("<summary>The numbers in this picture</summary>") == len(captions) == 7


def test_a_minus_sign_is_one_wherever_a_number_is_small(tmp_path):
    rates = {1e-5: 1.0, 3e-5: 0.9, 1e-4: 2.0}
    records = [made_up((w,), rate, list(w * y * 1e-5 * SPREAD)) for w in (4, 5) for rate, y in rates.items()]
    page = re.sub(r"<(code|style|script)\b.*?</\1>", "", page_of(tmp_path, records), flags=re.DOTALL)
    assert "3e−05" in page
    shown = [re.sub("<[^>]*>", "", page), *re.findall('aria-label="([^"]*)"', page)]
    assert not [found for text in shown for found in re.findall(r".{20}\de-\d+|[\s(]-\d", text)]


def test_every_cell_of_the_grid_leads_to_its_row_and_says_its_regime(tmp_path):
    page = page_of(tmp_path)
    cells = re.findall(r'<td data-name="2-\S+" class=" s-([\w-]+)"><a href="#(cell-[^"]+)">([^<]*)</a>', page)
    assert len(cells) == len(GRID)
    assert page.count(">not trained</text>") == 1
    for shade, anchor, text in cells:
        assert f'<tbody id="{anchor}">' in page
        assert shade.replace("-", " ") in text
    assert sum(text.endswith(", chosen") for *_, text in cells) == 2


def test_of_one_learning_rate_none_is_marked_as_chosen(tmp_path):
    several, one = page_of(tmp_path / "several"), page_of(tmp_path / "one", [GRID[0], GRID[2]])
    for mark in (", chosen</a>", "Framed: the chosen learning rate."):
        assert mark in several
        assert mark not in one


def test_a_matrix_says_of_both_what_the_difference_says():
    errors = {(4,): 0.3, (5,): 0.1, (6,): 0.1}
    orders = (SPREAD, SPREAD, SPREAD[::-1])
    records = [
        made_up(sizes, 0.1, list(one * order)) for (sizes, one), order in zip(errors.items(), orders, strict=True)
    ]
    judged = compare(records, SETTINGS).last
    table = matrix(judged)
    names = list(table.head[1:])
    cells = {(row[0], name): text for row in table.rows for name, text in zip(names, row[1:], strict=True)}
    for one, other in combinations(("2-5-1", "2-4-1"), 2):
        assert cells[one, other].startswith("0.333 (")
        assert cells[one, other].endswith(", 10 of 10: lower")
        assert cells[other, one].startswith("3 (")
        assert cells[other, one].endswith(", 0 of 10: higher")
    assert cells["2-5-1", "2-6-1"].endswith(", 5 of 10: undecided")
    assert all(cells[name, name] == "" for name in names)
    assert matrix(compare(records[:1], SETTINGS).last) is None
    assert matrix(compare([made_up((w,), 0.1, [0.1] * 9) for w in range(4, 13)], SETTINGS).last) is None


def found(records, confirmation=None):
    return {row[0]: row[2:] for row in health.checks(compare(records, SETTINGS, confirmation)).rows}


def test_what_is_healthy_has_nothing_to_see_and_what_is_not_is_named():
    flat = np.full((10, 21), 0.1)
    rates = {0.01: 3.0, 0.1: 1.0, 1.0: 3.0}
    healthy = [with_losses(made_up((4,), rate, list(0.1 * SPREAD)), flat * factor) for rate, factor in rates.items()]
    assert {name: words for name, (_, words) in found(healthy).items()} == dict.fromkeys(
        ["edge of the grid", "choice of the rate", "bad runs", "still improving", "overfitting", "spikes at the end"],
        "nothing to see",
    )
    edge = found(healthy[1:])
    assert edge["edge of the grid"] == ["1 of 1", "look at 2-4-1"]
    assert found([made_up((4,), 0.1, [0.1] * 9 + [0.5])])["bad runs"] == ["1 of 10 (2% to 40%)", "look at 2-4-1"]
    assert found([made_up((4,), 0.1, [0.1] * 10)])["still improving"] == ["1 of 1", "look at 2-4-1"]
    over = with_losses(made_up((4,), 0.1, [0.1] * 10), flat)
    over.history.training_loss[:] = 0.05
    assert found([over])["overfitting"] == ["2", "look at 2-4-1"]
    spiky = flat.copy()
    spiky[:3, -1] = 0.5
    spiky_one = with_losses(made_up((4,), 0.1, [0.1] * 10), np.repeat(spiky, [1] * 21, axis=1))
    assert found([spiky_one])["spikes at the end"] == ["3 of 10", "look at 2-4-1"]


def test_a_check_that_cannot_be_made_says_why():
    spread = [made_up((4,), rate, list(0.1 * SPREAD)) for rate in (0.01, 0.1)]
    assert found(spread[:1])["choice of the rate"] == ["", "there was no rate to choose"]
    single = [made_up((4,), rate, [0.1]) for rate in (0.01, 0.1)]
    assert found(single)["choice of the rate"] == ["", "one replicate does not tell"]
    lost = found([made_up((4,), rate, [None] * 3) for rate in (0.01, 0.1)])
    assert lost["choice of the rate"] == ["", "no rate could be chosen"]
    assert found(spread, [made_up((4,), 0.01, [None] * 3, first=10)])["overfitting"] == ["", "no network finished"]


def test_a_report_of_other_results_goes_into_a_folder_of_its_own_unless_told_otherwise():
    def folder(results, reports):
        paths = Paths(records="runs", results=results, confirmation=None, reports=reports)
        return str(paths.report_folder)

    assert folder("results/disk", None) == "reports/disk"
    assert folder("results/disk", "reports") == "reports"
    assert folder(None, None) == "reports"


def test_the_citation_is_of_this_project():
    cited = yaml.safe_load((SOURCE / "CITATION.cff").read_text())
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    assert [cited["title"], cited["abstract"], cited["version"], cited["license"]] == [
        project[key] for key in ("name", "description", "version", "license")
    ]
