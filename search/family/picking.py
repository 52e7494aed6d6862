"""The network for a budget, for every command.

A network meets a budget by its upper bound, from priced kernels if possible, else from ops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from search.decoding.decoding import Band, decode_pool, make_decoder, require_budget
from search.device.kernel_counts import CountKernels, no_counts
from search.family.candidates import Candidate, Member, Ranker, make_candidates
from search.family.family import load_family
from search.latency.latency_model import LatencyModel
from search.process.progress import Progress, SilentProgress
from search.ranking.scoring import open_scorer
from search.runs.run_directory import DeviceRun
from shared.errors import BudgetTooSmall, MissingKernel
from shared.spaces import Genotype
from shared.tables.table import LatencyTable

USED_UP = 0.06
"""A pick also decodes networks whose bound leaves at most this share of the budget unused."""
NARROWER_BY_KERNELS = 0.04
"""With priced kernels, bounds from ops may exceed the budget by this share."""
MOST_DECODED = 32
"""Most networks that a pick decodes beside the family's candidates."""
MOST_COUNTED = 256
"""Most networks whose kernels a pick asks for, best-ranked first: a whole space has thousands."""

Priced = TypeVar("Priced", bound=Candidate)


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
        asked, others = likely_first[:MOST_COUNTED], likely_first[MOST_COUNTED:]
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
