"""check_python.py: check this Python's word size, venv, and C library (which wheels depend on).

Prints `fine`, `32-bit`, `no-venv`, `no-glibc`, or the C library if it is too old.
"""

from __future__ import annotations

import importlib.util
import os
import sys

OLDEST_GLIBC = (2, 28)
"""The oldest for ONNX Runtime's and numpy's wheels (manylinux_2_28)."""


def describe() -> str:
    if sys.maxsize < 2**32:
        return "32-bit"
    # Debian's python3 has venv; ensurepip is in python3-venv.
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        return "no-venv"
    try:
        name, number = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        version = tuple(int(part) for part in number.split(".")[:2])
    except (ValueError, OSError):
        return "no-glibc"
    return "fine" if version >= OLDEST_GLIBC else f"{name} {number}"


if __name__ == "__main__":
    print(describe())
