import csv
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from shared.errors import InvalidValue
from shared.graphs import build_graph, build_network, network_parameter_shapes
from shared.measurements.graph_spec import ParallelGraph, parse_graph_spec
from shared.measurements.plan import make_plan
from shared.spaces import Darts, FBNet, Genotype, Mobile, NasBenchMacro, Space, make_space, parse_space
from shared.spaces.op_key import parse_op_key
from shared.spaces.primitives import multiply_adds
from shared.spaces.wiring import INPUT

SPACES = (
    Darts(resolution=16, channels=4, depth=4, classes=5),
    Darts(resolution=8, channels=2, depth=3),
    FBNet(resolution=96, channels=8, depth=2, classes=7),
    FBNet(resolution=16, channels=8, depth=1),
    NasBenchMacro(resolution=32, channels=8, classes=7),
    NasBenchMacro(resolution=8, channels=3, depth=2),
    Mobile(resolution=8, channels=3, depth=2),
)
MACRO = Path(os.environ.get("LUTNAS_DATA", Path(__file__).parents[3] / "shared" / "data")) / "nas_bench_macro"
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
    "reduce_concat=[2, 3, 4, 5])"
)
every_space = pytest.mark.parametrize("space", SPACES, ids=str)


def samples(space: Space, count: int = 8):
    rng = random.Random(7)
    return [space.fastest(), *(space.sample(rng) for _ in range(count))]


def test_the_published_genotype_of_the_darts_paper_is_read_and_its_ops_are_those_that_it_names() -> None:
    space = Darts()
    genotype = space.parse(DARTS_V2)
    assert Counter(genotype.choices[:14]) == {"sep_conv_3x3": 5, "skip_connect": 2, "dil_conv_3x3": 1, "none": 6}
    assert Counter(genotype.choices[14:]) == {"max_pool_3x3": 5, "skip_connect": 3, "none": 6}
    assert space.parse(space.format(genotype)) == genotype


def test_the_published_darts_network_for_cifar_10_has_the_published_size() -> None:
    """3.3 million parameters in the paper, 20 cells of 36 channels."""
    assert Darts(channels=36, depth=20).parameter_count(Darts().parse(DARTS_V2)) == pytest.approx(3.3e6, rel=0.03)


@pytest.mark.parametrize(
    ("found", "other"),
    [
        ("('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0)", "('sep_conv_3x3', 0), ('sep_conv_3x3', 0)"),
        ("('sep_conv_3x3', 1), ('sep_conv_3x3', 0)", "('sep_conv_3x3', 0), ('sep_conv_3x3', 0)"),
        ("('dil_conv_3x3', 2)]", "('dil_conv_3x3', 5)]"),
        ("dil_conv_3x3", "dil_conv_9x9"),
        ("Genotype(", "Phenotype("),
    ],
)
def test_what_is_no_genotype_of_darts_is_refused(found: str, other: str) -> None:
    with pytest.raises(InvalidValue, match="genotype"):
        Darts().parse(DARTS_V2.replace(found, other, 1))


def test_a_text_that_is_no_genotype_of_fbnet_is_refused() -> None:
    space = FBNet()
    for text in ("", "k3_e1", ",".join(["k3_e1"] * 21 + ["k9_e9"])):
        with pytest.raises(InvalidValue, match="genotype"):
            space.parse(text)


def test_fbnet_has_the_papers_22_layers_and_nine_candidates_at_the_papers_sides() -> None:
    space = FBNet()
    assert [len(slot.primitives) for slot in space.slots] == [9] * 22
    sides = [space.slot_ops(index, "k3_e1")[0].output.height for index in range(22)]
    assert sides == [112, *[56] * 4, *[28] * 4, *[14] * 8, *[7] * 5]


def test_nas_bench_macro_writes_a_digit_per_layer() -> None:
    space = NasBenchMacro()
    assert space.format(space.fastest()) == "00000000"
    assert space.parse("00000012").choices == ("identity",) * 6 + ("k3_e3", "k5_e6")
    assert [len(space.slots), space.genotype_count] == [8, 6561]
    shapes = [(before.channels, after.channels, after.height) for before, after, _ in space.layers()]
    assert shapes == [
        (32, 64, 16),
        (64, 64, 16),
        (64, 128, 8),
        *[(128, 128, 8)] * 2,
        (128, 256, 4),
        *[(256, 256, 4)] * 2,
    ]


@pytest.mark.parametrize("text", ["", "0000000", "000000000", "00000003", "0000000a", "0000000\u0661"])
def test_a_text_that_is_no_genotype_of_nas_bench_macro_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="is not 8 digits from 0 to 2"):
        NasBenchMacro().parse(text)


@pytest.mark.skipif(not MACRO.exists(), reason=f"{MACRO} is not there (LUTNAS_DATA names its folder)")
def test_every_network_of_nas_bench_macro_has_the_published_parameters_and_multiply_adds() -> None:
    space = NasBenchMacro()
    with (MACRO / "accuracy_50_epochs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == space.genotype_count
    for row in rows:
        genotype = space.parse(row["architecture"])
        assert space.format(genotype) == row["architecture"]
        counts = space.parameter_count(genotype), space.multiply_adds(genotype)
        assert counts == (int(row["parameters"]), int(row["multiply_adds"]))


def test_an_identity_that_changes_the_shape_has_no_relu() -> None:
    space = NasBenchMacro(resolution=8, channels=4, depth=2)
    for choice, relus in (("identity", 2), ("k3_e3", 2 + 2 * 5)):  # stem and head; two in each block
        model = onnx.load_from_string(build_network(space, Genotype((choice,) * 5)))
        assert sum(node.op_type == "Relu" for node in model.graph.node) == relus


def test_mobile_has_four_stages_of_eight_candidates_whose_widths_double_as_sides_halve() -> None:
    space = Mobile(resolution=96, depth=2)
    assert [len(slot.primitives) for slot in space.slots] == [8] * 8
    sizes = [(before.channels, after.channels, after.height, stride) for before, after, stride in space.layers()]
    assert sizes == [
        (16, 16, 48, 1),
        (16, 16, 48, 1),
        (16, 32, 24, 1),
        (32, 32, 24, 1),
        (32, 64, 12, 1),
        (64, 64, 12, 1),
        (64, 128, 6, 1),
        (128, 128, 6, 1),
    ]
    stem, *pools, _, _ = space.fixed_ops()
    sides = ("16x48x48/16x24x24", "32x24x24/32x12x12", "64x12x12/64x6x6")
    assert [str(pool) for pool in pools] == [f"max_pool_2x2/{each}/s2" for each in sides]
    steps = [(step.name, step.inputs) for step in space.wiring(space.fastest())]
    assert steps == [
        ("stem.", ("input",)),
        ("pools.2.", ("stem.",)),
        ("layers.2.", ("pools.2.",)),
        ("pools.4.", ("layers.2.",)),
        ("layers.4.", ("pools.4.",)),
        ("pools.6.", ("layers.4.",)),
        ("layers.6.", ("pools.6.",)),
        ("head.", ("layers.6.",)),
        ("classifier.", ("head.",)),
    ]
    assert str(Mobile().fixed_ops()[0]) == "stem_conv_3x3_relu/3x32x32/16x32x32/s1"
    assert str(stem) == "stem_conv_3x3_relu/3x96x96/16x48x48/s2"


@pytest.mark.parametrize(("side", "factor"), [(32, 30), (96, 30)])
def test_work_in_mobile_spans_more_than_a_factor_of_thirty_and_no_layer_depends_on_another(side, factor) -> None:
    space = Mobile(resolution=side)
    works = {name: space.multiply_adds(Genotype((name,) * len(space.slots))) for name in space.candidates}
    assert max(works.values()) > factor * works["skip"]
    draws = random.Random(0)
    for genotype in (space.sample(draws) for _ in range(20)):
        total = works["skip"]
        for slot, name in enumerate(genotype.choices):
            total += sum(map(multiply_adds, space.slot_ops(slot, name)))
            total -= sum(map(multiply_adds, space.slot_ops(slot, "skip")))
        assert space.multiply_adds(genotype) == total


def test_a_residual_block_of_half_the_width_costs_half_and_projects_its_shortcut_where_the_shape_changes() -> None:
    full, half = (parse_op_key(f"residual_{width}/16x8x8/16x8x8/s1") for width in ("full", "half"))
    assert multiply_adds(full) == 2 * multiply_adds(half) == 2 * 16 * 16 * 9 * 64
    narrowing = parse_op_key("residual_half/16x8x8/32x4x4/s2")
    assert multiply_adds(narrowing) == (16 * 16 * 9 + 32 * 16 * 9 + 32 * 16) * 16


def test_a_darts_cell_has_14_edges_of_eight_primitives() -> None:
    assert [len(slot.primitives) for slot in Darts().slots] == [8] * 28


def test_skeletons_that_a_space_cannot_have_are_refused() -> None:
    for make in (
        lambda: Darts(resolution=30),
        lambda: Darts(depth=2),
        lambda: Darts(channels=3),
        lambda: FBNet(resolution=100),
        lambda: FBNet(channels=6),
        lambda: NasBenchMacro(resolution=12),
        lambda: NasBenchMacro(depth=1),
        lambda: Mobile(resolution=28),
        lambda: Mobile(resolution=72),
    ):
        with pytest.raises(InvalidValue):
            make()


@every_space
def test_space_and_genotype_survive_their_string_forms(space: Space) -> None:
    assert parse_space(str(space)) == space
    for genotype in samples(space):
        assert space.parse(space.format(genotype)) == genotype
        assert space.is_connected(genotype)


@every_space
def test_wiring_holds_no_dead_step_and_names_each_value_once(space: Space) -> None:
    for genotype in samples(space):
        steps = space.wiring(genotype)
        known = {INPUT}
        for step in steps:
            assert set(step.inputs) <= known
            assert step.name not in known
            known.add(step.name)
        read = {name for step in steps for name in step.inputs}
        assert known - read == {steps[-1].name}


@every_space
def test_op_counts_and_fixed_ops_are_the_ops_of_the_wiring(space: Space) -> None:
    keys = set(space.op_keys())
    for genotype in samples(space):
        counts = space.op_counts(genotype)
        wired = Counter(step.key for step in space.wiring(genotype) if step.key)
        assert counts + Counter(space.fixed_ops()) == wired
        assert set(counts) <= keys
        assert space.multiply_adds(genotype) == sum(multiply_adds(key) * n for key, n in wired.items())


@every_space
def test_parameters_are_those_of_the_tensors(space: Space) -> None:
    for genotype in samples(space):
        shapes = network_parameter_shapes(space, genotype)
        trained = sum(int(np.prod(s)) for name, s in shapes.items() if not name.endswith(("_mean", "_var")))
        assert space.parameter_count(genotype) == trained


@every_space
def test_networks_run_and_every_node_is_used(space: Space) -> None:
    for genotype in samples(space, 3):
        content = build_network(space, genotype)
        model = onnx.load_from_string(content)
        consumed = {name for node in model.graph.node for name in node.input} | {"output"}
        assert all(output in consumed for node in model.graph.node for output in node.output)
        (logits,) = onnxruntime.InferenceSession(content).run(
            None, {"input": np.random.default_rng(0).standard_normal((1, *shape(space)), np.float32)}
        )
        assert logits.shape == (1, space.classes)
        assert np.isfinite(logits).all()


def shape(space: Space) -> tuple[int, int, int]:
    return space.input_shape.channels, space.input_shape.height, space.input_shape.width


@every_space
def test_a_plan_chains_ops_that_keep_their_shape_and_sets_the_others_side_by_side(space: Space) -> None:
    plan = make_plan(space, 3, 2)
    for task in plan.tasks:
        if task.role == "marginal":
            keeps = task.subject in {str(key) for key in space.op_keys() if key.keeps_shape}
            kind = "chain" if keeps else "parallel"
            assert task.graphs == (f"{kind}:8:{task.subject}", f"{kind}:2:{task.subject}")
            assert task.divisor == 6


@pytest.mark.parametrize(
    "key", sorted({key for space in SPACES for key in space.op_keys() if not key.keeps_shape}, key=str), ids=str
)
def test_ops_side_by_side_stay_as_many_as_they_are_in_the_optimised_graph(key, tmp_path) -> None:
    spec = ParallelGraph(4, key)
    assert parse_graph_spec(str(spec)) == spec
    counts = []
    for copies in (1, 4):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{copies}.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(build_graph(ParallelGraph(copies, key)), options)
        nodes = onnx.load(options.optimized_model_filepath).graph.node
        counts.append(sum(node.op_type in ("Conv", "FusedConv", "MaxPool", "AveragePool") for node in nodes))
    assert counts[1] == 4 * counts[0] > 0


@pytest.mark.parametrize(
    "text", ["parallel:0:k3_e1/8x8x8/8x4x4/s2", "parallel:65:k3_e1/8x8x8/8x4x4/s2", "parallel:2:x"]
)
def test_a_text_that_is_no_parallel_graph_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse_graph_spec(text)


@pytest.mark.parametrize(
    ("sides", "plan_id"),
    [
        ({}, "bd7c9fd55774ede2326d9a06c380c665b7e9135e98230d8e9c26472886b7112f"),
        ({"depth": 1}, "03ea2a0f2ebea5f2661da93e6bbe106b4087521e51ca4e4d59ccf1f51cfcc0f8"),
    ],
)
def test_plans_of_nas_bench_201_stay_what_they_were(sides: dict[str, int], plan_id: str) -> None:
    assert make_plan(make_space("nas-bench-201", **sides)).id == plan_id
