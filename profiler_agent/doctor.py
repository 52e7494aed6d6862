"""How far to trust numbers from this machine: it times the canary for a minute as a campaign would.

The canary is loaded three times: as the canary, and as two graphs that are timed against it. Their
spread tells by how much a table entry would vary on a machine as busy as this.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import pairwise
from statistics import fmean, median, stdev

from profiler_agent.host.emulation import NOT_THE_DEVICE
from profiler_agent.host.machine import Machine, steal_percent
from profiler_agent.ort.sessions import TimedGraph, load_graph, local_runtime
from profiler_agent.timing.campaign import CanaryWatch
from profiler_agent.timing.round_timer import RoundTimer
from profiler_agent.timing.stability import LARGEST_DRIFT, LARGEST_STEAL_PERCENT, SET_GOVERNOR, drift_factor
from profiler_agent.timing.stopping import PRESETS
from shared.device_status import HIGHEST_TEMPERATURE_C
from shared.measurements.measurement import quantile
from shared.runtime import Runtime

LEVELS = ("good", "usable", "poor")
WINDOWS = 30
ENTRIES = 10
"""Parts of the time. Each gives one table entry per graph."""
ENTRY_ROUNDS = PRESETS["standard"].min_rounds
CLOCK_READINGS = 20_000
FEWEST_ROUNDS = 3 * ENTRIES


@dataclass(frozen=True)
class Finding:
    """One judged fact; `advice` says what to change and may be empty."""

    name: str
    level: str
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Report:
    """The result; `numbers` has the figures that could be read, by name."""

    verdict: str
    seconds: float
    rounds: int
    numbers: dict[str, float]
    findings: tuple[Finding, ...]


@dataclass
class Observations:
    """What was timed.

    Attributes:
        canary_ms: all repeats of the canary, per window.
        ratios: ratios to the canary of the undisturbed rounds, per graph and part of the time.
    """

    canary_ms: list[list[float]] = field(default_factory=list)
    ratios: tuple[list[list[float]], ...] = ()
    rounds: int = 0
    disturbed: int = 0
    clock_jumps: int = 0
    throttled: set[str] = field(default_factory=set)


def canary_model() -> bytes:
    """The canary's ONNX bytes, shipped with the agent: neither server nor onnx is needed."""
    return (files("profiler_agent") / "canary-conv-v1.onnx").read_bytes()


def load_canaries(runtime: Runtime | None = None) -> tuple[TimedGraph, TimedGraph, TimedGraph]:
    """The canary, and two more copies to time against it (default: on the CPU, one thread)."""
    model, runtime = canary_model(), runtime or local_runtime()
    first, second, third = (load_graph(f"canary {i}", model, runtime, sessions=1) for i in range(3))
    return first, second, third


def examine(
    seconds: float,
    machine: Machine | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    graphs: tuple[TimedGraph, TimedGraph, TimedGraph] | None = None,
    thread_ns: Callable[[], int] | None = None,
) -> Report:
    """Measure for so many seconds, and judge.

    Args:
        thread_ns: of `find_thread_clock`, as a campaign on the graphs' runtime has it.

    Raises:
        LutnasError: ONNX Runtime is not here, or does not load the canary.
    """
    machine = machine or Machine()
    load, memory_mb, temperature_c = machine.load(), machine.memory_mb(), machine.temperature_c()
    numbers = time_clock(clock_ns)
    ticks = machine.cpu_times()
    seen = observe(seconds, machine, clock_ns, graphs or load_canaries(), thread_ns)
    steal = steal_percent(ticks, machine.cpu_times())
    numbers |= figures(seen)
    findings = (
        *clock_findings(numbers, seen),
        *canary_findings(numbers),
        *machine_findings(machine, load, memory_mb, temperature_c, steal, seen.throttled),
    )
    verdict = max((finding.level for finding in findings), key=LEVELS.index)
    return Report(verdict, seconds, seen.rounds, numbers, findings)


def time_clock(clock_ns: Callable[[], int]) -> dict[str, float]:
    """Resolution (smallest step seen) and cost of one reading of the clock."""
    readings = [clock_ns() for _ in range(CLOCK_READINGS)]
    steps = [after - before for before, after in pairwise(readings) if after > before]
    cost_ns = (readings[-1] - readings[0]) / CLOCK_READINGS
    return {"clock_step_ns": float(min(steps, default=0)), "clock_cost_ns": max(cost_ns, 0.0)}


def observe(
    seconds: float,
    machine: Machine,
    clock_ns: Callable[[], int],
    graphs: tuple[TimedGraph, TimedGraph, TimedGraph],
    thread_ns: Callable[[], int] | None = None,
) -> Observations:
    """Time the two graphs against the canary in turns until the time is up."""
    canary, *timed_graphs = graphs
    timer, watch, seen = RoundTimer(canary, clock_ns, thread_ns=thread_ns), CanaryWatch(), Observations()
    seen.canary_ms = [[] for _ in range(WINDOWS)]
    seen.ratios = tuple([[] for _ in range(ENTRIES)] for _ in timed_graphs)
    start_ns, duration_ns, share, window = clock_ns(), seconds * 1e9, 0.0, -1
    while share < 1.0 or seen.rounds < FEWEST_ROUNDS:
        share = min(max((clock_ns() - start_ns) / duration_ns, 0.0), 1.0)
        if int(share * WINDOWS) > window:
            window = int(share * WINDOWS)
            seen.throttled.update(machine.throttling() or ())
        for index, graph in enumerate(timed_graphs):
            timed = timer.time(graph)
            if timed is None:
                seen.clock_jumps += 1
                continue
            seen.canary_ms[min(int(share * WINDOWS), WINDOWS - 1)].extend(timed.round.canary_ms)
            seen.rounds += 1
            if watch.is_disturbed(timed):
                seen.disturbed += 1
            else:
                seen.ratios[index][min(int(share * ENTRIES), ENTRIES - 1)].append(timed.round.ratio(1))
        if seen.clock_jumps > FEWEST_ROUNDS + seen.rounds:
            break
    return seen


def figures(seen: Observations) -> dict[str, float]:
    """The numbers to judge by, without those that too few rounds give."""
    numbers = {}
    windows = [tuple(values) for values in seen.canary_ms if values]
    if windows:
        lows = [quantile(values) for values in windows]
        everything = tuple(value for values in windows for value in values)
        numbers["canary_ms"] = quantile(everything)
        numbers["spread_within_percent"] = 100 * median(
            (quantile(values, 0.9) - quantile(values, 0.1)) / quantile(values, 0.5) for values in windows
        )
        numbers["spread_between_percent"] = _variation_percent(lows)
        numbers["drift"] = drift_factor(lows)
        numbers["tail"] = quantile(everything, 0.99) / quantile(everything, 0.5)
    if seen.rounds:
        numbers["disturbed_percent"] = 100 * seen.disturbed / seen.rounds
    entries = [[median(_spread_out(part)) for part in parts if part] for parts in seen.ratios]
    if entries and all(len(parts) >= ENTRIES // 2 for parts in entries):
        numbers["entry_variation_percent"] = _variation_percent([entry for parts in entries for entry in parts])
        sides = sorted(median(parts) for parts in entries)
        numbers["sessions_differ_percent"] = 100 * (sides[-1] / sides[0] - 1)
    return numbers


def clock_findings(numbers: dict[str, float], seen: Observations) -> list[Finding]:
    """Whether the clock tells times of 0.1 ms apart and runs steadily."""
    step_ns, cost_ns = numbers["clock_step_ns"], numbers["clock_cost_ns"]
    found = f"steps of {step_ns:.0f} ns, {cost_ns:.0f} ns a reading"
    source = (
        "take a faster clock source: echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/*_clocksource"
    )
    findings = [_judge("clock", found, max(step_ns, cost_ns), 1_000, 10_000, source)]
    if seen.clock_jumps:
        found = f"jumped, or the machine stood still, in {seen.clock_jumps} rounds"
        advice = "switch off suspend, and whatever sets the clock in steps, while profiling"
        findings.append(_judge("clock jumps", found, seen.clock_jumps, 0, 3, advice))
    return findings


def canary_findings(numbers: dict[str, float]) -> list[Finding]:
    """What the canary's times say of the machine."""
    stop = "stop what else is running (see `top`)"
    judged = (
        ("short-term spread", "spread_within_percent", "{:.1f} %", 15.0, 100.0, stop),
        ("long-term spread", "spread_between_percent", "{:.1f} %", 3.0, 15.0, f"{stop}; fix the frequency"),
        ("drift", "drift", "{:.3f}", 1.05, LARGEST_DRIFT, "let the device warm up or cool down first, and cool it"),
        ("slowest 1 %", "tail", "{:.2f} times the median", 1.5, math.inf, f"{stop}, above all what wakes up often"),
        ("disturbed rounds", "disturbed_percent", "{:.0f} %", 10.0, 50.0, f"{stop}; campaigns take longer"),
        ("table entry", "entry_variation_percent", "repeats to {:.2f} %", 1.0, 4.0, "take --preset thorough"),
    )
    return [
        _judge(name, text.format(numbers[figure]), numbers[figure], usable, poor, advice)
        if figure in numbers
        else Finding(name, "poor", "unknown", f"too few undisturbed rounds to tell: {stop}")
        for name, figure, text, usable, poor, advice in judged
    ]


def machine_findings(
    machine: Machine,
    load: str,
    memory_mb: str,
    temperature_before_c: float | None,
    steal: float | None,
    throttled: set[str],
) -> list[Finding]:
    """What the operating system says. What cannot be read is left out, and is no fault."""
    findings = []
    if machine.emulator is not None:
        findings.append(Finding("emulated", "poor", f"by {machine.emulator}", NOT_THE_DEVICE))
    governors = machine.governors()
    if governors:
        slow = sum(governor != "performance" for governor in governors)
        advice = f"set the governor to performance: {SET_GOVERNOR}"
        findings.append(_judge("governor", ", ".join(governors), slow, 0, math.inf, advice))
    after_c = machine.temperature_c()
    if temperature_before_c is not None and after_c is not None:
        found = f"{temperature_before_c:.0f} before, {after_c:.0f} after, degrees Celsius"
        hot_c = math.nextafter(HIGHEST_TEMPERATURE_C, 0)
        findings.append(_judge("temperature", found, after_c, hot_c - 10, hot_c, "add a heat sink or a fan"))
    if machine.throttling() is not None or throttled:
        found, advice = ", ".join(sorted(throttled)) or "none", "take a stronger power supply, and cool the board"
        findings.append(_judge("held back", found, len(throttled), 0, 0, advice))
    if steal is not None:
        advice = "other virtual machines share the processor: use one with cores of its own"
        findings.append(_judge("steal", f"{steal:.1f} % of the time", steal, 1.0, LARGEST_STEAL_PERCENT, advice))
    load_1, cores = _first_number(load), _first_number(machine.cores())
    if load_1 is not None and cores:
        advice = "wait until the machine is idle: its load was there before the examination"
        findings.append(_judge("load before", f"{load_1:g} on {cores:g} cores", load_1, 0.5 * cores, math.inf, advice))
    free_mb = _first_number(memory_mb)
    if free_mb is not None:
        advice = "free some memory: a large network needs five times its file"
        findings.append(_judge("memory", f"{free_mb:g} MB free", -free_mb, -1000.0, -300.0, advice))
    return findings


def report_lines(report: Report) -> list[str]:
    """The report for people: a line per finding, advice below it."""
    lines = []
    for finding in report.findings:
        lines.append(f"{finding.name:18s} {finding.level:7s} {finding.found}")
        if finding.advice:
            lines.append(f"{'':18s} {'':7s} -> {finding.advice}")
    entry = report.numbers.get("entry_variation_percent")
    trust = "" if entry is None else f": expect a table entry to repeat to about {entry:.2g} %"
    return [*lines, f"{'verdict':18s} {report.verdict}{trust}"]


def _judge(name: str, found: str, value: float, usable: float, poor: float, advice: str) -> Finding:
    """A finding that is only usable above the first limit, and poor above the second."""
    level = "poor" if value > poor else "usable" if value > usable else "good"
    return Finding(name, level, found, "" if level == "good" else advice)


def _spread_out(ratios: Sequence[float]) -> Sequence[float]:
    """As many rounds as a campaign takes of a task, evenly spread."""
    return ratios[:: max(len(ratios) // ENTRY_ROUNDS, 1)][:ENTRY_ROUNDS]


def _first_number(text: str) -> float | None:
    word = text.split()[0] if text.split() else ""
    try:
        return float(word)
    except ValueError:
        return None


def _variation_percent(values: Sequence[float]) -> float:
    return 100 * stdev(values) / fmean(values) if len(values) > 1 else 0.0
