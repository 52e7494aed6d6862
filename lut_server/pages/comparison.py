"""Compares two runs or two tables: which ops and networks changed, and how much.

Runs are compared by their raw values, round by round, with a rank test. Tables have no raw values:
their prices are compared by their standard deviations. Times are in ms of the canary's nominal
time, so that a busier day is no change.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TypeVar

from lut_server.pages.lists import Paging, paginate
from lut_server.store.sql import Store
from lut_server.store.values import TableSummary
from lut_server.tables.table_facts import FactsReader
from shared.errors import InvalidValue
from shared.measurements.measurement import Measurement, Run
from shared.measurements.significance import holm, judge, mann_whitney_p, ratio_interval
from shared.runtime import parse_runtime
from shared.tables.table import NORMAL_975, OpPrice

MOST_CHOICES = 100
MOST_PLOTTED = 30
_HASH = re.compile(r"[0-9a-f]{64}")
_NETWORKS = ("calibration", "held_out", "verification")
_LEFT_OUT = ("isolated", "settle")

T = TypeVar("T")
Key = tuple[str, str]
"""Kind ("op" or "network") and subject."""


@dataclass(frozen=True)
class Choice:
    """A run or a table that can be compared."""

    id: str
    label: str


@dataclass(frozen=True)
class Side:
    """A run, by its id, or a table, by its hash."""

    id: str
    device: str
    runtime: str
    space: str
    table: str | None


@dataclass(frozen=True)
class Change:
    """One op or network on both sides.

    Attributes:
        ratio: after over before, above 1 is slower, with its 95 % interval; None if a value is not
            above zero.
        p: corrected for the number of subjects (Holm, 1979).
        verdict: "slower", "faster", "same", or "changed" if there is no ratio.
    """

    subject: str
    kind: str
    before_ms: float
    after_ms: float
    ratio: float | None
    low: float | None
    high: float | None
    p: float
    verdict: str


@dataclass(frozen=True)
class ComparisonView:
    """A comparison, the largest effect first.

    Attributes:
        by: "raw values" or "prices"; None while nothing is chosen.
        differences: differing facts of device and software, before and after.
        only_before, only_after: number of subjects that only one side has.
    """

    choices: tuple[Choice, ...]
    before: Side | None
    after: Side | None
    by: str | None
    verdicts: dict[str, int]
    largest: tuple[Change, ...]
    changes: tuple[Change, ...]
    paging: Paging
    differences: dict[str, tuple[str, str]]
    only_before: int
    only_after: int


def view_comparison(
    store: Store, facts: FactsReader, before: str | None, after: str | None, page: int
) -> ComparisonView:
    """One page of a comparison. Without both sides: what there is to choose from.

    Raises:
        NotFound: unknown_run or no_table.
        InvalidValue: a run without a table is compared with a table, or nothing is common.
    """
    choices = _choices(store)
    if not before or not after:
        _, paging = paginate((), 1)
        return ComparisonView(choices, None, None, None, {}, (), (), paging, {}, 0, 0)
    old, new = _side(store, facts, before), _side(store, facts, after)
    is_raw = _HASH.fullmatch(before) is None and _HASH.fullmatch(after) is None
    if is_raw:
        changes, *alone = compare(_values(store, before), _values(store, after), _compare_values)
    else:
        changes, *alone = compare(_prices(facts, old), _prices(facts, new), _compare_prices)
    if not changes:
        raise InvalidValue("before, after", "have no op and no network in common: nothing to compare")
    shown, paging = paginate(changes, page)
    return ComparisonView(
        choices,
        old,
        new,
        "raw values" if is_raw else "prices",
        dict(Counter(change.verdict for change in changes)),
        tuple(change for change in changes if change.ratio is not None)[:MOST_PLOTTED],
        shown,
        paging,
        _differences(store, old, new),
        *alone,
    )


def compare(
    before: Mapping[Key, T], after: Mapping[Key, T], judge_pair: Callable[[Key, T, T], Change]
) -> tuple[tuple[Change, ...], int, int]:
    """What both sides have, the largest effect first; how much the first and the second have alone."""
    changes = [judge_pair(key, value, after[key]) for key, value in before.items() if key in after]
    corrected = holm([change.p for change in changes])
    judged = [
        replace(change, p=p, verdict=judge(change.ratio, p)) for change, p in zip(changes, corrected, strict=True)
    ]
    # Changes come first, then the rest. The largest effect leads each; a missing ratio comes last.
    judged.sort(key=lambda change: (change.verdict == "same", -abs(math.log(change.ratio)) if change.ratio else 1.0))
    return tuple(judged), len(before) - len(judged), len(after) - len(judged)


def _compare_values(key: Key, old: Sequence[float], new: Sequence[float]) -> Change:
    """By a rank test, with its interval."""
    kind, subject = key
    ratio, low, high = ratio_interval(old, new) or (None, None, None)
    return Change(subject, kind, median(old), median(new), ratio, low, high, mann_whitney_p(old, new), "same")


def _compare_prices(_: Key, old: OpPrice, new: OpPrice) -> Change:
    """By their standard deviations, on a logarithmic scale."""
    change = Change(old.op_key, "op", old.price_ms, new.price_ms, None, None, None, 1.0, "same")
    if old.price_ms <= 0 or new.price_ms <= 0:
        sd = math.hypot(old.sd_ms, new.sd_ms)
        return replace(change, p=_two_sided(abs(new.price_ms - old.price_ms), sd))
    log_ratio = math.log(new.price_ms / old.price_ms)
    sd = math.hypot(old.sd_ms / old.price_ms, new.sd_ms / new.price_ms)
    low, high = (math.exp(min(log_ratio + sign * NORMAL_975 * sd, 700.0)) for sign in (-1, 1))
    return replace(change, ratio=math.exp(log_ratio), low=low, high=high, p=_two_sided(abs(log_ratio), sd))


def _two_sided(distance: float, sd: float) -> float:
    if sd == 0:
        return 1.0 if distance == 0 else 0.0
    return math.erfc(distance / sd / math.sqrt(2))


def _values(store: Store, run_id: str) -> dict[Key, list[float]]:
    """Times of a run's rounds in ms.

    Isolated ops are left out: they have few rounds. So is the settle check: it times networks of
    the campaign again, in a later state of the machine.
    """
    run, measurements = store.runs.get(run_id).run, store.runs.measurements(run_id)
    nominal_ms = _nominal_ms(store, run, measurements)
    return {
        ("network" if measurement.role in _NETWORKS else "op", measurement.subject): [
            nominal_ms * round_.ratio(measurement.divisor) for round_ in measurement.rounds
        ]
        for measurement in measurements
        if measurement.role not in _LEFT_OUT
    }


def _nominal_ms(store: Store, run: Run, measurements: Sequence[Measurement]) -> float:
    """The canary's nominal time; its usual time in this run while no run is finished."""
    known = store.runs.find_canary_nominal(run.device, str(run.runtime.of_canary), run.canary)
    return known or (median([measurement.canary_ms() for measurement in measurements]) if measurements else 1.0)


def _side(store: Store, facts: FactsReader, text: str) -> Side:
    if _HASH.fullmatch(text):
        table = facts.get(text)
        return Side(text, table.device, str(table.runtime), table.space, text)
    stored = store.runs.get(text)
    return Side(text, stored.run.device, str(stored.run.runtime), stored.run.space, stored.table)


def _prices(facts: FactsReader, side: Side) -> dict[Key, OpPrice]:
    if side.table is None:
        raise InvalidValue("before, after", f"run {side.id} has no table yet: compare it with another run")
    return {("op", price.op_key): price for price in facts.get(side.table).prices}


def _differences(store: Store, old: Side, new: Side) -> dict[str, tuple[str, str]]:
    found = {name: (getattr(old, name), getattr(new, name)) for name in ("device", "runtime", "space")}
    for name in ("cpu", "governor", "os"):
        probes = store.devices.get(old.device).probe, store.devices.get(new.device).probe
        found[name] = (probes[0].get(name, ""), probes[1].get(name, ""))
    return {name: pair for name, pair in found.items() if pair[0] != pair[1]}


def _choices(store: Store) -> tuple[Choice, ...]:
    runs = [each.run for each in store.runs.list(newest_first=True, limit=MOST_CHOICES)]
    tables = reversed(store.tables.list()[-MOST_CHOICES:])
    return (
        *(Choice(run.id, _label("run", run, run.started_at)) for run in runs),
        *(Choice(table.hash, _label("table", table, table.created_at)) for table in tables),
    )


def _label(kind: str, what: Run | TableSummary, moment: str) -> str:
    runtime = parse_runtime(str(what.runtime))
    when, software = moment[:16].replace("T", " "), f"{runtime.engine} {runtime.version}"
    return f"{kind} of {what.device}, {when}, {software}, {what.space}"
