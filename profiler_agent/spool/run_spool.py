"""A profiling run on disk: its rounds, measurements and kernels, and what a server has of them.

Each line is written as soon as its content exists. A kill can tear only the last line.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from shared.atomic_files import disk_errors, read_bytes, write_atomically
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
        """All whole lines, with only one of them in memory.

        A torn line is left out. Its content is measured or sent again.
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

    def append(self, value: Any, durable: bool) -> None:
        """Add a line. It survives the end of this process, and a durable line a power cut too."""
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                if file.tell():
                    self._cut_torn_line(file)
                file.write(json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n")
                file.flush()
                if durable:
                    os.fsync(file.fileno())

    def _cut_torn_line(self, file: BinaryIO) -> None:
        with self._path.open("rb") as whole:
            whole.seek(-1, os.SEEK_END)
            if whole.read(1) != b"\n":
                file.truncate(self._path.read_bytes().rfind(b"\n") + 1)


def measurement_id(run_id: str, task: Task) -> str:
    """The id of a task's measurement in a run: always the same."""
    return hashlib.sha256(f"{run_id} {task.role} {task.graph}".encode()).hexdigest()


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
        line = {"task": measurement_id(self.run.id, task), "disturbed": disturbed, "round": to_wire(timed)}
        self._rounds.append(line, durable=False)

    def read_rounds(self) -> dict[str, list[tuple[Round, bool]]]:
        """(round, disturbed) by measurement id."""
        rounds: dict[str, list[tuple[Round, bool]]] = {}
        for line in self._rounds.lines():
            rounds.setdefault(line["task"], []).append((from_wire(Round, line["round"]), bool(line["disturbed"])))
        return rounds

    def keep_measurement(self, task: Task, rounds: Sequence[Round], verdict: Verdict) -> Measurement:
        """Append a finished measurement. It is on the disk when this returns."""
        measurement = Measurement.of_task(measurement_id(self.run.id, task), task, rounds, verdict)
        self._measurements.append(to_wire(measurement), durable=True)
        return measurement

    def read_begun(self) -> list[Measurement]:
        """Rounds of unfinished tasks, as measurements."""
        rounds = self.read_rounds()
        begun = []
        for task in self.missing_tasks():
            id_ = measurement_id(self.run.id, task)
            if id_ in rounds:
                begun.append(Measurement.of_task(id_, task, [timed for timed, _ in rounds[id_]]))
        return begun

    def read_measurements(self) -> dict[str, Measurement]:
        """Finished measurements by id, in the order of measuring."""
        return {measurement.id: measurement for measurement in self.measurements()}

    def measurements(self) -> Iterator[Measurement]:
        """Finished measurements in the order of measuring, with only one of them in memory."""
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
        return {line["graph"]: line["counts"] for line in self._kernels.lines()}

    def begin_choosing(self, first: int) -> None:
        """Measure only the plan's first calibration networks, and choose others on the way."""
        self._choice.append({"first": first}, durable=True)

    def keep_choice(self, tasks: Sequence[Task]) -> None:
        """Keep more networks to measure, whatever happens to this process."""
        self._choice.append({"tasks": to_wire(tuple(tasks))}, durable=True)

    def settle(self) -> None:
        self._choice.append({"settled": True}, durable=True)

    def choose_all(self) -> None:
        """Measure all calibration networks of the plan after all."""
        self._choice.append({"all": True}, durable=True)

    @property
    def graphs(self) -> frozenset[str]:
        """References of the plan's and the chosen graphs."""
        return frozenset((*self.plan.graphs(), *(graph for task in self.chosen_tasks() for graph in task.graphs)))

    @property
    def settled(self) -> bool:
        """Whether all tasks of the run are known."""
        lines = list(self._choice.lines())
        return not lines or any("settled" in line or "all" in line for line in lines)

    @property
    def chosen(self) -> bool:
        """Whether the run need not measure all of the plan's calibration networks."""
        lines = list(self._choice.lines())
        return bool(lines) and not any("all" in line for line in lines)

    def chosen_tasks(self) -> list[Task]:
        """Networks that were chosen on the way."""
        return [from_wire(Task, task) for line in self._choice.lines() for task in line.get("tasks", ())]

    @property
    def tasks(self) -> list[Task]:
        """All tasks of the run that are known so far."""
        tasks = list(self.plan.tasks)
        if self.chosen:
            first = next((line["first"] for line in self._choice.lines() if "first" in line), 0)
            calibration = [task for task in tasks if task.role == "calibration"]
            later = {task.graph for task in calibration[first:]}
            tasks = [task for task in tasks if task.role != "calibration" or task.graph not in later]
        return list(dict.fromkeys([*tasks, *self.chosen_tasks()]))

    def missing_tasks(self) -> list[Task]:
        """Tasks without a finished measurement."""
        done = {line["id"] for line in self._written()}
        return [task for task in self.tasks if measurement_id(self.run.id, task) not in done]

    def unsent(self, server: str, stored: int | None = None) -> Iterator[dict[str, Any]]:
        """Finished measurements, in wire form, that this server lacks.

        Args:
            stored: how many it says it has. With fewer than it acknowledged it lost some: then all.
        """
        of_server = (line["ids"] for line in self._acknowledged.lines() if line["server"] == server)
        acknowledged = set(chain.from_iterable(of_server))
        yield from self._written(() if stored is not None and stored < len(acknowledged) else acknowledged)

    def acknowledge(self, server: str, ids: Sequence[str]) -> None:
        """Note that a server has these measurements."""
        self._acknowledged.append({"server": server, "ids": list(ids)}, durable=False)

    def finish(self, answer: Mapping[str, Any]) -> None:
        """Note the server's answer to the end of the run."""
        write_atomically(self.folder / "finished.json", canonical_json(dict(answer)))

    @property
    def finished(self) -> bool:
        """Whether a server made a table of this run."""
        return (self.folder / "finished.json").exists()

    def read_answer(self) -> dict[str, Any] | None:
        """The server's answer to the end of the run; None before that."""
        return read_value(dict[str, Any], self.folder / "finished.json") if self.finished else None


def read_value(kind: type[T], path: Path) -> T:
    """Read a value from the file with its wire form.

    Raises:
        CorruptFile: the file is not there, or holds something else.
    """
    try:
        return from_wire(kind, json.loads(read_bytes(path) or b""))
    except (ValueError, InvalidValue) as error:
        raise CorruptFile(f"{path} cannot be read ({error}); move it away to go on without it") from error
