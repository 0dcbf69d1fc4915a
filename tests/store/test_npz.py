import zipfile

import numpy as np
import pytest

from circlemlp.store.npz import map_arrays, pack, unpack

ARRAYS = {
    "matrix": np.arange(12.0).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "bytes": np.arange(5, dtype=np.uint8),
    "text": np.array("ein Wort, größer"),
    "number": np.array(3.5),
    "nothing": np.zeros((0, 3), np.float32),
}


@pytest.fixture(params=["unpack", "map"])
def read(request, tmp_path):
    """Both ways to read an .npz file, as functions of its bytes."""

    def mapped(packed):
        (tmp_path / "arrays.npz").write_bytes(packed)
        return map_arrays(tmp_path / "arrays.npz")

    return unpack if request.param == "unpack" else mapped


def test_arrays_of_any_kind_are_read_as_numpy_reads_them(read):
    arrays = read(pack(ARRAYS))
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
        assert not arrays[name].flags.writeable or not array.size


def test_equal_arrays_are_equal_bytes():
    assert pack(ARRAYS) == pack(ARRAYS)


def test_objects_are_not_written():
    with pytest.raises(ValueError, match="pickle"):
        pack({"a": np.array([{}], dtype=object)})


def test_objects_and_compressed_members_are_not_read(read, tmp_path):
    np.savez(tmp_path / "it.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="Python objects"):
        read((tmp_path / "it.npz").read_bytes())
    np.savez_compressed(tmp_path / "it.npz", a=np.arange(3))
    with pytest.raises(ValueError, match="compressed"):
        read((tmp_path / "it.npz").read_bytes())


def test_what_is_no_such_file_is_a_value_error(read, tmp_path):
    whole = pack({"a": np.arange(100.0)})
    with zipfile.ZipFile(tmp_path / "it.npz", "w") as archive:
        archive.writestr("a.npy", b"not an array")
    larger, senseless = whole.replace(b"(100,)", b"(999,)"), whole.replace(b"'<f8'", b"'(,f'")
    assert len({larger, senseless, whole}) == 3
    for bad in (
        b"",
        b"PK",
        whole[:-30],
        whole[:200],
        b"x" * 100,
        (tmp_path / "it.npz").read_bytes(),
        larger,
        senseless,
    ):
        with pytest.raises(ValueError, match=r"(?i)zip|file|data|magic|whole|empty|syntax"):
            read(bad)


def test_a_pipe_is_refused_at_once(tmp_path):
    (tmp_path / "link").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="regular file"):
        map_arrays(tmp_path / "link")
