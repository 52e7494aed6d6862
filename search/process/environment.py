"""What a run's numbers depend on beside its config: versions and processor, written down at every start.

    environment.json     [{"step": 0, "lutnas": "0.1.0", "python": "3.12.3", "torch": "2.13.0", ..., "processes": "1"}]

A search that goes on elsewhere gets another entry and a line that says what changed.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from search.process.atomic_files import write_atomically
from shared import __version__
from shared.errors import CorruptFile, InvalidValue
from shared.wire import from_wire, to_wire

FILE_NAME = "environment.json"
LIBRARIES = ("torch", "onnx", "onnxruntime", "numpy", "scipy", "pillow")


@dataclass(frozen=True)
class Environment:
    """Versions and processor from a step on.

    Attributes:
        step: of the search, at this start.
        processor: its kind, and the instructions that torch uses on it.
        processes: that shared the search.
        libraries: version by name; "" where one is not installed.
    """

    step: int
    lutnas: str
    python: str
    processor: str
    processes: int
    libraries: dict[str, str]


def record_environment(folder: Path, step: int, processes: int = 1) -> list[str]:
    """Note this start, unless all is as it was at the last one.

    Args:
        folder: of the run.
        step: that the search is at.
        processes: that share it.

    Returns:
        What is not as it was, one line each.

    Raises:
        CorruptFile: the file is damaged.
    """
    path, now = folder / FILE_NAME, _here(step, processes)
    starts = load_environments(folder)
    changes = _changes(starts[-1], now) if starts else []
    if changes or not starts:
        write_atomically(path, json.dumps([to_wire(one) for one in [*starts, now]], indent=1).encode() + b"\n")
    return changes


def load_environments(folder: Path) -> list[Environment]:
    """Every start that was noted, the first one first; none before the first one.

    Raises:
        CorruptFile: the file is damaged.
    """
    path = folder / FILE_NAME
    try:
        return [from_wire(Environment, one) for one in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, InvalidValue) as error:
        raise CorruptFile(f"{path} is damaged: {error}; remove it to go on without it") from error


def _here(step: int, processes: int) -> Environment:
    kind = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    return Environment(
        step, __version__, platform.python_version(), kind, processes, {name: _version(name) for name in LIBRARIES}
    )


def _changes(before: Environment, now: Environment) -> list[str]:
    old, new = ({**asdict(one), **one.libraries} for one in (before, now))
    names = [name for name in new if name not in ("step", "libraries")]
    return [f"{name} was {old.get(name)}, is {new[name]}" for name in names if old.get(name) != new[name]]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
