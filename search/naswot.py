"""NASWOT (Mellor, Turner, Storkey and Crowley, 2021): how well an untrained network tells a batch's images apart.

Each image has a binary code c: which ReLU units it switches on. Two images of the batch are alike by the number of
units on which their codes agree, K = sum over units of c c' + (1 - c)(1 - c)'; the score is log |det K|.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search.supernet import Network
from search.supernet.depthwise_primitives import ConvBn, FactorizedReduction, SeparableStep
from search.supernet.primitives import Classifier, ReluConvBn

BEGIN_WITH_RELU = (ReluConvBn, SeparableStep, FactorizedReduction)


@torch.no_grad()
def naswot(network: Network, images: Tensor) -> float:
    """Score of a randomly initialised network on one batch; higher is better.

    Batch norms use the batch's own statistics, as the network of a first training step does.
    """
    alike = torch.zeros(len(images), len(images), dtype=torch.float64)

    def count_agreements(entering_relu: Tensor) -> None:
        code = (entering_relu.flatten(1) > 0).float()
        alike.add_(code @ code.T + (1 - code) @ (1 - code).T)

    handles = []
    for module in network.modules():
        if isinstance(module, BEGIN_WITH_RELU):
            handles.append(module.register_forward_pre_hook(lambda _, inputs: count_agreements(inputs[0])))
        elif isinstance(module, Classifier) or (isinstance(module, ConvBn) and module.activates):
            batch_norm: nn.Module = module.bn
            handles.append(batch_norm.register_forward_hook(lambda *given: count_agreements(given[2])))
    network.train()
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    return float(torch.linalg.slogdet(alike).logabsdet)
