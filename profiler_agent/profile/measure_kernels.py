"""Measures the kernels of a user's own files that the device's table lacks, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from profiler_agent.kernels.cut import CutKernel, cut_kernels
from profiler_agent.kernels.model_files import Shapes, count_file, observe_file
from profiler_agent.kernels.predict import FilePrediction, predict_counted
from profiler_agent.profile.profile import Outcome, Profiler
from profiler_agent.spool.spool import Spool
from profiler_agent.timing.stopping import PRESETS, Preset
from shared.errors import LutnasError
from shared.measurements.graph_spec import KernelGraph, parse_graph_spec
from shared.measurements.plan import Plan, Task, kernel_task
from shared.runtime import Runtime, check_device_name


@dataclass(frozen=True)
class KernelRequest:
    """Whose kernels to measure.

    Attributes:
        shapes: of inputs that leave sides free.
        space: of the table that the prices are added to, or its first parts; "" takes the newest.
        new: measure although there is an unfinished run of the same kernels.
    """

    device: str
    files: tuple[Path, ...]
    runtime: Runtime
    shapes: Shapes
    space: str = ""
    preset: Preset = PRESETS["standard"]
    new: bool = False

    def __post_init__(self) -> None:
        check_device_name(self.device)


@dataclass(frozen=True)
class KernelOutcome:
    """What became of it.

    Attributes:
        predictions: of the files, by the prices that there are now.
        refused: why kernels cannot be measured alone.
        measured: number of kernels measured for it.
        run: None where nothing was left to measure.
    """

    predictions: tuple[FilePrediction, ...]
    refused: tuple[str, ...]
    measured: int
    run: Outcome | None


def measure_kernels(profiler: Profiler, request: KernelRequest) -> KernelOutcome:
    """Ask what is lacking, measure it, have the server add it to the table, and predict.

    Raises:
        NotFound: the device has no table of this runtime yet; the message says what makes one.
        LutnasError: none of the files has kernels that could be counted.
    """
    files = [count_file(path, request.runtime, request.shapes) for path in request.files]
    networks: Sequence[Sequence[str]] = [sorted(file.counts) for file in files if file.counts]
    if not networks:
        raise LutnasError("; ".join(f"{file.path}: {file.problem}" for file in files))
    client, runtime = profiler.client, str(request.runtime)
    missing, space, canary = client.find_missing_kernels(request.device, networks, request.space, runtime)
    tasks, refused = _cut(
        profiler.spool, request, {file.path: file.counts for file in files if file.counts}, set(missing)
    )
    run = None
    if tasks:
        profiler.progress.say(f"{len(tasks)} kernels are to be measured for the table of {space}")
        plan = Plan(space, tuple(sorted(tasks, key=lambda task: task.subject)), canary)
        run = profiler.carry_out(plan, request.device, request.runtime, request.preset, request.new)
        if run.table is not None:
            _forget(profiler.spool, request.runtime, tasks)
    found = tuple(predict_counted(client, request.device, file, space, runtime) for file in files)
    return KernelOutcome(found, tuple(refused), len(tasks), run)


def _cut(
    spool: Spool, request: KernelRequest, counts: Mapping[Path, Mapping[str, int]], missing: set[str]
) -> tuple[list[Task], list[str]]:
    """Cut missing kernels out of the files and keep their graphs; their tasks, and why others have none."""
    tasks: list[Task] = []
    refused: list[str] = []
    for path, kernels in counts.items():
        wanted = missing & kernels.keys()
        if not wanted:
            continue
        missing -= wanted
        with observe_file(path, request.runtime, request.shapes) as (graph, _):
            for cut in cut_kernels(graph, wanted):
                if isinstance(cut, CutKernel):
                    tasks.append(_keep(spool, request.runtime, cut))
                else:
                    refused.append(str(cut))
    return tasks, refused


def _keep(spool: Spool, runtime: Runtime, cut: CutKernel) -> Task:
    """Keep the graphs of a kernel's task."""
    task = kernel_task(cut.kernel, cut.slow)
    for reference in task.graphs:
        spec = parse_graph_spec(reference)
        assert isinstance(spec, KernelGraph)
        spool.keep_model(reference, runtime.batch, cut.build(spec.copies))
    return task


def _forget(spool: Spool, runtime: Runtime, tasks: Sequence[Task]) -> None:
    """Give back the disk: whatever needs these graphs again cuts them anew."""
    for reference in {reference for task in tasks for reference in task.graphs}:
        kept = spool.find_graph(reference, runtime.batch)
        if kept is not None:
            kept[1].unlink(missing_ok=True)
