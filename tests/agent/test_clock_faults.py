"""Clocks that jump and machines that stand still: the round is measured again, and never kept."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from profiler_agent.ort.sessions import TimedGraph
from profiler_agent.spool.run_file import read_run_file
from profiler_agent.timing.campaign import MOST_SPOILT_ROUNDS, Campaign, CanaryWatch, Subject
from profiler_agent.timing.round_timer import RoundTimer
from profiler_agent.timing.stopping import Preset, StoppingRule
from shared.errors import LutnasError
from shared.measurements.measurement import Verdict
from shared.measurements.plan import Task

PRESET = Preset("test", precision=0.0, min_rounds=6, max_rounds=6, seconds_per_task=1000.0)
CANARY_MS, GRAPH_MS = 0.5, 2.0


class Bench:
    """A timing clock and a wall clock that graphs move; faults move one of them alone, at a given
    run of the graph.
    """

    def __init__(self):
        self.now_ns, self.wall_ns = 0, 1_800_000_000_000_000_000
        self.faults = {}
        self.graph_runs = 0

    def pass_ms(self, ms):
        self.now_ns += round(ms * 1e6)
        self.wall_ns += round(ms * 1e6)

    def canary(self):
        return TimedGraph("canary", lambda: self.pass_ms(CANARY_MS))

    def graph(self):
        def run():
            self.pass_ms(GRAPH_MS)
            self.graph_runs += 1
            self.faults.get(self.graph_runs, lambda: None)()

        return TimedGraph("net", run)

    def timer(self):
        return RoundTimer(self.canary(), lambda: self.now_ns, lambda: self.wall_ns)

    def campaign(self, journal):
        subject = Subject(Task("net", "calibration", "canary:conv-v1"), self.graph(), runs=[journal])
        rule = StoppingRule(PRESET, 1, lambda: self.now_ns / 1e9)
        sleep = lambda seconds: self.pass_ms(seconds * 1e3)  # noqa: E731 - as short as it says
        watch = CanaryWatch()
        return subject, Campaign(
            [subject], self.timer(), rule, lambda s: Verdict(True), random.Random(0), sleep, watch=watch
        )


class RunInMemory:
    def __init__(self):
        self.rounds = []

    def keep_round(self, task, timed, disturbed):
        self.rounds.append(timed)

    def keep_measurement(self, task, rounds, verdict):
        self.measured = list(rounds)


def timing_clock_jumps(seconds):
    def fault(bench):
        bench.now_ns += round(seconds * 1e9)

    return fault


def wall_clock_jumps(seconds):
    def fault(bench):
        bench.wall_ns += round(seconds * 1e9)

    return fault


def stands_still(seconds):
    def fault(bench):
        bench.pass_ms(seconds * 1e3)

    return fault


FAULTS = {
    "the timing clock jumps forwards": timing_clock_jumps(7200),
    "the timing clock jumps forwards a little": timing_clock_jumps(5),
    "the timing clock jumps backwards": timing_clock_jumps(-7200),
    "the timing clock jumps backwards within the round": timing_clock_jumps(-0.02),
    "the device was suspended for a night": wall_clock_jumps(30_000),
    "the device was suspended for seconds": wall_clock_jumps(3),
    "the wall clock is set back": wall_clock_jumps(-3600),
    "the process was stopped": stands_still(20),
    "the virtual machine was paused": stands_still(90_000),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at_run", [9, 20, 33])
def test_a_round_with_an_impossible_time_is_redone_and_not_kept(fault, at_run):
    bench, journal = Bench(), RunInMemory()
    bench.faults[at_run] = lambda: FAULTS[fault](bench)
    subject, campaign = bench.campaign(journal)
    campaign.run()
    assert subject.redos == 1
    assert len(journal.rounds) == len(journal.measured) == 6
    for round_ in journal.rounds:
        assert round_.graph_ms == pytest.approx([GRAPH_MS] * len(round_.graph_ms))
        assert round_.canary_ms == pytest.approx([CANARY_MS] * len(round_.canary_ms))


def test_a_quiet_campaign_redoes_nothing():
    bench, journal = Bench(), RunInMemory()
    subject, campaign = bench.campaign(journal)
    campaign.run()
    assert subject.redos == 0


@pytest.mark.parametrize("seconds", [7200, -7200, -0.004])
@pytest.mark.parametrize("at_run", range(1, 7))
def test_a_jump_while_the_size_of_a_round_is_found_does_not_make_rounds_long(seconds, at_run):
    bench = Bench()
    bench.faults[at_run] = lambda: timing_clock_jumps(seconds)(bench)
    graph, timer = bench.graph(), bench.timer()
    timer.time(graph)
    runs = bench.graph_runs
    assert timer.time(graph) is not None
    assert bench.graph_runs - runs < 30


def test_a_slow_graph_is_not_taken_for_a_machine_that_stands_still():
    bench = Bench()
    slow = TimedGraph("slow", lambda: bench.pass_ms(9_000))
    timer = bench.timer()
    assert timer.time(slow) is not None
    assert timer.time(slow) is not None


def test_interruptions_of_tenths_of_a_second_are_left_to_the_canary_and_the_quantile():
    bench, journal = Bench(), RunInMemory()
    bench.faults[20] = lambda: bench.pass_ms(300)
    subject, campaign = bench.campaign(journal)
    campaign.run()
    assert subject.redos == 0
    assert [round_.graph_ratio() for round_ in subject.rounds] == pytest.approx([GRAPH_MS / CANARY_MS] * 6)


def test_a_clock_that_spoils_every_round_ends_the_campaign_with_a_clear_line():
    bench, journal = Bench(), RunInMemory()
    bench.timer = lambda: RoundTimer(bench.canary(), lambda: bench.now_ns, lambda: time.time_ns() * 10_000_000)
    _, campaign = bench.campaign(journal)
    with pytest.raises(LutnasError, match=r"the clock jumped.*profiler-agent doctor"):
        campaign.run()
    assert bench.graph_runs < 40 * MOST_SPOILT_ROUNDS
    assert journal.rounds == []


def test_the_real_clocks_of_this_machine_agree_over_a_round():
    graph = TimedGraph("nap", lambda: time.sleep(0.002))
    timer = RoundTimer(TimedGraph("canary", lambda: time.sleep(0.001)))
    assert all(timer.time(graph) is not None for _ in range(5))


def test_a_real_agent_that_was_stopped_for_seconds_keeps_no_round_of_it(tmp_path):
    sizes = "--resolution 8 --channels 4 --cells-per-stage 1 --classes 3 --calibration 3 --held-out 2 --preset quick"
    flags = ["--offline", "--out", str(tmp_path / "run.json"), "--spool", str(tmp_path / "spool"), "--device", "bench"]
    command = [sys.executable, "-m", "profiler_agent", "profile", *flags, "--space", "nas-bench-201", *sizes.split()]
    process = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "spool").glob("runs/*/rounds.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.01)
    for _ in range(3):
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.2)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.05)
    assert process.wait(timeout=60) == 0
    measurements = read_run_file(tmp_path / "run.json").measurements
    values = [
        value
        for measurement in measurements
        for r in measurement.rounds
        for value in (*r.graph_ms, *r.canary_ms, *r.minus_ms)
    ]
    assert len(measurements) == 29
    assert max(values) < 1000
