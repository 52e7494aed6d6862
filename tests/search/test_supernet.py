import random

import numpy as np
import onnxruntime
import pytest
import torch

from search.supernet import OPS, Network, Supernet, recompute_statistics
from search.supernet.primitives import build_op
from shared.errors import InvalidValue
from shared.graphs import build_network, network_parameter_shapes
from shared.graphs.weights import given_weights
from shared.graphs.writer import GraphWriter
from shared.spaces import Genotype, make_space
from shared.spaces.op_key import OpKey, Shape
from shared.spaces.primitives import PRIMITIVES, parameter_shapes

TOLERANCE = 1e-4


def op_key(primitive: str) -> OpKey:
    if primitive in ("classifier", "pool_linear"):
        return OpKey(primitive, Shape(6, 8, 8), Shape(10, 1, 1), 1)
    if primitive == "residual_block":
        return OpKey(primitive, Shape(6, 8, 8), Shape(12, 4, 4), 2)
    if primitive in ("stem_conv_3x3", "stem_conv_3x3_relu"):
        return OpKey(primitive, Shape(3, 8, 8), Shape(6, 8, 8), 1)
    return OpKey(primitive, Shape(6, 8, 8), Shape(6, 8, 8), 1)


def halving(primitive: str) -> OpKey:
    return OpKey(primitive, Shape(6, 8, 8), Shape(8, 4, 4) if primitive == "skip" else Shape(6, 4, 4), 2)


def sides(shape: Shape) -> tuple[int, int, int]:
    return shape.channels, shape.height, shape.width


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Weights and batch-norm statistics such that none of them is neutral."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
        if name.endswith(("running_var", "bn.weight")):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)


def run_onnx(model: bytes, images: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": images.numpy()})[0]


def assert_same_numbers(ours: torch.Tensor, theirs: np.ndarray) -> None:
    scale = max(float(np.abs(theirs).max()), 1e-6)
    assert float(np.abs(ours.detach().numpy() - theirs).max()) / scale <= TOLERANCE


@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_state_dict_of_a_primitive_has_the_shared_names_and_shapes(primitive):
    key = op_key(primitive)
    found = {name: tuple(tensor.shape) for name, tensor in build_op(key).state_dict().items()}
    assert found == parameter_shapes(key)


def test_every_shared_primitive_has_a_torch_module():
    assert set(OPS) == set(PRIMITIVES)


FREE = ("skip_connect", "skip", "identity")
"""The identity, where the shape stays."""
ENDS = ("stem_conv_3x3", "stem_conv_3x3_relu", "classifier", "pool_linear", "residual_block", "conv_1x1_relu")


@pytest.mark.parametrize(
    "key",
    [
        *(op_key(primitive) for primitive in PRIMITIVES if primitive not in FREE),
        *(halving(primitive) for primitive in PRIMITIVES if primitive not in ENDS),
    ],
    ids=str,
)
def test_a_primitive_gives_the_same_numbers_in_torch_and_onnx(key):
    op = build_op(key).eval()
    with torch.no_grad():
        randomise(op)
    tensors = {name: tensor.numpy() for name, tensor in op.state_dict().items()}
    writer = GraphWriter(given_weights(parameter_shapes(key), tensors))
    output = PRIMITIVES[key.primitive](writer, "input", key, "")
    images = torch.randn(2, *sides(key.input), generator=torch.Generator().manual_seed(1))
    expected = op(images)
    model = writer.model(output, tuple(images.shape), tuple(expected.shape), {})
    assert_same_numbers(expected, run_onnx(model, images))


@pytest.mark.parametrize("seed", range(20))
def test_a_whole_network_gives_the_same_numbers_in_torch_and_onnx(seed):
    space = make_space("nas-bench-201", resolution=16, channels=4, depth=1 + seed % 2)
    genotype = space.sample(random.Random(seed))
    network = Network(space, genotype).eval()
    randomise(network, seed)
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    model = build_network(space, genotype, weights, batch=3)
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    assert_same_numbers(network(images), run_onnx(model, images))


@pytest.mark.parametrize("seed", range(8))
def test_a_derived_network_is_the_hard_path_of_the_supernet(space, seed):
    supernet = Supernet(space).eval()
    randomise(supernet, seed)
    genotype = space.sample(random.Random(seed))
    images = torch.randn(2, 3, 16, 16)
    network = supernet.derive(genotype)
    assert torch.equal(network(images), supernet(images, genotype))
    found = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert found == network_parameter_shapes(space, genotype)


def test_a_choice_may_be_a_genotype_or_one_hot_gates(space):
    supernet = Supernet(space).eval()
    genotype = space.sample(random.Random(3))
    indices = tuple(slot.primitives.index(c) for slot, c in zip(space.slots, genotype.choices, strict=True))
    gates = torch.nn.functional.one_hot(torch.tensor(indices), 5).float()
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(supernet(images, genotype), supernet(images, gates))


def test_a_disconnected_genotype_or_misshapen_gates_are_refused(space):
    supernet = Supernet(space)
    images = torch.randn(1, 3, 16, 16)
    with pytest.raises(InvalidValue, match="does not connect"):
        supernet(images, Genotype(("none",) * 6))
    with pytest.raises(InvalidValue, match="does not connect"):
        Network(space, Genotype(("none",) * 6))
    with pytest.raises(InvalidValue, match="gates"):
        supernet(images, torch.zeros(5, 6))


def test_changing_a_derived_network_leaves_the_supernet_alone(space):
    supernet = Supernet(space)
    before = supernet.stem.conv.weight.clone()
    network = supernet.derive(space.fastest())
    with torch.no_grad():
        network.stem.conv.weight.add_(1)
    assert torch.equal(supernet.stem.conv.weight, before)


def test_recomputed_statistics_are_the_mean_over_the_batches(space):
    network = Network(space, space.fastest())
    batches = [torch.randn(8, 3, 16, 16) + shift for shift in (0.0, 2.0)]
    recompute_statistics(network.eval(), batches)
    features = [network.stem.conv(batch) for batch in batches]
    expected = torch.stack([one.mean(dim=(0, 2, 3)) for one in features]).mean(dim=0)
    torch.testing.assert_close(network.stem.bn.running_mean, expected)
    assert not network.training
    assert network.stem.bn.momentum == 0.1
    with pytest.raises(ValueError, match="at least one"):
        recompute_statistics(network, [])
