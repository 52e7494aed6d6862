"""Likelihood and accuracy of a network on labelled images, with a single thread per call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 250


@dataclass(frozen=True)
class Evaluation:
    """Mean negative log-likelihood per image, in nats, and accuracy, in percent."""

    nll: float
    accuracy: float


def batches(images: Tensor, size: int = BATCH) -> Iterator[Tensor]:
    """Views of consecutive images, channels last."""
    for part in images.split(size):
        yield part.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def evaluate(network: nn.Module, images: Tensor, labels: Tensor, size: int = BATCH) -> Evaluation:
    """Evaluate a network with its running statistics.

    Args:
        network: put into evaluation mode.
        images: as the network takes them.
        labels: (N,).
    """
    network.eval()
    logits = torch.cat([network(part).float() for part in batches(images, size)])
    correct = (logits.argmax(dim=1) == labels).double().mean()
    return Evaluation(float(F.cross_entropy(logits, labels)), 100 * float(correct))
