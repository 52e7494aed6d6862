"""What is measured is on disk before anything else happens to it, and stays there until the server has it.

DIR/schema                           the schema number of all of it (`shared.schemas`)
DIR/graphs/SHA256.onnx               every graph once
DIR/known/HASH.json                  plans, and each graph's SHA-256: measuring goes on without a server
DIR/runs/RUN/run.json plan.json      one profiling run
DIR/runs/RUN/rounds.jsonl            one line per (task, round), as measured: a resumed run goes on from here
DIR/runs/RUN/measurements.jsonl      finished measurements, each line on the disk before the next is begun
DIR/runs/RUN/kernels.jsonl           kernels of the optimised graphs, one graph a line
DIR/runs/RUN/choice.jsonl            calibration networks that were chosen on the way, and when that was over
DIR/runs/RUN/acknowledged.jsonl      which server has which of them
DIR/runs/RUN/finished.json           the server's answer to the end of the run
DIR/results/JOB.json                 results of jobs that no server has taken yet
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from profiler_agent.spool.atomic_files import (
    LineLog,
    disk_errors,
    only_one,
    read_bytes,
    read_sha256,
    write_somewhere,
    write_whole,
)
from shared.errors import CorruptFile, InvalidValue, WrongUse
from shared.jobs import JobResult
from shared.measurements.measurement import Measurement, Round, Run, Verdict
from shared.measurements.plan import Plan, Task
from shared.runtime import Runtime
from shared.schemas import SPOOL_SCHEMA, require_schema
from shared.wire import canonical_json, content_hash, from_wire, to_wire


def default_spool(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder for what must outlive this process, as the platform has it.

    Raises:
        WrongUse: nothing names one, and this user has no home.
    """
    if environment.get("LUTNAS_SPOOL"):
        return Path(environment["LUTNAS_SPOOL"])
    state = environment.get("XDG_STATE_HOME")
    try:
        return (Path(state) if state else Path.home() / ".local" / "state") / "lutnas"
    except RuntimeError as error:
        raise WrongUse("this user has no home folder: name a folder with --spool or LUTNAS_SPOOL") from error


def measurement_id(run_id: str, task: Task) -> str:
    """The same task of the same run always has the same id."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{run_id} {task.role} {task.graph}"))


class RunSpool:
    """One run on disk. It is the campaign's journal."""

    def __init__(self, folder: Path, run: Run, plan: Plan) -> None:
        self.folder = folder
        self.run = run
        self.plan = plan
        self._rounds = LineLog(folder / "rounds.jsonl")
        self._measurements = LineLog(folder / "measurements.jsonl")
        self._kernels = LineLog(folder / "kernels.jsonl")
        self._acknowledged = LineLog(folder / "acknowledged.jsonl")
        self._choice = LineLog(folder / "choice.jsonl")

    def keep_round(self, task: Task, one: Round, disturbed: bool) -> None:
        """Append a round."""
        line = {"task": measurement_id(self.run.id, task), "disturbed": disturbed, "round": to_wire(one)}
        self._rounds.append(line, durable=False)

    def read_rounds(self) -> dict[str, list[tuple[Round, bool]]]:
        """(round, disturbed) by measurement id."""
        rounds: dict[str, list[tuple[Round, bool]]] = {}
        for line in self._rounds.lines():
            rounds.setdefault(line["task"], []).append((from_wire(Round, line["round"]), bool(line["disturbed"])))
        return rounds

    def keep_measurement(self, task: Task, rounds: Sequence[Round], verdict: Verdict) -> Measurement:
        """Append a finished measurement; it is on the disk when this returns."""
        measurement = self._measurement(task, rounds, verdict)
        self._measurements.append(to_wire(measurement), durable=True)
        return measurement

    def _measurement(self, task: Task, rounds: Sequence[Round], verdict: Verdict) -> Measurement:
        id_ = measurement_id(self.run.id, task)
        return Measurement(id_, task.subject, task.role, task.graph, task.minus, task.divisor, tuple(rounds), verdict)

    def read_begun(self) -> list[Measurement]:
        """What there is of tasks that are not finished."""
        rounds = self.read_rounds()
        begun = [(task, rounds.get(measurement_id(self.run.id, task))) for task in self.missing_tasks()]
        return [self._measurement(task, [one for one, _ in kept], Verdict(True)) for task, kept in begun if kept]

    def read_measurements(self) -> dict[str, Measurement]:
        """Finished measurements by id, in the order of their making."""
        return {one.id: one for one in self.measurements()}

    def measurements(self, but: Container[str] = ()) -> Iterator[Measurement]:
        """Finished measurements in the order of their making, each once, one in memory at a time."""
        seen = set()
        for line in self._measurements.lines():
            if line["id"] not in seen and line["id"] not in but:
                yield from_wire(Measurement, line)
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
        done = {line["id"] for line in self._measurements.lines()}
        return [task for task in self.tasks if measurement_id(self.run.id, task) not in done]

    def unsent(self, server: str) -> Iterator[Measurement]:
        """Finished measurements that this server had not acknowledged when asked for the first of them."""
        sent = {id_ for line in self._acknowledged.read() if line["server"] == server for id_ in line["ids"]}
        yield from self.measurements(but=sent)

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
        answer: dict[str, Any] | None = _read(dict[str, Any], self.folder / "finished.json") if self.finished else None
        return answer


@dataclass(frozen=True)
class _KeptResult:
    job: str
    result: JobResult


class Spool:
    """The folder of everything that is spooled.

    Raises:
        OtherSchema: another lutnas filled the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._schema = folder / "schema"
        content = read_bytes(self._schema)
        if content is not None or any((folder / name).exists() for name in ("graphs", "known", "runs", "results")):
            found = None if content is None else content.decode("utf-8", "replace").strip()
            require_schema(f"the spool {folder}", found, str(SPOOL_SCHEMA))

    def measuring(self, wait: bool = False) -> AbstractContextManager[None]:
        """Held while measuring: two campaigns at once would measure each other."""
        return only_one(
            self.folder / "measuring.lock",
            wait,
            f"another profiler-agent is measuring (it holds {self.folder / 'measuring.lock'}); wait until it is done",
        )

    def new_run(self, run: Run, plan: Plan) -> RunSpool:
        """Start a run."""
        folder = self.folder / "runs" / run.id
        self._claim()
        write_whole(folder / "plan.json", canonical_json(plan))
        write_whole(folder / "run.json", canonical_json(run))
        return RunSpool(folder, run, plan)

    def runs(self) -> list[RunSpool]:
        """All runs, the oldest first.

        Raises:
            CorruptFile: a run's own files cannot be read.
        """
        found = []
        with disk_errors(self.folder):
            folders = sorted(path.parent for path in (self.folder / "runs").glob("*/run.json"))
        for folder in folders:
            run, plan = _read(Run, folder / "run.json"), _read(Plan, folder / "plan.json")
            found.append(RunSpool(folder, run, plan))
        return sorted(found, key=lambda spooled: spooled.run.started_at)

    def find_unfinished(self, like: Run) -> RunSpool | None:
        """The newest unfinished run of the same device, runtime, space, plan and agent version."""
        return next((spooled for spooled in self._runs_like(like) if not spooled.finished), None)

    def find_finished(self, like: Run) -> RunSpool | None:
        """The newest such run that a server made a table of."""
        return next((spooled for spooled in self._runs_like(like) if spooled.finished), None)

    def _runs_like(self, like: Run) -> list[RunSpool]:
        same = ("device", "runtime", "space", "plan_id", "canary", "agent_version")
        wanted = [getattr(like, name) for name in same]
        return [one for one in reversed(self.runs()) if [getattr(one.run, name) for name in same] == wanted]

    def keep_graph(
        self, spec: str, batch: int, save: Callable[[BinaryIO], str | None], precision: str = "fp32"
    ) -> Path | None:
        """Keep a graph's bytes, and the reference that they go by; returns their file.

        Args:
            spec, batch, precision: which graph.
            save: writes the bytes and returns their SHA-256; None where there are none to write.
        """

        def write(file: BinaryIO) -> Path | None:
            sha256 = save(file)
            return None if sha256 is None else self._graph_path(sha256)

        self._claim()
        path = write_somewhere(self.folder / "graphs", "graph", write)
        if path is not None:
            self.keep_known(_graph_key(spec, batch, precision), {"sha256": path.stem})
        return path

    def find_graph(self, spec: str, batch: int, precision: str = "fp32") -> tuple[str, Path] | None:
        """(SHA-256, file) of a graph as a server last gave it; None where it is not here, or not whole."""
        known = self.find_known(_graph_key(spec, batch, precision))
        if known is None:
            return None
        path = self._graph_path(str(known.get("sha256")))
        return (known["sha256"], path) if read_sha256(path) == known["sha256"] else None

    def keep_usual_canary(self, runtime: Runtime, canary: str, usual_ms: float) -> None:
        """Remember how fast the canary is on this machine when nobody disturbs."""
        self.keep_known(["usual canary", str(runtime.of_canary), canary], {"usual_ms": usual_ms})

    def find_usual_canary(self, runtime: Runtime, canary: str) -> float | None:
        """What the last campaign kept."""
        known = self.find_known(["usual canary", str(runtime.of_canary), canary]) or {}
        usual_ms = known.get("usual_ms")
        return usual_ms if isinstance(usual_ms, float) and usual_ms > 0 else None

    def keep_known(self, key: list[str], value: Mapping[str, Any]) -> None:
        """Remember a server's answer."""
        self._claim()
        write_whole(self._known_path(key), canonical_json(dict(value)))

    def find_known(self, key: list[str]) -> dict[str, Any] | None:
        """A server's earlier answer."""
        content = read_bytes(self._known_path(key))
        try:
            value = json.loads(content) if content is not None else None
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    def keep_result(self, job_id: str, result: JobResult) -> None:
        """Keep a job's result until a server has it."""
        self._claim()
        write_whole(self._result_path(job_id), canonical_json(_KeptResult(job_id, result)))

    def results(self) -> dict[str, JobResult]:
        """Results by job id that no server has taken yet."""
        with disk_errors(self.folder):
            paths = sorted((self.folder / "results").glob("*.json"))
        kept = [_read(_KeptResult, path) for path in paths]
        return {one.job: one.result for one in kept}

    def drop_result(self, job_id: str) -> None:
        """Forget a result: a server has it, or nobody wants it."""
        with disk_errors(self.folder):
            self._result_path(job_id).unlink(missing_ok=True)

    def _claim(self) -> None:
        """Write down the schema number before anything else."""
        if not self._schema.exists():
            write_whole(self._schema, f"{SPOOL_SCHEMA}\n".encode())

    def _graph_path(self, sha256: str) -> Path:
        return self.folder / "graphs" / f"{sha256}.onnx"

    def _known_path(self, key: list[str]) -> Path:
        return self.folder / "known" / f"{content_hash(key)}.json"

    def _result_path(self, job_id: str) -> Path:
        return self.folder / "results" / f"{content_hash(job_id)[:32]}.json"


def _read(kind: Any, path: Path) -> Any:
    try:
        return from_wire(kind, json.loads(read_bytes(path) or b""))
    except (ValueError, InvalidValue) as error:
        raise CorruptFile(f"{path} cannot be read ({error}); move it away to go on without it") from error


def _graph_key(spec: str, batch: int, precision: str) -> list[str]:
    return ["graph", spec, str(batch), precision]
