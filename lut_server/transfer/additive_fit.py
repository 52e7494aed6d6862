"""Fits an additive table to published latencies of whole architectures, and measures its error.

    latency(network) = base + sum over op keys of count x price          (ops that reach the output only)

Architectures that compute the same network are on the same side of the split. Op keys with the same
count in every network cannot be told apart (NAS-Bench-201 has every edge in all three stages): each
gets an equal share of their fitted price. This changes no prediction.

An empty slot may have a cost, too: PyTorch runs NAS-Bench-201's "none" as a multiplication by zero,
which takes longer than a skip on GPUs. A table has no row for it. Every network has the same number
of slots, so the base takes the cost of all slots empty, and an op's price is its cost beyond an
empty slot. This is negative for a skip on these devices.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lut_server.calibration.op_calibration import Array, fit_prices
from lut_server.calibration.table_builder import with_checks
from lut_server.calibration.table_error import MeasuredNetwork
from lut_server.transfer.architectures import TimedColumn, TimedNetwork
from lut_server.transfer.imported_table import Target, make_table, price_of
from shared.errors import InvalidValue
from shared.spaces import Genotype, Space
from shared.spaces.op_key import OpKey
from shared.tables.table import LatencyTable
from shared.tables.table_source import TableSource

FEWEST_NETWORKS = 10
MOST_HELD_OUT = 5_000


@dataclass(frozen=True)
class Split:
    """How many networks are fitted, how many are held out, and the seed of the draw."""

    fit: int = 500
    held_out: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.fit <= 20_000:
            raise InvalidValue("fit", f"{self.fit} networks are not within 2 to 20000")
        if not 1 <= self.held_out <= MOST_HELD_OUT:
            raise InvalidValue("held-out", f"{self.held_out} networks are not within 1 to {MOST_HELD_OUT}")


def fit_table(target: Target, source: TableSource, space: Space, column: TimedColumn, split: Split) -> LatencyTable:
    """Fit on a part of the column, measure the error on another.

    Raises:
        InvalidValue: too few architectures, or an op that no fitted architecture has.
    """
    fitted, held_out, notes = _split(space, column, split)
    keys = space.op_keys()
    of_networks = [space.op_counts(network.genotype) for network in fitted]
    counts = np.array([[counted[key] for key in keys] for counted in of_networks], dtype=float)
    groups = _groups(keys, counts, source)
    columns = np.column_stack([counts[:, group[0]] for group in groups])
    empty = np.array([len(space.slots) - len(space.live_slots(network.genotype)) for network in fitted], dtype=float)
    is_priced = bool(np.ptp(empty))  # else the base holds them
    columns = np.column_stack([columns, empty]) if is_priced else columns
    latency_ms = np.array([network.ms for network in fitted])
    # No marginal cost is known: a price lies anywhere up to a whole network's time.
    wide = np.full(columns.shape[1], float(latency_ms.max()))
    fit = fit_prices(columns, latency_ms, np.zeros(columns.shape[1]), wide)
    shares = _shared_out(groups, len(keys))
    if is_priced:
        shares = shares @ _beyond_empty_slots(columns, len(space.slots))
    covariance: Array = shares @ fit.covariance @ shares.T
    mean, sd = shares @ fit.mean, np.sqrt(np.diag(covariance))
    prices = [price_of(key, float(mean[1 + i]), float(sd[1 + i])) for i, key in enumerate(keys)]
    source = dataclasses.replace(
        source, fitted_networks=len(fitted), held_out_networks=len(held_out), notes=(*source.notes, *notes)
    )
    table = make_table(target, source, str(space), float(mean[0]), prices, covariance, fit.relative_spread)
    parts = (("calibration", fitted), ("held_out", held_out))
    networks = [MeasuredNetwork(network.genotype, role, network.ms) for role, part in parts for network in part]
    return with_checks(table, space, networks)


def _split(
    space: Space, column: TimedColumn, split: Split
) -> tuple[list[TimedNetwork], list[TimedNetwork], tuple[str, ...]]:
    rng = random.Random(split.seed)
    distinct: dict[Genotype, TimedNetwork] = {}
    for timed in rng.sample(column.networks, len(column.networks)):
        if space.is_connected(timed.genotype):
            network = space.canonical(timed.genotype)
            distinct.setdefault(network, timed)
            if timed.genotype == network:  # no dead ops, whose time some devices include
                distinct[network] = timed
    networks = list(distinct.values())
    # Small networks have many names and would come first: shuffle again.
    rng.shuffle(networks)
    if len(networks) < FEWEST_NETWORKS:
        raise InvalidValue(
            "architectures", f"{len(networks)} distinct connected architectures are too few: at least {FEWEST_NETWORKS}"
        )
    fit = min(split.fit, max(2, len(networks) * 4 // 5))
    held_out = networks[fit : fit + split.held_out]
    disconnected = sum(not space.is_connected(network.genotype) for network in column.networks)
    parts = f"{fit} fitted, {len(held_out)} held out (seed {split.seed})"
    notes = [
        f"of {len(column.networks)} architectures {len(networks)} are distinct connected networks: {parts}",
        "op keys that always occur together share a price equally",
    ]
    if disconnected:
        notes.append(f"{disconnected} architectures that do not connect input and output were left out")
    return networks[:fit], held_out, (*column.notes, *notes)


def _beyond_empty_slots(columns: Array, slots: int) -> Array:
    """From (base, prices of groups, price of an empty slot) to (base, prices of groups) that
    predict the same.

    Args:
        columns: (networks, groups + 1), empty slots last.
        slots: of the space. Each is empty or holds an op: slots = empty + columns . slots that an op fills
    """
    counts, empty = columns[:, :-1], columns[:, -1]
    filled = np.linalg.lstsq(counts, slots - empty, rcond=None)[0]
    base = np.concatenate([[1.0], np.zeros(len(filled)), [float(slots)]])
    return np.vstack([base, np.column_stack([np.zeros(len(filled)), np.eye(len(filled)), -filled])])


def _shared_out(groups: Sequence[Sequence[int]], keys: int) -> Array:
    """From (base, prices of groups) to (base, prices of op keys)."""
    shares = np.zeros((1 + keys, 1 + len(groups)))
    shares[0, 0] = 1.0
    for index, group in enumerate(groups):
        shares[1 + np.array(group), 1 + index] = 1 / len(group)
    return shares


def _groups(keys: Sequence[OpKey], counts: Array, source: TableSource) -> list[list[int]]:
    """Indices of the op keys whose counts are the same in every network, by the first of each."""
    groups: dict[bytes, list[int]] = {}
    for index, key in enumerate(keys):
        if not counts[:, index].any():
            raise InvalidValue(
                source.file, f"none of the {len(counts)} fitted architectures has {key}: no price for it"
            )
        groups.setdefault(counts[:, index].tobytes(), []).append(index)
    return list(groups.values())
