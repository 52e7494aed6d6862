"""A lock that processes of this machine share. It ends with its holder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.atomic_files import disk_errors
from shared.errors import LutnasError


@contextmanager
def hold_lock(path: Path, wait: bool, busy: str) -> Iterator[None]:
    """Hold the lock on a file. It ends with the process, however that ends.

    Raises:
        LutnasError: another process holds it and `wait` is false (text `busy`), or the disk has no
            locks.
    """
    try:
        import fcntl  # not at the top: `predict` needs no lock, and Windows has none
    except ImportError as error:
        raise LutnasError("measuring needs the file locks of Linux or macOS; on Windows use WSL") from error
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise LutnasError(busy) from None
        except OSError as error:
            raise LutnasError(
                f"cannot lock {path}: {error.strerror or error}; put the folder on another disk"
            ) from error
        yield
