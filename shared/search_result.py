"""The result of a search as it is uploaded: the family, and the ladder if there is any."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.errors import InvalidValue
from shared.runtime import check_device_name

MOST_NETWORKS = 1000
_HASH = re.compile(r"[0-9a-f]{64}")
_LONGEST_TEXT = 2000


@dataclass(frozen=True)
class FoundNetwork:
    """A network of a family. `accuracy` is in percent; the result names its kind."""

    genotype: str
    predicted_ms: float
    upper_ms: float
    parameters: int
    accuracy: float

    def __post_init__(self) -> None:
        _check_texts("network", self.genotype)
        _check_numbers("network", self.predicted_ms, self.upper_ms, self.parameters, self.accuracy)


@dataclass(frozen=True)
class ClimbedRung:
    """A budget of a ladder with its promised and its measured latency. `accuracy` is in percent."""

    target_ms: float
    predicted_ms: float
    upper_ms: float
    measured_ms: float
    met: bool
    genotype: str
    parameters: int
    accuracy: float | None = None
    accuracy_kind: str = ""

    def __post_init__(self) -> None:
        _check_texts("rung", self.genotype, self.accuracy_kind)
        times = (self.target_ms, self.predicted_ms, self.upper_ms, self.measured_ms)
        _check_numbers("rung", *times, self.parameters, self.accuracy or 0.0)


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    Attributes:
        search: hash of the search's settings, table and data; every upload of the search has the
            same.
        accuracy_kind: meaning of the accuracies of `members` and `random`.
        random: the baseline, random networks under the same budgets.
        ladder: empty without a ladder.
    """

    search: str
    device: str
    space: str
    table_hash: str
    dataset: str
    accuracy_kind: str
    seconds: float
    members: tuple[FoundNetwork, ...]
    random: tuple[FoundNetwork, ...] = ()
    ladder: tuple[ClimbedRung, ...] = ()

    def __post_init__(self) -> None:
        check_device_name(self.device)
        for name in ("search", "table_hash"):
            if not _HASH.fullmatch(getattr(self, name)):
                raise InvalidValue(f"search.{name}", "is not a SHA-256 of 64 hexadecimal digits")
        _check_texts("search", self.dataset, self.accuracy_kind)
        if not 1 <= len(self.space) <= 200:
            raise InvalidValue("search.space", "is not a space of 1 to 200 characters")
        _check_numbers("search", self.seconds)
        for name in ("members", "random", "ladder"):
            if len(getattr(self, name)) > MOST_NETWORKS:
                raise InvalidValue(f"search.{name}", f"{len(getattr(self, name))} are more than {MOST_NETWORKS}")


def _check_texts(where: str, *texts: str) -> None:
    if any(len(text) > _LONGEST_TEXT for text in texts):
        raise InvalidValue(where, f"holds a text of more than {_LONGEST_TEXT} characters")


def _check_numbers(where: str, *numbers: float) -> None:
    if not all(0 <= number < 1e15 for number in numbers):
        raise InvalidValue(where, "holds a number that is negative, too large or not finite")
