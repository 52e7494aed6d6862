"""Versions and processor of every start of a search: what its numbers depend on beside its config.

    environment.json     [{"step": 0, "lutnas": "0.1.0", "python": "3.12.3", ..., "processes": 1}]

A search that goes on elsewhere gets another entry, and a line that says what changed.
"""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from search.runs.run_directory import find_value, write_value
from shared import __version__

FILE_NAME = "environment.json"
LIBRARIES = ("torch", "onnx", "onnxruntime", "numpy", "scipy", "pillow")


@dataclass(frozen=True)
class Environment:
    """Versions and processor from a step on.

    Attributes:
        step: of the search, at this start.
        processor: its kind, and the instructions that torch uses on it.
        processes: that shared the search.
        libraries: version by name; "" where a library is not installed.
    """

    step: int
    lutnas: str
    python: str
    processor: str
    processes: int
    libraries: dict[str, str]


def record_environment(folder: Path, step: int, processes: int = 1) -> list[str]:
    """Write this start into a run's folder, unless nothing has changed since the last start.

    Returns:
        What changed, a line each.

    Raises:
        CorruptFile: the file is damaged.
    """
    kind = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    libraries = {name: _version(name) for name in LIBRARIES}
    now = Environment(step, __version__, platform.python_version(), kind, processes, libraries)
    starts = load_environments(folder)
    changes = _changes(starts[-1], now) if starts else []
    if changes or not starts:
        write_value(folder / FILE_NAME, [*starts, now])
    return changes


def load_environments(folder: Path) -> tuple[Environment, ...]:
    """Every start that was written, the first start first.

    Raises:
        CorruptFile: the file is damaged.
    """
    return find_value(tuple[Environment, ...], folder / FILE_NAME) or ()


def _changes(before: Environment, now: Environment) -> list[str]:
    old, new = ({**asdict(start), **start.libraries} for start in (before, now))
    names = [name for name in new if name not in ("step", "libraries")]
    return [f"{name} was {old.get(name)}, is {new[name]}" for name in names if old.get(name) != new[name]]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
