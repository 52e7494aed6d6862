import pytest
import torch

from search.alphas.path_sampling import straight_through_gates
from search.supernet import Supernet
from shared.errors import InvalidValue
from shared.spaces import Space, make_space

SPACES = {
    "nas-bench-201": {"channels": 4, "depth": 1},
    "darts": {"channels": 4, "depth": 3},
    "fbnet": {"channels": 8, "depth": 1},
    "nas-bench-macro": {"channels": 4, "depth": 2},
    "mobile": {"channels": 4, "depth": 1},
}


def drawn_gates(space: Space, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    alpha = torch.randn(len(space.slots), len(space.slots[0].primitives), generator=random).requires_grad_()
    return alpha, straight_through_gates(alpha, space, 1.0, random)


@pytest.mark.parametrize("skip", [0.0, 0.7])
@pytest.mark.parametrize("name", SPACES)
def test_value_and_gradient_of_hard_gates_are_those_of_the_mixture_written_out(name, skip):
    space = make_space(name, resolution=16, classes=10, **SPACES[name])
    supernet, images = Supernet(space).train(), torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for seed in range(3):
        alpha, gates = drawn_gates(space, seed)
        weights = torch.randn(4, 10, generator=torch.Generator().manual_seed(2))
        mixture, short = supernet(images, gates, auxiliary_skip=skip), supernet.straight_through(images, gates, skip)
        torch.testing.assert_close(short, mixture, rtol=1e-4, atol=1e-5)
        expected, found = (
            torch.autograd.grad((y * weights).sum(), alpha, retain_graph=True)[0] for y in (mixture, short)
        )
        assert expected.abs().sum() > 0
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_weights_of_ops_that_were_not_chosen_get_no_gradient(space):
    supernet = Supernet(space).train()
    _, gates = drawn_gates(space, 0)
    chosen = gates.argmax(dim=1).tolist()
    loss = supernet.straight_through(torch.randn(2, 3, 16, 16), gates).sum()
    convolutions = [
        (slot, name, supernet.get_submodule(f"stages.0.0.{slot}.{name}").conv.weight)
        for slot in range(6)
        for name in ("nor_conv_1x1", "nor_conv_3x3")
    ]
    gradients = torch.autograd.grad(loss, [weight for *_, weight in convolutions], allow_unused=True)
    for (slot, name, _), gradient in zip(convolutions, gradients, strict=True):
        assert gradient is None or space.slots[slot].primitives[chosen[slot]] == name


def test_an_auxiliary_skip_adds_its_share_of_the_input_to_each_op_that_keeps_the_shape(space):
    supernet = Supernet(space).eval()
    genotype = space.parse("|nor_conv_1x1~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    images = torch.randn(2, 3, 16, 16)
    stem = supernet.stem(images)
    first = stem + 0.5 * stem  # the one live slot: a skip, and half of its input beside it
    expected = first
    for stage, reduction in ((1, 0), (2, 1)):
        expected = supernet.get_submodule(f"reductions.{reduction}")(expected)
        expected = expected + 0.5 * expected
        assert stage
    torch.testing.assert_close(supernet(images, genotype, auxiliary_skip=0.5), supernet.classifier(expected))


def test_misshapen_gates_are_refused(space):
    with pytest.raises(InvalidValue, match="gates"):
        Supernet(space).straight_through(torch.zeros(1, 3, 16, 16), torch.zeros(5, 6))
