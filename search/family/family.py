"""The family of a device, and the network that a budget gets from it.

A candidate is a network with its predicted latency; a member also has a score and a rank. A network
meets a budget by its upper bound, from priced kernels if possible, else from ops. Every command
takes the network for a budget from `Picker`. `search.family.build` makes the family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from search.alphas.trade_offs import TradeOff
from search.decoding.decoding import Band, decode_pool, make_decoder, require_budget
from search.device.kernel_counts import CountKernels, no_counts
from search.latency.latency_model import LatencyModel
from search.process.progress import Progress, SilentProgress
from search.ranking.scoring import Scorer, open_scorer, rank_all
from search.runs.run_directory import DeviceRun, find_value
from shared.errors import BudgetTooSmall, CorruptFile, MissingKernel, WrongUse
from shared.spaces import Genotype
from shared.tables.table import LatencyTable

USED_UP = 0.06
"""A pick also decodes networks whose bound leaves at most this share of the budget unused."""
NARROWER_BY_KERNELS = 0.04
"""With priced kernels, bounds from ops may exceed the budget by this share."""
MOST_DECODED = 32
"""Most networks that a pick decodes beside the family's candidates."""
MOST_COUNTED, MOST_EXPORTED = 256, 32
"""Most networks whose kernels a pick asks for, best-ranked first: a whole space has thousands. Those of a user's own
model are exported for it, which takes up to half a second each."""

Priced = TypeVar("Priced", bound="Candidate")


@dataclass(frozen=True)
class Candidate:
    """A network with its latency by the table.

    Latency and bound come from op prices (`by="ops"`), or from the kernels that the device executes
    (`by="kernels"`).
    """

    genotype: Genotype
    predicted_ms: float
    upper_ms: float
    parameters: int
    multiply_adds: int
    by: str = field(default="ops", kw_only=True)


@dataclass(frozen=True)
class Member(Candidate):
    """A candidate with its score (`search.ranking.scoring`) and its rank; 1 is best.

    `accuracy` is inherited, in percent, on the ranking images at the search's resolution.
    """

    nll: float
    expressivity: float
    rank: float
    accuracy: float


def make_candidates(model: LatencyModel, genotypes: Sequence[Genotype], confidence: float) -> list[Candidate]:
    """Candidates in the order of the connected genotypes.

    Raises:
        InvalidValue: the confidence is not within 0.5 and 1.
    """
    space = model.space
    mean_ms, _ = model.mean_and_sd_ms(genotypes)
    upper_ms = model.upper_ms(genotypes, confidence)
    return [
        Candidate(genotype, mean, upper, space.parameter_count(genotype), space.multiply_adds(genotype))
        for genotype, mean, upper in zip(genotypes, mean_ms.tolist(), upper_ms.tolist(), strict=True)
    ]


class Ranker:
    """Turns genotypes into ranked members."""

    def __init__(self, model: LatencyModel, scorer: Scorer, confidence: float) -> None:
        self._model = model
        self.scorer = scorer
        self._confidence = confidence

    def rank(self, genotypes: Sequence[Genotype], advance: Callable[[int], None] = lambda n: None) -> list[Member]:
        """Members in the order of the genotypes, ranked among themselves."""
        candidates = make_candidates(self._model, genotypes, self._confidence)
        scores = self.scorer.score(genotypes, advance)
        ranks = rank_all(self._model.space, genotypes, scores).tolist()
        return [
            Member(
                **vars(candidate)
                | {"parameters": candidate.parameters or score.parameters},  # a user's model knows them
                nll=score.nll,
                expressivity=score.expressivity,
                rank=rank,
                accuracy=score.accuracy,
            )
            for candidate, score, rank in zip(candidates, scores, ranks, strict=True)
        ]


@dataclass(frozen=True)
class FamilySettings:
    """Effort of the search for families.

    Attributes:
        trade_offs: grid points along each of u_lambda and u_kappa.
        budgets: a geometric series from the fastest network's bound to the slowest's.
        per_budget: most probable networks taken for each alpha between two budgets.
        candidates: most networks to score, for the family and for the baseline each.
        members: most networks in the family.
        per_further_device: additional candidates for each device beyond the first.
        whole_space: a space of at most so many distinct networks is scored whole, without alphas.
        fitted: share of the candidates that a fit to the ranks decodes, in chains.
        refined: share of the candidates that local search finds, in cells.
    """

    trade_offs: int = 5
    budgets: int = 24
    per_budget: int = 5
    candidates: int = 120
    members: int = 24
    per_further_device: int = 1
    whole_space: int = 0
    fitted: float = 0.75
    refined: float = 0.75

    def pool_size(self, devices: int) -> int:
        """Most networks to score for all devices together."""
        return self.candidates + (devices - 1) * self.per_further_device


@dataclass(frozen=True)
class Family:
    """The content of `family.json`. `is_whole`: the candidates are all networks of the space."""

    device: str
    space: str
    table_hash: str
    confidence: float
    accuracy_kind: str
    settings: FamilySettings
    budgets_ms: tuple[float, ...]
    members: tuple[Member, ...]
    random: tuple[Member, ...]
    candidates: tuple[Member, ...]
    random_candidates: tuple[Member, ...]
    trade_offs: tuple[TradeOff, ...]
    is_whole: bool
    seconds: float


def load_family(run: DeviceRun) -> Family:
    """Read `family.json`.

    Raises:
        WrongUse: there is none.
        CorruptFile: it is damaged, or was built from another table.
    """
    family = find_value(Family, run.family_path, {Genotype: run.space.parse})
    if family is None:
        raise WrongUse(f"{run.path} has no family yet: the search has to finish first (--resume)")
    if family.table_hash != run.table.hash:
        raise CorruptFile(f"{run.family_path} was built from another table ({family.table_hash[:12]}…)")
    return family


@dataclass(frozen=True)
class Pick:
    """Networks whose bound lies within the budget, best-ranked first."""

    budget_ms: float
    confidence: float
    best: Member
    runners_up: tuple[Member, ...]


class Picker:
    """Picks from a run. Model, alphas and scores stay in memory for many budgets.

    Args:
        run: trained, its family built.
        confidence: of the bounds; None takes the run's.
        count_kernels: gives the kernels of networks.

    Raises:
        WrongUse, CorruptFile: the run is not finished, or damaged.
        InvalidValue: the confidence is not within 0.5 and 1.
    """

    def __init__(
        self, run: DeviceRun, confidence: float | None = None, count_kernels: CountKernels = no_counts
    ) -> None:
        self.confidence = run.config.confidence if confidence is None else confidence
        self._table, self._count_kernels = run.table, count_kernels
        self._most_counted = MOST_COUNTED if run.config.model is None else MOST_EXPORTED
        self._family = load_family(run)
        model = LatencyModel(run.table)
        genotypes = [candidate.genotype for candidate in self._family.candidates]
        bounded = make_candidates(model, genotypes, self.confidence)
        self._known = [
            replace(member, upper_ms=candidate.upper_ms)
            for member, candidate in zip(self._family.candidates, bounded, strict=True)
        ]
        if not self._family.is_whole:
            self._decoder = make_decoder(model, self.confidence)
            self._ranker = Ranker(model, open_scorer(run), self.confidence)
            self._alphas = [np.array(trade_off.log_probabilities) for trade_off in self._family.trade_offs]

    def pick(self, budget_ms: float, progress: Progress | None = None) -> Pick:
        """The best-ranked network within a budget, of candidates and newly decoded networks.

        Args:
            budget_ms: for the upper bound.

        Raises:
            InvalidValue: the budget is no positive time.
            BudgetTooSmall: no network meets the budget; the message names the smallest bound.
        """
        require_budget(budget_ms, 0.0, self._table.device)
        # Nothing can be decoded below the smallest bound by ops; kernels may give less.
        nothing_to_decode = self._family.is_whole or budget_ms < self._decoder.smallest_ms
        ranked = self._known if nothing_to_decode else self._rank(budget_ms, progress or SilentProgress())
        ranked = self._by_kernels(ranked, budget_ms)
        best_first = sorted(
            (member for member in ranked if member.upper_ms <= budget_ms),
            key=lambda member: (member.rank, member.upper_ms),
        )
        if not best_first:
            raise BudgetTooSmall(budget_ms, min(member.upper_ms for member in ranked), self._table.device)
        return Pick(budget_ms, self.confidence, best_first[0], tuple(best_first[1:]))

    def _by_kernels(self, ranked: Sequence[Member], budget_ms: float) -> list[Member]:
        """The members; those that may be the answer are bounded by their kernels."""
        widened_ms = self._widened(budget_ms)
        likely_first = sorted(ranked, key=lambda member: (member.upper_ms > widened_ms, member.rank))
        asked, others = likely_first[: self._most_counted], likely_first[self._most_counted :]
        return [*by_kernels(self._table, asked, self.confidence, self._count_kernels), *others]

    def _widened(self, budget_ms: float) -> float:
        return budget_ms if self._table.kernels is None else (1 + NARROWER_BY_KERNELS) * budget_ms

    def _rank(self, budget_ms: float, progress: Progress) -> list[Member]:
        """The family's candidates and networks decoded at the budget, ranked among themselves."""
        bands = [Band(budget_ms), Band(self._widened(budget_ms), (1 - USED_UP) * budget_ms)]
        per_budget = self._family.settings.per_budget
        decoded = decode_pool(self._decoder, self._alphas, bands, per_budget, MOST_DECODED)
        networks = list(dict.fromkeys([*(member.genotype for member in self._known), *decoded]))
        with progress.phase("ranking candidates", len(networks)) as phase:
            return self._ranker.rank(networks, phase.advance)


def price_network(
    run: DeviceRun, genotype: Genotype, confidence: float | None = None, count_kernels: CountKernels = no_counts
) -> Candidate:
    """A connected network with its latency by the table, bounded as in a pick.

    Raises:
        InvalidValue: the confidence is not within 0.5 and 1.
    """
    confidence = run.config.confidence if confidence is None else confidence
    (candidate,) = make_candidates(LatencyModel(run.table), [genotype], confidence)
    return by_kernels(run.table, [candidate], confidence, count_kernels)[0]


def by_kernels(
    table: LatencyTable, candidates: Sequence[Priced], confidence: float, count_kernels: CountKernels = no_counts
) -> list[Priced]:
    """Candidates with latency and bound from their kernels, if these are known and priced."""
    if table.kernels is None:
        return list(candidates)
    counts = count_kernels([candidate.genotype for candidate in candidates])
    return [_by_kernels(table, candidate, confidence, counts.get(candidate.genotype)) for candidate in candidates]


def _by_kernels(table: LatencyTable, candidate: Priced, confidence: float, counts: Mapping[str, int] | None) -> Priced:
    if counts is None:
        return candidate
    try:
        prediction = table.predict_kernels(counts, guess=True)
    except MissingKernel:
        return candidate
    upper_ms = prediction.upper_ms(confidence)
    return replace(candidate, predicted_ms=prediction.mean_ms, upper_ms=upper_ms, by="kernels")
