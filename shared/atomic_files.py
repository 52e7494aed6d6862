"""Files that survive a kill at any moment: a file is whole, or not there."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from shared.errors import LutnasError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Translate what the disk refuses into one line for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise LutnasError(
                f"no space left for {path}: free some and run the same again; what was written stays"
            ) from error
        raise LutnasError(f"cannot use {path}: {error.strerror or error}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file. After a kill or a power cut it has its old or its new content."""

    def write(file: BinaryIO) -> Path:
        file.write(content)
        return path

    write_named(path.parent, path.name, write)


def write_named(folder: Path, draft: str, write: Callable[[BinaryIO], Path | None]) -> Path | None:
    """Write a file whose name is known once it is written.

    Args:
        draft: part of its name until then.
        write: fills it and returns its path; None leaves nothing behind.
    """
    with disk_errors(folder / draft):
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{draft}.{os.getpid()}"
        try:
            with beside.open("wb") as file:
                path = write(file)
                file.flush()
                os.fsync(file.fileno())
            if path is not None:
                beside.replace(path)
                _sync_folder(folder)
            return path
        finally:
            beside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a new name as durable as its file's content. Windows opens no folders."""
    if os.name != "nt":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def read_bytes(path: Path) -> bytes | None:
    """Content of a regular file; None if there is none."""
    with disk_errors(path):
        try:
            return path.read_bytes() if path.is_file() else None
        except FileNotFoundError:
            return None


def read_sha256(path: Path) -> str | None:
    """SHA-256 of a regular file; None if there is none."""
    with disk_errors(path):
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, IsADirectoryError):
            return None


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
