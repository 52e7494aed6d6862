"""Batch norm without a batch counter, and statistics recomputed for a derived network.

Its `state_dict` holds exactly the four tensors that the ONNX builder reads. Running statistics of a
supernet would mix all paths and fit none of them, so the supernet keeps none (`momentum=0`). Call
`recompute_statistics` before evaluating or exporting a derived network.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

EPSILON = 1e-5


class BatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` that counts no batches. Momentum 0 keeps the running statistics."""

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__(channels, eps=EPSILON, momentum=momentum)
        self.register_buffer("num_batches_tracked", None)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        # Without a version, torch adds the counter to the dict and then rejects it as unexpected.
        super()._load_from_state_dict(state_dict, prefix, {**local_metadata, "version": 2}, *rest)


@torch.no_grad()
def recompute_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of every batch norm to the mean over these batches.

    Raises:
        ValueError: there is no batch.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    kept = [norm.momentum for norm in norms]
    was_training = network.training
    network.train()
    count = 0
    for count, images in enumerate(batches, start=1):
        for norm in norms:
            norm.momentum = 1 / count  # a running value that is the mean of all batches so far
        network(images)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    network.train(was_training)
    if count == 0:
        raise ValueError("statistics need at least one batch")
