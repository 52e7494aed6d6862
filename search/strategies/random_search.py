"""Random search (Li and Talwalkar, 2020): networks drawn uniformly from those under each of a series of budgets.

They are scored on a one-shot supernet and thinned as the default strategy's candidates are: what neither bound nor rank
of another one beats is handed over. A method that does not beat this has found nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from search.family.candidate_pool import draw_pool, led_by
from search.family.family import FamilySettings, spread
from search.family.pareto import select_members
from search.strategies.context import Bench, Outcome
from search.strategies.one_shot import open_ranker, stopping
from shared.errors import InvalidValue


@dataclass(frozen=True)
class RandomSearch:
    """How many networks to hand over at most."""

    members: int = FamilySettings.members

    uses_one_shot: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.members < 1:
            raise InvalidValue("random:members", f"{self.members} is not 1 or more")

    def search(self, bench: Bench) -> Outcome:
        """See `Strategy.search`."""
        run, decoder, draws = bench.get_one_shot(), bench.decoder, random.Random(bench.config.seed)
        budgets_ms = spread(decoder.smallest_ms, decoder.largest_ms, FamilySettings.budgets)
        drawn = led_by([decoder.fastest], draw_pool(decoder, budgets_ms, bench.evaluations, draws))
        drawn = drawn[: bench.evaluations]
        with bench.progress.phase("scoring random networks", len(drawn)) as phase:
            ranked = open_ranker(bench, run).rank(drawn, stopping(bench, phase.advance))
        chosen = select_members(ranked, self.members)
        images = run.config.total_steps * bench.batch_size
        return Outcome(bench.propose_members(chosen), images, len(drawn))
