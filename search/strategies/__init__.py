"""The methods of the field, a file each, with the same supernet, images, table, bound and budgets.

The command line names a strategy as NAME or NAME:option=value,option=value. The options are the
fields of its dataclass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from search.strategies.bilevel_loop import OptimizerSettings
from search.strategies.context import Bench, Outcome, Proposal, SearchStopped, Strategy
from search.strategies.darts import Darts
from search.strategies.dartscc import DartsCC
from search.strategies.dca_nas.dca_nas import DcaNas
from search.strategies.fbnet import FBNet
from search.strategies.gdas import Gdas
from search.strategies.nsga2 import Nsga2
from search.strategies.proxylessnas.proxylessnas import ProxylessNAS
from search.strategies.random_search import RandomSearch
from shared.errors import InvalidValue, UnknownName

__all__ = ["STRATEGIES", "Bench", "NamedStrategy", "Outcome", "Proposal", "SearchStopped", "Strategy", "parse_strategy"]

STRATEGIES: Mapping[str, type[Strategy]] = MappingProxyType(
    {
        "dartscc": DartsCC,
        "darts": Darts,
        "gdas": Gdas,
        "fbnet": FBNet,
        "proxylessnas": ProxylessNAS,
        "dca-nas": DcaNas,
        "random": RandomSearch,
        "nsga2": Nsga2,
    }
)

WORDS = {"yes": True, "no": False}
DOMAINS: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("last_weight_lr", lambda value: value >= 0, "0 or more"),
    ("lr", lambda value: value > 0, "above 0"),
    ("gradient_clip", lambda value: value > 0, "above 0"),
    ("weight_decay", lambda value: value >= 0, "0 or more"),
    ("momentum", lambda value: 0 <= value < 1, "from 0 to below 1"),
)
"""Domains of numbers by the end of their names, the first that fits. A strategy checks its other
options itself."""


@dataclass(frozen=True)
class NamedStrategy:
    """A strategy with its options, and the text that says so."""

    text: str
    strategy: Strategy

    @property
    def folder_name(self) -> str:
        return self.text.replace(":", "+")


def parse_strategy(text: str) -> NamedStrategy:
    """Read NAME or NAME:option=value,... The text of the result leaves out defaults.

    Raises:
        UnknownName: no strategy, or no option of it, has that name.
        InvalidValue: an option's value has the wrong type or is outside its domain.
    """
    name, _, tail = text.strip().partition(":")
    if name not in STRATEGIES:
        raise UnknownName("strategy", name, STRATEGIES)
    kind = STRATEGIES[name]
    own_first = sorted(fields(kind), key=lambda field: hasattr(OptimizerSettings, field.name))  # type: ignore[arg-type]
    options = {field.name: field.default for field in own_first}
    given: dict[str, Any] = {}
    for part in filter(None, tail.split(",")):
        key, _, value = part.partition("=")
        key = key.strip().replace("-", "_")
        if key not in options:
            raise UnknownName(f"option of {name}", key, options)
        given[key] = _read(f"{name}:{key}", value.strip(), options[key])
    written = ",".join(f"{key}={_write(given[key])}" for key in options if key in given and given[key] != options[key])
    return NamedStrategy(f"{name}:{written}" if written else name, kind(**given))


def split_strategies(text: str) -> list[str]:
    """Split a list at commas. A part with a = but no name is an option of the strategy before."""
    texts: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        is_option = "=" in part and ":" not in part
        if is_option and texts:
            texts[-1] += f",{part}"
        else:
            texts.append(part)
    return texts


def _read(where: str, value: str, default: Any) -> Any:
    if isinstance(default, bool):
        if value not in WORDS:
            raise InvalidValue(where, f"'{value}' is neither yes nor no")
        return WORDS[value]
    if isinstance(default, str):
        return value
    try:
        number = type(default)(value)
    except ValueError:
        kind = "whole number" if isinstance(default, int) else "number"
        raise InvalidValue(where, f"'{value}' is no {kind}") from None
    domains = [(holds, domain) for ending, holds, domain in DOMAINS if where.endswith(ending)]
    for holds, domain in ((math.isfinite, "finite"), *domains[:1]):
        if not holds(number):
            raise InvalidValue(where, f"{value} is not {domain}")
    return number


def _write(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
