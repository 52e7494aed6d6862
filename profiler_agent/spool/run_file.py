"""A run in a file: made without a server, handed in or compared later.

The form: {"format": "lutnas-run", "version": 12, "sha256", "run", "plan", "measurements",
"kernels"} as canonical JSON. The SHA-256 is of the canonical JSON of the last four; "kernels" has
the counts of each graph that could be read. An unfinished run has fewer measurements than its plan
has tasks.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profiler_agent.spool.run_spool import measurement_id
from shared.atomic_files import read_bytes, write_atomically
from shared.errors import CorruptFile, InvalidValue, LutnasError
from shared.measurements.measurement import Measurement, Run
from shared.measurements.plan import Plan, Task
from shared.wire import RUN_FILE_SCHEMA, canonical_json, content_hash, from_wire, require_schema

FORMAT = "lutnas-run"
_CONTENT = ("plan", "run", "measurements", "kernels")

KernelCounts = dict[str, dict[str, int]]
"""Kernels of each graph, by graph reference."""


@dataclass(frozen=True)
class RecordedRun:
    """A run with its plan and its measurements."""

    run: Run
    plan: Plan
    measurements: tuple[Measurement, ...]
    kernels: KernelCounts

    def __post_init__(self) -> None:
        if self.plan.id != self.run.plan_id:
            raise InvalidValue("plan", "is not the plan that the run names")
        ids = [measurement.id for measurement in self.measurements]
        if len(set(ids)) < len(ids) or not known_ids(self.run, self.plan).issuperset(ids):
            raise InvalidValue("measurements", "are not one for each task of the plan")

    def missing_tasks(self) -> list[Task]:
        done = {measurement.id for measurement in self.measurements}
        return [task for task in self.plan.tasks if measurement_id(self.run.id, task) not in done]


def known_ids(run: Run, plan: Plan) -> set[str]:
    """Ids that a run's measurements may have: one per task of the plan, one per network timed again."""
    again = (replace(task, role="settle") for task in plan.tasks if task.role in ("calibration", "held_out"))
    return {measurement_id(run.id, task) for task in (*plan.tasks, *again)}


def write_run_file(path: Path, run: Run, plan: Plan, measurements: Sequence[Measurement], kernels: KernelCounts) -> str:
    """Write the file, whole or not at all; returns the hash of its content."""
    content = {"run": run, "plan": plan, "measurements": list(measurements), "kernels": kernels}
    sha256 = content_hash(content)
    write_atomically(path, canonical_json({"format": FORMAT, "version": RUN_FILE_SCHEMA, "sha256": sha256, **content}))
    return sha256


def read_run_file(path: Path) -> RecordedRun:
    """Read a run file.

    Raises:
        OtherSchema: another lutnas wrote it.
        CorruptFile: it is no such file, or not as it was written.
        LutnasError: it cannot be read.
    """
    content = read_bytes(path)
    if content is None:
        raise LutnasError(f"there is no file {path}")
    data = _parse(path, content)
    if data.get("format") != FORMAT:
        raise CorruptFile(
            f"{path} is no run file: `profiler-agent profile --offline --out {shlex.quote(str(path))}` would make one"
        )
    require_schema(str(path), data.get("version"), RUN_FILE_SCHEMA)
    try:
        if content_hash({name: data[name] for name in _CONTENT}) != data["sha256"]:
            raise CorruptFile(f"{path} is damaged: its content does not have the hash that it names; copy it again")
        return from_wire(RecordedRun, {name: data[name] for name in _CONTENT})
    except KeyError as error:
        raise CorruptFile(f"{path} is damaged: it has no {error}; copy it again") from error
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path} is damaged: {error}; copy it again") from error


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path} is no run file, or damaged: not JSON ({error})") from error
    if not isinstance(data, dict):
        raise CorruptFile(f"{path} is no run file: a JSON {type(data).__name__} where an object was expected")
    return data
