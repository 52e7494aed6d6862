"""`ladder.json`: for each budget what was promised, bounded, measured, met or not.
`search.deploy.climbing` climbs it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search.process.atomic_files import write_atomically
from shared.errors import CorruptFile, InvalidValue
from shared.wire import from_wire, to_wire

NOT_TUNED_YET = "not tuned yet"
LADDER_FILE = "ladder.json"


@dataclass(frozen=True)
class Attempt:
    """One measurement of one network for one budget. `step`: "before tuning", or "final" for the shipped file."""

    genotype: str
    step: str
    predicted_ms: float
    upper_ms: float
    measured_ms: float
    low_ms: float
    high_ms: float
    raw_ms: float
    canary_drift: float
    met: bool
    stable: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Rung:
    """One budget. `onnx` is a path relative to `ladder.json`; accuracy in percent, over all test images.

    `accuracy` and `onnx` are None while the climb is under way.
    """

    target_ms: float
    predicted_ms: float
    upper_ms: float
    measured_ms: float
    met: bool
    genotype: str
    accuracy: float | None
    accuracy_kind: str
    onnx: str | None
    raw_ms: float
    canary_drift: float
    parameters: int
    attempts: tuple[Attempt, ...]


def write_ladder(path: Path, rungs: Sequence[Rung]) -> None:
    """Replace the ladder."""
    write_atomically(path, json.dumps([to_wire(rung) for rung in rungs], indent=1).encode() + b"\n")


def find_ladder(path: Path) -> list[Rung] | None:
    """Read a ladder; None where there is none.

    Raises:
        CorruptFile: it is damaged.
    """
    try:
        return list(from_wire(tuple[Rung, ...], json.loads(path.read_bytes()), "ladder"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, InvalidValue) as error:
        raise CorruptFile(f"{path} is damaged: {error}") from error
