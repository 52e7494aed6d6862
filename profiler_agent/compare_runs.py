"""What changed between two runs: op by op, network by network, and over all whole networks.

Ratios to the canary are compared, round by round. So a machine that was busier on the second day
does not count as changed. A change that also hits the canary is not in the ratios. The canary's own
time is therefore shown beside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import LutnasError
from shared.measurements.measurement import Measurement, Run, quantile
from shared.measurements.significance import SIGNIFICANT, holm, judge, mann_whitney_p, smallest_p

RESAMPLES = 1000
"""Resamples of the percentile bootstrap (Efron, 1979)."""
NETWORK_ROLES = ("calibration", "held_out", "verification")


@dataclass(frozen=True)
class Change:
    """A subject in both runs.

    Attributes:
        ratio: median after over median before; above 1 is slower. None for a marginal cost near
            zero.
        low, high: 95 % interval of the ratio.
        p: of the rank test, corrected for the number of subjects.
        verdict: "slower", "faster", "same", or "changed" where there is no ratio.
    """

    subject: str
    role: str
    before: float
    after: float
    ratio: float | None
    low: float | None
    high: float | None
    p: float
    verdict: str


@dataclass(frozen=True)
class WholeNetworks:
    """The geometric mean of the ratios of all common networks, with its 95 % interval."""

    networks: int
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        unit: of `before` and `after`: "canaries" or "ms".
        changes: the largest effect first.
        whole: None if the runs have no network in common.
        canary_ratio: the canary's own time, after over before. The machine's drift is in it.
        differences: what differs in device and software, before and after.
        only_before, only_after: number of subjects of one run alone.
        too_few_rounds: subjects with too few rounds to be ever called changed.
    """

    before: str
    after: str
    unit: str
    changes: tuple[Change, ...]
    whole: WholeNetworks | None
    canary_ratio: float
    differences: dict[str, tuple[str, str]]
    only_before: int
    only_after: int
    too_few_rounds: int


@dataclass(frozen=True)
class MeasuredRun:
    """A run with its measurements."""

    run: Run
    measurements: tuple[Measurement, ...]


def compare(before: MeasuredRun, after: MeasuredRun, raw: bool = False) -> Comparison:
    """Compare two runs.

    Args:
        raw: compare ms by the clock, with the machine's drift, instead of ratios to the canary.

    Raises:
        LutnasError: there is nothing to compare.
    """
    if before.run.canary != after.run.canary and not raw:
        raise LutnasError(
            f"{before.run.canary} and {after.run.canary} are different canaries: their ratios cannot be compared;"
            " compare ms with --raw"
        )
    old, new = _by_subject(before.measurements), _by_subject(after.measurements)
    common = [key for key in old if key in new]
    if not common:
        raise LutnasError("the two runs have no op and no network in common: nothing to compare")
    rng = np.random.default_rng(0)
    samples = [(_sample(old[key], raw), _sample(new[key], raw)) for key in common]
    p_values = holm([mann_whitney_p(a.tolist(), b.tolist()) for a, b in samples])
    changes, networks, draws = [], [], []
    for key, (a, b), p in zip(common, samples, p_values, strict=True):
        # With all values above zero, every ratio of resampled medians is defined.
        drawn = bootstrap_median_ratios(a, b, rng, RESAMPLES) if min(a.min(), b.min()) > 0 else None
        changes.append(_judge(new[key], float(np.median(a)), float(np.median(b)), drawn, p))
        if key[0] == "network" and drawn is not None:
            networks.append(changes[-1])
            draws.append(drawn)
    return Comparison(
        before.run.id,
        after.run.id,
        "ms" if raw else "canaries",
        tuple(sorted(changes, key=lambda change: -abs(math.log(change.ratio)) if change.ratio else 1.0)),
        _whole(networks, draws, rng),
        _usual_canary_ms(after.measurements) / _usual_canary_ms(before.measurements),
        _differences(before.run, after.run),
        len(old) - len(common),
        len(new) - len(common),
        sum(len(common) * smallest_p(len(a), len(b)) >= SIGNIFICANT for a, b in samples),
    )


def is_slower(comparison: Comparison, threshold: float) -> bool:
    """Whether whole networks got slower beyond the threshold, and not by chance.

    Raises:
        LutnasError: the runs have no network in common.
    """
    if comparison.whole is None:
        raise LutnasError("the two runs have no whole network in common: --threshold has nothing to judge")
    return comparison.whole.ratio > threshold and comparison.whole.low > 1.0


def bootstrap_median_ratios(
    before: NDArray[np.float64], after: NDArray[np.float64], rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """(resamples,) ratios of medians, after over before, with both samples drawn anew."""
    drawn_before = np.median(before[rng.integers(len(before), size=(resamples, len(before)))], axis=1)
    drawn_after = np.median(after[rng.integers(len(after), size=(resamples, len(after)))], axis=1)
    ratios: NDArray[np.float64] = drawn_after / drawn_before
    return ratios


def percentile_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of the values."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


_Key = tuple[str, str, str, str | None, int]


def _by_subject(measurements: Sequence[Measurement]) -> dict[_Key, Measurement]:
    """Measurements by subject. A network counts as the same in the fit and held out.

    Ops timed alone are left out: they have few rounds and are in no table.
    """
    return {
        (
            "network" if measurement.role in NETWORK_ROLES else measurement.role,
            measurement.subject,
            measurement.graph,
            measurement.minus,
            measurement.divisor,
        ): measurement
        for measurement in measurements
        if measurement.role != "isolated"
    }


def _sample(measurement: Measurement, raw: bool) -> NDArray[np.float64]:
    ratios = [timed.ratio(measurement.divisor) for timed in measurement.rounds]
    if raw:
        ratios = [ratio * quantile(timed.canary_ms) for ratio, timed in zip(ratios, measurement.rounds, strict=True)]
    return np.array(ratios)


def _judge(
    measurement: Measurement, before: float, after: float, drawn: NDArray[np.float64] | None, p: float
) -> Change:
    subject, role = measurement.subject, measurement.role
    if drawn is None:
        return Change(subject, role, before, after, None, None, None, p, judge(None, p))
    ratio = after / before
    return Change(subject, role, before, after, ratio, *percentile_interval(drawn), p, judge(ratio, p))


def _whole(
    changes: Sequence[Change], draws: Sequence[NDArray[np.float64]], rng: np.random.Generator
) -> WholeNetworks | None:
    """Networks are resampled like their rounds: the interval holds for networks like these."""
    if not changes:
        return None
    logs = np.log(np.stack(draws))  # (networks, resamples)
    picked = rng.integers(len(changes), size=logs.shape)
    means = np.take_along_axis(logs, picked, axis=0).mean(axis=0)
    ratio = math.exp(float(np.mean([math.log(change.ratio or 1.0) for change in changes])))
    low, high = percentile_interval(np.exp(means))
    return WholeNetworks(len(changes), ratio, low, high)


def _usual_canary_ms(measurements: Sequence[Measurement]) -> float:
    """The canary in the quiet fifth of the run's rounds."""
    return quantile(tuple(quantile(timed.canary_ms) for measurement in measurements for timed in measurement.rounds))


def _differences(before: Run, after: Run) -> dict[str, tuple[str, str]]:
    """What differs in device and software, without what changes by the minute."""
    fleeting = {"frequency_mhz", "temperature_c", "memory_mb", "load", "steal_percent", "onnxruntime", "agent"}
    found = {
        "device": (before.device, after.device),
        "runtime": (str(before.runtime), str(after.runtime)),
        "agent": (before.agent_version, after.agent_version),
    }
    for name in sorted((before.probe.keys() & after.probe.keys()) - fleeting):
        found[name] = (before.probe[name], after.probe[name])
    return {name: pair for name, pair in found.items() if pair[0] != pair[1]}


def comparison_lines(comparison: Comparison, everything: bool = False) -> list[str]:
    """The comparison for people: changed subjects only, unless everything is asked for."""
    lines = [f"before     {comparison.before}", f"after      {comparison.after}"]
    lines += [f"{name:10s} {old} -> {new}" for name, (old, new) in comparison.differences.items()]
    lines.append(f"canary     {comparison.canary_ratio:.3f} times its time before, by the clock (drift included)")
    shown = [change for change in comparison.changes if everything or change.verdict != "same"]
    if shown:
        lines.append(
            f"{'ratio':>7s}  {'95 % interval':15s} {'p (Holm)':>9s}  {'':7s}  of {comparison.unit}, slower > 1"
        )
    for change in shown:
        if change.ratio is None or change.low is None or change.high is None:
            ratio, interval = f"{'-':>7s}", f"{change.before:+.3g} to {change.after:+.3g}"
        else:
            ratio, interval = f"{change.ratio:7.3f}", f"{change.low:.3f} to {change.high:.3f}"
        lines.append(f"{ratio}  {interval:15s} {change.p:9.2g}  {change.verdict:7s}  {change.subject}")
    same = sum(change.verdict == "same" for change in comparison.changes)
    lines.append(f"subjects   {len(comparison.changes)} in both runs, {same} of them the same")
    if comparison.only_before or comparison.only_after:
        lines.append(f"not common {comparison.only_before} before alone, {comparison.only_after} after alone")
    if comparison.too_few_rounds:
        lines.append(
            f"too short  {comparison.too_few_rounds} have too few rounds to be found changed: take --preset standard"
        )
    whole = comparison.whole
    if whole is None:
        lines.append("networks   none in both runs")
    else:
        lines.append(
            f"networks   {whole.ratio:.3f} times as long ({whole.low:.3f} to {whole.high:.3f}),"
            f" geometric mean of {whole.networks}"
        )
    return lines
