"""Runs that share a campaign. A task that several of them have is measured once.

Each run keeps the task as its own. So its folder is what a campaign of its own would leave, and it
is resumed, handed in and calibrated alone. A kill may come between two runs' copies of a round. The
next campaign copies the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from profiler_agent.ort.sessions import TimedGraph
from profiler_agent.spool.run_spool import RunSpool, measurement_id
from profiler_agent.timing.campaign import Subject
from shared.errors import LutnasError
from shared.measurements.measurement import Measurement, Round
from shared.measurements.plan import Task

KeptRounds = Sequence[tuple[Round, bool]]
"""(round, whether it was disturbed)."""


class RunGroup:
    """Knows which runs wait for which task, and for the kernels of which graph.

    Args:
        runs: at least one, of the same device and runtime, each of another space.

    Raises:
        LutnasError: their plans name different canaries.
    """

    def __init__(self, runs: Sequence[RunSpool]) -> None:
        self.runs = tuple(runs)
        if len({run.plan.canary for run in self.runs}) > 1:
            raise LutnasError("the plans name different canaries, and a campaign has one: profile each space alone")
        self._uncounted = {run.run.id: _graphs_of_fits(run) - run.read_kernels().keys() for run in self.runs}
        self._kept: dict[Task, KeptRounds] = {}
        self._waiting: dict[Task, list[RunSpool]] = {}
        for task, parts in _parts(self.runs).items():
            kept = _share_rounds(task, parts)
            waiting = [part.run for part in parts if part.measurement is None]
            if waiting:
                self._kept[task], self._waiting[task] = kept, waiting

    @property
    def canary(self) -> str:
        """Reference of the canary graph."""
        return self.runs[0].plan.canary

    def tasks(self) -> list[Task]:
        """Tasks of all plans, each once."""
        return list(dict.fromkeys(task for run in self.runs for task in run.plan.tasks))

    def kernels(self) -> dict[str, Mapping[str, int]]:
        """Kernel counts that the runs keep, by graph reference."""
        return {graph: counts for run in self.runs for graph, counts in run.read_kernels().items()}

    def missing_tasks(self) -> list[Task]:
        """Tasks that a run has no measurement of, each once."""
        return list(self._waiting)

    def add(self, run: RunSpool, tasks: Sequence[Task]) -> None:
        """Add chosen tasks to a run."""
        counted, rounds = run.read_kernels(), run.read_rounds()
        for task in tasks:
            self._kept[task] = rounds.get(measurement_id(run.run.id, task), [])
            self._waiting[task] = [run]
            self._uncounted[run.run.id] |= set(task.graphs) - counted.keys()

    def subject(self, task: Task, graph: TimedGraph, minus: TimedGraph | None) -> Subject:
        """A missing task with its earlier rounds, for all runs that wait for it."""
        kept = self._kept[task]
        disturbed = sum(was_disturbed for _, was_disturbed in kept)
        return Subject(task, graph, minus, [timed for timed, _ in kept], disturbed, self._waiting[task])

    def needs_kernels(self, graph: str) -> bool:
        """Whether a run that has the graph lacks its kernels."""
        return any(graph in uncounted for uncounted in self._uncounted.values())

    def keep_kernels(self, graph: str, counts: Mapping[str, int]) -> None:
        """Append a graph's kernels to each run that lacks them."""
        for run in self.runs:
            if graph in self._uncounted[run.run.id]:
                run.keep_kernels(graph, counts)
                self._uncounted[run.run.id].remove(graph)


@dataclass
class _Part:
    """What a run has of a task."""

    run: RunSpool
    rounds: KeptRounds
    measurement: Measurement | None


def _parts(runs: Sequence[RunSpool]) -> dict[Task, list[_Part]]:
    parts: dict[Task, list[_Part]] = {}
    for run in runs:
        rounds, measurements = run.read_rounds(), run.read_measurements()
        for task in run.tasks:
            id_ = measurement_id(run.run.id, task)
            parts.setdefault(task, []).append(_Part(run, rounds.get(id_, []), measurements.get(id_)))
    return parts


def _share_rounds(task: Task, parts: Sequence[_Part]) -> KeptRounds:
    """Give each run the other runs' rounds of a task; returns all its rounds."""
    together = list(parts[0].rounds)
    for part in parts[1:]:
        together += (Counter(part.rounds) - Counter(together)).elements()
    finished = [part.measurement for part in parts if part.measurement is not None]
    for part in parts:
        if part.measurement is not None:
            continue
        for timed, disturbed in (Counter(together) - Counter(part.rounds)).elements():
            part.run.keep_round(task, timed, disturbed)
        for other in finished:
            if part.measurement is None and Counter(other.rounds) == Counter(timed for timed, _ in together):
                part.measurement = part.run.keep_measurement(task, other.rounds, other.verdict)
    return together


def _graphs_of_fits(run: RunSpool) -> set[str]:
    """Graphs whose kernels a fit uses: ops timed alone are in none."""
    alone = {task.graph for task in run.plan.tasks if task.role == "isolated"}
    return set(run.graphs) - alone
