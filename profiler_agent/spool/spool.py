"""Measurements on disk: each is written before anything else happens, until the server has it.

DIR/schema                           the schema number of all of it (`shared.wire`)
DIR/graphs/SHA256.onnx               every graph once
DIR/known/HASH.json                  plans, and the SHA-256 of graphs, to go on without a server
DIR/runs/RUN/run.json plan.json      a profiling run
DIR/runs/RUN/rounds.jsonl            a line per (task, round): a resumed run goes on from here
DIR/runs/RUN/measurements.jsonl      finished measurements
DIR/runs/RUN/kernels.jsonl           kernels of the optimised graphs, a line per graph
DIR/runs/RUN/choice.jsonl            calibration networks chosen on the way, and the end of choosing
DIR/runs/RUN/acknowledged.jsonl      which server has which measurements
DIR/runs/RUN/finished.json           the server's answer to the end of the run
DIR/results/JOB.json                 results of jobs that no server has taken yet
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

from profiler_agent.spool.run_spool import RunSpool, read_value
from shared.atomic_files import disk_errors, hold_lock, read_bytes, read_sha256, write_atomically, write_named
from shared.errors import WrongUse
from shared.jobs import JobResult
from shared.measurements.measurement import Run
from shared.measurements.plan import Plan
from shared.runtime import Runtime
from shared.wire import SPOOL_SCHEMA, canonical_json, content_hash, require_schema


def default_spool(environment: Mapping[str, str] = os.environ) -> Path:
    """The platform's folder for what must outlive this process.

    Raises:
        WrongUse: nothing names a folder, and this user has no home.
    """
    if environment.get("LUTNAS_SPOOL"):
        return Path(environment["LUTNAS_SPOOL"])
    state = environment.get("XDG_STATE_HOME")
    try:
        return (Path(state) if state else Path.home() / ".local" / "state") / "lutnas"
    except RuntimeError as error:
        raise WrongUse("this user has no home folder: name a folder with --spool or LUTNAS_SPOOL") from error


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

    def measuring_lock(self, wait: bool = False) -> AbstractContextManager[None]:
        """A lock to hold while measuring: two campaigns would disturb each other."""
        return hold_lock(
            self.folder / "measuring.lock",
            wait,
            f"another profiler-agent is measuring (it holds {self.folder / 'measuring.lock'}); wait until it is done",
        )

    def new_run(self, run: Run, plan: Plan) -> RunSpool:
        folder = self.folder / "runs" / run.id
        self._claim()
        write_atomically(folder / "plan.json", canonical_json(plan))
        write_atomically(folder / "run.json", canonical_json(run))
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
            run, plan = read_value(Run, folder / "run.json"), read_value(Plan, folder / "plan.json")
            found.append(RunSpool(folder, run, plan))
        return sorted(found, key=lambda spooled: spooled.run.started_at)

    def find_run(self, like: Run, finished: bool) -> RunSpool | None:
        """The newest run, finished or not, of that device, runtime, space, plan and agent version."""
        identity = attrgetter("device", "runtime", "space", "plan_id", "canary", "agent_version")
        alike = (run for run in reversed(self.runs()) if identity(run.run) == identity(like))
        return next((run for run in alike if run.finished == finished), None)

    def keep_graph(
        self, spec: str, batch: int, save: Callable[[BinaryIO], str | None], precision: str = "fp32"
    ) -> Path | None:
        """Keep a graph; returns its file.

        Args:
            spec, batch, precision: which graph.
            save: writes the bytes and returns their SHA-256; None if there is nothing to write.
        """

        def write(file: BinaryIO) -> Path | None:
            sha256 = save(file)
            return None if sha256 is None else self._graph_path(sha256)

        self._claim()
        path = write_named(self.folder / "graphs", "graph", write)
        if path is not None:
            self.keep_known(_graph_key(spec, batch, precision), {"sha256": path.stem})
        return path

    def keep_model(self, spec: str, batch: int, content: bytes, precision: str = "fp32") -> None:
        """Keep a graph that was made here."""

        def save(file: BinaryIO) -> str:
            file.write(content)
            return hashlib.sha256(content).hexdigest()

        self.keep_graph(spec, batch, save, precision)

    def find_graph(self, spec: str, batch: int, precision: str = "fp32") -> tuple[str, Path] | None:
        """(SHA-256, file) of a graph as a server last sent it; None if it is missing or torn."""
        known = self.find_known(_graph_key(spec, batch, precision))
        if known is None:
            return None
        path = self._graph_path(str(known.get("sha256")))
        return (known["sha256"], path) if read_sha256(path) == known["sha256"] else None

    def keep_usual_canary(self, runtime: Runtime, canary: str, usual_ms: float) -> None:
        """Remember the canary's time on this machine without disturbances."""
        self.keep_known(["usual canary", str(runtime.of_canary), canary], {"usual_ms": usual_ms})

    def find_usual_canary(self, runtime: Runtime, canary: str) -> float | None:
        """The canary's time that the last campaign kept."""
        known = self.find_known(["usual canary", str(runtime.of_canary), canary]) or {}
        usual_ms = known.get("usual_ms")
        return usual_ms if isinstance(usual_ms, float) and usual_ms > 0 else None

    def keep_known(self, key: list[str], value: Mapping[str, Any]) -> None:
        self._claim()
        write_atomically(self._known_path(key), canonical_json(dict(value)))

    def find_known(self, key: list[str]) -> dict[str, Any] | None:
        content = read_bytes(self._known_path(key))
        try:
            value = json.loads(content) if content is not None else None
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    def keep_result(self, job_id: str, result: JobResult) -> None:
        """Keep a job's result until a server has it."""
        self._claim()
        write_atomically(self._result_path(job_id), canonical_json(_KeptResult(job_id, result)))

    def results(self) -> dict[str, JobResult]:
        """Results that no server has taken yet, by job id."""
        with disk_errors(self.folder):
            paths = sorted((self.folder / "results").glob("*.json"))
        kept = [read_value(_KeptResult, path) for path in paths]
        return {job.job: job.result for job in kept}

    def drop_result(self, job_id: str) -> None:
        """Forget a result: a server has it, or nobody wants it."""
        with disk_errors(self.folder):
            self._result_path(job_id).unlink(missing_ok=True)

    def set_aside_result(self, job_id: str) -> Path:
        """Keep a result where nobody hands it in again; returns its file."""
        path = self._result_path(job_id)
        with disk_errors(self.folder):
            return path.replace(path.with_suffix(".refused"))

    def _claim(self) -> None:
        """Write down the schema number before anything else."""
        if not self._schema.exists():
            write_atomically(self._schema, f"{SPOOL_SCHEMA}\n".encode())

    def _graph_path(self, sha256: str) -> Path:
        return self.folder / "graphs" / f"{sha256}.onnx"

    def _known_path(self, key: list[str]) -> Path:
        return self.folder / "known" / f"{content_hash(key)}.json"

    def _result_path(self, job_id: str) -> Path:
        return self.folder / "results" / f"{content_hash(job_id)[:32]}.json"


def _graph_key(spec: str, batch: int, precision: str) -> list[str]:
    return ["graph", spec, str(batch), precision]
