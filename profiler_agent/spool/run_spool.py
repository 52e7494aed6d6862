"""One profiling run on disk: its rounds, its measurements, its kernels, and what a server has of them.

A line is written when what it holds exists. A kill can tear the last line alone.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from profiler_agent.spool.atomic_files import disk_errors, read_bytes, write_whole
from shared.errors import CorruptFile, InvalidValue
from shared.measurements.measurement import Measurement, Round, Run, Verdict
from shared.measurements.plan import Plan, Task
from shared.wire import canonical_json, from_wire, to_wire

T = TypeVar("T")


class LineLog:
    """A file of JSON objects, one per line, that only grows."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lines(self) -> Iterator[Any]:
        """All whole lines, a single one in memory at a time.

        A torn line is left out. What it held is measured or sent again.
        """
        with disk_errors(self._path):
            if not self._path.is_file():
                return
            with self._path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    try:
                        value = json.loads(line)
                    except ValueError:
                        continue
                    yield value

    def read(self) -> list[Any]:
        """All whole lines."""
        return list(self.lines())

    def append(self, value: Any, durable: bool) -> None:
        """Add a line. It survives the end of this process; a durable one survives a power cut too."""
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                if file.tell() and not self._ends_whole():
                    file.truncate(self._whole_length())
                file.write(json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n")
                file.flush()
                if durable:
                    os.fsync(file.fileno())

    def _ends_whole(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _whole_length(self) -> int:
        return self._path.read_bytes().rfind(b"\n") + 1


def measurement_id(run_id: str, task: Task) -> str:
    """The same task of the same run always has the same id."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{run_id} {task.role} {task.graph}"))


class RunSpool:
    """The folder of one run."""

    def __init__(self, folder: Path, run: Run, plan: Plan) -> None:
        self.folder = folder
        self.run = run
        self.plan = plan
        self._rounds = LineLog(folder / "rounds.jsonl")
        self._measurements = LineLog(folder / "measurements.jsonl")
        self._kernels = LineLog(folder / "kernels.jsonl")
        self._acknowledged = LineLog(folder / "acknowledged.jsonl")
        self._choice = LineLog(folder / "choice.jsonl")

    def keep_round(self, task: Task, timed: Round, disturbed: bool) -> None:
        """Append a round."""
        line = {"task": measurement_id(self.run.id, task), "disturbed": disturbed, "round": to_wire(timed)}
        self._rounds.append(line, durable=False)

    def read_rounds(self) -> dict[str, list[tuple[Round, bool]]]:
        """(round, disturbed) by measurement id."""
        rounds: dict[str, list[tuple[Round, bool]]] = {}
        for line in self._rounds.lines():
            rounds.setdefault(line["task"], []).append((from_wire(Round, line["round"]), bool(line["disturbed"])))
        return rounds

    def keep_measurement(self, task: Task, rounds: Sequence[Round], verdict: Verdict) -> Measurement:
        """Append a finished measurement; it is on the disk when this returns."""
        measurement = Measurement.of_task(measurement_id(self.run.id, task), task, rounds, verdict)
        self._measurements.append(to_wire(measurement), durable=True)
        return measurement

    def read_begun(self) -> list[Measurement]:
        """What there is of tasks that are not finished."""
        rounds = self.read_rounds()
        begun = []
        for task in self.missing_tasks():
            id_ = measurement_id(self.run.id, task)
            if id_ in rounds:
                begun.append(Measurement.of_task(id_, task, [timed for timed, _ in rounds[id_]]))
        return begun

    def read_measurements(self) -> dict[str, Measurement]:
        """Finished measurements by id, in the order of their making."""
        return {measurement.id: measurement for measurement in self.measurements()}

    def measurements(self) -> Iterator[Measurement]:
        """Finished measurements in the order of their making, a single one in memory at a time."""
        return (from_wire(Measurement, line) for line in self._written())

    def _written(self, but: Iterable[str] = ()) -> Iterator[dict[str, Any]]:
        """Finished measurements in wire form, each once."""
        seen = set(but)
        for line in self._measurements.lines():
            if line["id"] not in seen:
                yield line
            seen.add(line["id"])

    def keep_kernels(self, graph: str, counts: Mapping[str, int]) -> None:
        """Append the kernels of a graph's optimised form."""
        self._kernels.append({"graph": graph, "counts": dict(counts)}, durable=False)

    def read_kernels(self) -> dict[str, dict[str, int]]:
        """Kernel counts by graph reference."""
        return {line["graph"]: line["counts"] for line in self._kernels.read()}

    def begin_choosing(self, first: int) -> None:
        """Of the plan's calibration networks only so many are measured; others are chosen on the way."""
        self._choice.append({"first": first}, durable=True)

    def keep_choice(self, tasks: Sequence[Task]) -> None:
        """More networks to measure; they are remembered whatever happens to this process."""
        self._choice.append({"tasks": to_wire(tuple(tasks))}, durable=True)

    def settle(self) -> None:
        """Nothing more will be chosen."""
        self._choice.append({"settled": True}, durable=True)

    def choose_all(self) -> None:
        """The plan's own calibration networks after all, every one of them."""
        self._choice.append({"all": True}, durable=True)

    @property
    def graphs(self) -> frozenset[str]:
        """References of the plan's graphs and of those that were chosen."""
        return frozenset((*self.plan.graphs(), *(graph for task in self.chosen_tasks() for graph in task.graphs)))

    @property
    def settled(self) -> bool:
        """Whether it is known what the run is to measure."""
        lines = self._choice.read()
        return not lines or any("settled" in line or "all" in line for line in lines)

    @property
    def chosen(self) -> bool:
        """Whether the plan's calibration networks need not all be measured."""
        lines = self._choice.read()
        return bool(lines) and not any("all" in line for line in lines)

    def chosen_tasks(self) -> list[Task]:
        """Networks that were chosen on the way."""
        return [from_wire(Task, task) for line in self._choice.read() for task in line.get("tasks", ())]

    @property
    def tasks(self) -> list[Task]:
        """All that the run is to measure, as far as that is known."""
        lines, tasks = self._choice.read(), list(self.plan.tasks)
        if self.chosen:
            first = next((line["first"] for line in lines if "first" in line), 0)
            calibration = [task for task in tasks if task.role == "calibration"]
            later = {task.graph for task in calibration[first:]}
            tasks = [task for task in tasks if task.role != "calibration" or task.graph not in later]
        return list(dict.fromkeys([*tasks, *self.chosen_tasks()]))

    def missing_tasks(self) -> list[Task]:
        """Tasks without a finished measurement."""
        done = {line["id"] for line in self._written()}
        return [task for task in self.tasks if measurement_id(self.run.id, task) not in done]

    def unsent(self, server: str) -> Iterator[dict[str, Any]]:
        """Finished measurements, in wire form, that this server has not acknowledged."""
        acknowledged = (line["ids"] for line in self._acknowledged.read() if line["server"] == server)
        yield from self._written(chain.from_iterable(acknowledged))

    def acknowledge(self, server: str, ids: Sequence[str]) -> None:
        """Note that a server has these measurements."""
        self._acknowledged.append({"server": server, "ids": list(ids)}, durable=False)

    def finish(self, answer: Mapping[str, Any]) -> None:
        """Note the server's answer to the end of the run."""
        write_whole(self.folder / "finished.json", canonical_json(dict(answer)))

    @property
    def finished(self) -> bool:
        """Whether a server made a table of this run."""
        return (self.folder / "finished.json").exists()

    def read_answer(self) -> dict[str, Any] | None:
        """The server's answer to the end of the run; None where it has not ended."""
        return read_value(dict[str, Any], self.folder / "finished.json") if self.finished else None


def read_value(kind: type[T], path: Path) -> T:
    """A value from the file that holds its wire form.

    Raises:
        CorruptFile: the file is not there, or holds something else.
    """
    try:
        return from_wire(kind, json.loads(read_bytes(path) or b""))
    except (ValueError, InvalidValue) as error:
        raise CorruptFile(f"{path} cannot be read ({error}); move it away to go on without it") from error
