import dataclasses
import html
import json
import os
import re
import resource
import stat
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from circlemlp import wording
from circlemlp.core.parameters import Layout
from circlemlp.core.true_error import decide, true_error
from circlemlp.errors import UserError
from circlemlp.report import operations, sensitivity
from circlemlp.report.boundary import median_replicate, true_boundary
from circlemlp.report.comparison import compare
from circlemlp.report.document import Code, Table, as_markdown
from circlemlp.report.learned import draw_grid, some_rates, wrong
from circlemlp.report.tables import timing
from circlemlp.report.write import write_report
from circlemlp.store.records import Store
from circlemlp.store.trained import join
from made_up import DATA, GRID, RUNS, SETTINGS, made_up

AT = "2026-01-01T00:00:00+00:00"
CONFIRMATION = [
    made_up((4,), 0.1, [0.15, 0.11, 0.13, 0.12, 0.14], first=3),
    made_up((6, 3), 0.03, [0.5, None, 0.4, 0.4, 0.4], first=3),
]
"""Of GRID, in which the second architecture had the lower error."""


def report(folder, records=GRID, title="A title", confirmation=None):
    """Return what a report's page says, a line for a row of its tables."""
    write_report(folder, title, records, DATA, Store(folder / "runs"), SETTINGS, RUNS, confirmation)
    text = (folder / "report.html").read_text().partition("<main")[2].partition("<script>")[0]
    for tag, mark in (
        ("<h2[^>]*>", "\n## "),
        ("<tr[^>]*>", "\n|"),
        ("<t[dh][^>]*>", " "),
        ("</t[dh]>", " |"),
        ("<[^>]*>", ""),
    ):
        text = re.sub(tag, mark, text)
    return html.unescape(text)


def contents(folder):
    """Return what is in a folder, but for the lock file, which says who held it last."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder): path.read_bytes() for path in sorted(files)}


def test_the_same_results_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        report(tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    pictures = ["answer", "boundaries", "costs", "learning_rates", "loss_curves", "regions", "replicates"]
    texts = ["report.html", "report.md", "timing.md", "true_error.json"]
    assert [str(path) for path in contents(tmp_path / "a")] == [*(f"figures/{name}.svg" for name in pictures), *texts]


def test_it_says_what_was_run_and_what_came_out(tmp_path):
    text = report(tmp_path)
    assert "\n2 architectures × 3 rates × 3 replicates (1 of 6 cells is missing)." in text
    assert "15 networks, each trained by Adam on the full batch" in text
    assert "Learning rates: 0.01, 0.03, 0.1." in text
    assert "40 training and 100 validation points, drawn anew for each replicate, label noise 0." in text
    assert "Always giving the more frequent answer has true accuracy 0.7854." in text
    assert "The best learning rate is at an edge of the grid: 2-4-1 (0.1, the highest). A better one may lie" in text
    assert "1 of 15 networks diverged." in text
    assert "| 2-6-3-1 | 0.03 | 0.025 | 0.9700 | 0.25 | 0 of 3 | 0 of 3 | good |" in text
    assert "| 2-6-3-1 | 0.1 | diverged | diverged | diverged | 1 of 3 | 1 of 3 | diverged |" in text


def test_tables_are_sorted_by_dvc_reads(tmp_path):
    text = report(tmp_path, GRID)
    every = text.partition("## Every cell")[2].partition("##")[0]
    errors = re.findall(r"^\| 2-\S+ \| \S+ \| (\S+) ", every, re.M)
    assert errors[-1] == "diverged"
    assert [float(error) for error in errors[:-1]] == sorted(float(error) for error in errors[:-1])
    best = text.partition("## Architectures in pairs")[2].partition("##")[0]
    assert re.findall(r"^\| (2-\S+) .*\|.*\|.*\|.*\|.*\|.*\|", best, re.M) == ["2-6-3-1", "2-4-1"]


def test_what_a_training_costs_is_told(tmp_path):
    text = report(tmp_path, confirmation=CONFIRMATION[:1])
    costs = re.findall(r"^\| (2-\S+) \| (\d+) \| (.*) \| (.*) \| (.*) \|$", text.partition("## Cost")[2], re.M)[:2]
    (*_, gigaflop, never, too), unconfirmed = costs
    assert 1e9 * float(gigaflop) == pytest.approx(operations.of_training(*join(CONFIRMATION[:1])), rel=0.01)
    assert (never, too) == ("never", "never")
    assert unconfirmed == ("2-6-3-1", "43", "", "", "")


def test_sensitivities_are_of_the_rates_that_all_have(tmp_path):
    """Of the second architecture's three rates the first has two."""
    text = report(tmp_path)
    for architecture, cells in (("2-4-1", [GRID[0], GRID[1]]), ("2-6-3-1", [GRID[2], GRID[3]])):
        expected = f"{sensitivity.of_architecture(join(cells)).estimate:.3g}"
        assert re.search(rf"^\| {architecture} \| .*% \| {expected} \|$", text, re.M)
    apart = [made_up((4,), 0.1, [0.1]), made_up((4,), 0.2, [0.1]), made_up((5,), 0.3, [0.1]), made_up((5,), 0.1, [0.1])]
    assert re.search(r"^\| 2-4-1 \| .* too few replicates to tell \| not known \|$", report(tmp_path, apart), re.M)


def test_differences_are_claimed_only_where_supported(tmp_path):
    spread = np.linspace(0.9, 1.1, 10)
    apart = [made_up((4,), 0.1, [*(0.2 * spread)]), made_up((5,), 0.1, [*(0.1 * spread)])]
    assert "| 0 of 10 | 2-5-1 has the lower error |" in report(tmp_path / "apart", apart)
    close = [made_up((4,), 0.1, [*(0.2 * spread)]), made_up((5,), 0.1, [*(0.2 * spread[::-1])])]
    assert "| 5 of 10 | not decided; if the ratio is as estimated, about " in report(tmp_path / "close", close)
    single = [made_up((4,), 0.1, [0.5]), made_up((5,), 0.1, [0.1])]
    text = report(tmp_path / "single", single)
    assert "so none is claimed" in text
    assert "has the lower" not in text


def test_an_architecture_that_always_diverged_is_compared_with_nothing(tmp_path):
    records = [made_up((4,), 0.1, [None] * 3 + [0.2] * 6), made_up((5,), 0.1, [0.1] * 9)]
    text = report(tmp_path, records)
    assert "| 2-4-1 | none: too many replicates diverged at every rate |" in text
    assert "not comparable: 2-4-1 has more than a quarter of the replicates diverged at every rate" in text
    assert dvc_reads(tmp_path)["2-4-1"] is None


def test_cells_that_differ_in_something_else_are_not_compared_and_the_keys_are_named():
    with pytest.raises(UserError, match=r"differ in something else too: training\.seed$"):
        compare([GRID[0], made_up((4,), 0.1, [0.3, 0.3, 0.3], seed=1)], SETTINGS)
    other = made_up((4,), 0.1, [0.3, 0.3], seed=1)
    other.ingredients["numerics"]["mode"] = "native"
    with pytest.raises(UserError, match=r"else too: training\.replicates, training\.seed, numerics\.mode$"):
        compare([GRID[0], GRID[1], other], SETTINGS)


def test_the_user_s_own_matplotlib_settings_change_nothing(tmp_path, monkeypatch):
    report(tmp_path / "a")
    monkeypatch.setitem(mpl.rcParams, "lines.linewidth", 9.0)
    monkeypatch.setitem(mpl.rcParams, "font.family", ["monospace"])
    report(tmp_path / "b")
    for path in (tmp_path / "a" / "figures").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "figures" / path.name).read_bytes()


def test_a_cell_whose_replicates_all_diverged_still_has_a_report(tmp_path):
    text = report(tmp_path, [made_up((4,), 0.1, [None, None])])
    assert "| 2-4-1 | 0.1 | diverged | diverged | diverged | 2 of 2 | 2 of 2 | diverged |" in text
    assert "2 of 2 networks diverged." in text
    assert "2-4-1: no best learning rate, because at every one more than a quarter of the replicates diverged." in text
    assert dvc_reads(tmp_path)["2-4-1"] is None


def grid(architectures, rates, losses=(0.1, 0.2), **keys):
    return [made_up((4 + width,), rate, list(losses), **keys) for width in range(architectures) for rate in rates]


def without_errors(records):
    return [dataclasses.replace(record, true_error=np.full_like(record.true_error, np.nan)) for record in records]


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (grid(1, [0.1], [0.1]), "There is one architecture"),
        (grid(1, [0.1], [0.1]), "There is one learning rate, so there is no picture"),
        (grid(2, [round(0.001 * 1.2**n, 6) for n in range(26)]), "26 learning rates"),
        (grid(1, [round(0.001 * 1.05**n, 6) for n in range(100)]), "Learning rates: 0.001 to 0.125"),
        (grid(30, [0.1, 0.2]), "The first 12 architectures."),
        (grid(2, [0.1, 0.2], [None, None]), "8 of 8 networks diverged."),
        (grid(2, [0.1, 0.2], [None] + [0.1] * 9), "4 of 40 networks diverged."),
        (without_errors(grid(2, [0.1, 0.2], [0.1] * 9)), "The true error of 36 networks could not be computed"),
        (grid(2, [0.1, 0.2], [0.1] * 9, activation="gelu"), "2-4-1 gelu"),
        (grid(1, [0.1, 0.2])[:1] + grid(2, [0.3])[1:], "(2 of 4 cells are missing)"),
    ],
    ids=["one", "single", "26", "100", "architectures", "all_diverged", "some_diverged", "unknown", "gelu", "holes"],
)
def test_whatever_the_results_are_there_is_a_report(tmp_path, records, says):
    text = report(tmp_path, records)
    assert says in text
    assert not re.search(r"\bnan\b", re.sub("<code>.*?</code>", "", (tmp_path / "report.html").read_text()))
    assert "NaN" not in (tmp_path / "true_error.json").read_text()


@pytest.mark.parametrize(
    ("confirmation", "says"),
    [
        (CONFIRMATION[:1], "| 2-6-3-1 | 0.03 | not confirmed |"),
        (CONFIRMATION[:1], "Of architectures that are not judged, replicates 0 to 2 are shown. Epoch 0"),
        (
            [made_up((4,), 0.1, [None] * 5, first=3), CONFIRMATION[1]],
            "| 2-4-1 | 0.1 (highest of the grid) | diverged |",
        ),
        (without_errors(CONFIRMATION), "The true error of 9 networks could not be computed"),
    ],
    ids=["lacking", "not_judged", "diverged", "unknown"],
)
def test_whatever_confirms_there_is_a_report(tmp_path, confirmation, says):
    text = report(tmp_path, confirmation=confirmation)
    assert says in text
    assert not re.search(r"\bnan\b", re.sub("<code>.*?</code>", "", (tmp_path / "report.html").read_text()))
    assert "NaN" not in (tmp_path / "true_error.json").read_text()


def test_the_page_loads_nothing(tmp_path):
    report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    page, links = re.subn(r'href="http://127\.0\.0\.1:5000/#/runs/[0-9a-f]{32}"', "", page)
    assert links == len(GRID)
    assert page.count("<figure") == 7
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert not re.findall(
        r"<(link|iframe|img|image)|@import|url\((?!#)|fetch|XMLHttp|import\(|https?://(?!www.w3.org)",
        page,
    )


def test_names_and_intervals_do_not_break_and_no_mark_is_shown(tmp_path):
    report(tmp_path, confirmation=CONFIRMATION)
    page = (tmp_path / "report.html").read_text()
    assert '<span class="unbroken">2-6-3-1</span>' in page
    assert re.search(r'<span class="unbroken">\([\d.]+ to [\d.]+\)</span>', page)
    assert "&lt;" not in page
    assert "&#34;" not in page


def test_of_a_thousand_cells_there_is_a_page_that_is_not_too_large(tmp_path):
    rates = [float(f"{rate:.3g}") for rate in np.geomspace(1e-4, 1, 40)]
    text = report(tmp_path, grid(25, rates, [0.1, 0.2, 0.15]))
    assert "25 architectures × 40 rates × 3 replicates." in text
    assert (tmp_path / "report.html").stat().st_size < 4_000_000


def test_figures_hold_no_date_and_no_raster(tmp_path):
    report(tmp_path)
    for path in (tmp_path / "figures").iterdir():
        assert "<dc:date>" not in path.read_text()
        assert "data:image/png" not in path.read_text()


FOREIGN = "a|b `c` <script>alert(1)</script> *d* _e_ [f](javascript:g) &amp; $h$ ~~i~~ \\| # j\n# k"


class Page(HTMLParser):
    """The tags of a page, and the texts of its cells and headings."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._open = [], {"h1": [], "td": []}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):  # noqa: ARG002, the parser's own signature
        self.tags.append(tag)
        if tag in self.texts:
            self.texts[tag].append("")
            self._open = tag

    def handle_endtag(self, tag):
        self._open = None if tag == self._open else self._open

    def handle_data(self, data):
        if self._open:
            self.texts[self._open][-1] += data.replace("\n", " ")


def rendered(text):
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)


def test_text_from_outside_is_shown_as_it_is_and_is_never_a_mark(tmp_path):
    record = made_up((4,), 0.1, [0.3, 0.31], host=FOREIGN, wall_seconds=1.0, cpu_seconds=1.0, started_at=AT)
    record.ingredients["numerics"] |= {"numpy": FOREIGN, "simd": []}
    Store(tmp_path / "runs").save(record)
    report(tmp_path, [record], FOREIGN)
    report(tmp_path / "plain", [made_up((4,), 0.1, [0.3, 0.31])], "A title")
    for name, parsed in (("report.html", str), ("report.md", rendered)):
        page, plain = (Page(parsed((folder / name).read_text())) for folder in (tmp_path, tmp_path / "plain"))
        assert page.texts["h1"] == [FOREIGN.replace("\n", " ")]
        assert page.tags == plain.tags
        assert any(FOREIGN.replace("\n", " ") in cell for cell in page.texts["td"])
    times = Page(rendered((tmp_path / "timing.md").read_text())).texts["td"]
    assert len(times) == 10
    assert times[-1] == f"{AT} on {FOREIGN}".replace("\n", " ")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1) | st.text("\\`|<>*_[]()&;#~ ab"))
def test_every_cell_reads_back_whatever_is_in_it(text):
    text = f"x{text}x"  # Markdown drops space at the ends of a cell
    page = Page(rendered(as_markdown(text, [Table([text, "b"], [[text, Code(text)]])])))
    assert page.texts["h1"] == [text]
    assert page.texts["td"] == [text, text]
    assert set(page.tags) == {"h1", "table", "thead", "tbody", "tr", "th", "td", "code"}


def test_a_report_of_nothing_says_what_to_name(project):
    done = project.run("python", "pipelines/report.py", code=2)
    assert done.stderr.startswith("error: paths.results=null: ")
    remedy = done.stderr.partition("make one with: ")[2]
    assert remedy
    project.run("sh", "-c", remedy.replace("\n", " tracking=none"))
    done = project.run("python", "pipelines/report.py", code=2)
    (named,) = re.findall("paths.results=results/[a-z]+", done.stderr)
    project.run("python", "pipelines/report.py", named, "paths.reports=reports/there")
    assert (project.folder / "reports/there/report.html").is_file()


def test_replicates_that_diverged_to_any_parameters_are_drawn_without_a_warning(tmp_path):
    record = made_up((6, 3), 0.1, [None, None])
    for value in (np.nan, np.inf, 1e38):
        text = report(tmp_path, [dataclasses.replace(record, parameters=np.full_like(record.parameters, value))])
        assert "2 of 2 networks diverged." in text


def test_what_a_killed_writer_left_is_cleared_and_permissions_are_the_user_s(tmp_path):
    left = tmp_path / ".aside-killed"
    left.mkdir()
    (left / "half.svg").write_text("<svg")
    os.utime(left, (0, 0))
    before = os.umask(0o077)
    try:
        report(tmp_path)
    finally:
        os.umask(before)
    assert not list(tmp_path.glob(".aside-*"))
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def dvc_reads(folder):
    return json.loads((folder / "true_error.json").read_text())


def test_what_dvc_reads_is_the_true_error_by_the_file_of_the_model(tmp_path):
    report(tmp_path, [*GRID, *(made_up((64,), rate, [0.2, 0.2, 0.2]) for rate in (0.01, 0.03, 0.1))])
    metrics = dvc_reads(tmp_path)
    assert list(metrics) == ["2-4-1", "2-6-3-1", "mlp_64"]  # no file has the others
    assert metrics["2-6-3-1"] == pytest.approx(0.025, rel=1e-3)  # about: it is a mean of logarithms
    assert all(len(repr(value)) <= 10 for value in metrics.values())


def test_results_whose_points_are_not_drawn_any_more_are_refused(tmp_path):
    old = made_up((4,), 0.1, [0.3])
    old.ingredients["data"] = "d" * 64
    with pytest.raises(UserError, match="that an earlier version drew; train the cells again"):
        report(tmp_path, [old])


def test_times_are_told_where_they_are_known(tmp_path):
    store = Store(tmp_path)
    known = made_up((4,), 0.1, [0.3, 0.3, 0.3], wall_seconds=1.2, cpu_seconds=1.1, started_at=AT, host="h|<b>")
    store.save(known)
    text = as_markdown("Times", timing([known, GRID[1]], store))
    assert f"| 2-4-1 | 17 | 0.1 | 0 to 2 | 0.9700 | 0.3000 | 1.2 | 1.1 | 66.667 | {AT} on h\\|\\<b\\> |" in text
    assert "not known here" in text


def test_a_report_that_cannot_be_written_leaves_the_one_that_is_there(tmp_path):
    report(tmp_path)
    before = contents(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    enough_for_figures = max(len(content) for path, content in before.items() if path.suffix == ".svg")
    resource.setrlimit(resource.RLIMIT_FSIZE, (enough_for_figures, limits[1]))  # bytes a file
    try:
        with pytest.raises(UserError, match="cannot be written"):
            report(tmp_path, GRID[2:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path) == before
    report(tmp_path, GRID[2:])
    assert contents(tmp_path) != before


def test_a_folder_in_the_report_s_place_is_one_line(tmp_path):
    (tmp_path / "report.md" / "mine").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be written"):
        report(tmp_path)
    assert (tmp_path / "report.md" / "mine").is_dir()


def test_the_shown_replicate_has_the_median_true_error():
    assert median_replicate(made_up((4,), 0.1, [0.5, 0.1, 0.3])) == 2
    assert median_replicate(made_up((4,), 0.1, [None, 0.1, 0.3])) == 2  # one that diverged is the worst
    assert median_replicate(made_up((4,), 0.1, [None, None, 0.3])) == 2
    assert median_replicate(made_up((4,), 0.1, [None, None])) == 0
    (unknown,) = without_errors([made_up((4,), 0.1, [None, 0.1])])
    assert median_replicate(unknown) == 1


def test_every_number_about_the_best_rates_is_of_the_replicates_that_judge(tmp_path):
    text = report(tmp_path, confirmation=CONFIRMATION)
    best = text.partition("## Architectures in pairs")[2].partition("##")[0]
    assert "All numbers here are of replicates 3 to 7." in best
    assert re.findall(r"^\| (2-\S+) .*\| (\d of \d) ", best, re.M) == [("2-4-1", "0 of 5"), ("2-6-3-1", "5 of 5")]
    assert "median of replicates 3 to 7, without those that diverged, and band" in text
    assert "not judged" not in text
    for said in ("The diamond is the confirmed estimate", "with 95% intervals"):
        assert said in text
        assert said not in report(tmp_path / "one_stage")
    every = text.partition("## Every cell")[2].partition("##")[0]
    assert "All numbers here are of replicates 0 to 2." in every
    assert len(re.findall(r"^\| 2-", every, re.M)) == 5
    assert dvc_reads(tmp_path)["2-4-1"] == pytest.approx(0.013, rel=0.02)


def test_points_are_told_by_their_digests(tmp_path):
    text = report(tmp_path / "two", confirmation=CONFIRMATION)
    for record, whose in ((GRID[0], "0 to 2"), (CONFIRMATION[0], "3 to 7")):
        assert f"| data of replicates {whose} | {record.ingredients['data']} |" in text
    assert f"| data | {GRID[0].ingredients['data']} |" in report(tmp_path / "one")


def test_the_markdown_has_all_but_the_long_sections(tmp_path):
    report(tmp_path, confirmation=CONFIRMATION)
    in_page = re.findall("<h2[^>]*>(.*)</h2>", (tmp_path / "report.html").read_text())
    in_markdown = re.findall("^## (.*)", (tmp_path / "report.md").read_text(), re.M)
    assert len(in_page) == 9
    assert in_markdown == [*in_page[:5], in_page[8]]


def test_a_replicate_that_two_records_have_is_one(tmp_path):
    """The second range begins with the third replicate, which the first has too."""
    ranges = [made_up((4,), 0.1, [0.1, 0.2, 0.9]), made_up((4,), 0.1, [0.9, 0.4], first=2)]
    text = report(tmp_path, ranges)
    assert "1 architecture × 1 rate × 4 replicates." in text


def test_points_of_the_confirmation_that_are_not_drawn_any_more_are_refused(tmp_path):
    old = dataclasses.replace(CONFIRMATION[0], ingredients=CONFIRMATION[0].ingredients | {"data": "d" * 64})
    with pytest.raises(UserError, match="that an earlier version drew; train the cells again"):
        report(tmp_path, confirmation=[old, CONFIRMATION[1]])


def test_the_boundaries_are_those_of_the_median_replicates_and_their_segments_are_counted():
    drawing = draw_grid(compare(GRID, SETTINGS))
    shown = {(row[0], row[1]): row[2:] for row in drawing.data.rows}
    assert len(shown) == len(GRID)
    for record in GRID:
        (trained,) = join([record])
        row, config = median_replicate(trained), record.config
        layout = Layout.of(config.model.hidden_layer_sizes)
        found = decide(true_boundary(config), layout, record.parameters[row], "relu")
        cell = wording.architecture(config.model), f"{config.optimizer.learning_rate:g}"
        assert list(shown[cell]) == [str(row), f"{record.true_error[row]:.3g}", str(len(found.segments))]


def test_the_wrong_area_that_is_drawn_is_the_true_error():
    record = GRID[2]
    boundary, layout = true_boundary(record.config), Layout.of((6, 3))
    found = decide(boundary, layout, record.parameters[0], "relu")
    drawn = sum(
        wrong(boundary, corners, answer=answer)
        for answer, polygons in ((False, found.zeros), (True, found.ones))
        for corners in polygons
    )
    assert drawn == pytest.approx(true_error(boundary, layout, record.parameters[0], "relu"), abs=1e-12)


@pytest.mark.parametrize("n", [1, 12, 13, 26, 100])
def test_of_many_rates_some_are_drawn_and_those_that_were_chosen_are_among_them(n):
    rates = [float(place) for place in range(1, n + 1)]
    some = some_rates(rates, {rates[n // 3]})
    assert len(some) == min(n, 12)
    assert {rates[0], rates[-1], rates[n // 3]} <= set(some)
    assert some == sorted(set(some))


def test_the_true_boundary_is_that_of_the_data():
    assert true_boundary(GRID[0].config).outer_radius == 1


def test_it_shows_how_one_network_divides_the_square(tmp_path):
    text = report(tmp_path / "relu")
    assert "\nA 2-4-1 network is linear on each of " in text
    assert " It is replicate 1 at learning rate 0.1." in text
    assert (tmp_path / "relu" / "figures" / "regions.svg").exists()
    smooth = report(tmp_path / "tanh", [made_up((4,), 0.1, [0.3, 0.31, 0.33], activation="tanh")])
    assert "divides the square" not in smooth
    assert not (tmp_path / "tanh" / "figures" / "regions.svg").exists()
