"""The source of an imported table, which this project did not measure.

The fields of a device say so: the engine of the runtime is "imported", the canary is "none" with a
nominal time of 1 ms (the unit is the published millisecond), the agent version is the importer's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.errors import InvalidValue
from shared.runtime import Runtime

IMPORTED_ENGINE = "imported"
NO_CANARY = "none"
IMPORTER_VERSION = "import-3"
"""In place of an agent's version. It rises when the same file would give other prices."""

PER_ARCHITECTURE, PER_LAYER = "per-architecture", "fbnet-layers"
ONCE_FOR_ALL, PROXYLESSNAS = "once-for-all", "proxylessnas"
FORMATS = (PER_ARCHITECTURE, PER_LAYER, ONCE_FOR_ALL, PROXYLESSNAS)


@dataclass(frozen=True)
class TableSource:
    """The file that a table was imported from.

    Attributes:
        format: an entry of `FORMATS`.
        file: name of the file, without its folder.
        subject: the file's name for the device: a column, a value of the column `device`, or "".
        fitted_networks, held_out_networks: networks that made and scored the prices; 0 if the file
            lists prices.
        notes: assumptions, rounding, omissions.
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
        """In place of a device's runtime. Threads, precision and optimisation are unknown."""
        name = re.sub(r"[^A-Za-z0-9._+-]", "_", self.file).lstrip("._+-")[:64]
        return Runtime(IMPORTED_ENGINE, self.format, provider=name or "file", batch=batch)


def not_verifiable(device: str, source: TableSource) -> str:
    """The message of a verification against an imported table."""
    return (
        f"the table of {device} was imported from {source}: no agent serves that device, so a promise made from it"
        f" cannot be verified; with the device at hand, measure its own table: profiler-agent profile --lut-url URL"
        f" --device {device} --space NAME"
    )
