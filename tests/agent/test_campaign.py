"""Campaigns with graphs that take exactly as long as they are told, on a clock that only they move."""

import gc
import random

import pytest

from profiler_agent.ort.sessions import TimedGraph
from profiler_agent.timing.campaign import Campaign, CanaryWatch, Subject
from profiler_agent.timing.round_timer import RoundTimer
from profiler_agent.timing.stability import StabilityJudge, canary_drift
from profiler_agent.timing.stopping import Preset, StoppingRule
from shared.measurements.measurement import Round, Verdict
from shared.measurements.plan import Task

PRESET = Preset("test", precision=0.01, min_rounds=6, max_rounds=8, seconds_per_task=100.0)
CANARY_MS = 0.5


class FakeMachine:
    """A clock, and graphs that move it; `slowness` is asked at every run."""

    def __init__(self):
        self.now_ns = 0
        self.slowness = lambda: 1.0
        self.order = []
        self.jump_ns = 0

    def clock_ns(self):
        return self.now_ns

    def clock_s(self):
        return self.now_ns / 1e9

    def graph(self, name, ms):
        def run():
            if not self.order or self.order[-1] != name:
                self.order.append(name)
            self.now_ns += round(ms * 1e6 * self.slowness()) + self.jump_ns
            self.jump_ns = 0

        return TimedGraph(name, run)

    def sleep(self, seconds):
        self.order.append("pause")
        self.now_ns += round(seconds * 1e9)


class RunInMemory:
    def __init__(self):
        self.rounds, self.measured = [], []

    def keep_round(self, task, timed, disturbed):
        self.rounds.append((task.subject, disturbed))

    def keep_measurement(self, task, rounds, verdict):
        self.measured.append((task.subject, len(rounds), verdict))


@pytest.fixture
def machine():
    return FakeMachine()


def task(subject):
    return Task(subject, "calibration", "canary:conv-v1")


def campaign(machine, subjects, journal=None, **arguments):
    timer = RoundTimer(machine.graph("canary", CANARY_MS), machine.clock_ns)
    rule = StoppingRule(PRESET, len(subjects), machine.clock_s)
    judge = arguments.pop("judge", lambda subject: Verdict(True))
    for subject in subjects:
        subject.runs = [] if journal is None else [journal]
    return Campaign(subjects, timer, rule, judge, random.Random(1), machine.sleep, **arguments)


def test_values_are_ratios_to_the_canary_and_marginal_costs_are_differences(machine):
    marginal = Task("op", "marginal", "canary:conv-v1", "canary:conv-v1", divisor=6)
    subject = Subject(marginal, machine.graph("long", 4.0), machine.graph("short", 1.0))
    journal = RunInMemory()
    campaign(machine, [subject], journal).run()
    assert [round_.ratio(6) for round_ in subject.rounds] == pytest.approx([3.0 / 6 / CANARY_MS] * 6)
    assert journal.measured == [("op", 6, Verdict(True))]


def test_the_canary_stands_on_both_sides_of_the_graphs(machine):
    timer = RoundTimer(machine.graph("canary", CANARY_MS), machine.clock_ns)
    long, short = machine.graph("long", 4.0), machine.graph("short", 1.0)
    timer.time(long, short)
    machine.order.clear()
    timer.time(long, short)
    assert machine.order == ["canary", "long", "short", "canary"]


def test_rounds_go_through_the_tasks_in_ever_new_order(machine):
    subjects = [Subject(task(str(i)), machine.graph(str(i), 1.0)) for i in range(8)]
    journal = RunInMemory()
    campaign(machine, subjects, journal).run()
    orders = {tuple(subject for subject, _ in journal.rounds[start : start + 8]) for start in range(0, 48, 8)}
    assert len(orders) == 6
    assert all(sorted(order) == [str(i) for i in range(8)] for order in orders)


def test_networks_that_are_chosen_on_the_way_are_measured_beside_those_before_them(machine):
    first = [Subject(task(f"first {i}"), machine.graph(f"first {i}", 1.0)) for i in range(3)]
    asked, journal = [], RunInMemory()
    batches = [[Subject(task(f"chosen {i}"), machine.graph(f"chosen {i}", 1.0), runs=[journal])] for i in range(2)]

    def more():
        asked.append([len(subject.rounds) for subject in first])
        return batches.pop(0) if batches else []

    campaign(machine, first, journal, more=more).run()
    assert asked == [[6] * 3, [12] * 3, [18] * 3]
    order = [subject for subject, _ in journal.rounds]
    assert order.index("chosen 1") > order.index("chosen 0") > 0
    every = {"first 0", "first 1", "first 2", "chosen 0", "chosen 1"}
    assert {subject for subject, _, _ in journal.measured} == every
    assert set(order[-5:]) == every


def test_a_short_graph_is_looped_until_the_clock_can_tell(machine):
    timer = RoundTimer(machine.graph("canary", CANARY_MS), machine.clock_ns)
    short = machine.graph("short", 0.004)
    timer.time(short)
    start_ns = machine.now_ns
    values = timer.time(short).round.graph_ms
    assert values == pytest.approx([0.004] * len(values))
    assert (machine.now_ns - start_ns) / 1e6 >= len(values) * 0.1


@pytest.mark.parametrize(("ms", "repeats"), [(1.0, 8), (49.0, 8), (100.0, 4), (150.0, 3)])
def test_a_slow_graph_is_repeated_less(machine, ms, repeats):
    timed = RoundTimer(machine.graph("canary", CANARY_MS), machine.clock_ns).time(machine.graph("graph", ms))
    assert len(timed.round.graph_ms) == repeats


def test_sessions_of_one_graph_take_turns(machine):
    lucky, unlucky = machine.graph("lucky", 1.0), machine.graph("unlucky", 1.2)
    subject = Subject(task("net"), TimedGraph("net", lucky.run, unlucky.run))
    campaign(machine, [subject]).run()
    times_ms = [round_.graph_ms[0] for round_ in subject.rounds]
    assert len(times_ms) >= PRESET.min_rounds
    assert times_ms[::2] == pytest.approx([1.0] * len(times_ms[::2]))
    assert times_ms[1::2] == pytest.approx([1.2] * len(times_ms[1::2]))


def test_a_round_on_a_slow_machine_is_thrown_away_and_measured_again_after_a_pause(machine):
    subjects = [Subject(task(str(i)), machine.graph(str(i), 1.0)) for i in range(5)]
    journal = RunInMemory()
    machine.slowness = lambda: 1.5 if 0.15e9 < machine.now_ns < 0.2e9 else 1.0
    campaign(machine, subjects, journal).run()
    assert sum(subject.redos for subject in subjects) >= 1
    assert "pause" in machine.order
    assert all(subject.disturbed == 0 for subject in subjects)
    assert all(round_.canary_ms[0] == pytest.approx(CANARY_MS) for s in subjects for round_ in s.rounds)


def test_a_machine_that_slows_down_for_good_is_soon_the_new_measure(machine):
    subjects = [Subject(task(str(i)), machine.graph(str(i), 1.0)) for i in range(40)]
    machine.slowness = lambda: 1.5 if machine.now_ns > 1e9 else 1.0
    campaign(machine, subjects).run()
    assert {len(subject.rounds) for subject in subjects} <= {6, 7, 8}  # those thrown away at the change are waited for
    # The ratio does not see it: graph and canary are slow alike.
    assert all(round_.graph_ratio() == pytest.approx(1.0 / CANARY_MS) for s in subjects for round_ in s.rounds)


def test_redos_are_bounded_and_what_is_kept_then_says_so(machine):
    subject = Subject(task("net"), machine.graph("net", 1.0))
    journal = RunInMemory()
    busy = CanaryWatch(usual_ms=CANARY_MS / 1.3)
    judge = StabilityJudge(PRESET)
    campaign(machine, [subject], journal, watch=busy, judge=judge.judge).run()
    assert subject.redos == PRESET.most_redos
    assert subject.disturbed == 6
    ((_, rounds, verdict),) = journal.measured
    assert rounds == 6
    assert not verdict.stable
    assert "the canary was off in 6 of 6 rounds" in " ".join(verdict.reasons)


@pytest.mark.parametrize("jump_s", [7200, -7200])
def test_a_round_during_which_the_clock_jumped_is_measured_again(machine, jump_s):
    subject = Subject(task("net"), machine.graph("net", 1.0))
    timer_graph = subject.graph.run
    calls = iter(range(10**9))

    def run():
        if next(calls) == 35:
            machine.jump_ns = round(jump_s * 1e9)
        timer_graph()

    subject.graph = TimedGraph("net", run)
    campaign(machine, [subject]).run()
    assert subject.redos >= 1
    assert [round_.graph_ratio() for round_ in subject.rounds] == pytest.approx([1.0 / CANARY_MS] * 6)


def test_the_garbage_collector_rests_while_timing_and_only_then(machine):
    seen = []
    graph = machine.graph("net", 1.0)
    watched = TimedGraph("net", lambda: (seen.append(gc.isenabled()), graph.run()))
    assert gc.isenabled()
    RoundTimer(machine.graph("canary", CANARY_MS), machine.clock_ns).time(watched)
    assert seen
    assert not any(seen)
    assert gc.isenabled()


def test_rounds_from_before_an_interruption_count(machine):
    before = [Round((1.0,), (CANARY_MS,))] * 4
    subject = Subject(task("net"), machine.graph("net", 1.0), rounds=list(before))
    journal = RunInMemory()
    campaign(machine, [subject], journal).run()
    assert len(journal.rounds) == 2
    assert journal.measured[0][1] == 6


def test_drift_is_that_of_the_last_third_against_the_first():
    rounds = [Round((1.0,), (canary,)) for canary in (1.0, 1.0, 1.0, 1.1, 1.1, 1.1, 1.2, 1.2, 1.2)]
    assert canary_drift(rounds) == pytest.approx(1.2)
    assert canary_drift(rounds[::-1]) == pytest.approx(1.2)
    assert canary_drift(rounds[:1]) == 1.0
