"""Which whole networks a run should measure next: those whose latency the prices know least of.

A plan has a pool: its own calibration networks, then others of the space. No network of the pool
computes what a held-out network does. Prices calibrated on what is measured so far give

    score(i) = variance of the predicted latency of network i / prediction^2

The largest score is picked first (active learning by predictive variance: MacKay, 1992).
What its measurement would tell of the others is subtracted (a Gaussian given an observation) before
the next pick: a batch does not ask the same question several times.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lut_server.calibration.drift_correction import levels
from lut_server.calibration.kernel_calibration import fit_kernel_prices
from lut_server.calibration.table_builder import (
    calibration_measurements,
    can_predict,
    canary_nominal_ms,
    check_plan,
    measured_graphs,
    table_of_ops,
)
from lut_server.store.sql import Store
from shared.errors import InvalidValue
from shared.measurements.active_selection import Choice, ChoiceRequest
from shared.measurements.graph_spec import NetworkGraph
from shared.measurements.measurement import Run
from shared.measurements.plan import Plan, Task
from shared.spaces import Genotype, Own, Space, parse_space
from shared.tables.kernel_prices import KernelPrices
from shared.tables.table import NORMAL_95, LatencyTable

Array = NDArray[np.float64]
POOL = 120
KEPT_BY = 0.9
"""Share of the pool whose bound has to be narrow enough."""


@dataclass(frozen=True)
class Outlook:
    """What prices say of the networks of a pool.

    Attributes:
        mean_ms: predicted latencies.
        covariance: of the predictions, as far as the prices are uncertain, in ms squared.
        relative_spread: standard deviation of single networks around their prediction, as a share.
    """

    mean_ms: Array
    covariance: Array
    relative_spread: float

    def half_width_percent(self) -> float:
        """Half-width of the 95 % bound that nine of ten networks keep, in percent."""
        sd = np.sqrt(np.diag(self.covariance) / self.mean_ms**2 + self.relative_spread**2)
        return float(100 * NORMAL_95 * np.quantile(sd, KEPT_BY))

    def most_telling(self, batch: int) -> list[int]:
        """Positions of the networks to measure, the most telling first."""
        known = self.covariance / np.outer(self.mean_ms, self.mean_ms)
        noise = max(self.relative_spread, 1e-6) ** 2
        picked: list[int] = []
        left = np.ones(len(known), dtype=bool)
        for _ in range(min(batch, len(known))):
            best = int(np.argmax(np.where(left, np.diag(known), -np.inf)))
            picked.append(best)
            left[best] = False
            told = known[best]
            known = known - np.outer(told, told) / (told[best] + noise)
        return picked


def choose_networks(store: Store, run: Run, request: ChoiceRequest) -> Choice:
    """The calibration networks that the run should measure next.

    Raises:
        InvalidValue: the plan is not the run's, or too little is measured to calibrate on.
    """
    plan = request.plan
    check_plan(run, plan)
    space = parse_space(run.space)
    stored = store.runs.measurements(run.id)
    known_ids = {measurement.id for measurement in stored}
    measurements = [*stored, *(measurement for measurement in request.so_far if measurement.id not in known_ids)]
    done = calibration_measurements(plan, measurements)
    if not done:
        raise InvalidValue("run", f"'{run.id}' has no calibration network yet: measure some of its plan first")
    told = {space.signature(space.parse(measurement.subject)) for measurement in done}
    pool = [genotype for genotype in draw_pool(space, plan) if space.signature(genotype) not in told]
    names = [str(NetworkGraph(space, genotype)) for genotype in pool]
    graphs = [
        graph for measurement in measurements for graph in (measurement.graph, measurement.minus) if graph is not None
    ]
    counts = store.kernels.of_graphs(run.device, str(run.runtime), [*dict.fromkeys([*graphs, *names])])
    uncounted = tuple(name for name in names if name not in counts)
    if uncounted and not request.counted and len(done) < request.most:
        return Choice(count=uncounted)
    nominal_ms = canary_nominal_ms(measurements)
    of_fit = [measurement for measurement in measurements if measurement.role == "marginal"] + done
    prices = fit_kernel_prices(measured_graphs(of_fit, nominal_ms, counts, levels(done)))
    known = [i for i, name in enumerate(names) if name in counts]
    if prices is None or not known:
        outlook = outlook_by_ops(table_of_ops(run, nominal_ms, space, of_fit), space, pool)
        return _choice(outlook, space, pool, request, len(done), "ops") if pool else Choice(by="ops", enough=True)
    chosen_first = [i for i in known if not can_predict(prices, counts[names[i]])]
    priced = [i for i in known if i not in set(chosen_first)]
    if chosen_first or not priced:  # kernels of a kind that no price is known of
        tasks = [_task(space, pool[i]) for i in chosen_first[: _room(request, len(done))]]
        return Choice(tuple(tasks))
    outlook = outlook_by_kernels(prices, [counts[names[i]] for i in priced])
    return _choice(outlook, space, [pool[i] for i in priced], request, len(done), "kernels")


def draw_pool(space: Space, plan: Plan, size: int = POOL) -> list[Genotype]:
    """The plan's calibration networks and others of the space; none that computes what a held-out
    network does.

    The same plan always has the same pool. Of a user's own model only the plan's networks are here.
    """
    of_networks = [task for task in plan.tasks if task.role in ("calibration", "held_out")]
    networks = [(task.role, space.parse(task.subject)) for task in of_networks]
    held_out = {space.signature(genotype) for role, genotype in networks if role == "held_out"}
    calibration = {space.signature(genotype): genotype for role, genotype in networks if role == "calibration"}
    pool = {signature: genotype for signature, genotype in calibration.items() if signature not in held_out}
    rng = random.Random(f"pool of {plan.id}")
    for _ in range(0 if isinstance(space, Own) else 20 * size):
        if len(pool) >= size:
            break
        drawn = space.canonical(space.sample(rng))
        signature = space.signature(drawn)
        if signature not in held_out:
            pool.setdefault(signature, drawn)
    return list(pool.values())


def outlook_by_kernels(prices: KernelPrices, counts: Sequence[Mapping[str, int]]) -> Outlook:
    """What kernel prices say of networks. Kernels without a price share their uncertainty."""
    guessed = sorted({kernel for count in counts for kernel in prices.unmeasured(count)})
    size = len(prices.prior_sd_ms)
    features = np.zeros((len(counts), size + len(guessed)))
    for row, count in zip(features, counts, strict=True):
        for place, value in prices.features(count).items():
            row[place] = value * prices.prior_sd_ms[place]
        for place, kernel in enumerate(guessed, size):
            row[place] = count.get(kernel, 0) * prices.unmeasured_share * prices.family_price_ms(kernel)
    explained = features[:, :size] @ np.array(prices.known)
    mean_ms = np.array([prices.predict(count, guess=True)[0] for count in counts])
    return Outlook(mean_ms, features @ features.T - explained @ explained.T, prices.relative_spread)


def outlook_by_ops(table: LatencyTable, space: Space, genotypes: Sequence[Genotype]) -> Outlook:
    """What op prices say of networks, for runtimes that do not show their graphs."""
    features = np.zeros((len(genotypes), len(table.prices) + 1))
    features[:, 0] = 1.0
    for row, genotype in zip(features, genotypes, strict=True):
        for key, n in space.op_counts(genotype).items():
            row[1 + table.price_index[key]] = n
    mean_ms = features @ np.array([table.base_ms, *(price.price_ms for price in table.prices)])
    return Outlook(mean_ms, features @ np.array(table.covariance) @ features.T, table.relative_spread)


def _choice(
    outlook: Outlook, space: Space, pool: Sequence[Genotype], request: ChoiceRequest, done: int, by: str
) -> Choice:
    half_width = outlook.half_width_percent()
    picked = outlook.most_telling(_room(request, done))
    tasks = tuple(_task(space, pool[i]) for i in picked)
    return Choice(tasks, half_width <= request.bound_percent, half_width, by)


def _room(request: ChoiceRequest, done: int) -> int:
    return max(min(request.batch, request.most - done), 0)


def _task(space: Space, genotype: Genotype) -> Task:
    return Task(space.format(genotype), "calibration", str(NetworkGraph(space, genotype)))
