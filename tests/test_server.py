import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import closing, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import circlemlp.tracking  # noqa: F401, for its settings, which MLflow reads when it is imported

# isort: split
import boto3
import psycopg2
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from pydantic import ValidationError

from circlemlp.config import Tracking
from circlemlp.errors import UserError
from circlemlp.store.records import Store, Volatile
from circlemlp.tracking.index import PLACE, Index
from circlemlp.tracking.runs import RECORDS
from circlemlp.tracking.server import COPY, NOTE, PARENT, RUN, Server
from conftest import SOURCE, TINY
from made_up import GRID, SETTINGS, made_up

ENDPOINT = "MLFLOW_S3_ENDPOINT_URL"
AGAIN = "make ui"
S3 = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
OURS = os.environ | {"PYTHONPATH": str(SOURCE / "src")}
PUSHING = """
import sys
from circlemlp.config import Report, Tracking
from circlemlp.tracking.index import Index
from circlemlp.tracking.server import Server

tracking, report = Tracking.model_validate_json(sys.argv[1]), Report.model_validate_json(sys.argv[2])
Server(sys.argv[3], "make ui").push(Index(tracking, report))
"""
STOPPING = """
import circlemlp.tracking
from mlflow import MlflowClient

def stop(*_):
    print("half of it is there", flush=True)
    sys.stdin.read()

MlflowClient.log_artifacts = stop
"""
TRACKED = [override for override in TINY if override != "tracking=none"]


def wait_for(answers, process, seconds=120):
    """Wait until something answers, or fail when its process ends or the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError, psycopg2.OperationalError):
            return answers()
        time.sleep(0.05)
    raise AssertionError(f"{process.args}: does not answer, exit code {process.poll()}")


def free_port():
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="session")
def postgresql():
    """The address of a PostgreSQL server of our own, which is Debian's program on a socket in a temporary folder."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs and not os.environ.get("CI"):
        pytest.skip("PostgreSQL is not here: apt-get install postgresql")
    assert programs, "CI installs PostgreSQL"
    program, folder = programs[-1].parent, Path(tempfile.mkdtemp(prefix="pg-"))
    user = {}
    if os.getuid() == 0:  # it refuses to be root
        shutil.chown(folder, "postgres", "postgres")
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    options = ("--auth=trust", "--username=me", "--encoding=UTF8", "--locale=C", "--no-sync")
    subprocess.run(
        [program / "initdb", "-D", folder / "db", *options],
        cwd=folder,
        check=True,
        timeout=60,
        capture_output=True,
        **user,
    )
    settings = (f"unix_socket_directories={folder}", "listen_addresses=", "fsync=off")
    process = subprocess.Popen(
        [program / "postgres", "-D", folder / "db", *(part for one in settings for part in ("-c", one))],
        cwd=folder,
        stderr=subprocess.DEVNULL,
        **user,
    )
    address = f"postgresql://me@/postgres?host={folder}"
    try:
        wait_for(lambda: psycopg2.connect(address).close(), process)
        yield address
    finally:
        process.send_signal(signal.SIGINT)  # without waiting for its clients
        process.wait(20)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def bucket():
    """A bucket of a server that plays S3."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    keys = {"aws_access_key_id": "me", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close(), process)
        yield boto3.resource("s3", endpoint_url=address, **keys).create_bucket(Bucket="runs"), address
    finally:
        process.kill()
        process.wait(20)


@pytest.fixture(scope="session")
def uri(postgresql, bucket, tmp_path_factory):
    """The address of an MLflow server on both."""
    port = free_port()
    environment = S3 | {ENDPOINT: bucket[1], "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    where = (
        "--backend-store-uri",
        postgresql.replace("postgresql:", "postgresql+psycopg2:"),
        "--artifacts-destination",
        "s3://runs",
    )
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            *where,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
        ],
        cwd=tmp_path_factory.mktemp("server"),
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: urllib.request.urlopen(f"{address}/health", timeout=5).close(), process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


class Indexes:
    """Indexes of some records under the name of an experiment."""

    def __init__(self, folder):
        self.folder = folder
        Index(self.settings("empty"), SETTINGS)

    def settings(self, name):
        return Tracking(
            database=str(self.folder / f"{name}.db"),
            artifacts=str(self.folder / name),
            experiment=name,
            curve_points=4,
            replicate_runs=500,
            port=5000,
        )

    def make(self, name, experiment=None, records=GRID[:2]):
        settings, store = self.settings(name), Store(self.folder / f"{name}-runs")
        if not Path(settings.database).exists():
            shutil.copy(self.settings("empty").database, settings.database)
        for record in records:
            store.save(replace(record, volatile=Volatile(commit="abc", dirty=False, experiment=experiment or name)))
        index = Index(settings, SETTINGS)
        index.bring_up_to_date(store)
        return index


@pytest.fixture(scope="session")
def indexes(tmp_path_factory):
    return Indexes(tmp_path_factory.mktemp("indexes"))


def runs_of(uri, name, which=ViewType.ACTIVE_ONLY):
    """Return a client, the runs of cells in an experiment, and those of replicates."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    runs = [] if experiment is None else client.search_runs([experiment.experiment_id], run_view_type=which)
    cells = [run for run in runs if PARENT not in run.data.tags]
    return client, cells, [run for run in runs if run not in cells]


def all_of(client, run):
    """Return all that a run says, but for identifiers and places, which every server gives."""
    info = run.info
    return (
        (info.run_name, info.status, info.start_time, info.end_time, info.user_id),
        run.data.params,
        {key: value for key, value in run.data.tags.items() if key not in (RUN, PARENT, NOTE)},
        {
            key: sorted(
                (point.step, point.value, point.timestamp) for point in client.get_metric_history(info.run_id, key)
            )
            for key in run.data.metrics
        },
        [
            (one.dataset.to_dictionary(), *((tag.key, tag.value) for tag in one.tags))
            for one in run.inputs.dataset_inputs
        ],
    )


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_a_server_gets_the_runs_of_the_index_once(uri, indexes, postgresql, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr("circlemlp.tracking.server.POINTS", 10)  # so that a run takes more than one request
    monkeypatch.setattr("circlemlp.tracking.server.VALUES", 7)
    index = indexes.make("copied", records=GRID[:3])
    assert Server(uri, AGAIN).push(index) == 3
    there, cells, replicates = runs_of(uri, "copied")
    here, own_cells, own_replicates = runs_of(index.database.uri, "copied")
    assert len(cells) == len(own_cells) == 3
    assert len(replicates) == len(own_replicates) == 9
    own = {run.info.run_id: run for run in own_cells}
    for cell in cells:
        original = own[cell.data.tags[RUN]]
        assert all_of(there, cell) == all_of(here, original)
        before, link, after = original.data.tags[NOTE].partition("[reports/copied/report.html](/")
        assert link
        assert cell.data.tags[NOTE] == f"{before}`reports/copied/report.html`{after.partition(')')[2]}"
        assert len(cell.inputs.dataset_inputs) == 1
        assert contents(there.download_artifacts(cell.info.run_id, "", str(tmp_path))) == contents(
            index.folder(original.info.experiment_id, original.info.run_id)
        )
        children = [run for run in replicates if run.data.tags[PARENT] == cell.info.run_id]
        originals = [run for run in own_replicates if run.data.tags[PARENT] == original.info.run_id]
        assert [all_of(there, run) for run in children] == [all_of(here, run) for run in originals]
    experiment = there.get_experiment_by_name("copied")
    assert f"#/experiments/{experiment.experiment_id}/runs?" in experiment.tags[NOTE]
    assert "its report is `reports/copied/report.html`." in experiment.tags[NOTE]
    with closing(psycopg2.connect(postgresql)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM runs WHERE experiment_id = %s", [int(experiment.experiment_id)])
        assert cursor.fetchone() == (12,)
    files = {(one.key, one.last_modified) for one in bucket[0].objects.all()}
    assert sum(experiment.experiment_id == key.split("/")[0] for key, _ in files) == 12

    assert Server(uri, AGAIN).push(index) == 0
    again = runs_of(uri, "copied", ViewType.ALL)[1:]
    assert [[run.to_dictionary() for run in runs] for runs in again] == [
        [run.to_dictionary() for run in runs] for runs in (cells, replicates)
    ]
    assert {(one.key, one.last_modified) for one in bucket[0].objects.all()} == files


def test_a_cell_with_more_replicates_takes_the_place_of_the_one_there(uri, indexes):
    Server(uri, AGAIN).push(indexes.make("grown", records=GRID[:1]))
    fewer = indexes.make("as it was", "grown", GRID[:1])
    more = indexes.make("grown", records=[made_up((4,), 0.1, [0.31, 0.32], first=3)])
    for _ in range(2):
        Server(uri, AGAIN).push(more)
        Server(uri, AGAIN).push(fewer)
        _, (cell,), replicates = runs_of(uri, "grown")
        assert cell.data.params["replicates"] == "5"
        assert [run.info.run_name for run in replicates] == ["r00", "r01", "r02", "r03", "r04"]
        assert {run.data.tags[PARENT] for run in replicates} == {cell.info.run_id}
    assert Server(uri, AGAIN).push(more, everything=True) == 0
    assert len(runs_of(uri, "grown")[1]) == 1
    in_one_record = indexes.make("in one record", "grown", [made_up((4,), 0.1, [0.30] * 6)])
    for pushed in (1, 0):
        client, (cell,), _ = runs_of(uri, "grown")
        client.delete_tag(cell.info.run_id, RECORDS)  # as a person may
        assert [Server(uri, AGAIN).push(one) for one in (fewer, more, in_one_record, more)] == [0, 0, pushed, 0]
        _, (cell,), replicates = runs_of(uri, "grown")
        assert cell.data.params["replicates"] == "6"
        assert len(replicates) == 6


def test_a_push_that_was_killed_is_done_again(uri, indexes):
    Server(uri, AGAIN).push(indexes.make("killed", records=GRID[:1]))
    index = indexes.make("killed")
    settings = indexes.settings("killed").model_dump_json(), SETTINGS.model_dump_json(), uri
    with subprocess.Popen(
        [sys.executable, "-c", STOPPING + PUSHING, *settings],
        env=OURS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout.readline() == b"half of it is there\n"
        finally:
            process.kill()
    assert sorted(cell.info.status for cell in runs_of(uri, "killed")[1]) == ["FINISHED", "RUNNING"]
    assert Server(uri, AGAIN).push(index) == 1
    _, cells, replicates = runs_of(uri, "killed")
    assert sorted(cell.data.tags[RUN] for cell in cells) == sorted(index.cells()["killed"])
    assert {run.info.status for run in cells + replicates} == {"FINISHED"}
    assert len(replicates) == 6
    assert {run.data.tags[PARENT] for run in replicates} == {cell.info.run_id for cell in cells}
    assert Server(uri, AGAIN).push(index, everything=True) == 0
    assert len(runs_of(uri, "killed")[1]) == 2  # what is half was not deleted by a person


def test_of_what_two_machines_push_at_once_one_stays(uri, indexes):
    machines = [indexes.make(f"machine-{number}", "shared", GRID[:3]) for number in range(2)]
    Server(uri, AGAIN).push(indexes.make("machine-2", "shared", GRID[:1]))  # so that the experiment is there
    refused = []

    def push(index):
        try:
            Server(uri, AGAIN).push(index)
        except UserError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=push, args=(index,)) for index in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert all(f"`{AGAIN}` pushes the others" in line for line in refused)
    for index in machines:
        Server(uri, AGAIN).push(index)
    _, cells, replicates = runs_of(uri, "shared")
    assert sorted(cell.data.tags[RUN] for cell in cells) == sorted(machines[0].cells()["shared"])
    assert {run.info.status for run in cells + replicates} == {"FINISHED"}
    assert len(replicates) == 9


def test_what_people_do_on_the_server_stays_until_everything_is_asked_for(uri, indexes, capfd):
    index = indexes.make("changed")
    Server(uri, AGAIN).push(index)
    client, cells, replicates = runs_of(uri, "changed")
    client.delete_run(cells[0].info.run_id)
    client.delete_run(replicates[0].info.run_id)
    client.rename_experiment(cells[0].info.experiment_id, "renamed")
    client.update_run(cells[1].info.run_id, name="mine")
    assert Server(uri, AGAIN).push(index) == 0
    left = [run.info.run_name for run in runs_of(uri, "renamed")[1]]
    assert left == ["mine"]
    assert client.get_experiment_by_name("changed") is None
    client.delete_experiment(cells[0].info.experiment_id)
    assert Server(uri, AGAIN).push(index) == 0
    assert (
        capfd.readouterr().err == "not pushed: what belongs to changed, which was deleted there; --all brings it back\n"
    )
    assert Server(uri, AGAIN).push(index, everything=True) == 0
    assert [len(runs) for runs in runs_of(uri, "renamed")[1:]] == [2, 6]


def test_nothing_is_pushed_into_the_page_of_an_index(uri, indexes):
    client = MlflowClient(uri)
    page = client.create_experiment("of make ui", tags={PLACE: "mlartifacts"})
    try:
        with pytest.raises(UserError, match="shows an index"):
            Server(uri, AGAIN).push(indexes.make("copied"))
    finally:
        client.delete_experiment_tag(page, PLACE)


def test_an_experiment_of_others_is_not_taken(uri, indexes):
    MlflowClient(uri).create_experiment("theirs")
    with pytest.raises(UserError, match="has another experiment theirs; give that one another name there"):
        Server(uri, AGAIN).push(indexes.make("theirs", records=GRID[:1]))


def test_training_pushes_its_cells_and_what_had_no_server_catches_up(uri, tiny):
    experiment = "tracking.experiment=of training"
    refusing = f"http://127.0.0.1:{free_port()}"
    done = tiny.train(*TRACKED, experiment, "tracking=server", f"tracking.uri={refusing}")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"tracking.uri={refusing}: not all runs are there (Connection refused); ")
    assert tiny.states(done) == ["trained"]
    command = re.search(r"`(.*)`", line)[1].replace(refusing, uri).split()
    assert tiny.run(*command).stdout.splitlines() == ["mlflow.db: 0 cells added", f"{uri}: 1 cells pushed"]
    more = tiny.train(*TRACKED, experiment, "model=mlp_64_32", "tracking=server", f"tracking.uri={uri}")
    assert more.stderr == ""
    _, cells, replicates = runs_of(uri, "of training")
    assert {cell.data.params["architecture"] for cell in cells} == {"2-64-1", "2-64-32-1"}
    assert len(cells) == 2
    assert len(replicates) == 4


def test_ctrl_c_ends_the_wait_for_a_push(tiny):
    own, terminal = os.openpty()
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            ["python", "pipelines/train.py", *TRACKED, "tracking=server", f"tracking.uri={uri}"],
            cwd=tiny.folder,
            env=tiny.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=terminal,
        )
        os.close(terminal)
        with open(own, "rb", buffering=0) as screen:
            try:
                for line in screen:
                    if f"writing the MLflow index and pushing it to {uri} ..." in line.decode():
                        break
                silent.settimeout(120)
                connection, _ = silent.accept()
                with connection:  # a request that gets no answer
                    process.send_signal(signal.SIGINT)
                    assert process.wait(60) == 130
            finally:
                process.kill()
                process.wait(20)
            command = f"python pipelines/index.py tracking.uri={uri}"
            assert screen.readline().decode().rstrip().endswith(f"; `{command}` finishes it")
            assert screen.readline() == b"interrupted\r\n"


class Recording(BaseHTTPRequestHandler):
    """A server that lets nobody in."""

    def do_GET(self):
        self.server.seen.append(
            [self.headers.get(name) for name in ("Authorization", "X-Signed", "X-MLflow-Workspace")]
        )
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b'{"error_code": "PERMISSION_DENIED", "message": "%s"}' % (b"nobody is let in, " * 100))

    do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


SIGNING = """
class Signing:
    def get_name(self):
        return "signing"

    def get_auth(self):
        return self

    def __call__(self, request):
        request.headers["X-Signed"] = "by me"
        return request
"""


def test_a_server_is_asked_once_with_the_credentials_in_the_environment(indexes, tmp_path):
    indexes.make("copied")
    settings = indexes.settings("copied").model_dump_json(), SETTINGS.model_dump_json()
    (tmp_path / "signing.py").write_text(SIGNING)
    installed = tmp_path / "signing-1.dist-info"
    installed.mkdir()
    (installed / "entry_points.txt").write_text("[mlflow.request_auth_provider]\nsigning = signing:Signing\n")
    with HTTPServer(("127.0.0.1", 0), Recording) as server:
        server.seen = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        letting_in = {
            "MLFLOW_TRACKING_USERNAME": "me",
            "MLFLOW_TRACKING_PASSWORD": "secret",
            "MLFLOW_TRACKING_AUTH": "signing",
            "MLFLOW_WORKSPACE": "ours",
            "PYTHONPATH": f"{OURS['PYTHONPATH']}:{tmp_path}",
        }
        redirecting = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "7"}
        done = subprocess.run(
            [sys.executable, "-c", PUSHING, *settings, uri],
            env=OURS | letting_in | redirecting,
            timeout=120,
            capture_output=True,
            text=True,
        )
        server.shutdown()
    assert server.seen == [["Basic bWU6c2VjcmV0", "by me", "ours"]]
    assert f"UserError: tracking.uri={uri}: not all runs are there (" in done.stderr
    assert re.search(r" (nobody|is|let|in,) \.\.\.\); `make ui` pushes the others\n$", done.stderr)
    assert "secret" not in done.stdout + done.stderr


def test_artifacts_that_go_to_a_bucket_without_the_server_get_there(uri, indexes, bucket):
    index = indexes.make("direct", records=GRID[:1])
    # As on a server that was started with --no-serve-artifacts and this place as its --default-artifact-root.
    MlflowClient(uri).create_experiment("direct", "s3://runs/direct", {COPY: "direct"})
    settings = indexes.settings("direct").model_dump_json(), SETTINGS.model_dump_json()
    subprocess.run([sys.executable, "-c", PUSHING, *settings, uri], env=OURS | S3 | {ENDPOINT: bucket[1]}, check=True)
    (source,) = index.cells()["direct"]
    _, (cell,), _ = runs_of(uri, "direct")
    place = f"direct/{cell.info.run_id}/artifacts/"
    there = {one.key.removeprefix(place): one.get()["Body"].read() for one in bucket[0].objects.filter(Prefix="direct")}
    own = MlflowClient(index.database.uri).get_run(source)
    assert there == contents(index.folder(own.info.experiment_id, source))


def test_a_bucket_that_refuses_is_said_in_one_line(uri, indexes, bucket, monkeypatch):
    for name, value in (S3 | {ENDPOINT: bucket[1]}).items():
        monkeypatch.setenv(name, value)
    MlflowClient(uri).create_experiment("no bucket", "s3://none", {COPY: "no bucket"})
    with pytest.raises(UserError, match=rf"not all runs are there \(.*NoSuchBucket.*\); `{AGAIN}`"):
        Server(uri, AGAIN).push(indexes.make("no bucket", records=GRID[:1]))
    assert runs_of(uri, "no bucket")[1:] == ([], [])


def test_a_bucket_that_is_busy_is_asked_once(uri, indexes, monkeypatch):
    MlflowClient(uri).create_experiment("busy", "s3://runs/busy", {COPY: "busy"})
    with HTTPServer(("127.0.0.1", 0), Recording) as server:
        server.seen = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in (S3 | {ENDPOINT: f"http://127.0.0.1:{server.server_port}"}).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=r"not all runs are there \("):
            Server(uri, AGAIN).push(indexes.make("busy", records=GRID[:1]))
        server.shutdown()
    assert len(server.seen) == 1  # boto itself would ask three times


def test_what_is_no_address_is_refused_and_not_repeated(tiny):
    refused = tiny.train(*TRACKED, "tracking=server", "tracking.uri=http://me:secret@127.0.0.1", code=2)
    line = "error: tracking.uri: must be the address of an MLflow server, such as http://127.0.0.1:8080; "
    assert refused.stderr.startswith(line)
    assert refused.stderr.count("\n") == 1
    assert "secret" not in refused.stdout + refused.stderr
    assert not (tiny.folder / "logs").exists()


@pytest.mark.parametrize("uri", ["", "there", "file:///there", "sqlite:///there.db", "http://there?a=b", "https://a@b"])
def test_no_other_address_is_allowed(uri, indexes):
    with pytest.raises(ValidationError, match="must be the address of an MLflow server"):
        Tracking.model_validate({**indexes.settings("mine").model_dump(), "uri": uri})


@pytest.mark.parametrize("uri", ["http://there", "https://there.example.org:443/mlflow/", "http://[::1]:5000"])
def test_an_address_needs_an_index_to_copy(uri, indexes):
    settings = {**indexes.settings("mine").model_dump(), "uri": uri}
    assert Tracking.model_validate(settings).uri == uri
    with pytest.raises(ValidationError, match="a copy of the index"):
        Tracking.model_validate({**settings, "database": None})


def test_a_server_that_does_not_answer_is_not_waited_for(indexes, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    index = indexes.make("copied")
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        start = time.monotonic()
        with pytest.raises(UserError, match=r"not all runs are there \(it does not answer\)"):
            Server(f"http://127.0.0.1:{silent.getsockname()[1]}", AGAIN).push(index)
        assert time.monotonic() - start < 30  # MLflow itself would try for minutes
