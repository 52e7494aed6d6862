"""Whether to believe a measurement, and if not, why and what to do about it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from types import MappingProxyType

from profiler_agent.host.emulation import NOT_THE_DEVICE
from profiler_agent.host.machine import Machine, steal_percent
from profiler_agent.timing.campaign import Subject
from profiler_agent.timing.stopping import Preset, precision_reached
from shared.device_status import HIGHEST_TEMPERATURE_C
from shared.measurements.measurement import Measurement, Round, Verdict, quantile

LARGEST_DRIFT = 1.10
LARGEST_STEAL_PERCENT = 5.0
LOOK_EVERY_S = 5.0
SET_GOVERNOR = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"


class StabilityJudge:
    """Watches the machine from its construction on, and judges finished subjects.

    Args:
        odd: what is odd about the graph that the runtime made, by graph reference.
    """

    def __init__(
        self,
        preset: Preset,
        machine: Machine | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        odd: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._preset = preset
        self._odd = odd
        self._machine = machine or Machine()
        self._clock_s = clock_s
        self._start = self._machine.cpu_times()
        self._start_s, self._stopped_s = clock_s(), self._machine.stopped_s()
        self._throttled: set[str] = set()
        self._hottest_c = 0.0
        self._next_look_s = -math.inf

    def sample(self) -> None:
        """Note throttling and temperature; to be called between rounds, as often as you like."""
        if self._clock_s() < self._next_look_s:
            return
        self._next_look_s = self._clock_s() + LOOK_EVERY_S
        self._throttled.update(self._machine.throttling() or ())
        self._hottest_c = max(self._hottest_c, self._machine.temperature_c() or 0.0)

    def judge(self, subject: Subject) -> Verdict:
        """The verdict on a finished subject. Advice alone leaves it stable."""
        problems = [*self._problems_of_subject(subject), *self._problems_of_machine()]
        if self._machine.emulator is not None:
            problems.insert(0, f"emulated by {self._machine.emulator}: {NOT_THE_DEVICE}")
        slow = [governor for governor in self._machine.governors() if governor != "performance"]
        advice = (f"the frequency governor is {', '.join(slow)}: {SET_GOVERNOR}",) if slow else ()
        return Verdict(not problems, (*problems, *advice))

    def _problems_of_subject(self, subject: Subject) -> list[str]:
        graphs = (subject.graph,) if subject.minus is None else (subject.graph, subject.minus)
        problems = list(dict.fromkeys(graph.elsewhere for graph in graphs if graph.elsewhere))[:1]
        if subject.task.graph in self._odd:
            problems.append(self._odd[subject.task.graph])
        precision = precision_reached(subject.rounds, subject.task.divisor)
        if precision > self._preset.precision and subject.task.role != "isolated":
            problems.append(
                f"precise to {precision:.1%} after {len(subject.rounds)} rounds, {self._preset.precision:.1%} wanted:"
                " stop what else is running, or take --preset thorough"
            )
        drift = canary_drift(subject.rounds)
        if drift > LARGEST_DRIFT:
            problems.append(f"the canary drifted by {drift:.2f} over the run: let the device cool down, then --new")
        if subject.disturbed:
            problems.append(f"the canary was off in {subject.disturbed} of {len(subject.rounds)} rounds: other load?")
        return problems

    def _problems_of_machine(self) -> list[str]:
        self.sample()
        problems = []
        if self._throttled:
            problems.append(f"held back ({', '.join(sorted(self._throttled))}): check power supply and cooling")
        if self._hottest_c >= HIGHEST_TEMPERATURE_C:
            problems.append(f"{self._hottest_c:.0f} degrees Celsius: cool the device")
        steal = steal_percent(self._start, self._machine.cpu_times())
        if steal is not None and steal > LARGEST_STEAL_PERCENT:
            problems.append(f"the hypervisor took {steal:.0f} % of the time: use a machine of its own")
        stopped_s, elapsed_s = self._machine.stopped_s(), self._clock_s() - self._start_s
        if stopped_s is not None and self._stopped_s is not None and elapsed_s > 0:
            stopped = 100 * (stopped_s - self._stopped_s) / elapsed_s
            if stopped > LARGEST_STEAL_PERCENT:
                problems.append(f"a CPU quota stopped it for {stopped:.0f} % of the time: give it whole cores")
        return problems


def canary_drift(rounds: Sequence[Round]) -> float:
    """The canary in the last third of the rounds against the first third, as a factor >= 1."""
    return drift_factor([quantile(timed.canary_ms) for timed in rounds])


def drift_factor(times_ms: Sequence[float]) -> float:
    """The last third of the times against the first third, as a factor >= 1."""
    third = max(len(times_ms) // 3, 1)
    first_ms, last_ms = median(times_ms[:third]), median(times_ms[-third:])
    return max(first_ms, last_ms) / min(first_ms, last_ms)


def describe_unstable(measurements: Iterable[Measurement]) -> tuple[str, ...]:
    """A line per reason for people: how many measurements have it, the reason, and an example."""
    number = 0
    alike: dict[str, list[tuple[str, str]]] = {}
    for measurement in measurements:
        number += 1
        for reason in () if measurement.verdict.stable else measurement.verdict.reasons[:1]:
            alike.setdefault(re.sub(r"[\d.]+", "#", reason.partition("(")[0]), []).append((measurement.subject, reason))
    return tuple(
        f"{len(found)} of {number} measurements: {found[0][1]} [{found[0][0]}]"
        for found in sorted(alike.values(), key=len, reverse=True)
    )
