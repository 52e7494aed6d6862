"""A time slice that another program gets is no part of a network's time."""

import multiprocessing
import os
import time
from statistics import median

import pytest

from profiler_agent.ort.sessions import TimedGraph, local_runtime
from profiler_agent.timing.round_timer import RoundTimer, find_thread_clock


def compute(ms):
    """Compute for so long, by the thread's own clock: a slice taken away makes it wait."""
    end_ns = time.thread_time_ns() + round(ms * 1e6)
    while time.thread_time_ns() < end_ns:
        pass


def spin():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    while True:
        pass


@pytest.fixture
def shared_core():
    """This process and a busy one on one core."""
    before = os.sched_getaffinity(0)
    process = multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
    process.start()
    os.sched_setaffinity(0, {min(before)})
    time.sleep(1.0)
    yield
    os.sched_setaffinity(0, before)
    process.terminate()
    process.join()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_a_busy_program_on_the_same_core_leaves_the_times_as_they_are(shared_core):
    canary, graph = TimedGraph("canary", lambda: compute(1.0)), TimedGraph("graph", lambda: compute(12.0))
    timed = RoundTimer(canary, thread_ns=find_thread_clock(local_runtime())).time(graph)
    assert max(timed.round.graph_ms) < 12.5
    assert max(timed.round.canary_ms) < 1.5
    by_the_clock = RoundTimer(canary).time(graph)
    assert median(by_the_clock.round.graph_ms) > 13.5


def test_a_thread_clock_is_for_networks_that_run_on_the_calling_thread_alone():
    assert find_thread_clock(local_runtime(threads=1)) is time.thread_time_ns
    assert find_thread_clock(local_runtime(threads=2)) is None
