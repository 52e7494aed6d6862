"""A campaign in this process: the agent's rounds without a server and a spool."""

import hashlib
import random
import time
import uuid
from collections.abc import Mapping, Sequence

from profiler_agent.ort.session_cache import MOST_SESSIONS, SessionCache
from profiler_agent.ort.sessions import TimedGraph, load_graph, local_runtime
from profiler_agent.timing.campaign import Campaign, Subject
from profiler_agent.timing.round_timer import RoundTimer, find_thread_clock
from profiler_agent.timing.stopping import PRESETS, Preset, StoppingRule
from shared.graphs import build_graph
from shared.measurements.graph_spec import CanaryGraph, UploadedModel, parse_graph_spec
from shared.measurements.measurement import Measurement, Verdict
from shared.measurements.plan import Task
from shared.tables.table import LatencyTable

CANARY = str(CanaryGraph())


def build_models(tasks: Sequence[Task]) -> dict[str, bytes]:
    """ONNX bytes of the canary's and the tasks' graphs."""
    return {spec: build_graph(parse_graph_spec(spec)) for spec in (CANARY, *(g for t in tasks for g in t.graphs))}


def measure_tasks(
    tasks: Sequence[Task], models: Mapping[str, bytes], seed: int = 0, preset: Preset = PRESETS["standard"]
) -> list[Measurement]:
    """Measure tasks in interleaved rounds, as a profiling run does; in the tasks' order."""
    runtime, cache = local_runtime(), SessionCache()
    canary = load_graph(CANARY, models[CANARY], runtime, MOST_SESSIONS)
    graphs: dict[str, TimedGraph] = {}
    for spec in dict.fromkeys(graph for task in tasks for graph in task.graphs):
        model = models[spec]
        graphs[spec] = cache.add(
            lambda sessions, spec=spec, model=model: load_graph(spec, model, runtime, sessions),  # type: ignore[misc]
            len(model),
        )
    subjects = [Subject(task, graphs[task.graph], graphs[task.minus] if task.minus else None) for task in tasks]
    Campaign(
        subjects,
        RoundTimer(canary, thread_ns=find_thread_clock(runtime)),
        StoppingRule(preset, len(subjects), time.monotonic),
        lambda subject: Verdict(True),
        random.Random(seed),
        time.sleep,
    ).run()
    return [Measurement.of_task(str(uuid.uuid4()), subject.task, subject.rounds) for subject in subjects]


def measure_models(
    models: Mapping[str, bytes], table: LatencyTable, preset: Preset = PRESETS["standard"]
) -> dict[str, float]:
    """Latency in ms of ONNX models by name, all in the same rounds, as a verification measures them.

    Args:
        table: a millisecond is that of its canary.
    """
    specs = {name: str(UploadedModel(hashlib.sha256(model).hexdigest())) for name, model in models.items()}
    tasks = [Task(name, "verification", spec) for name, spec in specs.items()]
    contents = {specs[name]: model for name, model in models.items()}
    measured = measure_tasks(tasks, build_models([]) | contents, preset=preset)
    return {each.subject: each.estimate().ratio * table.canary_nominal_ms for each in measured}
