"""Time an MLflow index: how long its cells take to write, and how long its page takes to list and to sort them.

python benchmarks/indexing.py                                    # 1,000 cells without runs of their replicates
python benchmarks/indexing.py --cells 100 --replicate-runs 1000  # with them, and with pictures
python benchmarks/indexing.py --cells 10000 --browser            # and the page, in Chromium

The records are made up: ten replicates of 1,000 epochs each.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import circlemlp.tracking  # noqa: F401, for its settings, which MLflow reads when it is imported
from circlemlp.config import Tracking
from circlemlp.store.records import Store, Volatile
from circlemlp.tracking.index import Index

PROJECT = Path(__file__).resolve().parents[1]
EXPERIMENT = "made_up"
ROUNDS = 3


def made_up() -> Any:
    """Return the module that makes the tests' records up."""
    spec = importlib.util.spec_from_file_location("made_up", PROJECT / "tests" / "made_up.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module).update(EPOCHS=1000)
    return module


def write(folder: Path, cells: int, replicate_runs: int) -> None:
    """Make an index of made-up records, and print what that took."""
    make, store = made_up(), Store(folder / "runs")
    for number in range(cells):
        losses = [0.3 + 0.001 * replicate for replicate in range(10)]
        record = make.made_up((4 + number % 4, 3), round(0.0001 * (1 + number // 4), 6), losses)
        store.save(replace(record, volatile=Volatile(experiment=EXPERIMENT)))
    tracking = Tracking(
        database=str(folder / "mlflow.db"),
        artifacts=str(folder / "mlartifacts"),
        experiment="other",
        curve_points=150,
        replicate_runs=replicate_runs,
        port=5000,
    )
    index = Index(tracking, make.SETTINGS)
    cpu, wall = time.process_time(), time.perf_counter()
    added = index.bring_up_to_date(store)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"{added} cells: {wall:.1f} s, {wall / added:.3f} s a cell, of which {cpu / added:.3f} s on the processor")


def look(folder: Path) -> None:
    """Open the page of the index in a browser, and print how long it takes to list its cells and to sort them."""
    from playwright.sync_api import sync_playwright

    settings = [
        f"tracking.{key}={folder}/{name}" for key, name in (("database", "mlflow.db"), ("artifacts", "mlartifacts"))
    ]
    command = [
        sys.executable,
        "pipelines/index.py",
        "--serve",
        *settings,
        f"paths.records={folder}/none",
        "tracking.port=5055",
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            address = next(line.split()[0] for line in server.stdout if line.startswith("http") and EXPERIMENT in line)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                context = browser.new_context(viewport={"width": 1600, "height": 1000})
                for _ in range(ROUNDS):
                    time_page(context.new_page(), address)
                browser.close()
        finally:
            server.terminate()


def time_page(page: Any, address: str) -> None:
    cells = page.locator("a[href*='/runs/']", has_text="lr")
    start = time.perf_counter()
    page.goto(address, wait_until="commit")
    cells.first.wait_for(timeout=60_000)
    listed = time.perf_counter() - start
    header = page.get_by_role("columnheader", name="validation_loss").first
    header.wait_for()
    with page.expect_response(lambda response: "runs/search" in response.url) as answer:
        start = time.perf_counter()
        header.click()
    answer.value.finished()
    print(f"listed in {listed:.2f} s, sorted in {time.perf_counter() - start:.2f} s", flush=True)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--replicate-runs", type=int, default=500)
    parser.add_argument("--browser", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="circlemlp-") as name:
        write(Path(name), arguments.cells, arguments.replicate_runs)
        if arguments.browser:
            look(Path(name))


if __name__ == "__main__":
    main()
