"""The best member for a budget, and those that come next should the device not keep the promise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.alphas.trade_offs import trade_off_log_probabilities
from search.decoding.decoder import Band
from search.decoding.decoding import make_decoder
from search.device.kernel_counts import Counter, no_counts
from search.family.candidate_pool import decode_pool
from search.family.candidates import Member, Ranker
from search.family.family import load_family
from search.latency.latency_model import LatencyModel
from search.process.progress import Progress, SilentProgress
from search.ranking.scoring import open_scorer
from search.runs.run_directory import RunDirectory
from shared.errors import BudgetTooSmall, MissingKernel
from shared.tables.table import LatencyTable

USED_UP = 0.06
"""A pick also looks at the most probable networks whose bound uses up all but this share of the budget."""
NARROWER_BY_KERNELS = 0.04
"""And, where kernels are priced, at those whose bound from ops is so much too large: that from kernels may not be."""
MOST_DECODED = 32
"""Networks that a pick looks at beyond the family's candidates."""


@dataclass(frozen=True)
class Pick:
    """Networks whose bound lies within the budget, best-ranked first."""

    budget_ms: float
    confidence: float
    best: Member
    runners_up: tuple[Member, ...]


class Picker:
    """Picks from one run. Opened once, it answers many budgets: model, alphas and scores stay in memory.

    Args:
        run: trained, its family built.
        confidence: of the bounds; None takes the run's.
        counter: says which kernels networks consist of; what it knows is predicted from those, the rest from ops.

    Raises:
        WrongUse, CorruptFile: the run is not finished, or damaged.
        InvalidValue: the confidence is not within 0.5 and 1.
    """

    def __init__(self, run: RunDirectory, confidence: float | None = None, counter: Counter = no_counts) -> None:
        self._counter = counter
        family = load_family(run)
        self.confidence = run.config.confidence if confidence is None else confidence
        self._per_budget = family.settings.per_budget
        self._model = LatencyModel(run.table)
        self._decoder = make_decoder(self._model, self.confidence)
        self._ranker = Ranker(self._model, open_scorer(run), self.confidence)
        alphas = trade_off_log_probabilities(run.hypernetwork(), run.table, family.settings.trade_offs)
        self._alphas = list(alphas.values())
        self._candidates = family.candidates
        self._known = [self._model.space.parse(candidate.genotype) for candidate in family.candidates]
        self.smallest_ms = self._decoder.smallest_ms

    def pick(self, budget_ms: float, progress: Progress | None = None) -> Pick:
        """The best-ranked network within a budget, of all candidates and what the alphas say at this very budget.

        Args:
            budget_ms: that the upper bound has to meet.
            progress: told how many candidates are ranked, as they are.

        Raises:
            BudgetTooSmall: no network meets the budget; the message says which one the fastest does.
        """
        beyond = 1.0 if self._model.table.kernels is None else 1.0 + NARROWER_BY_KERNELS
        bands = [Band(budget_ms), Band(beyond * budget_ms, (1 - USED_UP) * budget_ms)]
        if 0 < budget_ms < self.smallest_ms:  # by op prices; kernels may know better
            self._require_known(budget_ms)
            decoded = []
        else:
            decoded = decode_pool(self._decoder, self._alphas, bands, self._per_budget, MOST_DECODED)
        candidates = list(dict.fromkeys([*self._known, *decoded]))
        with (progress or SilentProgress()).phase("ranking candidates", len(candidates)) as phase:
            ranked = self._ranker.rank(candidates, phase.advance)
        ranked = by_kernels(self._model.table, ranked, self.confidence, self._counter)
        best_first = sorted(
            (member for member in ranked if member.upper_ms <= budget_ms),
            key=lambda member: (member.rank, member.upper_ms),
        )
        if not best_first:
            raise BudgetTooSmall(budget_ms, min(member.upper_ms for member in ranked), self._model.table.device)
        return Pick(budget_ms, self.confidence, best_first[0], tuple(best_first[1:]))

    def _require_known(self, budget_ms: float) -> None:
        """Raise BudgetTooSmall unless one of the family's candidates meets the budget."""
        table, bounds_ms = self._model.table, self._model.upper_ms(self._known, self.confidence).tolist()
        members = [dataclasses.replace(one, upper_ms=ms) for one, ms in zip(self._candidates, bounds_ms, strict=True)]
        smallest_ms = min(one.upper_ms for one in by_kernels(table, members, self.confidence, self._counter))
        if budget_ms < smallest_ms:
            raise BudgetTooSmall(budget_ms, smallest_ms, table.device)


def by_kernels(
    table: LatencyTable, members: Sequence[Member], confidence: float, counter: Counter = no_counts
) -> list[Member]:
    """Members with latency and bound from their kernels, where those are known and priced."""
    counts = counter([member.genotype for member in members])
    return [
        _refined(one, table, counts[one.genotype], confidence) if one.genotype in counts else one for one in members
    ]


def _refined(member: Member, table: LatencyTable, counts: Mapping[str, int], confidence: float) -> Member:
    try:
        prediction = table.predict_kernels(counts, guess=True)
    except MissingKernel:
        return member
    upper_ms = prediction.upper_ms(confidence)
    return dataclasses.replace(member, predicted_ms=prediction.mean_ms, upper_ms=upper_ms, by="kernels")
