"""The program that keeps and shows the index, in copies of the project whose records are made up."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect

from circlemlp.config import Indexing, Tracking
from circlemlp.report.tables import Runs
from circlemlp.store import disk
from circlemlp.store.records import Store
from circlemlp.store.results import export
from circlemlp.store.trained import join
from circlemlp.tracking.experiments import address
from circlemlp.tracking.index import STRANGE
from conftest import TINY, Project
from made_up import GRID, SETTINGS

INDEX = (sys.executable, "pipelines/index.py")


def with_records(folder, template, grid=GRID):
    """Return a copy of the project, with records, in a folder of any name."""
    project = Project(Path(shutil.copytree(template, folder)))
    project.environment.pop("MAKELEVEL", None)
    for record in grid:
        Store(project.folder / "runs").save(record)
    return project


@pytest.fixture
def indexed(template, tmp_path):
    return with_records(tmp_path / "project", template)


def finished(project):
    """Return how many cells are in the index, and how many runs are unfinished."""
    with contextlib.closing(sqlite3.connect(project.folder / "mlflow.db")) as connection:
        states = connection.execute(
            "SELECT status FROM runs JOIN tags USING (run_uuid) "
            "WHERE tags.key = 'circlemlp.kind' AND tags.value = 'cell' AND lifecycle_stage = 'active'"
        ).fetchall()
    return states.count(("FINISHED",)), len(states) - states.count(("FINISHED",))


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# -------------------------------------------------------------------------------------------- bringing up to date


ODD = ("c:d", "e%41f", "b'o\"th", "q?r#s&t=u", " ;$HOME;*|<>[]{}", "b\\s\tn\nl", "ü 介 𝛼")


def test_every_character_in_the_path_of_a_checkout_works(template, tmp_path):
    odd = tmp_path.joinpath(*ODD)
    project = with_records(odd / "project", template, GRID[:1])
    assert project.run(*INDEX).stdout == "mlflow.db: 1 cells added\n"
    assert finished(project) == (1, 0)
    assert len(list((project.folder / "mlartifacts").rglob("boundary.png"))) == 1
    for folder in (tmp_path, *odd.parents):
        if tmp_path in folder.parents:
            assert len(list(folder.iterdir())) == 1
    with serving(project) as (_, port):
        (cell,) = (run for run in search(port) if "lr" in run["info"]["run_name"])
        assert picture(port, cell).startswith(b"\x89PNG")


def test_training_fills_the_index_of_its_own_checkout(template, tmp_path):
    project = with_records(tmp_path / "c:d" / "e%41f", template, [])
    tracked = [override for override in TINY if override != "tracking=none"]
    project.run("python", "pipelines/generate.py", *tracked)
    assert project.train(*tracked).stderr == ""
    assert finished(project) == (1, 0)


def test_a_path_too_long_for_sqlite_is_one_line_whose_remedy_works(template, tmp_path):
    project = with_records(tmp_path.joinpath(*["介" * 80] * 3), template, GRID[:1])
    done = project.run(*INDEX, code=2)
    assert done.stderr == (
        "error: mlflow.db: cannot be written (SQLite opens no path of more than 512 bytes); "
        "choose another place with tracking.database=...\n"
    )
    assert project.run(*INDEX, f"tracking.database={tmp_path}/my.db").stdout == f"{tmp_path}/my.db: 1 cells added\n"


def test_a_folder_whose_name_is_not_utf8_is_refused(template, tmp_path):
    project = with_records(tmp_path / os.fsdecode(b"caf\xe9"), template, GRID[:1])
    done = project.run(*INDEX, code=2)
    assert re.fullmatch(r"error: .*/mlartifacts: cannot be written \(its name is not UTF-8\); choose .*\n", done.stderr)
    assert len(list(tmp_path.iterdir())) == 1
    done = project.run(*INDEX, f"tracking.artifacts={tmp_path}/elsewhere")
    assert done.stdout == "mlflow.db: 1 cells added\n"


def test_libraries_say_nothing_and_a_notebook_s_settings_do_no_harm(indexed):
    indexed.environment |= {"MPLBACKEND": "module://nowhere", "MLFLOW_LOGGING_LEVEL": "DEBUG"}
    done = indexed.run(*INDEX)
    assert (done.stdout, done.stderr) == ("mlflow.db: 5 cells added\n", "")
    assert indexed.git("status", "--porcelain") == ""


def test_waiting_for_another_writer_is_said(indexed):
    with disk.lock(indexed.folder / "mlflow.db.lock"):
        writer = indexed.start(*INDEX)
        line = writer.stderr.readline()
    assert line.startswith(f"waiting for mlflow.db.lock, which process {os.getpid()} on ")
    assert writer.communicate(timeout=60) == ("mlflow.db: 5 cells added\n", "")


def test_training_does_not_wait_silently_for_the_index_of_another_one(template, tmp_path):
    project = with_records(tmp_path / "project", template, [])
    tracked = [override for override in TINY if override != "tracking=none"]
    project.run("python", "pipelines/generate.py", *tracked)
    with disk.lock(project.folder / "mlflow.db.lock"):
        training = project.start("python", "pipelines/train.py", *tracked)
        line = training.stderr.readline()
    assert line.startswith(f"waiting for mlflow.db.lock, which process {os.getpid()} on ")
    assert training.communicate(timeout=120)[1] == ""
    assert finished(project) == (1, 0)


def mounts():
    return (
        shutil.which("unshare")
        and subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True).returncode == 0
    )


def run_with_mounts(project, script, code):
    """Run a shell script that may mount, in which $index is the program."""
    index = f"{sys.executable} pipelines/index.py tracking.database=disk/my.db tracking.artifacts=disk/pictures"
    return project.run("unshare", "--map-root-user", "--mount", "sh", "-c", f"index='{index}'\n{script}", code=code)


@pytest.mark.skipif(not mounts(), reason="needs the right to mount a small file system of its own")
@pytest.mark.parametrize("kilobytes", [500, 1020], ids=["when it is made", "when it is filled"])
def test_a_full_disk_is_one_line_whose_remedy_works(kilobytes, indexed):
    (indexed.folder / "disk").mkdir()
    done = run_with_mounts(
        indexed,
        f"""
        mount -t tmpfs -o size={kilobytes}k none disk
        $index && exit 1
        mount -o remount,size=50m disk
        $index
        """,
        code=0,
    )
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(r"error: disk/my.db: .*(disk is full|No space left).*; make room on its disk", line)
    assert re.fullmatch(r"disk/my.db: \d cells added\n", done.stdout)


@pytest.mark.skipif(not mounts(), reason="needs the right to mount a file again")
@pytest.mark.parametrize("what", ["disk", "disk/my.db"])
def test_what_may_not_be_written_is_one_line(what, indexed):
    indexed.run(*INDEX, "tracking.database=disk/my.db", "tracking.artifacts=disk/pictures")
    script = f"mount --bind {what} {what} && mount -o remount,ro,bind {what} && $index"
    (line,) = run_with_mounts(indexed, script, code=2).stderr.splitlines()
    assert re.fullmatch(r"error: disk/my.db: .*cannot be written.*; .*tracking\.database=\.\.\.", line)


def moved(old, new):
    old.rename(new)


def moved_with_its_parent(old, new):
    old.rename(old.parent / new.name)
    old.parent.rename(new.parent)


def copied(old, new):
    shutil.copytree(old, new, symlinks=True)


AGAIN = f"mlflow.db: {STRANGE}, so it is made again\n"


def added(cells):
    return f"mlflow.db: {cells} cells added\n"


def cloned(old, new):
    subprocess.run(["git", "clone", "--quiet", "--template=", old, new], check=True)
    for name in ("runs", "mlartifacts"):
        shutil.copytree(old / name, new / name)
    shutil.copy(old / "mlflow.db", new)


def linked(old, new):
    new.symlink_to(old)


@pytest.mark.parametrize("put", [moved, moved_with_its_parent, copied, cloned, linked], ids=lambda put: put.__name__)
def test_an_index_goes_wherever_its_checkout_does(put, template, tmp_path):
    project = with_records(tmp_path / "old" / "project", template, GRID[:1])
    assert project.run(*INDEX).stdout == "mlflow.db: 1 cells added\n"
    there = tmp_path / "e%41 'f" / "my project"
    if put is not moved_with_its_parent:
        there.parent.mkdir()
    put(project.folder, there)
    files = sorted((tmp_path / "old").rglob("*"))
    project.folder = there
    Store(there / "runs").save(GRID[1])
    if put is cloned:
        shutil.rmtree(there / "mlartifacts")
    done = project.run(*INDEX)
    assert (done.stderr, done.stdout) == (("", added(1)) if put is linked else (AGAIN, added(2)))
    with serving(project) as (_, port):
        cells = [run for run in search(port) if "lr" in run["info"]["run_name"]]
        assert len(cells) == 2
        assert all(picture(port, cell).startswith(b"\x89PNG") for cell in cells)
    if put is not linked:
        assert sorted((tmp_path / "old").rglob("*")) == files


@pytest.mark.skipif(not mounts(), reason="needs the right to mount a folder again")
def test_an_index_is_made_again_where_its_checkout_is_mounted_and_back(template, tmp_path):
    project = with_records(tmp_path / "project", template, GRID[:1])
    assert project.run(*INDEX).stdout == "mlflow.db: 1 cells added\n"
    Store(project.folder / "runs").save(GRID[1])
    (tmp_path / "there").mkdir()
    script = f"mount --bind . ../there && cd ../there && {' '.join(INDEX)}"
    done = project.run("unshare", "--map-root-user", "--mount", "sh", "-c", script)
    assert (done.stderr, done.stdout) == (AGAIN, added(2))
    assert not list((tmp_path / "there").iterdir())
    for said in ((AGAIN, added(2)), ("", added(0))):
        done = project.run(*INDEX)
        assert (done.stderr, done.stdout) == said
    assert finished(project) == (2, 0)
    assert len(list((project.folder / "mlartifacts").rglob("boundary.png"))) == 2


def test_what_was_deleted_comes_back_with_all(indexed):
    indexed.run(*INDEX)
    with contextlib.closing(sqlite3.connect(indexed.folder / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE runs SET lifecycle_stage = 'deleted'")  # as MLflow does
    assert indexed.run(*INDEX).stdout == "mlflow.db: 0 cells added\n"
    assert finished(indexed) == (0, 0)
    assert indexed.run(*INDEX, "--all").stdout == "mlflow.db: 5 cells brought back\nmlflow.db: 0 cells added\n"
    assert finished(indexed) == (5, 0)


def nobody(*command):
    """Return a command run by a user whom this machine does not know."""
    return ("unshare", "--user", "--map-user=54321", *command)


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(nobody("true"), capture_output=True).returncode != 0,
    reason="needs the right to have another user",
)
def test_a_user_without_a_name_or_a_home_has_an_index(indexed):
    indexed.environment = {
        name: value
        for name, value in indexed.environment.items()
        if name not in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")
    }
    done = indexed.run(*nobody(*INDEX))
    assert (done.stdout, done.stderr) == ("mlflow.db: 5 cells added\n", "")
    with contextlib.closing(sqlite3.connect(indexed.folder / "mlflow.db")) as connection:
        assert connection.execute("SELECT DISTINCT user_id FROM runs").fetchall() == [("54321",)]


# -------------------------------------------------------------------------------------- following what is trained


TRACKING = Tracking(
    database="mlflow.db", artifacts="mlartifacts", experiment="other", curve_points=50, replicate_runs=500, port=5000
)
FOLLOW = (*INDEX, "--follow", "runs", Indexing(tracking=TRACKING, report=SETTINGS).model_dump_json())


def start(project, *command):
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=project.folder, env=project.environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_a_cell(project):
    try:
        return finished(project)[0] >= 1
    except sqlite3.OperationalError:  # it is being made
        return False


def test_following_indexes_what_appears_and_at_the_word_what_is_left(template, tmp_path):
    project = with_records(tmp_path / "project", template, GRID[:1])
    writer = start(project, *FOLLOW)
    wait_until(lambda: has_a_cell(project))
    for record in GRID[1:]:
        Store(project.folder / "runs").save(record)
    assert writer.communicate("done\n", timeout=60) == ("", "")
    assert writer.returncode == 0
    assert finished(project) == (5, 0)


def test_following_ends_after_the_run_being_written_when_its_input_ends_without_the_word(indexed):
    with start(indexed, *FOLLOW) as writer:

        def stopped_in_a_run():
            writer.send_signal(signal.SIGSTOP)
            if list(indexed.folder.glob("mlartifacts/*/*/.aside-*")):  # it is writing the files of a cell
                return True
            writer.send_signal(signal.SIGCONT)
            return False

        wait_until(stopped_in_a_run)
        writer.stdin.close()
        writer.send_signal(signal.SIGCONT)
        writer.wait(timeout=60)
        assert (writer.stdout.read(), writer.stderr.read()) == ("", "")
    cells, unfinished = finished(indexed)
    assert 1 <= cells < 5
    assert unfinished == 0
    assert not list(indexed.folder.rglob(".aside-*"))


PARENT = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
child.stdin.write(b"done\\n")
child.stdin.flush()
time.sleep(600)
"""


def test_following_ends_with_its_parent_even_after_the_word_and_while_it_waits(indexed):
    with disk.lock(indexed.folder / "mlflow.db.lock"):
        parent = start(indexed, sys.executable, "-c", PARENT, *FOLLOW)
        assert "waiting for mlflow.db.lock" in parent.stderr.readline()
        parent.kill()
        parent.communicate(timeout=20)  # until the writer, too, has closed its output
    assert not (indexed.folder / "mlflow.db").exists()


# ------------------------------------------------------------------------------------------------------- serving


def own_processes(session):
    """Return the processes of a session that have not ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, sid = status.read_text().rpartition(")")[2].split()[:4]
            if int(sid) == session and state != "Z":
                found.append(int(status.parent.name))
    return found


@contextlib.contextmanager
def serving(project, *command):
    """Yield the process that a command starts and the port on which MLflow answers; leave none."""
    port = free_port()
    command = command or (*INDEX, "--serve", f"tracking.port={port}")
    server = project.start(*command, start_new_session=True)
    try:
        address = next(line for line in server.stdout if line.startswith("http"))
        port = int(re.match(r"http://127\.0\.0\.1:(\d+)/", address)[1])
        assert get(port, "/health") == b"OK"
        yield server, port
    finally:
        for left in own_processes(server.pid):
            os.kill(left, signal.SIGKILL)
        server.communicate(timeout=60)


def get(port, path, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    return urllib.request.urlopen(request, timeout=60).read()


def search(port):
    def ask(path, **body):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        return json.load(urllib.request.urlopen(request, timeout=60))

    experiments = ask("experiments/search", max_results=10)["experiments"]
    return ask("runs/search", experiment_ids=[one["experiment_id"] for one in experiments], max_results=1000)["runs"]


def picture(port, run):
    return get(port, f"/get-artifact?path=boundary.png&run_uuid={run['info']['run_id']}")


def listening_addresses(port):
    """Return the addresses on which somebody listens on a port, from the kernel's own table."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            where, number = address.split(":")
            if state == "0A" and int(number, 16) == port:
                found.add(socket.inet_ntoa(bytes.fromhex(where)[::-1]) if len(where) == 8 else where)
    return found


def test_the_index_is_served_on_the_loopback_interface_and_rebuilt_from_results_alone(template, tmp_path, monkeypatch):
    project = with_records(tmp_path / "project", template, [])
    monkeypatch.chdir(project.folder)
    export(Path("results/mine"), GRID)
    with serving(project) as (server, port):
        assert b"MLflow" in get(port, "/")
        runs = search(port)
        assert len(runs) == 5 * (1 + 3)
        (run,) = (run for run in runs if run["info"]["run_name"] == "2-4-1  lr 0.01")
        assert picture(port, run).startswith(b"\x89PNG")
        assert listening_addresses(port) == {"127.0.0.1"}
        with pytest.raises(urllib.error.HTTPError, match="403"):  # a page that gave its own name this address
            get(port, "/api/2.0/mlflow/experiments/get?experiment_id=1", Host="elsewhere.example")
        assert own_processes(server.pid) == [server.pid]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_of_a_server_outlives_a_signal(how, template, tmp_path):
    with serving(with_records(tmp_path / "project", template, [])) as (server, _):
        (process,) = own_processes(server.pid)
        os.kill(process, how)
        _, err = server.communicate(timeout=60)
        assert own_processes(server.pid) == []
        assert len(err.splitlines()) <= 1


def test_a_server_ends_with_make_and_with_nothing_else_that_started_it(template, tmp_path):
    project = with_records(tmp_path / "project", template, [])
    (tmp_path / "makefile").write_text(f"ui:\n\t{sys.executable} pipelines/index.py --serve tracking.port=$(PORT)\n")
    command = f"{' '.join(INDEX)} --serve tracking.port={free_port()} & wait"
    with (
        serving(project, "sh", "-c", command) as (shell, port),
        serving(project, "make", "-f", str(tmp_path / "makefile"), "ui", f"PORT={free_port()}") as (make, _),
    ):
        assert len(own_processes(make.pid)) == len(own_processes(shell.pid)) == 2
        shell.kill()
        make.kill()
        wait_until(lambda: own_processes(make.pid) == [])
        assert get(port, "/health") == b"OK"


def test_a_taken_port_is_one_line_whose_remedies_work(template, tmp_path):
    project = with_records(tmp_path / "project", template, [])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (line,) = project.run(*INDEX, "--serve", f"tracking.port={port}", code=2).stderr.splitlines()
    said = re.fullmatch(
        rf"error: tracking\.port={port}: Address already in use; choose another: "
        r"`make ui PORT=(\d+)` or tracking\.port=(\d+)",
        line,
    )
    assert not (project.folder / "mlflow.db").exists()
    with serving(project, *INDEX, "--serve", f"tracking.port={said[2]}"):
        pass
    would = project.run("make", "--just-print", "ui", f"PORT={said[1]}").stdout
    assert f"python pipelines/index.py --serve tracking.port={said[1]}\n" in would


# ---------------------------------------------------------------------------------------------- in a real browser


def test_a_run_leads_to_its_row_in_the_report_and_its_address_needs_no_index(browser, template, tmp_path, monkeypatch):
    project = with_records(tmp_path / "project", template, [])
    monkeypatch.chdir(project.folder)
    export(Path("results/smoke"), GRID[:1])
    report = project.folder / "reports" / "smoke" / "report.html"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text('<p style="height: 3000px">A report</p><p id="cell-2-4-1-at-0.1">the row</p>')
    (cell,) = join(GRID[:1])
    with serving(project) as (_, port), browser.new_page() as page:
        page.goto(Runs(port, {"tuning": "smoke"}).address("tuning", cell))
        expect(page.get_by_role("heading", name="2-4-1 lr 0.1")).to_be_visible(timeout=60_000)
        link = page.get_by_role("link", name="reports/smoke/report.html")
        page.goto(f"http://127.0.0.1:{port}{link.get_attribute('href')}")
        expect(page.get_by_text("the row")).to_be_in_viewport()


HEADS = """() => [...document.querySelectorAll(".ag-header-cell[col-id]")].flatMap(cell => {
  const text = [...cell.querySelectorAll("*")].find(e => !e.children.length && e.innerText && e.innerText.trim());
  if (!text) return [];
  const [outer, inner] = [cell, text].map(e => e.getBoundingClientRect());
  return [[outer.left, text.innerText, inner.right < outer.right]];
}).sort(([one], [other]) => one - other).map(([_, ...head]) => head)"""
"""The heads of the columns from left to right, and whether each is seen to its end."""


def test_the_page_that_opens_says_what_cells_came_to_and_then_tells_them_apart(
    browser, template, tmp_path, monkeypatch
):
    project = with_records(tmp_path / "project", template, [])
    monkeypatch.chdir(project.folder)
    export(Path("results/smoke"), GRID)
    with serving(project) as (_, port), browser.new_page(viewport={"width": 1440, "height": 900}) as page:
        page.goto(f"http://127.0.0.1:{port}/{address('1', 'cells')}")
        expect(page.get_by_role("link", name="2-6-3-1 lr 0.03")).to_be_visible(timeout=60_000)
        expect(page.get_by_text("MLflow Assistant")).to_be_in_viewport()  # which takes room at a first visit
        for name in ("true_error", "bad_runs"):
            expect(page.locator(".ag-header-cell", has_text=name)).to_be_in_viewport(ratio=1)
        page.set_viewport_size({"width": 2200, "height": 900})
        expect(page.locator(".ag-header-cell", has_text="model.initialisation")).to_be_in_viewport(ratio=1)
        heads = page.evaluate(HEADS)
    assert [name for name, _ in heads[:9]] == [
        *("Run Name", "Created", "true_error", "bad_runs", "validation_loss", "validation_accuracy"),
        *("architecture", "optimizer.learning_rate", "model.initialisation"),
    ]
    assert all(whole for _, whole in heads[:9])
