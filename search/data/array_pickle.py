"""Read a pickled dict of bytes, numbers, lists and uint8 arrays, such as CIFAR's batches.

Unpickling calls functions that the file names, so a foreign file could do anything. Here the names
of NumPy's arrays stand for classes that only keep their arguments. Any other name is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import CorruptFile, in_one_line

_FOREIGN = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError, OverflowError),
    *(ImportError, RecursionError, MemoryError, AssertionError, struct.error),
)


def read_array_pickle(content: bytes, where: str) -> dict[str, Any]:
    """The dict, with text keys and uint8 arrays.

    Args:
        content: of a file that Python 2 or 3 wrote with NumPy 1 or 2.
        where: the file's name for messages.

    Raises:
        CorruptFile: the file is damaged, or holds anything else.
    """
    try:
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(found, dict):
            raise CorruptFile(f"{where} holds no dict of images and labels")
        return {_text(key): value.array() if isinstance(value, _Array) else value for key, value in found.items()}
    except _FOREIGN as error:
        raise CorruptFile(f"{where} cannot be read: {in_one_line(error) or type(error).__name__}") from error


class _Dtype:
    def __init__(self, name: str | bytes, *_: object) -> None:
        if _text(name) != "u1":
            raise pickle.UnpicklingError(f"an array of {_text(name)}, not of uint8")

    def __setstate__(self, state: object) -> None:
        """Takes the byte order, which single bytes do not have."""


class _Array:
    shape: tuple[int, ...] = ()
    data: bytes = b""
    fortran = False

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, bytes]) -> None:
        _, self.shape, dtype, self.fortran, self.data = state
        if not isinstance(dtype, _Dtype) or not isinstance(self.data, bytes):
            raise pickle.UnpicklingError("an array that is not of plain bytes")

    def array(self) -> NDArray[np.uint8]:
        if math.prod(self.shape) != len(self.data):
            raise ValueError(f"{len(self.data)} bytes for an array of shape {self.shape}")
        return np.frombuffer(self.data, np.uint8).reshape(self.shape, order="F" if self.fortran else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _from_buffer(data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    """The form of NumPy's arrays from pickle's protocol 5 on."""
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", bytes(data)))
    return array


def _encode(text: str, encoding: str) -> bytes:
    """The form of Python 3's bytes in protocol 2."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"text in {encoding!r}")
    return text.encode("latin1")


_KNOWN = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which no file of images needs")
        return _KNOWN[module, name]


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value
