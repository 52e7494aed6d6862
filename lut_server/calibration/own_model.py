"""What the candidates of a user's own model take by their kernels: the prior of their prices.

No op of such a model is measured by itself. Its networks share kernels, and kernel prices say of
every network that was counted what it takes, whether it was timed or not.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lut_server.calibration.op_calibration import fit_prices
from shared.errors import MissingKernel
from shared.measurements.graph_spec import NetworkGraph, parse_graph_spec
from shared.spaces import Own
from shared.spaces.op_key import OpKey
from shared.tables.kernel_prices import KernelPrices


def kernel_differences(
    space: Own, prices: KernelPrices | None, counts: Mapping[str, Mapping[str, int]]
) -> dict[OpKey, float]:
    """Milliseconds that each candidate takes beyond the cheapest of its choice; 0 without kernel prices.

    Args:
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
        rows.append([used[key] for key in keys])
    if not rows:
        return dict.fromkeys(keys, 0.0)
    nothing = np.zeros(len(keys))
    fit = fit_prices(np.array(rows, dtype=float), np.array(predicted_ms), nothing, nothing)
    sum_ms = dict(zip(keys, fit.mean[1:].tolist(), strict=True))
    return {
        key: sum_ms[key] - min(sum_ms[other] for name in slot.primitives for other in space.slot_ops(place, name))
        for place, slot in enumerate(space.slots)
        for name in slot.primitives
        for key in space.slot_ops(place, name)
    }
