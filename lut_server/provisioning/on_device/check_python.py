"""check_python.py: what only Python can tell of itself: word size, venv, and the C library that
wheels are built for.

Prints `fine`, `32-bit`, `no-venv`, `no-glibc`, or the C library where it is too old.
"""

from __future__ import annotations

import importlib.util
import os
import sys

OLDEST_GLIBC = (2, 28)
"""That ONNX Runtime's and numpy's wheels (manylinux_2_28) work with."""


def describe() -> str:
    """The word for this Python."""
    if sys.maxsize < 2**32:
        return "32-bit"
    # Debian's python3 has venv, but not ensurepip, which comes with python3-venv.
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
