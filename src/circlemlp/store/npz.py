"""Arrays as the bytes of an ``.npz`` file: a ZIP of ``.npy`` files, one after another, none compressed, no pickle."""

import io
import os
import struct
import tokenize
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

_NAME_LENGTHS_AT = 26  # in the header of a ZIP member, APPNOTE.TXT section 4.3.7
_HEADERS = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return arrays as the bytes of an ``.npz`` file: equal arrays, equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


def unpack(packed: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` file's bytes, as views of them.

    Raises
    ------
    ValueError
        If they are not such a file, or it is compressed, or it holds Python objects.
    """
    return {
        name: np.frombuffer(packed, dtype, count, offset).reshape(shape, order=order)
        for name, dtype, count, offset, shape, order in _members(io.BytesIO(packed), len(packed))
    }


def map_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` file as views of the file, read when they are used.

    So the file may be larger than memory.

    Raises
    ------
    ValueError
        If it is not a regular file, or not such a file, or it is compressed, or it holds Python objects.
    OSError
        If it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is not a regular file")
    arrays = {}
    with path.open("rb") as file:
        for name, dtype, count, offset, shape, order in _members(file, os.fstat(file.fileno()).st_size):
            mapped = np.memmap(file, dtype, "r", offset, (count,)) if count else np.empty(0, dtype)
            arrays[name] = np.asarray(mapped).reshape(shape, order=order)
    return arrays


def _members(file: BinaryIO, size: int) -> Iterator[tuple[str, DTypeLike, int, int, tuple[int, ...], Any]]:
    """Yield each array's name, type, number of elements, place in the file, shape and order."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{member.filename} is compressed")
            file.seek(member.header_offset + _NAME_LENGTHS_AT)
            # The lengths of the member's name and of the extra field, which are between its header and its content.
            lengths = struct.unpack("<HH", file.read(4))
            file.seek(sum(lengths), os.SEEK_CUR)
            major, _ = np.lib.format.read_magic(file)
            shape, fortran_order, dtype = _HEADERS[major](file)
            if dtype.hasobject:
                raise ValueError(f"{member.filename} holds Python objects, which need pickle")
            count = int(np.prod(shape, dtype=object))
            if count < 0 or file.tell() + count * dtype.itemsize > size:
                raise ValueError(f"{member.filename} is not whole")
            yield member.filename.removesuffix(".npy"), dtype, count, file.tell(), shape, "F" if fortran_order else "C"
    except (
        EOFError,
        KeyError,
        RuntimeError,
        SyntaxError,
        struct.error,
        tokenize.TokenError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(str(error)) from None
