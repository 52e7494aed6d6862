"""The repeatability of a table: six campaigns, by plain medians and by our rounds.

Entries are the 12 op keys of nas-bench-201 (C=16, 1 cell per stage, 32 x 32) and 12 whole networks.
A campaign is a process of its own, as a profiling run is. All ways get the same graphs, each right
after the other, on the same machine. A second process computes all the time, four seconds on and
four off.

plain:     the median of 100 repeats of the graph in ms, back to back, nothing subtracted.
same time: the same, with as many repeats as fit into the time of ours.
ours:      the table's way (`shared.measurements.measurement`): interleaved rounds, ratio to the
           canary, the shorter chain subtracted. The subtraction makes the ratio harder to repeat.

The figure of an entry is its coefficient of variation over the six campaigns. The benchmark
compares the medians over the entries.
"""

import multiprocessing
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean, median, stdev

import numpy as np

from benchmarks import Progress
from benchmarks.report import Figure
from profiler_agent.ort.session_cache import MOST_SESSIONS, SessionCache
from profiler_agent.ort.sessions import TimedGraph, load_graph, local_runtime
from profiler_agent.timing.campaign import Campaign, Subject
from profiler_agent.timing.round_timer import RoundTimer, find_thread_clock
from profiler_agent.timing.stopping import PRESETS, StoppingRule
from shared.graphs import build_graph
from shared.measurements.graph_spec import parse_graph_spec
from shared.measurements.measurement import Verdict, estimate_rounds
from shared.measurements.plan import Plan, make_plan
from shared.spaces import make_space

CAMPAIGNS = 6
NETWORKS = 12
PLAIN_REPEATS = 100
PRESET = PRESETS["standard"]
NEIGHBOUR_S = 4.0
"""Shorter than a campaign, so that each campaign has busy and idle phases."""


@dataclass(frozen=True)
class Entries:
    """A campaign's value of each entry, by each way."""

    ours: list[float]
    plain: list[float]
    same_time: list[float]
    ours_s: float


def run(progress: Progress) -> dict[str, Figure]:
    """Measure; takes two to four minutes."""
    plan = make_plan(make_space("nas-bench-201", depth=1), NETWORKS - 1, 1)
    campaigns = []
    with busy_neighbour():
        for number in range(CAMPAIGNS):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                campaigns.append(process.submit(measure_all_ways, plan, number).result())
            progress(f"campaign {number + 1} of {CAMPAIGNS}: {campaigns[-1].ours_s:.1f} s")
    return compare(campaigns, [task.subject for task in plan.tasks])


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """A second process that computes, on and off."""
    process = multiprocessing.get_context("spawn").Process(target=compute_on_and_off, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def compute_on_and_off() -> None:
    """Arithmetic on more memory than the caches of a core, with a single thread."""
    values = np.ones(1_000_000, np.float32)
    while True:
        end_s = time.monotonic() + NEIGHBOUR_S
        while time.monotonic() < end_s:
            np.sqrt(values + 1.0, out=values)
        time.sleep(NEIGHBOUR_S)


def measure_all_ways(plan: Plan, number: int) -> Entries:
    """A campaign."""
    models = {spec: build_graph(parse_graph_spec(spec)) for spec in plan.graphs()}
    start_s = time.monotonic()
    ours = measure_ours(plan, models, seed=number)
    ours_s = time.monotonic() - start_s
    runtime = local_runtime()
    graphs = {spec: load_graph(spec, model, runtime) for spec, model in models.items()}
    repeats = [repeat_ms(graphs[task.graph], ours_s / len(plan.tasks)) for task in plan.tasks]
    return Entries(
        ours, [median(repeat[:PLAIN_REPEATS]) for repeat in repeats], [median(repeat) for repeat in repeats], ours_s
    )


def measure_ours(plan: Plan, models: Mapping[str, bytes], seed: int) -> list[float]:
    """Ratio to the canary of each task, as a profiling run measures it."""
    runtime, cache = local_runtime(), SessionCache()
    canary = load_graph(plan.canary, models[plan.canary], runtime, MOST_SESSIONS)

    def guest(spec: str) -> TimedGraph:
        return cache.add(lambda sessions: load_graph(spec, models[spec], runtime, sessions), len(models[spec]))

    graphs = {spec: guest(spec) for spec in models if spec != plan.canary}
    subjects = [
        Subject(task, graphs[task.graph], None if task.minus is None else graphs[task.minus]) for task in plan.tasks
    ]
    Campaign(
        subjects,
        RoundTimer(canary, thread_ns=find_thread_clock(runtime)),
        StoppingRule(PRESET, len(subjects), time.monotonic),
        lambda subject: Verdict(True),
        random.Random(seed),
        time.sleep,
    ).run()
    return [estimate_rounds(s.rounds, s.task.divisor).ratio for s in subjects]


def repeat_ms(graph: TimedGraph, budget_s: float) -> list[float]:
    """Times of repeats back to back: at least 100, and as many more as the time allows."""
    graph.run()
    values_ms: list[float] = []
    end_ns = time.perf_counter_ns() + round(budget_s * 1e9)
    while len(values_ms) < PLAIN_REPEATS or time.perf_counter_ns() < end_ns:
        start_ns = time.perf_counter_ns()
        graph.run()
        values_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    return values_ms


def compare(campaigns: Sequence[Entries], names: Sequence[str]) -> dict[str, Figure]:
    """Figures from the campaigns' entries, with the name of the worst entry."""
    ours = variation_percent([campaign.ours for campaign in campaigns])
    plain = variation_percent([campaign.plain for campaign in campaigns])
    same_time = variation_percent([campaign.same_time for campaign in campaigns])
    figures = {
        "cv_ratio": Figure(value=median(plain) / median(ours), bar=">= 4", n=len(campaigns)),
        "cv_ratio_same_time": Figure(value=median(same_time) / median(ours), n=len(campaigns)),
        "cv_median_percent": Figure(value=median(ours), unit="%", n=len(ours), spread=span(ours), bar="<= 1.5"),
        "cv_worst_percent": Figure(
            value=max(ours), unit="%", n=len(ours), spread=names[ours.index(max(ours))].replace("|", "/"), bar="<= 4"
        ),
        "plain_cv_median_percent": Figure(value=median(plain), unit="%", n=len(plain), spread=span(plain)),
        "plain_cv_worst_percent": Figure(value=max(plain), unit="%", n=len(plain)),
    }
    return {f"profiling.repeat.{name}": figure for name, figure in figures.items()}


def variation_percent(campaigns: Sequence[Sequence[float]]) -> list[float]:
    """Each entry's coefficient of variation over the campaigns."""
    return [100 * stdev(values) / fmean(values) for values in zip(*campaigns, strict=True)]


def span(values: list[float]) -> str:
    """From the smallest to the largest."""
    return f"{min(values):.2g} to {max(values):.2g}"
