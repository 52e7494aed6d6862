"""Plans that do not fit into memory: what is closed is loaded again, and the memory stays within what was allowed."""

import random
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from profiler_agent.machine import Machine
from profiler_agent.profiling import Profiler, ProfileRequest
from profiler_agent.progress import Progress
from profiler_agent.residence import FEWEST_OPEN, SESSION_BYTES, WEIGHTS_TIMES, Residence
from profiler_agent.round_timer import RoundTimer, TimedGraph
from profiler_agent.server_client import ServerClient
from profiler_agent.spool import Spool
from profiler_agent.stopping import PRESETS

TOKEN = "secret-of-the-agent"
FILE_BYTES = 1_000_000
PER_GRAPH = SESSION_BYTES + WEIGHTS_TIMES * FILE_BYTES


class Shelf:
    """Graphs of a megabyte that count how often they are loaded and run."""

    def __init__(self):
        self.loads, self.runs = [], []

    def loader(self, name, sessions=1):
        def load():
            self.loads.append(name)
            runs = [lambda turn=turn: self.runs.append((name, turn)) for turn in range(sessions)]
            return TimedGraph(name, *runs), FILE_BYTES

        return load


def test_graphs_that_fit_are_loaded_once():
    shelf, residence = Shelf(), Residence(10 * PER_GRAPH)
    graphs = [residence.add(shelf.loader(str(i))) for i in range(10)]
    for graph in graphs * 3:
        graph.turn()
        graph.run()
    assert len(shelf.loads) == 10
    assert residence.reopened == 0


def test_those_used_longest_ago_are_closed_and_loaded_again_at_their_turn():
    shelf, residence = Shelf(), Residence(3 * PER_GRAPH)
    graphs = [residence.add(shelf.loader(str(i))) for i in range(4)]
    graphs[1].turn()
    assert shelf.loads == ["0", "1", "2", "3"]
    graphs[0].turn()
    graphs[0].run()
    assert shelf.loads == ["0", "1", "2", "3", "0"]
    assert shelf.runs == [("0", 0)]
    graphs[1].turn()
    graphs[3].turn()
    assert residence.reopened == 1, "2 was closed: it was used longest ago"


def test_the_count_stays_within_what_is_allowed_whatever_the_order():
    shelf, residence, rng = Shelf(), Residence(5 * PER_GRAPH), random.Random(0)
    graphs = [residence.add(shelf.loader(str(i))) for i in range(30)]
    for graph in rng.choices(graphs, k=300):
        graph.turn()
        graph.run()
        assert residence.open_bytes <= 5 * PER_GRAPH


def test_a_round_of_two_graphs_goes_through_though_neither_fits():
    shelf, residence = Shelf(), Residence(1)
    long, short = (residence.add(shelf.loader(name)) for name in ("long", "short"))
    residence.add(shelf.loader("other"))
    assert RoundTimer(TimedGraph("canary", lambda: sum(range(2000)))).time(long, short) is not None
    assert len(residence._open) == FEWEST_OPEN


def test_sessions_of_a_graph_take_turns_here_too():
    shelf, residence = Shelf(), Residence(10 * PER_GRAPH)
    graph = residence.add(shelf.loader("net", sessions=3))
    for _ in range(6):
        graph.turn()
        graph.run()
    assert [turn for _, turn in shelf.runs] == [0, 1, 2, 0, 1, 2]
    assert residence.open_bytes == 3 * PER_GRAPH


def test_without_a_number_it_is_half_of_the_available_memory_and_of_a_control_groups(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4000000 kB\nMemAvailable: 2000000 kB\n")
    assert Residence(machine=Machine(tmp_path)).most_bytes == 1_024_000_000
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("600000000\n")
    (tmp_path / "sys/fs/cgroup/memory.current").write_text("100000000\n")
    assert Residence(machine=Machine(tmp_path)).most_bytes == 250_000_000
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert Residence(machine=Machine(tmp_path)).most_bytes == 1_024_000_000
    assert Residence(machine=Machine(tmp_path / "nothing")).most_bytes == 1_000_000_000


def test_a_whole_profile_goes_through_with_room_for_two_graphs(server, small_space, tmp_path):
    lines = []
    with ServerClient(server.url, TOKEN) as client:
        profiler = Profiler(client, Spool(tmp_path), Progress(lines.append), most_bytes=1)
        (outcome,) = profiler.profile(ProfileRequest("bench", (small_space,), 3, 2, preset=PRESETS["fast"]))
    assert outcome.table is not None
    assert outcome.refused == ()
    fetched = [request for request in server.requests if "/v1/graph?" in request]
    assert len(fetched) == len(set(fetched)), "graphs are loaded again from the disk, not from the server"


MEASURE = """
import random, sys
from pathlib import Path
from profiler_agent.doctor import load_canaries
from profiler_agent.residence import Residence
from profiler_agent.round_timer import RoundTimer
from profiler_agent.sessions import load_graph, local_runtime

path, runtime, residence = Path(sys.argv[1]), local_runtime(), Residence(int(sys.argv[2]))

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

def load():
    content = path.read_bytes()
    return load_graph(path.name, content, runtime), len(content)

canary, before_mb, most_mb = load_canaries()[0], resident_mb(), 0.0
graphs = [residence.add(load) for _ in range(40)]
timer = RoundTimer(canary)
for graph in random.Random(0).sample(graphs, len(graphs)):
    timer.time(graph)
    most_mb = max(most_mb, resident_mb() - before_mb)
print(most_mb)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_forty_graphs_of_15_mb_stay_within_the_memory_they_were_given(tmp_path):
    weight = np.random.default_rng(0).standard_normal((640, 640, 3, 3)).astype(np.float32) * 0.02
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 640, 4, 4]) for name in ("input", "output")]
    conv = helper.make_node("Conv", ["input", "weight"], ["output"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    graph = helper.make_graph([conv], "large", sides[:1], sides[1:], [numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "large.onnx"
    path.write_bytes(model.SerializeToString())
    assert path.stat().st_size > 14_000_000
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), "400000000"], capture_output=True, text=True, timeout=120, check=True
    )
    assert float(done.stdout) < 500, "all of them at once take more than 1,200 MB"
