import json
import os
import shutil
import subprocess
import sys
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circlemlp.errors import UserError
from circlemlp.store.records import DamagedRecord, Record, Store, pack, unpack


def record(seed=0, **volatile):
    rng = np.random.default_rng(seed)
    return Record(
        ingredients={"config": {"seed": seed, "rate": 1e-8}, "data": "d", "code": "c", "numerics": {"mode": "native"}},
        summary={"n_parameters": 3, "validation_loss": [0.5, None]},
        arrays={"parameters": rng.standard_normal((2, 3)).astype(np.float32), "diverged_at": np.array([-1, 4])},
        volatile=volatile,
    )


def same(a, b):
    assert (a.ingredients, a.summary, a.volatile) == (b.ingredients, b.summary, b.volatile)
    assert a.arrays.keys() == b.arrays.keys()
    for name in a.arrays:
        np.testing.assert_array_equal(a.arrays[name], b.arrays[name])


def test_a_record_reads_back_as_it_was(tmp_path):
    store = Store(tmp_path / "runs")
    written = record(wall_seconds=1.5)
    path = store.save(written)
    assert path.name == written.identity
    same(store.load(written.identity), written)
    assert store.identities() == [written.identity]
    assert not list(store.folder.glob(".aside-*"))


def test_the_identity_is_of_the_ingredients_alone():
    assert record(0).identity == record(0, host="x").identity
    assert record(0).identity != record(1).identity


def test_equal_records_without_what_varies_are_equal_bytes(tmp_path):
    for name, host in (("a", "one"), ("b", "two")):
        Store(tmp_path / name).save(record(host=host), volatile=False)
    files = [sorted((tmp_path / name / record().identity).iterdir()) for name in ("a", "b")]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]


def test_what_is_not_there_is_a_key_error(tmp_path):
    with pytest.raises(KeyError):
        Store(tmp_path).load("0" * 64)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found(tmp_path_factory, data):
    store = Store(tmp_path_factory.mktemp("store"))
    written = record(host="h")
    path = store.save(written)
    file = data.draw(st.sampled_from(sorted(path.iterdir())))
    content = bytearray(file.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        read = store.load(written.identity)
    except DamagedRecord:
        return
    assert file.name == "manifest.json"  # of which white space can change unnoticed
    same(read, written)


@pytest.mark.parametrize("damage", ["truncate", "empty", "remove", "no manifest", "other's", "a file", "nested"])
def test_a_damaged_record_is_named_and_replaced(tmp_path, damage):
    store = Store(tmp_path)
    path = store.save(record())
    match damage:
        case "truncate":
            os.truncate(path / "arrays.npz", 100)
        case "empty":
            (path / "manifest.json").write_bytes(b"")
        case "remove":
            (path / "arrays.npz").unlink()
        case "no manifest":
            (path / "manifest.json").unlink()
        case "a file":
            shutil.rmtree(path)
            path.write_text("not a folder")
        case "nested":
            (path / "manifest.json").write_text("[" * 100_000)
        case "other's":
            shutil.rmtree(path)
            shutil.copytree(store.save(record(1)), path)
    with pytest.raises(DamagedRecord, match=record().identity):
        store.load(record().identity)
    assert not store.is_good(record().identity)
    store.save(record())
    same(store.load(record().identity), record())
    assert not list(tmp_path.glob(".aside-*"))


def test_a_good_record_is_never_rewritten(tmp_path):
    store = Store(tmp_path)
    store.save(record(host="first"))
    store.save(record(host="second"))
    assert store.load(record().identity).volatile == {"host": "first"}


def write_and_die(folder):
    os.fsync = lambda _: os._exit(9)
    Store(folder).save(record())


def test_a_record_that_the_system_does_not_let_be_read_is_not_taken_for_damaged(tmp_path):
    path = Store(tmp_path).save(record())
    path.rename(tmp_path / "kept")
    path.symlink_to(path)
    with pytest.raises(UserError, match=r"cannot be read \(Too many levels"):
        Store(tmp_path).is_good(record().identity)


def test_a_process_killed_while_writing_leaves_no_record(tmp_path):
    process = get_context("spawn").Process(target=write_and_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 9
    store = Store(tmp_path)
    assert store.identities() == []
    (aside,) = tmp_path.glob(".aside-*")
    store.open_for_writing()
    assert aside.exists()  # it may be somebody's who is still writing
    os.utime(aside, (0, 0))
    store.open_for_writing()
    assert not aside.exists()


def test_npz_bytes_hold_no_objects_and_no_time():
    arrays = record().arrays
    assert pack(arrays) == pack(arrays)
    with pytest.raises(ValueError, match="pickle"):
        pack({"a": np.array([{}], dtype=object)})
    for bad in (b"", b"PK", pack(arrays)[:-30], b"x" * 100):
        with pytest.raises(ValueError, match=r"(?i)zip|file|data|magic|pickle"):
            unpack(bad)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        Store(tmp_path / "file").save(record())


IN_A_SMALL_FILE_SYSTEM = """
import sys
import numpy as np
from pathlib import Path
from circlemlp.errors import UserError
from circlemlp.store.records import Record, Store
store = Store(Path(sys.argv[1]))
small = Record({"n": 1}, {}, {"a": np.zeros(10)})
large = Record({"n": 2}, {}, {"a": np.zeros(10**6)})
try:
    store.save(small)
    store.save(large)
except UserError as error:
    print(error)
print(store.identities() == [small.identity], [p.name for p in store.folder.glob(".aside-*")])
"""


def mounts():
    return (
        shutil.which("unshare")
        and subprocess.run(
            ["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False
        ).returncode
        == 0
    )


@pytest.mark.skipif(not mounts(), reason="needs the right to mount a small file system of its own")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("size=512k", "no space left on the disk; free some and run again\nTrue []"),
        ("size=512k,ro", "cannot be written"),
    ],
)
def test_a_full_or_read_only_disk_is_one_line_and_loses_nothing(tmp_path, options, says):
    script = f'mount -t tmpfs -o {options} none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        [
            "unshare",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
            tmp_path,
            sys.executable,
            IN_A_SMALL_FILE_SYSTEM,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert says in done.stdout, done.stderr


def test_a_manifest_is_for_people_too(tmp_path):
    manifest = json.loads((Store(tmp_path).save(record(host="h")) / "manifest.json").read_text())
    assert set(manifest) == {"ingredients", "summary", "arrays", "seal", "volatile"}
