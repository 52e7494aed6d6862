"""How well a search's ranks foretell what training to the end gives: members retrained, with several seeds each.

For each seed, Kendall's tau between what the search knew of the networks (its rank, and what the rank is made of) and
their test accuracies; the mean over seeds and the spread. Retrained accuracies themselves differ from seed to seed: the
tau between two seeds is what a perfect rank could reach.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from search.family.candidates import Member
from search.process.atomic_files import write_atomically
from shared.errors import CorruptFile, InvalidValue
from shared.spaces import Genotype, Space
from shared.wire import from_wire, to_wire

FILE_NAME = "diagnosis.json"
FEWEST_MEMBERS = 3
BETTER = {"rank": -1, "nll": -1, "accuracy": 1, "expressivity": 1, "parameters": 1}
"""What the search knew, by name: 1 where more is better, -1 where less is."""


@dataclass(frozen=True)
class RetrainedMember:
    """A member and its test accuracies in percent, one per seed."""

    member: Member
    test_accuracies: tuple[float, ...]


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau with the retrained accuracies: mean over seeds, their standard deviation, and each."""

    mean: float
    spread: float
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnosis.json` holds.

    Attributes:
        accuracy_kind: how the accuracies came about, in words.
        members: latency rising.
        agreement: by what the search knew (`BETTER`).
        between_seeds: tau between two seeds' accuracies, mean over all pairs; None with one seed.
    """

    accuracy_kind: str
    members: tuple[RetrainedMember, ...]
    agreement: dict[str, Agreement]
    between_seeds: float | None


def spread_members(members: Sequence[Member], count: int) -> list[Member]:
    """So many members, evenly over the family, the fastest and the slowest among them.

    Raises:
        InvalidValue: the family has fewer, or too few to rank were asked for.
    """
    if count < FEWEST_MEMBERS:
        raise InvalidValue("members", f"{count} is not {FEWEST_MEMBERS} or more")
    if count > len(members):
        raise InvalidValue("members", f"{count} were asked for, the family has {len(members)}")
    return [members[index] for index in np.linspace(0, len(members) - 1, count).round().astype(int)]


def diagnose(members: Sequence[RetrainedMember], accuracy_kind: str) -> Diagnosis:
    """Compare what the search knew of members with their accuracies."""
    by_seed = list(zip(*(one.test_accuracies for one in members), strict=True))
    agreement = {}
    for name, sign in BETTER.items():
        known = [sign * getattr(one.member, name) for one in members]
        agreement[name] = _agreement([_tau(known, accuracies) for accuracies in by_seed])
    pairs = [_tau(one, other) for one, other in combinations(by_seed, 2)]
    return Diagnosis(accuracy_kind, tuple(members), agreement, statistics.fmean(pairs) if pairs else None)


def write_diagnosis(folder: Path, diagnosis: Diagnosis, space: Space) -> None:
    """Into a run's folder."""
    content = json.dumps(to_wire(diagnosis, {Genotype: space.format}), indent=1)
    write_atomically(folder / FILE_NAME, content.encode() + b"\n")


def find_diagnosis(folder: Path, space: Space) -> Diagnosis | None:
    """The one of a run's folder, if it was made.

    Raises:
        CorruptFile: it is damaged.
    """
    path = folder / FILE_NAME
    try:
        return from_wire(Diagnosis, json.loads(path.read_bytes()), texts={Genotype: space.parse})
    except FileNotFoundError:
        return None
    except (ValueError, InvalidValue) as error:
        raise CorruptFile(f"{path} is damaged: {error}; search diagnose writes it anew") from error


def agreement_rows(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """What was known, and its tau, in words."""
    names: Mapping[str, str] = {"rank": "rank of the search", "nll": "likelihood", "accuracy": "supernet accuracy"}
    rows = [
        (names.get(name, name), f"{one.mean:+.2f} (standard deviation {one.spread:.2f}, {len(one.by_seed)} seeds)")
        for name, one in diagnosis.agreement.items()
    ]
    if diagnosis.between_seeds is not None:
        rows.append(("two seeds of the retraining with one another", f"{diagnosis.between_seeds:+.2f}"))
    return rows


def _agreement(taus: Sequence[float]) -> Agreement:
    return Agreement(statistics.fmean(taus), statistics.stdev(taus) if len(taus) > 1 else 0.0, tuple(taus))


def _tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau-b; 0 where one of the two orders nothing."""
    tau = float(kendalltau(one, other).statistic)
    return 0.0 if math.isnan(tau) else tau
