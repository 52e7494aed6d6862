"""NASWOT (Mellor, Turner, Storkey and Crowley, 2021): how well an untrained network tells a batch's images apart.

Each image has a binary code c: which ReLU units it switches on. Two images of the batch are alike by the number of
units on which their codes agree, K = sum over units of c c' + (1 - c)(1 - c)'; the score is log |det K|.

All networks of a space are paths of one untrained supernet: the same op in the same place has the same random weights
in each, so that networks differ by what they are and not by what was drawn.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn

from search.shared_paths import SharedPaths, StepResult
from search.supernet import Supernet
from search.supernet.depthwise_primitives import ConvBn, FactorizedReduction, SeparableStep
from search.supernet.primitives import Classifier, ReluConvBn
from shared.spaces import Genotype, Space
from shared.wiring import Step

BEGIN_WITH_RELU = (ReluConvBn, SeparableStep, FactorizedReduction)


class UntrainedSupernet:
    """Random weights for every op of a space, and how alike images look to each op's ReLU units.

    Batch norms use the batch's own statistics, as a network's first training step does.

    Args:
        space: of the networks.
        seed: of the weights.
    """

    def __init__(self, space: Space, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._supernet = Supernet(space, near_identity=False).train()
        self._noticed = threading.local()
        for module in self._supernet.modules():
            if isinstance(module, BEGIN_WITH_RELU):
                module.register_forward_pre_hook(lambda _, inputs: self._notice(inputs[0]))
            elif isinstance(module, Classifier) or (isinstance(module, ConvBn) and module.activates):
                batch_norm: nn.Module = module.bn
                batch_norm.register_forward_hook(lambda *given: self._notice(given[2]))

    def paths(self, images: Tensor) -> SharedPaths:
        """What `naswot` asks, for one batch and one thread."""
        return SharedPaths(self._run, images)

    def _run(self, step: Step, x: Tensor) -> StepResult:
        """The op of a step, and on how many of its ReLU units each two images agree, (images, images)."""
        self._noticed.alike = None
        value = self._supernet.run_step(step, x)
        return StepResult(value, self._noticed.alike)

    def _notice(self, entering_relu: Tensor) -> None:
        alike = agreements(entering_relu)
        self._noticed.alike = alike if self._noticed.alike is None else self._noticed.alike + alike


def agreements(entering_relu: Tensor) -> Tensor:
    """On how many units the codes of each two images agree, (images, images), float64."""
    channels_last = entering_relu.movedim(1, -1) if entering_relu.dim() == 4 else entering_relu
    code = (channels_last.flatten(1) > 0).float()
    on = code.sum(dim=1)
    # c c' + (1 - c)(1 - c)'; whole numbers below 2^24 are exact in float32.
    return (2 * (code @ code.T) - on[:, None] - on[None, :] + code.shape[1]).double()


@torch.no_grad()
def naswot(paths: SharedPaths, space: Space, genotype: Genotype) -> float:
    """Score of a network; higher is better.

    Args:
        paths: of an `UntrainedSupernet`, on a batch.
        space: of the network.
        genotype: connected.
    """
    _, alike = paths.evaluate(space.wiring(genotype))
    return float(torch.linalg.slogdet(torch.stack(alike).sum(dim=0)).logabsdet)
