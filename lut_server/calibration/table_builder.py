"""From a finished run to its latency table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from types import MappingProxyType
from typing import TypeVar

import numpy as np

from lut_server.calibration.drift_correction import levels
from lut_server.calibration.kernel_calibration import CONFORMAL_SHARE, EXTREME_SHARE, fit_kernel_prices
from lut_server.calibration.kernel_model import MeasuredGraph
from lut_server.calibration.op_calibration import fit_prices
from lut_server.calibration.own_model import expected_prices
from lut_server.calibration.table_error import BOUND_CONFIDENCE, MeasuredNetwork, baseline_errors, held_out_error
from shared.errors import InvalidValue
from shared.kernels.kernel import parse_kernel
from shared.measurements.graph_spec import NetworkGraph
from shared.measurements.measurement import Measurement, Run, quantile
from shared.measurements.plan import OP_ROLES, Plan
from shared.spaces import Own, Space, parse_space
from shared.spaces.op_key import parse_op_key
from shared.tables.kernel_prices import KernelPrices
from shared.tables.table import NORMAL_975, LatencyTable, NetworkCheck, OpPrice, Prediction, SettleCheck

FEWEST_CHOSEN = 5
"""Calibration networks that a run has to have that chose them on the way."""
FEWEST_SETTLED = 4
Prices = TypeVar("Prices", LatencyTable, KernelPrices)
KernelCounts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class MarginalCost:
    """Measured cost of one op key, with its 95 % interval.

    Of a candidate of a user's own model: what it takes by its kernels beyond the cheapest.
    """

    op_key: str
    cost_ms: float
    low_ms: float
    high_ms: float
    stable: bool = True
    reasons: tuple[str, ...] = ()


def canary_nominal_ms(measurements: Iterable[Measurement]) -> float:
    """Median canary time over all rounds of a run: the unit that the first table sets."""
    return median(quantile(round_.canary_ms) for measurement in measurements for round_ in measurement.rounds)


def build_table(
    run: Run,
    plan: Plan,
    measurements: Sequence[Measurement],
    nominal_ms: float,
    kernel_counts: KernelCounts = MappingProxyType({}),
    chosen: bool = False,
) -> LatencyTable:
    """Calibrate a run's table; with kernel counts of its graphs, by reference, it gets kernel
    prices too.

    Args:
        run: whose measurements they are.
        plan: what it was to measure. Its further calibration networks are part of the fit as well.
        nominal_ms: what a canary's time counts as.
        kernel_counts: by graph reference.
        chosen: calibration networks were chosen on the way: those of the plan need not all be
            there.

    Raises:
        InvalidValue: the plan is not the run's, a task of it has no measurement, or the run has no
            price for an op.
    """
    check_plan(run, plan)
    settled = check_settled(measurements)
    widening, unit_ms = (settled.widening, nominal_ms * settled.midway) if settled else (0.0, nominal_ms)
    marginals, isolated, networks = [], {}, []
    space = parse_space(run.space)
    of_plan = _of_plan(plan, measurements, chosen)
    level = levels([measurement for measurement in of_plan if measurement.role not in OP_ROLES])
    for measurement in of_plan:
        if measurement.role == "marginal":
            marginals.append(_marginal(measurement, unit_ms))
        elif measurement.role == "isolated":
            isolated[measurement.subject] = unit_ms * measurement.estimate().ratio
        else:
            genotype = space.parse(measurement.subject)
            networks.append(MeasuredNetwork(genotype, measurement.role, unit_ms * level[measurement.id]))
    share = EXTREME_SHARE if isinstance(space, Own) else CONFORMAL_SHARE
    kernels = _kernel_prices(of_plan, unit_ms, kernel_counts, level, widening, share)
    costs = {
        "marginal": {parse_op_key(marginal.op_key): marginal.cost_ms for marginal in marginals},
        "isolated": {parse_op_key(key): ms for key, ms in isolated.items()},
    }
    baselines = baseline_errors(space, costs, networks) or None
    if isinstance(space, Own):
        marginals = _expected(space, networks, kernels, kernel_counts)
    table = calibrate(run, nominal_ms, space, marginals, networks)
    table = with_checks(widen(table, widening), space, networks)
    return dataclasses.replace(
        table,
        settled=settled,
        prices=tuple(dataclasses.replace(price, isolated_ms=isolated.get(price.op_key)) for price in table.prices),
        kernels=kernels,
        baselines=baselines,
    )


def check_settled(measurements: Sequence[Measurement]) -> SettleCheck | None:
    """What changed between the campaign and its settle check; None without one."""
    before = {each.graph: each.estimate() for each in measurements if each.role in ("calibration", "held_out")}
    after = {each.graph: each.estimate() for each in measurements if each.role == "settle"}
    pairs = [(before[graph], again) for graph, again in after.items() if graph in before]
    if len(pairs) < FEWEST_SETTLED:
        return None
    changes = np.log([again.ratio / first.ratio for first, again in pairs])
    noise = np.array([[each.half_width / NORMAL_975 / each.ratio for each in pair] for pair in pairs])
    noise_variance = float(np.square(noise).sum(axis=1).mean())
    shift, variance = float(changes.mean()), float(changes.var(ddof=1))
    shift = math.copysign(math.sqrt(max(shift**2 - noise_variance / len(pairs), 0.0)), shift)
    return SettleCheck(len(pairs), shift, math.sqrt(max(variance - noise_variance, 0.0)))


def widen(prices: Prices, share: float) -> Prices:
    """The prices with a standard deviation of single networks that is wider by `share`."""
    return dataclasses.replace(prices, relative_spread=math.hypot(prices.relative_spread, share))


def check_plan(run: Run, plan: Plan) -> None:
    """Raise InvalidValue unless the run was made for the plan."""
    if plan.id != run.plan_id or plan.space != run.space or plan.canary != run.canary:
        raise InvalidValue("plan", f"is not the one that run '{run.id}' was made for ({run.plan_id})")


def calibration_measurements(plan: Plan, measurements: Sequence[Measurement]) -> list[Measurement]:
    """A run's calibration networks, its plan's first; none equals a held-out network."""
    space = parse_space(plan.space)
    held_out = {space.signature(space.parse(task.subject)) for task in plan.tasks if task.role == "held_out"}
    order = {task.graph: place for place, task in enumerate(plan.tasks) if task.role == "calibration"}
    found = {
        measurement.graph: measurement
        for measurement in measurements
        if measurement.role == "calibration"
        and measurement.minus is None
        and measurement.divisor == 1
        and (measurement.graph in order or _may_join(measurement, space, held_out))
    }
    return sorted(found.values(), key=lambda measurement: order.get(measurement.graph, len(order)))


def _may_join(measurement: Measurement, space: Space, held_out: set[str]) -> bool:
    genotype = space.parse(measurement.subject)
    return measurement.graph == str(NetworkGraph(space, genotype)) and space.signature(genotype) not in held_out


def table_of_ops(run: Run, nominal_ms: float, space: Space, measurements: Sequence[Measurement]) -> LatencyTable:
    """Op prices alone, from marginal costs and calibration networks."""
    marginals = [_marginal(measurement, nominal_ms) for measurement in measurements if measurement.role == "marginal"]
    calibration = [measurement for measurement in measurements if measurement.role == "calibration"]
    level = levels(calibration)
    networks = [
        MeasuredNetwork(space.parse(measurement.subject), measurement.role, nominal_ms * level[measurement.id])
        for measurement in calibration
    ]
    if isinstance(space, Own):
        marginals = _expected(space, networks, None, {})
    return calibrate(run, nominal_ms, space, marginals, networks)


def _expected(
    space: Own, networks: Sequence[MeasuredNetwork], kernels: KernelPrices | None, counts: KernelCounts
) -> list[MarginalCost]:
    mean_ms = fmean(network.measured_ms for network in networks if network.role == "calibration")
    return [MarginalCost(str(key), ms, ms, ms) for key, ms in expected_prices(space, mean_ms, kernels, counts).items()]


def _marginal(measurement: Measurement, nominal_ms: float) -> MarginalCost:
    estimate = measurement.estimate()
    low, middle, high = (nominal_ms * ratio for ratio in (estimate.low, estimate.ratio, estimate.high))
    return MarginalCost(measurement.subject, middle, low, high, measurement.verdict.stable, measurement.verdict.reasons)


def calibrate(
    run: Run, nominal_ms: float, space: Space, marginals: Sequence[MarginalCost], networks: Sequence[MeasuredNetwork]
) -> LatencyTable:
    """The table that measured marginal costs and whole networks make together. Held-out networks
    only score it.

    Raises:
        InvalidValue: no calibration network, an op key without a marginal cost, or a number that is
            not finite.
    """
    costs = {parse_op_key(marginal.op_key): marginal for marginal in marginals}
    keys = space.op_keys()
    missing = [str(key) for key in keys if key not in costs]
    if missing:
        raise InvalidValue("plan", f"measures no marginal cost of {missing[0]} and {len(missing) - 1} more op keys")
    calibration = [network for network in networks if network.role == "calibration"]
    op_counts = [space.op_counts(network.genotype) for network in calibration]
    fit = fit_prices(
        np.array([[counts[key] for key in keys] for counts in op_counts], dtype=float).reshape(-1, len(keys)),
        np.array([network.measured_ms for network in calibration], dtype=float),
        np.array([costs[key].cost_ms for key in keys]),
        np.array([(costs[key].high_ms - costs[key].low_ms) / (2 * NORMAL_975) for key in keys]),
    )
    sd_ms = np.sqrt(np.diag(fit.covariance))
    table = LatencyTable(
        device=run.device,
        runtime=run.runtime,
        space=str(space),
        canary=run.canary,
        canary_nominal_ms=nominal_ms,
        agent_version=run.agent_version,
        base_ms=float(fit.mean[0]),
        prices=tuple(
            _price(costs[key], float(price), float(sd))
            for key, price, sd in zip(keys, fit.mean[1:], sd_ms[1:], strict=True)
        ),
        covariance=tuple(tuple(row) for row in fit.covariance.tolist()),
        relative_spread=fit.relative_spread,
        held_out=None,
        networks=(),
        runs=(run.id,),
    )
    return with_checks(table, space, networks)


def _kernel_prices(
    measurements: Sequence[Measurement],
    nominal_ms: float,
    counts: KernelCounts,
    level: Mapping[str, float],
    widening: float,
    conformal_share: float,
) -> KernelPrices | None:
    """Kernel prices from every graph whose kernels are known, scored on the held-out networks."""
    prices = fit_kernel_prices(measured_graphs(measurements, nominal_ms, counts, level), conformal_share)
    prices = prices and widen(prices, widening)
    held_out = [
        (counts[measurement.graph], nominal_ms * level[measurement.id])
        for measurement in measurements
        if measurement.role == "held_out" and measurement.graph in counts
    ]
    if prices is None or not held_out:
        return prices
    priced = [(kernels, ms) for kernels, ms in held_out if can_predict(prices, kernels)]
    predictions = [Prediction(*prices.predict(kernels, guess=True)) for kernels, _ in priced]
    measured = [ms for _, ms in priced]
    return dataclasses.replace(prices, held_out=held_out_error(predictions, measured)) if measured else prices


def measured_graphs(
    measurements: Sequence[Measurement], nominal_ms: float, counts: KernelCounts, level: Mapping[str, float]
) -> list[MeasuredGraph]:
    """The rows of the kernel fit: calibration networks and chains, long and short, whose kernels
    are known.

    No held-out network is among them, and no op alone: at a graph's edges layouts change, and no
    price is like that. `level` has the networks' times in canaries
    (`lut_server.calibration.drift_correction`).
    """
    graphs: dict[str, MeasuredGraph] = {}
    for measurement in measurements:
        if measurement.role not in ("marginal", "calibration"):
            continue
        if measurement.graph in counts:
            ms = nominal_ms * level.get(measurement.id, measurement.graph_ratio())
            graphs[measurement.graph] = MeasuredGraph(counts[measurement.graph], ms, measurement.role == "calibration")
        if measurement.minus is not None and measurement.minus in counts:
            graphs[measurement.minus] = MeasuredGraph(
                counts[measurement.minus], nominal_ms * measurement.minus_ratio(), False
            )
    return list(graphs.values())


def can_predict(prices: KernelPrices, kernels: Mapping[str, int]) -> bool:
    """Whether each kernel's family has a price."""
    return all(parse_kernel(kernel).family in prices.family_index for kernel in kernels)


def _of_plan(plan: Plan, measurements: Sequence[Measurement], chosen: bool) -> list[Measurement]:
    """A measurement per task in the plan's order, then the further calibration networks."""
    taken: dict[tuple[object, ...], Measurement] = {}
    for measurement in measurements:
        taken.setdefault(
            (measurement.subject, measurement.role, measurement.graph, measurement.minus, measurement.divisor),
            measurement,
        )
    calibration = calibration_measurements(plan, measurements)
    wanted = [task for task in plan.tasks if not (chosen and task.role == "calibration")]
    found = [taken.get((task.subject, task.role, task.graph, task.minus, task.divisor)) for task in wanted]
    missing = [task for task, measurement in zip(wanted, found, strict=True) if measurement is None]
    if missing:
        raise InvalidValue(
            "run",
            f"{len(missing)} of the plan's {len(plan.tasks)} tasks have no measurement yet, the first is "
            f"{missing[0].role} {missing[0].subject}",
        )
    if chosen and len(calibration) < FEWEST_CHOSEN:
        raise InvalidValue("run", f"{len(calibration)} calibration networks are measured, {FEWEST_CHOSEN} are needed")
    ops = [measurement for measurement in found if measurement is not None and measurement.role in OP_ROLES]
    held_out = [measurement for measurement in found if measurement is not None and measurement.role == "held_out"]
    return [*ops, *calibration, *held_out]


def _price(cost: MarginalCost, price_ms: float, sd_ms: float) -> OpPrice:
    return OpPrice(cost.op_key, price_ms, sd_ms, cost.cost_ms, cost.low_ms, cost.high_ms, cost.stable, cost.reasons)


def with_checks(table: LatencyTable, space: Space, networks: Sequence[MeasuredNetwork]) -> LatencyTable:
    """The table with its predictions of measured networks and its held-out error."""
    predicted = [(network, table.predict(network.genotype)) for network in networks]
    checks = tuple(
        NetworkCheck(
            space.format(network.genotype),
            network.role,
            network.measured_ms,
            prediction.mean_ms,
            prediction.upper_ms(BOUND_CONFIDENCE),
        )
        for network, prediction in predicted
    )
    held_out = [(prediction, network.measured_ms) for network, prediction in predicted if network.role == "held_out"]
    error = held_out_error(*zip(*held_out, strict=True)) if held_out else None
    return dataclasses.replace(table, held_out=error, networks=checks)
