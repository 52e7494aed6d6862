"""The audit log: a JSON line per write, with the id of its token and no secret."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from lut_server.clock import Clock, stamp, utc_now
from shared.errors import LutnasError


class AuditLog:
    """Appends lines to a file, or to stderr. A line is one write, so several processes can share
    the file.

    Args:
        path: empty for stderr.

    Raises:
        LutnasError: the file cannot be opened for appending.
    """

    def __init__(self, path: str = "", clock: Clock = utc_now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._descriptor = None if not path else _open(Path(path))

    def write(self, entry: dict[str, Any]) -> None:
        """Append an entry with the time of day."""
        line = json.dumps({"at": stamp(self._clock()), "event": "write", **entry}, ensure_ascii=True) + "\n"
        if self._descriptor is None:
            with self._lock:
                sys.stderr.write(line)
        else:
            os.write(self._descriptor, line.encode())

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LutnasError(
            f"cannot write the audit log {path}: {error.strerror}; set audit_log to another path"
        ) from error
