"""What the candidates of a user's own model take by their kernels: the prior of their prices.

No op of such a model is measured by itself. Its networks share kernels, and kernel prices say of
every network that was counted what it takes, whether it was timed or not.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import nnls

from shared.errors import MissingKernel
from shared.measurements.graph_spec import NetworkGraph, parse_graph_spec
from shared.spaces import Own
from shared.spaces.op_key import OpKey
from shared.tables.kernel_prices import KernelPrices

RIDGE = 1e-3
"""Where networks do not tell two candidates apart, they share what they take."""


def expected_prices(
    space: Own, mean_ms: float, prices: KernelPrices | None, counts: Mapping[str, Mapping[str, int]]
) -> dict[OpKey, float]:
    """Milliseconds that each candidate takes beyond the cheapest of its choice, by the networks' kernels.

    Without kernel prices nothing tells candidates apart: each has its share of half a network.

    Args:
        mean_ms: of networks timed whole.
        counts: kernels of networks, by graph reference.
    """
    keys = space.op_keys()
    rows, predicted_ms = [], []
    for graph, kernels in counts.items():
        spec = parse_graph_spec(graph)
        if prices is None or not isinstance(spec, NetworkGraph):
            continue
        try:
            predicted_ms.append(prices.predict(kernels, guess=True)[0])
        except MissingKernel:
            continue
        used = space.op_counts(spec.genotype)
        rows.append([1.0, *(used[key] for key in keys)])
    if not rows:
        return dict.fromkeys(keys, mean_ms / (2 * len(space.slots)))
    y = np.array(predicted_ms)
    relative = np.vstack([np.array(rows) / y[:, None], RIDGE / y.mean() * np.eye(1 + len(keys))])
    sum_ms = dict(zip(keys, nnls(relative, np.append(np.ones(len(y)), np.zeros(1 + len(keys))))[0][1:], strict=True))
    return {
        key: float(
            sum_ms[key] - min(sum_ms[other] for name in slot.primitives for other in space.slot_ops(place, name))
        )
        for place, slot in enumerate(space.slots)
        for name in slot.primitives
        for key in space.slot_ops(place, name)
    }
