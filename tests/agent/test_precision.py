"""Profiling in another precision than fp32: which graphs are fetched, how they are counted, what is refused."""

import platform
import random

import onnx
import pytest

from profiler_agent.cli import main
from profiler_agent.kernels.kernels import count_kernels
from profiler_agent.ort.sessions import local_runtime
from profiler_agent.spool.run_file import read_run_file
from profiler_agent.spool.spool import Spool
from shared.graphs import build_graph
from shared.jobs import NewJob, Promise
from shared.kernels.kernel import parse_kernel
from shared.measurements.graph_spec import ChainGraph, NetworkGraph, ParallelGraph
from shared.spaces import Darts, FBNet, Mobile, NasBench201, NasBenchMacro

SPACES = (
    NasBench201(resolution=16, channels=8, depth=1),
    Darts(resolution=16, channels=8, depth=5),
    FBNet(resolution=64, channels=16, depth=2),
    NasBenchMacro(resolution=16, channels=16),
    Mobile(resolution=16, channels=16, depth=2),
)
INT8 = local_runtime(precision="int8")


def networks(space, count=2):
    rng = random.Random(11)
    return [space.fastest(), *(space.sample(rng) for _ in range(count))]


def _channels_first(kernel):
    """Sides of the map that a kernel reads and of that which it writes."""
    sides = [value.sides for value in (kernel.inputs[0], kernel.outputs[0])]
    if "channels_last=1" in kernel.details:
        sides = [(batch, channels, height, width) for batch, height, width, channels in sides]
    return tuple(sides)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_integer_kernel_of_a_space_is_counted_with_the_sides_that_it_has_in_fp32(space) -> None:
    for genotype in networks(space):
        spec = NetworkGraph(space, genotype)
        counts = count_kernels("network", build_graph(spec, precision="int8"), INT8)
        kernels = {parse_kernel(text): n for text, n in counts.items()}
        inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(build_graph(spec))).graph
        shapes = {
            one.name: tuple(side.dim_value for side in one.type.tensor_type.shape.dim)
            for one in (*inferred.value_info, *inferred.input, *inferred.output)
        }
        wanted = sorted((shapes[n.input[0]], shapes[n.output[0]]) for n in inferred.node if n.op_type == "Conv")
        wanted += [(shapes[n.output[0]],) * 2 for n in inferred.node if n.op_type == "BatchNormalization"]
        found = [_channels_first(k) for k, n in kernels.items() if k.is_convolution for _ in range(n)]
        assert sorted(found) == sorted(wanted)
        extra = sum(shapes[n.output[0]][1] * shapes[n.output[0]][2] ** 2 for n in inferred.node if n.op_type[0] == "B")
        assert sum(k.multiply_adds() * n for k, n in kernels.items()) == space.multiply_adds(genotype) + extra


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_chains_are_made_of_kernels_that_networks_have(space) -> None:
    families = set()
    for genotype in networks(space, 4):
        content = build_graph(NetworkGraph(space, genotype), precision="int8")
        families |= {parse_kernel(text).family for text in count_kernels("network", content, INT8)}
    keys = {(key.primitive, key.keeps_shape): key for key in space.op_keys()}
    for (primitive, keeps_shape), key in keys.items():
        spec = (ChainGraph if keeps_shape else ParallelGraph)(4, key)
        counts = count_kernels("chain", build_graph(spec, precision="int8"), INT8)
        if any(primitive in str(space.format(genotype)) for genotype in networks(space, 4)):
            strangers = {parse_kernel(text).family for text in counts} - families
            assert strangers <= {"ms.QLinearConv.depthwise.k1x1", "Clip"}


def test_an_int8_run_fetches_int8_graphs_beside_an_fp32_canary_and_says_so(server, agent) -> None:
    assert main([*agent.profile, "--precision", "int8"]) == 0
    (run,) = server.runs.values()
    assert run.runtime == INT8
    fetched = [line for line in server.requests if "/v1/graph?" in line]
    assert all(("precision=int8" in line) != ("canary" in line) for line in fetched)
    (spooled,) = Spool(agent.spool).runs()
    for graph, counts in spooled.read_kernels().items():
        assert any("QLinear" in kernel for kernel in counts) != graph.startswith("canary:")


def test_runs_of_two_precisions_do_not_take_each_others_graphs_or_tables(server, agent) -> None:
    assert main(agent.profile) == 0
    assert main([*agent.profile, "--precision", "int8"]) == 0
    assert main(agent.profile) == 0
    assert [run.runtime.precision for run in server.runs.values()] == ["fp32", "int8"]
    (fp32, int8) = (spooled.read_kernels() for spooled in Spool(agent.spool).runs())
    assert fp32.keys() == int8.keys()
    assert all((fp32[graph] == int8[graph]) == graph.startswith("canary:") for graph in fp32)


def test_jobs_are_done_in_the_precision_that_they_ask_for(server, agent, small_space) -> None:
    genotype = small_space.format(small_space.fastest())
    graph, promise = f"network:{small_space}:{genotype}", Promise("0" * 64, genotype, 1.0, 1.0, 1.0)
    common = ("canary:conv-v1", str(small_space))
    verify = server.queue(NewJob("bench", "verify", INT8, *common, graph=graph, promise=promise))
    count = server.queue(NewJob("bench", "count", INT8, *common, genotypes=(genotype,)))
    assert main(["work", *agent.connection, "--device", "bench", "--preset", "quick", "--once"]) == 0
    assert server.results[verify]["runtime"]["precision"] == "int8"
    assert server.results[verify]["measurement"]["rounds"]
    assert any("QLinearConv" in kernel for kernel in server.results[count]["kernels"][genotype])


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other processors may compute in fp16")
def test_half_precision_is_refused_where_the_runtime_would_compute_in_fp32(server, agent, capsys) -> None:
    assert main([*agent.profile, "--precision", "fp16"]) == 2
    said = capsys.readouterr().err
    assert "CPUExecutionProvider" in said
    assert "no half-precision kernels" in said
    assert server.runs == {}
    assert Spool(agent.spool).runs() == []


def test_a_run_without_a_server_is_made_in_int8_too(tmp_path, capsys) -> None:
    out = tmp_path / "run.json"
    sizes = "--resolution 8 --channels 4 --cells-per-stage 1 --classes 3 --calibration 1 --held-out 1 --preset quick"
    flags = ["--space", "nas-bench-201", "--device", "bench", "--out", str(out), "--spool", str(tmp_path / "spool")]
    assert main(["profile", "--offline", *flags, *sizes.split(), "--precision", "int8"]) == 0
    recorded = read_run_file(out)
    assert recorded.run.runtime == INT8
    assert any("QLinearConv" in kernel for counts in recorded.kernels.values() for kernel in counts)
    assert main(["profile", "--offline", *flags, *sizes.split()]) == 1
    assert "holds another run" in capsys.readouterr().err
