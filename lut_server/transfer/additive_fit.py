"""The additive table that explains published latencies of whole architectures best, and how wrong it is.

    latency(network) = base + sum over op keys of count x price          (ops that reach the output only)

Architectures that compute the same network stand on one side of the split only. Op keys that occur equally often in
every network cannot be told apart by whole networks (NAS-Bench-201 has every edge in all three stages): their common
price is fitted and shared out equally, which changes no prediction; their covariance says that they are one.

A slot without an op may have cost something where latencies were measured: PyTorch runs NAS-Bench-201's "none" as a
multiplication by zero, which on GPUs takes longer than a skip. That price is fitted, too. A table has no row for it: as
every network has the same number of slots, the base takes what all of them would cost empty, and each op's price is
what it costs beyond an empty slot, which is negative for a skip on these devices.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lut_server.calibration.op_calibration import Array, fit_prices
from lut_server.calibration.table_builder import MeasuredNetwork, with_checks
from lut_server.transfer.architectures import TimedColumn, TimedNetwork
from lut_server.transfer.imported_table import PricedOp, Target, make_table
from shared.errors import InvalidValue
from shared.spaces import Genotype, Space
from shared.spaces.op_key import OpKey
from shared.tables.table import LatencyTable
from shared.tables.table_source import TableSource

FEWEST_NETWORKS = 10
MOST_HELD_OUT = 5_000


@dataclass(frozen=True)
class Split:
    """How many networks make the prices, how many score them, and the seed of who is who."""

    fit: int = 500
    held_out: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.fit <= 20_000:
            raise InvalidValue("fit", f"{self.fit} networks are not within 2 to 20000")
        if not 1 <= self.held_out <= MOST_HELD_OUT:
            raise InvalidValue("held-out", f"{self.held_out} networks are not within 1 to {MOST_HELD_OUT}")


def fit_table(target: Target, source: TableSource, space: Space, column: TimedColumn, split: Split) -> LatencyTable:
    """Fit on one part of the column, score on another.

    Raises:
        InvalidValue: too few architectures, or an op that none of the fitted ones has.
    """
    fitted, held_out, notes = _split(space, column, split)
    keys = space.op_keys()
    counts = np.array([[space.op_counts(one.genotype)[key] for key in keys] for one in fitted], dtype=float)
    groups = _groups(keys, counts, source)
    columns = np.column_stack([counts[:, group[0]] for group in groups])
    empty = np.array([len(space.slots) - len(space.live_slots(one.genotype)) for one in fitted], dtype=float)
    is_priced = bool(np.ptp(empty))  # else every network has as many: the base holds them
    columns = np.column_stack([columns, empty]) if is_priced else columns
    latency_ms = np.array([one.ms for one in fitted])
    # No marginal cost is known: a price lies anywhere up to a whole network's time.
    wide = np.full(columns.shape[1], float(latency_ms.max()))
    fit = fit_prices(columns, latency_ms, np.zeros(columns.shape[1]), wide)
    shares = _shared_out(groups, len(keys))
    if is_priced:
        shares = shares @ _beyond_empty_slots(columns, len(space.slots))
    covariance: Array = shares @ fit.covariance @ shares.T
    mean, sd = shares @ fit.mean, np.sqrt(np.diag(covariance))
    ops = [PricedOp(key, float(mean[1 + i]), float(sd[1 + i])) for i, key in enumerate(keys)]
    source = dataclasses.replace(
        source, fitted_networks=len(fitted), held_out_networks=len(held_out), notes=(*source.notes, *notes)
    )
    table = make_table(target, source, str(space), float(mean[0]), ops, covariance, fit.relative_spread)
    networks = [MeasuredNetwork(one.genotype, "calibration", one.ms) for one in fitted]
    return with_checks(table, space, [*networks, *(MeasuredNetwork(o.genotype, "held_out", o.ms) for o in held_out)])


def _split(
    space: Space, column: TimedColumn, split: Split
) -> tuple[list[TimedNetwork], list[TimedNetwork], tuple[str, ...]]:
    rng = random.Random(split.seed)
    distinct: dict[Genotype, TimedNetwork] = {}
    for one in rng.sample(column.networks, len(column.networks)):
        if space.is_connected(one.genotype):
            network = space.canonical(one.genotype)
            distinct.setdefault(network, one)
            if one.genotype == network:  # without dead ops, for which some devices were charged
                distinct[network] = one
    networks = list(distinct.values())
    # Drawn again: small networks have many names, so they would stand first and make up most of the fitted part.
    rng.shuffle(networks)
    if len(networks) < FEWEST_NETWORKS:
        raise InvalidValue(
            "architectures", f"{len(networks)} distinct connected ones are too few: {FEWEST_NETWORKS} are the least"
        )
    fit = min(split.fit, max(2, len(networks) * 4 // 5))
    held_out = networks[fit : fit + split.held_out]
    disconnected = sum(not space.is_connected(one.genotype) for one in column.networks)
    parts = f"{fit} fitted, {len(held_out)} held out (seed {split.seed})"
    notes = [
        f"of {len(column.networks)} architectures {len(networks)} are distinct connected networks: {parts}",
        "op keys that always occur together share one price equally",
    ]
    if disconnected:
        notes.append(f"{disconnected} architectures that do not connect input and output were left out")
    return networks[:fit], held_out, (*column.notes, *notes)


def _beyond_empty_slots(columns: Array, slots: int) -> Array:
    """From (base, prices of groups, price of an empty slot) to (base, prices of groups) that predict the same.

    Args:
        columns: (networks, groups + 1), the last one of empty slots.
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
