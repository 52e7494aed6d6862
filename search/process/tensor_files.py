"""Files of tensors and lines: replaced at once, and checked before they are used."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from shared.atomic_files import disk_errors, write_atomically
from shared.errors import CorruptFile, in_one_line

_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, pickle.UnpicklingError),
    *(RuntimeError, EOFError, OSError, ValueError, IndexError, KeyError),
)
"""What reading a damaged archive raises."""


def write_torch(path: Path, content: dict[str, Any]) -> None:
    """Replace a file by tensors, numbers and text."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def read_torch(path: Path) -> Any:
    """What `write_torch` wrote. Nothing in the file is run.

    Raises:
        CorruptFile: the file is damaged.
    """
    damaged = f"{path} is damaged"
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # torch itself does not compare the checksums
        if broken is not None:
            raise CorruptFile(f"{damaged}: wrong checksum in {broken}")
        return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        raise CorruptFile(f"{damaged}: {in_one_line(error)[:160] or type(error).__name__}") from error


def append_line(path: Path, text: str) -> None:
    """Add a line to a file.

    Raises:
        LutnasError: it cannot be written, as on a full disk.
    """
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def drop_lines_after(path: Path, step: int) -> None:
    """Drop lines of JSON from after a step, and lines that a crash cut. The file may be missing."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        write_atomically(path, "".join(f"{line}\n" for line in lines if _step_of(line) <= step).encode())


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
