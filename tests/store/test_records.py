import copy
import json
import os
import shutil
import zipfile
from dataclasses import replace
from functools import cache
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circlemlp.core.data import sample_dataset
from circlemlp.core.recipe import Recipe
from circlemlp.core.training import History, train
from circlemlp.core.true_error import true_errors
from circlemlp.errors import UserError
from circlemlp.store.identity import canonical, sha256
from circlemlp.store.npz import pack
from circlemlp.store.records import DamagedRecord, OtherFormat, Record, Store, Volatile

CONFIG = {
    "data": {
        "shape": "quarter_circle",
        "radius": 1.0,
        "draws": "fresh",
        "n_train": 30,
        "n_validation": 20,
        "label_noise": 0.0,
        "seed": 1,
    },
    "model": {"hidden_layer_sizes": [3], "activation": "relu", "initialisation": "he"},
    "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.0, "nesterov": False},
    "schedule": {"decay": "constant", "warmup_fraction": 0.0, "final_fraction": 1.0},
    "training": {"epochs": 4, "batch_size": None, "dtype": "float32", "replicates": 2, "first_replicate": 0, "seed": 0},
    "early_stopping": {"patience": None, "min_delta": 0.0},
}
NUMERICS = {
    "mode": "portable",
    "machine": "x86_64",
    "numpy": "2.4.6",
    "simd": ["X86_V2", "X86_V3"],
    "blas": [{"internal_api": "openblas", "version": "0", "architecture": "Haswell", "num_threads": 1}],
    "elementary": "e" * 64,
}


@cache
def trained(seed, learning_rate):
    config = copy.deepcopy(CONFIG)
    config["training"]["seed"] = seed
    config["optimizer"]["learning_rate"] = learning_rate
    dataset = sample_dataset(config["data"], config["training"]["replicates"])
    ingredients = {"config": config, "data": dataset.digest(), "code": "c" * 64, "numerics": NUMERICS}
    return completed(ingredients, dataset)


def completed(ingredients, dataset):
    parameters, history = train(dataset, Recipe.of(ingredients["config"]))
    return Record(ingredients, parameters, history, true_errors(ingredients["config"], parameters, history.diverged_at))


def record(seed=0, learning_rate=0.1, **volatile):
    return replace(trained(seed, learning_rate), volatile=Volatile(**volatile))


def same(a, b):
    assert (a.ingredients, a.summary, a.volatile) == (b.ingredients, b.summary, b.volatile)
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
    assert store.load(record().identity).volatile.host == "first"


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
    assert aside.exists()  # it is so young that somebody may still be about to write it
    os.utime(aside, (0, 0))
    store.open_for_writing()
    assert not aside.exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        Store(tmp_path / "file").save(record())


def test_a_manifest_is_for_people_too(tmp_path):
    manifest = json.loads((Store(tmp_path).save(record(host="h")) / "manifest.json").read_text())
    assert set(manifest) == {"format", "ingredients", "arrays", "seal", "volatile"}


def forged(store, change=lambda _: None, **arrays):
    """Write a record whose digests are right and whose content is not; return its identity."""
    true = record()
    packed = pack(true.arrays | arrays)
    manifest = {"format": 3, "ingredients": copy.deepcopy(true.ingredients), "arrays": sha256(packed), "volatile": {}}
    change(manifest)
    manifest["seal"] = sha256(canonical(manifest))
    identity = sha256(canonical(manifest["ingredients"]))
    folder = store.path(identity)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "arrays.npz").write_bytes(packed)
    return identity


def array(name, place, value):
    changed = record().arrays[name].copy()
    changed[place] = value
    return {name: changed}


ARRAYS = {
    "an accuracy above 1": array("validation_accuracy", (0, 2), 1.05),
    "an accuracy between two numbers of points": array("validation_accuracy", (0, 2), 0.123),
    "a negative loss": array("training_loss", (1, 3), -0.1),
    "a loss that is not a number": array("validation_loss", (1, 3), np.nan),
    "parameters that are not numbers": array("parameters", (0, 0), np.nan),
    "a divergence without a sign of it": array("diverged_at", 0, 3),
    "a divergence after the end": array("diverged_at", 0, 9),
    "a stop without a rule": array("stopped_at", 1, 2),
    "a true error above 1": array("true_error", 0, 1.5),
    "other replicates": {"parameters": record().parameters[:1]},
    "another type": {"parameters": record().parameters.astype(np.float64)},
    "another number of epochs": {"training_loss": np.zeros((2, 4))},
    "one array more": {"more": np.zeros(3)},
    "numbers of text": {"stopped_at": np.array(["-1", "-1"])},
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_no_training_writes_are_damage_although_their_digests_are_right(tmp_path, name):
    identity = forged(Store(tmp_path), **ARRAYS[name])
    with pytest.raises(DamagedRecord, match=identity) as error:
        Store(tmp_path).load(identity)
    assert "\n" not in str(error.value)


def setting(place, value):
    *sections, last = place.split(".")

    def change(manifest):
        inner = manifest
        for section in sections:
            inner = inner[section]
        inner[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        setting("ingredients.config.training.epochs", 10**6),
        setting("ingredients.config.training.epochs", "four"),
        setting("ingredients.config.model.hidden_layer_sizes", [65536] * 64),
        setting("ingredients.config.model", None),
        setting("ingredients.config", []),
        setting("ingredients.config.early_stopping.min_delta", 0.5),  # decides nothing, so it is hashed as 0
        setting("ingredients.numerics", {}),
        setting("ingredients.numerics.blas", 3),
        setting("ingredients.data", "short"),
        setting("ingredients", {}),
        setting("volatile", {"wall_seconds": "soon"}),
        setting("volatile", {"started_at": "yesterday"}),
        setting("volatile", ["x"]),
        setting("arrays", 5),
    ],
)
def test_a_manifest_that_no_training_writes_is_damage_although_its_seal_is_right(tmp_path, change):
    identity = forged(Store(tmp_path), change)
    with pytest.raises(DamagedRecord, match=identity) as error:
        Store(tmp_path).load(identity)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["[]", "5", "null", "{}", '{"seal": 1}', "\ud800".encode("utf-8", "surrogatepass")])
def test_a_manifest_of_another_shape_is_damage(tmp_path, content):
    folder = Store(tmp_path).save(record())
    (folder / "manifest.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DamagedRecord):
        Store(tmp_path).load(record().identity)


@pytest.mark.parametrize("written", [1, 4, None])
def test_another_format_is_one_clear_line(tmp_path, written):
    identity = forged(
        Store(tmp_path), setting("format", written) if written else lambda manifest: manifest.pop("format")
    )
    with pytest.raises(OtherFormat, match=f"{identity}: has format {written or 1}; this version reads format 3"):
        Store(tmp_path).load(identity)


def test_a_compressed_file_is_refused_before_it_is_expanded(tmp_path):
    folder = Store(tmp_path).save(record())
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in record().arrays:
            archive.writestr(f"{name}.npy", bytes(1000))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["arrays"] = sha256(bomb.read_bytes())
    del manifest["seal"]
    manifest["seal"] = sha256(canonical(manifest))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    bomb.replace(folder / "arrays.npz")
    with pytest.raises(DamagedRecord, match="is compressed"):
        Store(tmp_path).load(record().identity)


@pytest.mark.parametrize("file", ["manifest.json", "arrays.npz"])
@pytest.mark.parametrize("kind", ["pipe", "device", "far too large"])
def test_what_is_no_regular_file_of_its_size_is_damage_and_never_waited_for(tmp_path, file, kind):
    path = Store(tmp_path).save(record()) / file
    path.unlink()
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "far too large":
            path.touch()
            os.truncate(path, 10**12)
    with pytest.raises(DamagedRecord):
        Store(tmp_path).load(record().identity)


def test_the_summary_is_that_of_the_last_epoch():
    diverged = History(
        *(np.array([[0.7, 0.5, 0.25], [0.7, np.nan, np.nan]]) for _ in range(3)),
        diverged_at=np.array([-1, 1]),
        stopped_at=np.array([2, -1]),
    )
    summary = replace(record(), history=diverged).summary
    assert summary.validation_loss == [0.25, None]
    assert (summary.diverged_at, summary.stopped_at) == ([None, 1], [2, None])
    assert summary.n_parameters == 3 * 3 + 4


def test_a_diverged_replicate_makes_a_good_record(tmp_path):
    config = copy.deepcopy(CONFIG) | {"optimizer": CONFIG["optimizer"] | {"learning_rate": 10.0, "momentum": 0.99}}
    config["training"] |= {"epochs": 60}
    config["model"] = CONFIG["model"] | {"hidden_layer_sizes": [64, 32], "activation": "leaky_relu"}
    dataset = sample_dataset(config["data"], config["training"]["replicates"])
    ingredients = record().ingredients | {"config": config}
    diverged = completed(ingredients, dataset)
    assert (diverged.history.diverged_at > 0).all()
    Store(tmp_path).save(diverged)
    assert Store(tmp_path).load(diverged.identity).summary == diverged.summary


def test_a_lock_of_a_run_is_seen_by_others(tmp_path):
    store = Store(tmp_path)
    assert not store.is_locked(record().identity)
    with store.lock(record().identity):
        assert store.is_locked(record().identity)
