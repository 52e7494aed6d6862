"""Random search (Li and Talwalkar, 2020): networks drawn uniformly under a series of budgets.

A one-shot supernet scores them; their front is selected as in the default strategy. A method that
does not beat random search has found nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from search.family.candidate_pool import draw_pool, merge_distinct
from search.family.family import FamilySettings, spread
from search.strategies.context import Bench, Outcome
from search.strategies.one_shot import make_outcome, open_ranker, stopping
from shared.errors import InvalidValue


@dataclass(frozen=True)
class RandomSearch:
    """Most networks to return."""

    members: int = FamilySettings.members

    uses_one_shot: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.members < 1:
            raise InvalidValue("random:members", f"{self.members} is not 1 or more")

    def search(self, bench: Bench) -> Outcome:
        run, decoder, draws = bench.get_one_shot(), bench.decoder, random.Random(bench.config.seed)
        budgets_ms = spread(decoder.smallest_ms, decoder.largest_ms, FamilySettings.budgets)
        drawn = merge_distinct([decoder.fastest], draw_pool(decoder, budgets_ms, bench.evaluations, draws))
        drawn = drawn[: bench.evaluations]
        with bench.progress.phase("scoring random networks", len(drawn)) as phase:
            ranked = open_ranker(bench, run).rank(drawn, stopping(bench, phase.advance))
        return make_outcome(bench, run, ranked, self.members)
