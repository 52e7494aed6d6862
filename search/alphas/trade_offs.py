"""Alphas on a grid of trade-offs at a device's prices, summarised for a report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from search.alphas.condition import Condition, device_simplex, space_primitives
from search.alphas.hypernetwork import Hypernetwork
from search.genotypes.constrained_argmax import best_choices, choice_probabilities, to_genotype
from search.latency.latency_model import LatencyModel
from shared.spaces import Genotype
from shared.tables.table import LatencyTable

Floats = npt.NDArray[np.float64]

SKIPS = ("skip_connect", "skip", "identity")
"""Names of the identity in the spaces."""


@dataclass(frozen=True)
class TradeOff:
    """Alpha at a condition: the expected latency, and that of the most probable choices.

    Picks decode `log_probabilities` (slots, primitives). `derived_ms` is None if the most probable
    choices do not connect input and output.
    """

    u_lambda: float
    u_kappa: float
    expected_ms: float
    genotype: Genotype
    derived_ms: float | None
    skip_share: float
    log_probabilities: tuple[tuple[float, ...], ...]


@torch.no_grad()
def trade_off_log_probabilities(
    hypernetwork: Hypernetwork, table: LatencyTable, count: int
) -> dict[tuple[float, float], Floats]:
    """log p (slots, primitives) on a grid over (u_lambda, u_kappa), for a table's device."""
    prices, grid = device_simplex(table), np.linspace(0, 1, count).tolist()
    return {
        (u_lambda, u_kappa): torch.log_softmax(
            hypernetwork(Condition(prices, u_lambda, u_kappa).vector()).double(), dim=1
        ).numpy()
        for u_lambda in grid
        for u_kappa in grid
    }


def describe_trade_off(model: LatencyModel, trade_off: tuple[float, float], log_probabilities: Floats) -> TradeOff:
    """Expected and derived latency at a condition, and its share of skips."""
    space, alpha = model.space, torch.from_numpy(log_probabilities)
    most_probable = to_genotype(space, best_choices(space, alpha))
    connected = space.is_connected(most_probable)
    probabilities = choice_probabilities(space, alpha).numpy()
    skip = probabilities[:, [name in SKIPS for name in space_primitives(space)]].sum(axis=1)
    return TradeOff(
        u_lambda=trade_off[0],
        u_kappa=trade_off[1],
        expected_ms=model.expected_ms(probabilities),
        genotype=most_probable,
        derived_ms=float(model.mean_and_sd_ms([most_probable])[0][0]) if connected else None,
        skip_share=float(skip.mean()),
        log_probabilities=tuple(map(tuple, log_probabilities.tolist())),
    )
