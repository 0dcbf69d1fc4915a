"""Nothing outside the core decides a result unseen: each such source file is changed, in hundreds of places in all.

A changed program may fail, or give another identity, or give the same parameters. It may not give other parameters
under the same identity. Each change is tried in a process forked from one that has imported everything else.
"""

import ast
import contextlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from circlemlp.run.compose import compose_jobs
from circlemlp.store.records import DamagedRecord, Store
from conftest import SOURCE, TINY

SETTINGS = (
    *TINY[:3],
    *("training=mini_batch", "training.epochs=4", "training.replicates=2", "training.batch_size=20"),
    *("optimizer=sgd", "schedule=cosine", "early_stopping=patience", "model.hidden_layer_sizes=[3]", "tracking=none"),
)

SERVER = """
import importlib.abc, importlib.util, json, os, signal, sys
from pathlib import Path

if "CHILD" in os.environ:  # a changed program has started itself again
    sys.exit(3)
project, folder, *settings = sys.argv[1:]
sys.path.insert(0, project + "/pipelines")
import checkout
import circlemlp.run.train_door
os.environ |= {"CHILD": "yes", "PATH": ""}  # without git, which takes longer than the rest


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, name, path, source):
        self.name, self.path, self.source = name, path, source

    def find_spec(self, name, *_):
        if name == self.name:
            return importlib.util.spec_from_file_location(
                name, self.path, loader=self,
                submodule_search_locations=[str(Path(self.path).parent)] if self.path.endswith("__init__.py") else None,
            )

    def exec_module(self, module):
        exec(compile(self.source, self.path, "exec"), module.__dict__)


def train(name, path, source, records, values):
    signal.alarm(20)
    for module in [one for one in sys.modules if one.startswith("circlemlp") and ".core" not in one]:
        del sys.modules[module]
    lines = set()

    def trace(frame, event, _):
        if not frame.f_code.co_filename.startswith(project + "/src"):
            return None
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    if name:
        sys.meta_path.insert(0, Changed(name, path, source))
    else:
        sys.settrace(trace)
    try:
        if values:
            from circlemlp import numerics, pinning
            from circlemlp.run import cells, checking
            from circlemlp.store.records import Store

            cell = cells.Cell.of(checking.parse(values), numerics.read_back(pinning.resolve("auto")))
            cells.run(cell, Store(Path(records)))
        else:
            from circlemlp.run.train_door import train_door

            logs = (f"hydra.run.dir={folder}/logs", "hydra.output_subdir=null")
            train_door([*settings, f"paths.records={records}", *logs])
    finally:
        sys.settrace(None)
        if not name:
            Path(folder, "lines.json").write_text(json.dumps(sorted(lines)))
            ours = [one for name, one in sys.modules.items() if name.startswith("circlemlp") and ".core" not in name]
            Path(folder, "imported.json").write_text(json.dumps([one.__file__ for one in ours]))


for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        try:
            train(*json.loads(line))
        except BaseException:
            pass
        os._exit(0)
    os.waitpid(pid, 0)
    print("done", flush=True)
"""

OPPOSITE = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}


MOST_IN_A_FILE = 18
DOOR = (
    "__init__",
    "project",
    "results",
    "tables",
    "wording",
    "compose",
    "launching",
    "door",
    "train_door",
    "outcomes",
    "progress",
)
"""The files that take a whole door to be used, which takes longer than the engine alone."""


def changed(node):
    """Return a node of a syntax tree with its meaning changed, or None."""
    match node:
        case ast.Compare(ops=[first, *more]) if type(first) in OPPOSITE:
            return ast.Compare(node.left, [OPPOSITE[type(first)](), *more], node.comparators)
        case ast.BoolOp() if type(node.op) in OPPOSITE:
            return ast.BoolOp(OPPOSITE[type(node.op)](), node.values)
        case ast.BinOp() if type(node.op) in OPPOSITE:
            return ast.BinOp(node.left, OPPOSITE[type(node.op)](), node.right)
        case ast.Constant(value=bool()):
            return ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            return ast.Constant(node.value + 1)
        case ast.Constant(value=str()):
            return ast.Constant(node.value + "x")
    return None


def mutants(path, lines, most=MOST_IN_A_FILE):
    """Return the places and sources of a file with one change each, in lines that were executed, evenly spread."""
    text = path.read_text().splitlines()
    tree = ast.parse("\n".join(text))
    skipped = set()  # docstrings and messages
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped.update(map(id, ast.walk(node)))
        if isinstance(node, ast.Expr):
            skipped.add(id(node.value))
    found = []
    for node in ast.walk(tree):
        if getattr(node, "lineno", None) in lines and id(node) not in skipped and (other := changed(node)):
            first, last = text[node.lineno - 1].encode(), text[node.end_lineno - 1].encode()
            before, after = first[: node.col_offset].decode(), last[node.end_col_offset :].decode()
            new = f"{before}({ast.unparse(other)}){after}"
            source = "\n".join([*text[: node.lineno - 1], new, *text[node.end_lineno :]])
            with contextlib.suppress(SyntaxError):  # a pattern of match, say, where an expression cannot be
                compile(source, path, "exec")
                found.append((f"{path.name}:{node.lineno}", source))
    return found[:: -(-len(found) // most) or 1]


class Server:
    """A copy of the library, and what a change in it does to the training of one cell."""

    def __init__(self, folder):
        self.folder = folder
        for part in ("src", "pipelines", "conf"):
            shutil.copytree(SOURCE / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        settings = [one.replace("data/", f"{folder}/data/") for one in SETTINGS]
        python = [sys.executable, "-X", f"pycache_prefix={folder}/cache"]
        subprocess.run([*python, str(folder / "pipelines/generate.py"), *settings], check=True, capture_output=True)
        self._training = [*python, str(folder / "pipelines/train.py"), *settings]
        self._process = subprocess.Popen(
            [*python, "-c", SERVER, str(folder), str(folder), *settings],
            cwd=folder,  # where changed paths lead
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._number = 0
        config = compose_jobs(settings).jobs[0].config
        self._values = config.model_dump() | {"data": config.data.model_dump() | {"file": config.data.file}}
        (self.before,) = self.train()
        self.parameters = self.stored.load(self.before).parameters
        executed = json.loads((folder / "lines.json").read_text())
        self.imported = {Path(path) for path in json.loads((folder / "imported.json").read_text())}
        self.lines = {Path(path): {line for one, line in executed if one == path} for path, _ in executed}

    def train(self, path=None, source=""):
        """Train in a changed library; return the identities of the records that are left."""
        self._number += 1
        self.stored = Store(self.folder / f"runs{self._number}")
        name = ""
        if path:
            name = ".".join(path.relative_to(self.folder / "src").with_suffix("").parts).removesuffix(".__init__")
        values = self._values if path and path.stem not in DOOR else None
        request = [name, str(path), source, str(self.stored.folder), values]
        print(json.dumps(request), file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n"
        return self.stored.identities()

    def train_with_script(self, path, source):
        """Train with a changed script; return the identities of the records that are left."""
        self._number += 1
        self.stored = Store(self.folder / f"runs{self._number}")
        before = path.read_text()
        path.write_text(source)
        subprocess.run([*self._training, f"paths.records={self.stored.folder}"], capture_output=True, timeout=100)
        path.write_text(before)
        return self.stored.identities()

    def verdict(self, path, source):
        """Say what came of a change."""
        verdict = "no record"
        for identity in (self.train if "src" in path.parts else self.train_with_script)(path, source):
            if identity != self.before:
                return "another identity"
            try:
                parameters = self.stored.load(identity).parameters
            except DamagedRecord:
                return "no record"
            verdict = "the same" if parameters.tobytes() == self.parameters.tobytes() else "UNSEEN"
        return verdict

    def end(self):
        self._process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("changed"))
    yield server
    server.end()


def test_no_change_outside_the_core_gives_other_parameters_under_the_same_identity(server):
    counts, unseen, files = Counter(), [], set()
    for path, lines in server.lines.items():
        for where, source in [] if "core" in path.parts else mutants(path, lines):
            verdict = server.verdict(path, source)
            counts[verdict] += 1
            files.add(path)
            if verdict == "UNSEEN":
                unseen.append(where)
    assert not unseen
    # Every file that is imported was changed, unless nothing in its lines that are executed can be.
    assert {path.stem for path in server.imported - files} <= {"__init__", "errors"}
    assert min(counts[one] for one in ("no record", "another identity", "the same")) >= 10


def test_no_change_of_its_scripts_does_either(server):
    verdicts = []
    for path in (server.folder / "pipelines/checkout.py", server.folder / "pipelines/train.py"):
        everywhere = range(1, len(path.read_text().splitlines()) + 1)
        verdicts += [(where, server.verdict(path, source)) for where, source in mutants(path, everywhere, most=6)]
    assert len(verdicts) >= 8
    assert [where for where, verdict in verdicts if verdict == "UNSEEN"] == []
    assert {"the same", "no record"} <= {verdict for _, verdict in verdicts}


def test_a_hole_would_be_seen(server):
    path = server.folder / "src/circlemlp/run/cells.py"
    before = 'recipe = Recipe.of(cell.ingredients["config"])'
    hole = 'recipe = Recipe.of({**cell.ingredients["config"], "optimizer": {"name": "sgd", "learning_rate": 0.5}})'
    source = path.read_text()
    assert before in source
    assert server.verdict(path, source.replace(before, hole)) == "UNSEEN"
