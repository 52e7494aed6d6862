"""How well a search's ranks agree with the accuracy of members that are trained to the end.

Members are trained with several seeds. For each seed, Kendall's tau compares their test accuracies
with the rank and with each part of it. Accuracies differ from seed to seed: a perfect rank could
reach the tau between two seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from search.family.family import Member
from search.runs.run_directory import find_value, write_value
from shared.errors import InvalidValue
from shared.spaces import Genotype, Space

FILE_NAME = "diagnosis.json"
FEWEST_MEMBERS = 3
BETTER = {"rank": -1, "nll": -1, "accuracy": 1, "expressivity": 1, "parameters": 1}
"""The rank and its parts: 1 where more is better, -1 where less is."""


@dataclass(frozen=True)
class RetrainedMember:
    """A member, and its test accuracy in percent for each seed."""

    member: Member
    test_accuracies: tuple[float, ...]


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau for each seed, with mean and standard deviation, None with a single seed."""

    mean: float
    spread: float | None
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Diagnosis:
    """Content of `diagnosis.json`.

    Attributes:
        accuracy_kind: how the accuracies came about, in words.
        members: latency rising.
        agreement: by the names of `BETTER`.
        between_seeds: mean tau between two seeds' accuracies; None with a single seed.
    """

    accuracy_kind: str
    members: tuple[RetrainedMember, ...]
    agreement: dict[str, Agreement]
    between_seeds: float | None


def spread_members(members: Sequence[Member], count: int) -> list[Member]:
    """`count` members, evenly over the family, from the fastest to the slowest.

    Raises:
        InvalidValue: the family has fewer, or fewer than 3 were asked for.
    """
    if count < FEWEST_MEMBERS:
        raise InvalidValue("members", f"{count} is not {FEWEST_MEMBERS} or more")
    if count > len(members):
        raise InvalidValue("members", f"{count} were asked for, the family has {len(members)}")
    return [members[index] for index in np.linspace(0, len(members) - 1, count).round().astype(int)]


def diagnose(members: Sequence[RetrainedMember], accuracy_kind: str) -> Diagnosis:
    """Compare the rank of members, and its parts, with their accuracies."""
    by_seed = list(zip(*(member.test_accuracies for member in members), strict=True))
    agreement = {}
    for name, sign in BETTER.items():
        known = [sign * getattr(member.member, name) for member in members]
        agreement[name] = _agreement([_tau(known, accuracies) for accuracies in by_seed])
    pairs = [_tau(first, second) for first, second in combinations(by_seed, 2)]
    return Diagnosis(accuracy_kind, tuple(members), agreement, statistics.fmean(pairs) if pairs else None)


def write_diagnosis(folder: Path, diagnosis: Diagnosis, space: Space) -> None:
    write_value(folder / FILE_NAME, diagnosis, {Genotype: space.format})


def find_diagnosis(folder: Path, space: Space) -> Diagnosis | None:
    """The diagnosis in a run's folder, if there is any. Raises CorruptFile if it is damaged."""
    return find_value(Diagnosis, folder / FILE_NAME, {Genotype: space.parse})


def agreement_rows(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """Names and taus, in words."""
    names: Mapping[str, str] = {"rank": "rank of the search", "nll": "likelihood", "accuracy": "supernet accuracy"}
    rows = [(names.get(name, name), _in_words(agreement)) for name, agreement in diagnosis.agreement.items()]
    if diagnosis.between_seeds is not None:
        rows.append(("two seeds of the retraining with each other", f"{diagnosis.between_seeds:+.2f}"))
    return rows


def _in_words(agreement: Agreement) -> str:
    if agreement.spread is None:
        return f"{agreement.mean:+.2f} (one seed)"
    return f"{agreement.mean:+.2f} (standard deviation {agreement.spread:.2f}, {len(agreement.by_seed)} seeds)"


def _agreement(taus: Sequence[float]) -> Agreement:
    return Agreement(statistics.fmean(taus), statistics.stdev(taus) if len(taus) > 1 else None, tuple(taus))


def _tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b; 0 where all values of a sequence are equal. What is not finite is worst."""
    tau = float(kendalltau(np.nan_to_num(first, nan=-np.inf), second).statistic)
    return 0.0 if math.isnan(tau) else tau
