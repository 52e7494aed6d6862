"""Where the numbers of a table come from that this project did not measure.

Such a table says so in every field that a measured one fills from a device: its runtime's engine is "imported", its
canary "none" with a nominal time of 1 ms (its unit is the millisecond as published), its agent version the importer's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.errors import InvalidValue
from shared.runtime import Runtime

IMPORTED_ENGINE = "imported"
NO_CANARY = "none"
IMPORTER_VERSION = "import-2"
"""Stands where a measured table has its agent's version; rises when the same file would give other prices."""

PER_ARCHITECTURE, PER_LAYER = "per-architecture", "fbnet-layers"
ONCE_FOR_ALL, PROXYLESSNAS = "once-for-all", "proxylessnas"
FORMATS = (PER_ARCHITECTURE, PER_LAYER, ONCE_FOR_ALL, PROXYLESSNAS)


@dataclass(frozen=True)
class TableSource:
    """What a table was imported from.

    Attributes:
        format: one of `FORMATS`.
        file: name of the file, without its folder.
        sha256: of the file's bytes.
        subject: the file's own name for the device: a column, a value of the column `device`, or "".
        fitted_networks, held_out_networks: how many networks of the file made the prices, and how many scored them;
            0 where the file lists the prices themselves.
        notes: what a reader has to know: what was assumed, rounded, left out.
    """

    format: str
    file: str
    sha256: str
    subject: str = ""
    fitted_networks: int = 0
    held_out_networks: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise InvalidValue("source.format", f"'{self.format[:40]}' is none of {', '.join(FORMATS)}")

    def __str__(self) -> str:
        subject = f", {self.subject}" if self.subject else ""
        return f"{self.file} ({self.format}{subject})"

    def runtime(self, batch: int = 1) -> Runtime:
        """Stands where a measured table has its runtime. Threads, precision and optimisation are unknown."""
        name = re.sub(r"[^A-Za-z0-9._+-]", "_", self.file).lstrip("._+-")[:64]
        return Runtime(IMPORTED_ENGINE, self.format, provider=name or "file", batch=batch)


def not_verifiable(device: str, source: TableSource) -> str:
    """Why nothing can be verified against an imported table, and what would help."""
    return (
        f"the table of {device} was imported from {source}: no agent serves that device, so nobody can verify a promise"
        f" made from it; with the device at hand, measure a table of its own: profiler-agent profile --lut-url URL"
        f" --device {device} --space NAME"
    )
