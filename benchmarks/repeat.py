"""How well a table repeats: the same one measured six times, by plain medians and by our rounds, in turns.

Entries are the 12 op keys of nas-bench-201 (C=16, one cell per stage, 32 x 32) and 12 whole networks. Both ways get the
same graphs, loaded anew for each campaign, and the same time; they take turns, so that they meet the same machine.

plain: the median of at least 100 repeats of the graph back to back, subject after subject, in ms, nothing subtracted.
ours:  what the table is made of: the median over interleaved rounds of the ratio to the canary, the shorter chain
       subtracted (which makes it the harder one to repeat).

An entry's figure is its coefficient of variation over the six campaigns.
"""

import random
import time
from collections.abc import Sequence
from statistics import fmean, median, stdev

from benchmarks import Progress
from benchmarks.report import Figure
from profiler_agent.campaign import Campaign, Subject
from profiler_agent.round_timer import RoundTimer, TimedGraph
from profiler_agent.sessions import load_graph, local_runtime
from profiler_agent.stopping import PRESETS, StoppingRule
from shared.graph_spec import parse_graph_spec
from shared.graphs import build_graph
from shared.measurement import Round, Verdict, estimate_ratio
from shared.plan import Plan, Task, make_plan
from shared.spaces import make_space

CAMPAIGNS = 6
NETWORKS = 12
FEWEST_REPEATS = 100
PRESET = PRESETS["standard"]


class Unkept:
    """A journal that keeps nothing: the subjects hold their rounds."""

    def keep_round(self, task: Task, one: Round, disturbed: bool) -> None:
        return

    def keep_measurement(self, task: Task, rounds: Sequence[Round], verdict: Verdict) -> None:
        return


def run(progress: Progress) -> dict[str, Figure]:
    """Measure; takes one to three minutes."""
    plan = make_plan(make_space("nas-bench-201", depth=1), NETWORKS - 1, 1)
    models = {spec: build_graph(parse_graph_spec(spec)) for spec in plan.graphs()}
    runtime = local_runtime()
    ours: list[list[float]] = []
    plain: list[list[float]] = []
    for campaign in range(CAMPAIGNS):
        graphs = {spec: load_graph(spec, model, runtime) for spec, model in models.items()}
        start_s = time.monotonic()
        ours.append(measure_ours(plan, graphs, seed=campaign))
        spent_s = time.monotonic() - start_s
        plain.append([plain_median_ms(graphs[task.graph], spent_s / len(plan.tasks)) for task in plan.tasks])
        progress(f"campaign {campaign + 1} of {CAMPAIGNS}: {spent_s:.1f} s each")
    return compare(ours, plain)


def measure_ours(plan: Plan, graphs: dict[str, TimedGraph], seed: int) -> list[float]:
    """Ratio to the canary of each task, as a profiling run measures it."""
    subjects = [
        Subject(task, graphs[task.graph], None if task.minus is None else graphs[task.minus]) for task in plan.tasks
    ]
    Campaign(
        subjects,
        RoundTimer(graphs[plan.canary]),
        StoppingRule(PRESET, len(subjects), time.monotonic),
        lambda subject: Verdict(True),
        Unkept(),
        random.Random(seed),
        time.sleep,
    ).run()
    return [estimate_ratio([one.ratio(s.task.divisor) for one in s.rounds]).ratio for s in subjects]


def plain_median_ms(graph: TimedGraph, budget_s: float) -> float:
    """Median of repeats back to back: at least 100, and as many more as the time allows."""
    graph.run()
    values_ms: list[float] = []
    end_ns = time.perf_counter_ns() + round(budget_s * 1e9)
    while len(values_ms) < FEWEST_REPEATS or time.perf_counter_ns() < end_ns:
        start_ns = time.perf_counter_ns()
        graph.run()
        values_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    return median(values_ms)


def compare(ours: list[list[float]], plain: list[list[float]]) -> dict[str, Figure]:
    """Figures from one list of entries per campaign."""
    our_cvs, plain_cvs = (
        [100 * stdev(values) / fmean(values) for values in zip(*campaigns, strict=True)] for campaigns in (ours, plain)
    )
    figures = {
        "cv_ratio": Figure(value=median(plain_cvs) / median(our_cvs), bar=">= 4", n=len(ours)),
        "cv_median_percent": Figure(value=median(our_cvs), unit="%", n=len(our_cvs), spread=span(our_cvs)),
        "cv_worst_percent": Figure(value=max(our_cvs), unit="%", n=len(our_cvs)),
        "plain_cv_median_percent": Figure(value=median(plain_cvs), unit="%", n=len(plain_cvs), spread=span(plain_cvs)),
        "plain_cv_worst_percent": Figure(value=max(plain_cvs), unit="%", n=len(plain_cvs)),
    }
    return {f"profiling.repeat.{name}": figure for name, figure in figures.items()}


def span(values: list[float]) -> str:
    """From the smallest to the largest."""
    return f"{min(values):.2g} to {max(values):.2g}"
