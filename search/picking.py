"""The best member for a budget, and those that come next should the device not keep the promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from search.decoding import make_decoder
from search.family import FamilySettings, Member, Ranker, load_family, trade_off_log_probabilities
from search.latency_model import LatencyModel
from search.run_directory import RunDirectory
from search.scoring import open_scorer
from shared.spaces import Genotype


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

    Raises:
        WrongUse, CorruptFile: the run is not finished, or damaged.
        InvalidValue: the confidence is not within 0.5 and 1.
    """

    def __init__(self, run: RunDirectory, confidence: float | None = None) -> None:
        family = load_family(run)
        self.confidence = run.config.confidence if confidence is None else confidence
        self._settings: FamilySettings = family.settings
        self._model = LatencyModel(run.table)
        self._decoder = make_decoder(self._model, self.confidence)
        self._ranker = Ranker(self._model, open_scorer(run), self.confidence)
        self._alphas = list(trade_off_log_probabilities(run, self._settings.trade_offs).values())
        self._known = [self._model.space.parse(candidate.genotype) for candidate in family.candidates]
        self.smallest_ms = self._decoder.smallest_ms

    def pick(self, budget_ms: float, advance: Callable[[int], None] = lambda n: None) -> Pick:
        """The best-ranked network within a budget, of all candidates and what the alphas say at this very budget.

        Args:
            budget_ms: that the upper bound has to meet.
            advance: told how many candidates are scored, as they are.

        Raises:
            BudgetTooSmall: no network meets the budget; the message says which one the fastest does.
        """
        decoded: dict[Genotype, None] = {}
        for alphas in self._alphas:
            (best,) = self._decoder.decode(alphas, [budget_ms], self._settings.per_budget)
            decoded.update(dict.fromkeys(network.genotype for network in best))
        ranked = self._ranker.rank(list(dict.fromkeys([*self._known, *decoded])), advance)
        best_first = sorted(
            (member for member in ranked if member.upper_ms <= budget_ms),
            key=lambda member: (member.rank, member.upper_ms),
        )
        return Pick(budget_ms, self.confidence, best_first[0], tuple(best_first[1:]))
