import dataclasses
import json
import os
import re
import resource
import shlex
import stat
from html.parser import HTMLParser
from multiprocessing import get_context

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from circlemlp.config import CellConfig
from circlemlp.errors import UserError
from circlemlp.report.boundary import median_replicate, true_boundary
from circlemlp.report.commands import commands
from circlemlp.report.comparison import compare
from circlemlp.report.document import as_markdown
from circlemlp.report.write import timing, write_report
from circlemlp.run.compose import compose_jobs
from circlemlp.store.records import Store
from circlemlp.store.results import export, read
from circlemlp.store.tables import kept_epochs
from conftest import TINY
from made_up import DATA, DATASET, GRID, made_up


def report(folder, records=GRID, title="A title"):
    write_report(folder, title, records, DATA, Store(folder / "runs"))
    return (folder / "report.md").read_text()


def contents(folder):
    """Return what is in a folder, but for the lock file, which says who held it last."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder): path.read_bytes() for path in sorted(files)}


def test_the_same_results_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        report(tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(contents(tmp_path / "a")) == 9


def test_it_says_what_was_run_and_what_came_out(tmp_path):
    text = report(tmp_path)
    assert "2 architectures, 3 learning rates (0.01, 0.03, 0.1), 3 replicates of each cell: 15 networks" in text
    assert "40 training and 100 validation points" in text
    assert "The lowest mean validation loss is that of **2-6-3-1** at learning rate 0.03: 0.2500" in text
    assert "The best learning rate of 2-4-1, 0.1, is the highest of the grid: a better one may lie beyond it." in text
    assert "1 of 15 networks diverged." in text
    assert "| 2-6-3-1 | 43 | 0.1 | 0.9700 ± 0.0000 | 0.2050 ± 0.0635 | 1 of 3 |" in text


@pytest.mark.parametrize(
    ("accuracies", "says"),
    [
        ([0.96, 0.97, 0.96], "Every architecture exceeds 95% validation accuracy"),
        ([0.96, 0.97, 0.95], "0 of 1 architectures exceed 95% validation accuracy"),
        ([0.96, None, 0.97], "0 of 1 architectures exceed 95% validation accuracy"),
    ],
)
def test_the_claim_about_95_percent_is_looked_up(tmp_path, accuracies, says):
    losses = [None if a is None else 0.1 for a in accuracies]
    assert says in report(tmp_path, [made_up((4,), 0.1, losses, accuracies)])


def test_a_cell_no_better_than_the_majority_is_named(tmp_path):
    majority = max(DATASET.y_validation.mean(), 1 - DATASET.y_validation.mean())
    records = [made_up((4,), 0.1, [0.2, 0.2]), made_up((4,), 0.01, [0.5, 0.5], [majority, majority])]
    assert "no better than always giving the more frequent answer: 2-4-1 at 0.01." in report(tmp_path, records)


def test_differences_are_claimed_only_where_supported(tmp_path):
    apart = [made_up((4,), 0.1, [0.5, 0.51, 0.52]), made_up((5,), 0.1, [0.1, 0.11, 0.121])]
    assert "2-5-1 is lower" in report(tmp_path / "apart", apart)
    close = [made_up((4,), 0.1, [0.5, 0.6, 0.7]), made_up((5,), 0.1, [0.6, 0.5, 0.7])]
    assert "not distinguishable" in report(tmp_path / "close", close)
    single = [made_up((4,), 0.1, [0.5]), made_up((5,), 0.1, [0.1])]
    text = report(tmp_path / "single", single)
    assert "so none is claimed" in text
    assert "±" not in text


def test_an_architecture_that_always_diverged_is_compared_with_nothing(tmp_path):
    records = [made_up((4,), 0.1, [0.2, None, 0.3]), made_up((5,), 0.1, [0.1, 0.1, 0.1])]
    text = report(tmp_path, records)
    assert "| 2-4-1 | 17 | none: a replicate diverged at every rate |" in text
    assert "not comparable: a replicate diverged at every rate" in text
    assert json.loads((tmp_path / "metrics.json").read_text())["2-4-1"]["best_learning_rate"] is None


def test_cells_that_differ_in_something_else_are_not_compared_and_the_keys_are_named():
    with pytest.raises(UserError, match="differ in something else too: training.seed$"):
        compare([GRID[0], made_up((4,), 0.1, [0.3, 0.3, 0.3], seed=1)])
    with pytest.raises(UserError, match="something else too: training.replicates, training.seed, numerics.mode$"):
        other = made_up((4,), 0.1, [0.3, 0.3], seed=1)
        other.ingredients["numerics"]["mode"] = "native"
        compare([GRID[0], GRID[1], other])


def test_the_user_s_own_matplotlib_settings_change_nothing(tmp_path, monkeypatch):
    report(tmp_path / "a")
    monkeypatch.setitem(mpl.rcParams, "lines.linewidth", 9.0)
    monkeypatch.setitem(mpl.rcParams, "font.family", ["monospace"])
    report(tmp_path / "b")
    for path in (tmp_path / "a" / "figures").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "figures" / path.name).read_bytes()


def test_a_cell_whose_replicates_all_diverged_still_has_a_report(tmp_path):
    text = report(tmp_path, [made_up((4,), 0.1, [None, None])])
    assert "none finished" in text
    assert "2 of 2 networks diverged." in text
    assert "2-4-1 has no best learning rate: a replicate diverged at every one." in text
    assert json.loads((tmp_path / "metrics.json").read_text())["2-4-1"]["validation_loss"] is None


def test_the_page_loads_nothing(tmp_path):
    report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 4
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert not re.findall(r"<(script|link|iframe)|@import|url\(", page)
    assert "<table>" in page


def test_figures_hold_no_date_and_no_raster(tmp_path):
    report(tmp_path)
    for path in (tmp_path / "figures").iterdir():
        assert "<dc:date>" not in path.read_text()
        assert "data:image/png" not in path.read_text()


def test_metrics_are_those_of_the_best_rates(tmp_path):
    report(tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["2-6-3-1"]["best_learning_rate"] == 0.03
    assert metrics["2-6-3-1"]["validation_loss"] == pytest.approx(0.25)


def test_results_whose_points_are_not_drawn_any_more_are_refused(tmp_path):
    old = made_up((4,), 0.1, [0.3])
    old.ingredients["data"] = "d" * 64
    with pytest.raises(UserError, match="an earlier version drew otherwise; train their cells again"):
        report(tmp_path, [old])


def test_results_read_back_and_damage_is_named(tmp_path):
    folder = tmp_path / "results"
    export(folder, GRID)
    assert [r.identity for r in read(folder)] == [r.identity for r in GRID]
    (folder / "curves.csv").write_text("changed")
    with pytest.raises(UserError, match=r"curves\.csv is not that of the records"):
        read(folder)
    (folder / "records" / GRID[0].identity / "arrays.npz").write_bytes(b"")
    with pytest.raises(UserError, match="the results are damaged"):
        read(folder)
    with pytest.raises(UserError, match="there are no results here"):
        read(tmp_path / "nowhere")


def test_times_are_told_where_they_are_known(tmp_path):
    store, at = Store(tmp_path), "2026-01-01T00:00:00+00:00"
    known = made_up((4,), 0.1, [0.3, 0.3, 0.3], wall_seconds=1.2, cpu_seconds=1.1, started_at=at, host="h|<b>")
    store.save(known)
    text = as_markdown("Times", timing(compare([known, GRID[1]]), store))
    assert f"| 2-4-1 | 0.1 | 1.2 | 1.1 | 66.667 | {at} on h\\|\\<b\\> |" in text
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


def export_often(folder):
    for _ in range(30):
        export(folder, GRID)


def test_exports_into_one_folder_wait_for_each_other(tmp_path):
    processes = [get_context("spawn").Process(target=export_often, args=(tmp_path / "results",)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [record.identity for record in read(tmp_path / "results")] == [record.identity for record in GRID]


def test_kept_epochs_have_both_ends():
    assert list(kept_epochs(1000, 5)) == [0, 250, 500, 750, 1000]
    assert list(kept_epochs(3, 50)) == [0, 1, 2, 3]


def test_the_shown_replicate_is_the_median_of_those_that_finished():
    assert median_replicate(made_up((4,), 0.1, [0.5, 0.1, 0.3])) == 2
    assert median_replicate(made_up((4,), 0.1, [None, 0.1, 0.3])) == 1
    assert median_replicate(made_up((4,), 0.1, [None, None])) == 0


def test_the_true_boundary_is_that_of_the_data():
    assert true_boundary(GRID[0]).outer_radius == 1
