"""Batch norm without a batch counter, and its statistics recomputed for one network.

A `state_dict` then holds exactly the four tensors that the ONNX builder reads. In a supernet the running statistics mix
those of all paths and say nothing about any single one, so the supernet does not keep them at all (`momentum=0`):
whoever evaluates or exports a derived network calls `recompute_statistics` first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

EPSILON = 1e-5


class BatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` that counts no batches.

    Args:
        channels: of the feature map.
        momentum: share of a new batch in the running statistics; 0 keeps them as they are.
    """

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__(channels, eps=EPSILON, momentum=momentum)
        self.register_buffer("num_batches_tracked", None)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        # Without this, torch adds the counter to any dict that carries no version, and then calls it unexpected.
        super()._load_from_state_dict(state_dict, prefix, {**local_metadata, "version": 2}, *rest)


@torch.no_grad()
def recompute_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of every batch norm to the mean over these batches, whatever they were.

    Args:
        network: left in the mode that it was in.
        batches: images as the network takes them; at least one.

    Raises:
        ValueError: no batch was given.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [norm.momentum for norm in norms]
    was_training = network.training
    network.train()
    count = 0
    for count, images in enumerate(batches, start=1):
        for norm in norms:
            norm.momentum = 1 / count  # the running value is then the plain mean of what came so far
        network(images)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    network.train(was_training)
    if count == 0:
        raise ValueError("statistics need at least one batch")
