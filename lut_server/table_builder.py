"""From a finished run to its latency table: which measurements the plan asked for, and what they say together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from lut_server.calibration import fit_prices
from lut_server.held_out import BOUND_CONFIDENCE, held_out_error
from shared.errors import InvalidValue
from shared.measurement import Measurement, Run, quantile
from shared.op_key import parse_op_key
from shared.plan import Plan
from shared.spaces import Genotype, Space, parse_space
from shared.table import LatencyTable, NetworkCheck, OpPrice

_Z975 = 1.959963984540054


@dataclass(frozen=True)
class MarginalCost:
    """Measured cost of one op key, with its 95 % interval."""

    op_key: str
    cost_ms: float
    low_ms: float
    high_ms: float
    stable: bool = True
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class MeasuredNetwork:
    """One network measured whole; `role` is "calibration" or "held_out"."""

    genotype: Genotype
    role: str
    measured_ms: float


def canary_nominal_ms(measurements: Iterable[Measurement]) -> float:
    """Median over all rounds of a run of the canary's time: what the run's first table sets as its unit."""
    return median(quantile(one.canary_ms) for measurement in measurements for one in measurement.rounds)


def build_table(run: Run, plan: Plan, measurements: Sequence[Measurement], nominal_ms: float) -> LatencyTable:
    """Calibrate a run's table.

    Raises:
        InvalidValue: the plan is not the run's, a task of it has no measurement, or the run has no price for an op.
    """
    if plan.id != run.plan_id or plan.space != run.space or plan.canary != run.canary:
        raise InvalidValue("plan", f"is not the one that run '{run.id}' was made for ({run.plan_id})")
    marginals, networks = [], []
    space = parse_space(run.space)
    for measurement in _of_plan(plan, measurements):
        estimate = measurement.estimate()
        if measurement.role == "marginal":
            low, middle, high = (nominal_ms * ratio for ratio in (estimate.low, estimate.ratio, estimate.high))
            verdict = measurement.verdict
            marginals.append(MarginalCost(measurement.subject, middle, low, high, verdict.stable, verdict.reasons))
        else:
            genotype = space.parse(measurement.subject)
            networks.append(MeasuredNetwork(genotype, measurement.role, nominal_ms * estimate.ratio))
    return calibrate(run, nominal_ms, space, marginals, networks)


def calibrate(
    run: Run, nominal_ms: float, space: Space, marginals: Sequence[MarginalCost], networks: Sequence[MeasuredNetwork]
) -> LatencyTable:
    """The table that measured marginal costs and whole networks make together. Held-out networks only score it.

    Raises:
        InvalidValue: no calibration network, an op key without a marginal cost, or a number that is not finite.
    """
    costs = {parse_op_key(one.op_key): one for one in marginals}
    keys = space.op_keys()
    missing = [str(key) for key in keys if key not in costs]
    if missing:
        raise InvalidValue("plan", f"measures no marginal cost of {missing[0]} and {len(missing) - 1} more op keys")
    calibration = [one for one in networks if one.role == "calibration"]
    op_counts = [space.op_counts(one.genotype) for one in calibration]
    fit = fit_prices(
        np.array([[counts[key] for key in keys] for counts in op_counts], dtype=float).reshape(-1, len(keys)),
        np.array([one.measured_ms for one in calibration], dtype=float),
        np.array([costs[key].cost_ms for key in keys]),
        np.array([(costs[key].high_ms - costs[key].low_ms) / (2 * _Z975) for key in keys]),
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
    return _with_checks(table, space, networks)


def _of_plan(plan: Plan, measurements: Sequence[Measurement]) -> list[Measurement]:
    """One measurement per task, in the plan's order."""
    taken: dict[tuple[object, ...], Measurement] = {}
    for one in measurements:
        taken.setdefault((one.subject, one.role, one.graph, one.minus, one.divisor), one)
    found = [taken.get((task.subject, task.role, task.graph, task.minus, task.divisor)) for task in plan.tasks]
    missing = [task for task, one in zip(plan.tasks, found, strict=True) if one is None]
    if missing:
        raise InvalidValue(
            "run",
            f"{len(missing)} of the plan's {len(plan.tasks)} tasks have no measurement yet, the first is "
            f"{missing[0].role} {missing[0].subject}",
        )
    return [one for one in found if one is not None]


def _price(cost: MarginalCost, price_ms: float, sd_ms: float) -> OpPrice:
    return OpPrice(cost.op_key, price_ms, sd_ms, cost.cost_ms, cost.low_ms, cost.high_ms, cost.stable, cost.reasons)


def _with_checks(table: LatencyTable, space: Space, networks: Sequence[MeasuredNetwork]) -> LatencyTable:
    checks = []
    for one in networks:
        prediction = table.predict(one.genotype)
        upper_ms = prediction.upper_ms(BOUND_CONFIDENCE)
        checks.append(NetworkCheck(space.format(one.genotype), one.role, one.measured_ms, prediction.mean_ms, upper_ms))
    held_out = [one for one in networks if one.role == "held_out"]
    error = None
    if held_out:
        error = held_out_error(table, [one.genotype for one in held_out], [one.measured_ms for one in held_out])
    return dataclasses.replace(table, held_out=error, networks=tuple(checks))
