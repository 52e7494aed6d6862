"""Graphs are open in their rounds alone, or within the memory that they were given."""

import random
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from profiler_agent.ort.session_cache import SESSION_BYTES, WEIGHTS_TIMES, SessionCache
from profiler_agent.ort.sessions import TimedGraph
from profiler_agent.profile.profile import Profiler, ProfileRequest
from profiler_agent.progress import Progress
from profiler_agent.server.server_client import ServerClient
from profiler_agent.spool.spool import Spool
from profiler_agent.timing.round_timer import RoundTimer
from profiler_agent.timing.stopping import PRESETS

TOKEN = "secret-of-the-agent"
FILE_BYTES = 1_000_000
PER_GRAPH = SESSION_BYTES + WEIGHTS_TIMES * FILE_BYTES


class Shelf:
    """Graphs of a megabyte that count how often they are loaded and run."""

    def __init__(self):
        self.loads, self.runs = [], []

    def loader(self, name):
        def load(sessions):
            self.loads.append(name)
            runs = [lambda turn=turn: self.runs.append((name, turn)) for turn in range(sessions)]
            return TimedGraph(name, *runs)

        return load


def shelved(cache, shelf, names):
    return [cache.add(shelf.loader(name), FILE_BYTES) for name in names]


def one_round(*graphs):
    for graph in graphs:
        graph.acquire()
    for graph in graphs:
        graph.run()
    for graph in graphs:
        graph.release()


def test_a_graph_is_closed_after_its_round_and_loaded_again_at_its_turn():
    shelf, cache = Shelf(), SessionCache()
    graphs = shelved(cache, shelf, "abc")
    assert cache.open_bytes == 0
    for graph in graphs * 2:
        one_round(graph)
        assert cache.open_bytes == 0
    assert "".join(shelf.loads) == "abc" + "abcabc"
    with pytest.raises(AssertionError, match="before its turn"):
        graphs[0].run()


def test_what_a_round_needs_stays_open_until_its_end_however_little_memory_there_is():
    shelf, cache = Shelf(), SessionCache()
    long, short, _ = shelved(cache, shelf, ["long", "short", "other"])
    assert RoundTimer(TimedGraph("canary", lambda: sum(range(2000)))).time(long, short) is not None
    assert cache.open_bytes == 0


def test_a_graph_is_closed_after_a_round_that_failed():
    def broken():
        raise MemoryError

    cache = SessionCache()
    graph = cache.add(lambda sessions: TimedGraph("broken", broken), FILE_BYTES)
    with pytest.raises(MemoryError):
        RoundTimer(TimedGraph("canary", lambda: sum(range(2000)))).time(graph)
    assert cache.open_bytes == 0


def test_graphs_that_fit_into_the_memory_they_were_given_stay_open():
    shelf, cache = Shelf(), SessionCache(20 * PER_GRAPH)
    for graph in shelved(cache, shelf, "abcdefghij") * 3:
        one_round(graph)
    assert len(shelf.loads) == 10


def test_those_used_longest_ago_are_closed_before_another_is_opened():
    shelf, cache = Shelf(), SessionCache(3 * PER_GRAPH)
    graphs = shelved(cache, shelf, "0123")
    one_round(graphs[1])
    assert shelf.loads == ["0", "1", "2", "3"]
    one_round(graphs[0])
    assert shelf.loads == ["0", "1", "2", "3", "0"]
    assert shelf.runs[-1] == ("0", 0)
    one_round(graphs[1])
    one_round(graphs[3])
    assert shelf.loads == ["0", "1", "2", "3", "0"], "2 was closed: it was used longest ago"


def test_the_count_stays_within_what_is_allowed_whatever_the_order():
    shelf, cache, rng = Shelf(), SessionCache(5 * PER_GRAPH), random.Random(0)
    graphs = shelved(cache, shelf, map(str, range(30)))
    for graph in rng.choices(graphs, k=300):
        one_round(graph)
        assert cache.open_bytes <= 5 * PER_GRAPH


def test_sessions_of_a_small_graph_that_stays_open_take_turns():
    shelf, cache = Shelf(), SessionCache(20 * PER_GRAPH)
    (graph,) = shelved(cache, shelf, ["net"])
    for _ in range(4):
        one_round(graph)
    assert [turn for _, turn in shelf.runs] == [0, 1, 0, 1]
    assert cache.open_bytes == 2 * PER_GRAPH


def test_a_whole_profile_loads_graphs_again_from_the_disk_and_not_from_the_server(server, small_space, tmp_path):
    lines = []
    with ServerClient(server.url, TOKEN) as client:
        profiler = Profiler(client, Spool(tmp_path), Progress(lines.append))
        (outcome,) = profiler.profile(ProfileRequest("bench", (small_space,), 3, 2, preset=PRESETS["quick"]))
    assert outcome.table is not None
    assert outcome.refused == ()
    fetched = [request for request in server.requests if "/v1/graph?" in request]
    assert len(fetched) == len(set(fetched))


MEASURE = """
import random, sys
from pathlib import Path
from profiler_agent.doctor import load_canaries
from profiler_agent.ort.session_cache import SessionCache
from profiler_agent.timing.round_timer import RoundTimer
from profiler_agent.ort.sessions import load_graph, local_runtime

path, runtime, cache = Path(sys.argv[1]), local_runtime(), SessionCache(int(sys.argv[2]))

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

def load(sessions):
    return load_graph(path.name, path, runtime, sessions)

canary, before_mb, most_mb = load_canaries()[0], resident_mb(), 0.0
graphs = [cache.add(load, path.stat().st_size) for _ in range(40)]
timer = RoundTimer(canary)
for graph in random.Random(0).sample(graphs, len(graphs)):
    timer.time(graph)
    most_mb = max(most_mb, resident_mb() - before_mb)
print(most_mb)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_forty_graphs_of_15_mb_take_as_much_as_two_or_as_much_as_they_were_given(tmp_path):
    weight = np.random.default_rng(0).standard_normal((640, 640, 3, 3)).astype(np.float32) * 0.02
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 640, 4, 4]) for name in ("input", "output")]
    conv = helper.make_node("Conv", ["input", "weight"], ["output"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    graph = helper.make_graph([conv], "large", sides[:1], sides[1:], [numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "large.onnx"
    path.write_bytes(model.SerializeToString())
    assert path.stat().st_size > 14_000_000
    for allowed_bytes, most_mb in ((0, 150), (400_000_000, 500)):
        command = [sys.executable, "-c", MEASURE, str(path), str(allowed_bytes)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert float(done.stdout) < most_mb, "all of them at once take more than 1,200 MB"
