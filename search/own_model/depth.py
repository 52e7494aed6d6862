"""How deep a network of a user's model is: most convolutions in a row from images to logits.

Convolutions of 1 x 1 do not count: a bottleneck is no deeper than a plain block, nor one with
squeeze-and-excitation than one without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CONVOLUTION = "ConvolutionBackward"


def find_depth(network: Callable[[Tensor], Tensor], images: Tensor) -> int:
    """Read from what torch recorded for a backward pass, so of whatever really ran.

    Args:
        images: (batch, channels, height, width), a few.

    Returns:
        0 for a network without convolutions larger than 1 x 1.
    """
    # By the images, as weights may be frozen; a copy of them, as the first layer may work in place.
    with torch.enable_grad():
        return _longest_chain(network(images.detach().requires_grad_().clone()).grad_fn)


def _longest_chain(last: Any) -> int:
    """Most convolutions in a row behind a node of torch's graph. Not recursive: graphs are deep."""
    length: dict[Any, int] = {}
    open_nodes = [] if last is None else [last]
    while open_nodes:
        node = open_nodes[-1]
        before = [child for child, _ in node.next_functions if child is not None]
        if missing := [child for child in before if child not in length]:
            open_nodes += missing
            continue
        length[node] = _is_counted(node) + max((length[child] for child in before), default=0)
        open_nodes.pop()
    return length.get(last, 0)


def _is_counted(node: Any) -> bool:
    return str(node.name()).startswith(CONVOLUTION) and node._saved_weight.shape[2:].numel() > 1
