"""Folders of results: what is exported is read back, and damage is named."""

import contextlib
import os
from multiprocessing import get_context

import pytest

from circlemlp.errors import UserError
from circlemlp.store.results import export, read
from circlemlp.store.tables import kept_epochs
from made_up import GRID


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


def test_a_changed_list_of_cells_is_never_believed(tmp_path):
    export(tmp_path / "results", GRID[:2])
    cells = tmp_path / "results" / "cells.json"
    content = cells.read_bytes()
    for place in range(0, len(content), 3):
        cells.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with contextlib.suppress(UserError):  # white space may be changed
            assert [record.identity for record in read(tmp_path / "results")] == [one.identity for one in GRID[:2]]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), os.mkdir])
def test_what_is_no_file_in_place_of_the_list_of_cells_is_one_line(tmp_path, make):
    export(tmp_path / "results", GRID[:1])
    (tmp_path / "results" / "cells.json").unlink()
    make(tmp_path / "results" / "cells.json")
    with pytest.raises(UserError, match="the results are damaged"):
        read(tmp_path / "results")


def export_often(folder):
    for _ in range(10):
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
