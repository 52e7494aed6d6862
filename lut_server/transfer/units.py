"""The unit of published latencies: said, or in a column's name; and columns that are no latencies."""

from __future__ import annotations

import re

from shared.errors import InvalidValue

UNITS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
"""Milliseconds in each."""
LEAST_MEDIAN_MS, MOST_MEDIAN_MS = 0.05, 2000.0
"""A network's usual time lies between; else the unit may be another."""
_WORDS = {
    f"{prefix}{ending}": unit
    for unit, prefixes in {
        "ns": ("n", "nano"),
        "us": ("u", "µ", "μ", "micro"),
        "ms": ("m", "milli"),
        "s": ("",),
    }.items()
    for prefix in prefixes
    for ending in ("s", "sec", "secs", "second", "seconds")
    if prefix or ending != "s"
}
_UNIT = re.compile(rf"(?<![a-z])({'|'.join(_WORDS)})(?![a-z0-9])|(?<![a-z0-9])s\W*$")
_OTHER = re.compile(
    r"accurac|flops|param(?!etric)|energy|throughput|memory|intensity|variance|per_?sec|/\W?s(?:ec\w*)?(?![a-z])|(?<![a-z])"
    r"(acc|top\W?[15]|error|loss|macs|madds|size|ram|power|mj|fps|edp|area|score|rank|epochs?|seed|id|std|stdev|stddev"
    r"|sigma|joules?|watts?|cycles|temperature|util|utili[sz]ation|[iqr]ps|[gm]?hz|rate|speedup)(?![a-z])"
)


def is_other_quantity(column: str) -> bool:
    """Whether a column is no latency by its name, as accuracy, flops or energy."""
    return any(_OTHER.search(text) for text in _spellings(column))


def find_unit(column: str) -> str | None:
    """The unit in a column's name, of `UNITS`; None without any."""
    found = next(filter(None, (list(_UNIT.finditer(text)) for text in _spellings(column))), None)
    return _WORDS.get(found[-1].group(1) or "", "s") if found else None


def _spellings(column: str) -> tuple[str, str]:
    """In lower case, as it stands and with `latencyUs` as `latency_us`."""
    return column.lower(), re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).lower()


def check_scale(median_ms: float, where: str) -> None:
    """Raise InvalidValue unless networks usually take so long."""
    if not LEAST_MEDIAN_MS <= median_ms <= MOST_MEDIAN_MS:
        raise InvalidValue(
            where, f"its median would be {median_ms:g} ms, which no network takes: say --unit {', '.join(UNITS)}"
        )
