import random

import numpy as np
import onnxruntime
import pytest
import torch

from search.alphas.path_sampling import FairSampler, largest_genotype, sample_path, straight_through_gates
from search.ranking.expressivity import UntrainedSupernet, expressivity
from search.supernet import Network, Supernet, recompute_statistics
from shared.errors import InvalidValue
from shared.graphs import build_network, network_parameter_shapes
from shared.spaces import Genotype, make_space

DARTS = make_space("darts", resolution=8, channels=4, depth=3, image_channels=1)
FBNET = make_space("fbnet", resolution=8, channels=8, depth=1, classes=10, image_channels=1)
MACRO = make_space("nas-bench-macro", resolution=8, channels=4, image_channels=1)
LARGER = (
    make_space("darts", resolution=16, channels=4, depth=5, classes=7),
    make_space("fbnet", resolution=96, channels=8, depth=2, classes=7),
    make_space("nas-bench-macro"),
    make_space("mobile", resolution=64, channels=8, classes=7),
)


def randomise(module: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
        if name.endswith(("running_var", "bn.weight")):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)


def images(space, count=3, seed=0):
    side = space.resolution
    return torch.randn(count, space.image_channels, side, side, generator=torch.Generator().manual_seed(seed))


def gates_of(space, genotype):
    rows = [[float(p == c) for p in s.primitives] for s, c in zip(space.slots, genotype.choices, strict=True)]
    return torch.tensor(rows)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("every", [DARTS, FBNET, MACRO, *LARGER], ids=str)
def test_a_whole_network_gives_the_same_numbers_in_torch_and_onnx(every, seed):
    space = every
    genotype = space.sample(random.Random(seed)) if seed else space.fastest()
    network = Network(space, genotype)
    randomise(network, seed)
    recompute_statistics(network.eval(), [images(space, 8, seed + 1)])
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    assert {name: value.shape for name, value in weights.items()} == network_parameter_shapes(space, genotype)
    model = build_network(space, genotype, weights, batch=3)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    theirs = session.run(["output"], {"input": images(space).numpy()})[0]
    with torch.no_grad():
        ours = network(images(space)).numpy()
    assert np.abs(ours - theirs).max() / np.abs(theirs).max() < 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_a_derived_network_is_the_hard_path_of_the_supernet_and_so_are_one_hot_gates(space, seed):
    supernet = Supernet(space).eval()
    randomise(supernet, seed)
    genotype = space.sample(random.Random(seed))
    with torch.no_grad():
        path = supernet(images(space), genotype)
        assert torch.equal(supernet.derive(genotype)(images(space)), path)
        torch.testing.assert_close(supernet(images(space), gates_of(space, genotype)), path)


def test_a_path_moves_its_own_weights_only_and_gates_reach_every_candidate(space):
    supernet = Supernet(space).train()
    genotype = space.sample(random.Random(5))
    parameters = dict(supernet.named_parameters())
    gradients = torch.autograd.grad(
        supernet(images(space), genotype).sum(), list(parameters.values()), allow_unused=True
    )
    moved = sum(g.numel() for g in gradients if g is not None)
    assert moved == space.parameter_count(genotype)
    gates = torch.full((len(space.slots), len(space.slots[0].primitives)), 0.1, requires_grad=True)
    (gradient,) = torch.autograd.grad(supernet(images(space), gates).square().sum(), gates)
    reached = torch.tensor([[p != "none" for p in slot.primitives] for slot in space.slots])
    assert torch.equal(gradient != 0, reached)


def test_a_node_of_darts_with_one_input_is_refused():
    choices = list(DARTS.fastest().choices)
    choices[0] = "none"
    with pytest.raises(InvalidValue, match="does not connect"):
        Supernet(DARTS)(images(DARTS), Genotype(tuple(choices)))


def test_fair_paths_are_networks_that_try_every_op_equally_often_with_the_largest_once_a_cycle(space):
    sampler = FairSampler(space, seed=1)
    cycles = 60
    paths = [sampler.path(index) for index in range(cycles * sampler.cycle_length)]
    assert all(map(space.is_connected, paths))
    assert paths[sampler.cycle_length - 1] == largest_genotype(space)
    fair = [path for index, path in enumerate(paths) if (index + 1) % sampler.cycle_length]
    for slot, place in enumerate(space.slots):
        names = [name for name in place.primitives if name != "none"]
        counts = [sum(path.choices[slot] == name for path in fair) for name in names]
        kept = sum(counts) / len(fair)
        assert all(0.6 * kept * cycles <= count <= 1.4 * kept * cycles for count in counts)
        if not space.groups:
            assert set(counts) == {cycles}


def test_paths_and_gates_drawn_from_alpha_are_networks_and_follow_alpha(space):
    wanted = space.sample(random.Random(2))
    alpha = (8 * gates_of(space, wanted)).requires_grad_()
    random_generator = torch.Generator().manual_seed(0)
    drawn = [sample_path(alpha.detach(), space, random_generator) for _ in range(20)]
    assert all(map(space.is_connected, drawn))
    agreement = np.mean([[a == b for a, b in zip(genotype.choices, wanted.choices, strict=True)] for genotype in drawn])
    assert agreement > 0.9
    gates = straight_through_gates(alpha, space, 1.0, random_generator)
    chosen = gates.argmax(dim=1).tolist()
    genotype = Genotype(tuple(slot.primitives[i] for slot, i in zip(space.slots, chosen, strict=True)))
    assert space.is_connected(genotype)
    torch.testing.assert_close(gates.detach(), gates_of(space, genotype))
    assert torch.autograd.grad(gates[0, 1], alpha)[0].abs().sum() > 0


def test_the_largest_genotype_has_the_most_parameters(space):
    most = space.parameter_count(largest_genotype(space))
    assert all(space.parameter_count(space.sample(random.Random(seed))) <= most for seed in range(30))


def test_expressivity_tells_networks_apart(space):
    paths = UntrainedSupernet(space, seed=0).paths(images(space, 16))
    scores = [expressivity(paths, space, space.sample(random.Random(seed))) for seed in range(3)]
    assert all(np.isfinite(scores))
    assert len(set(scores)) == 3
