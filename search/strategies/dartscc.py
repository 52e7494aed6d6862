"""The default strategy (Firsov, 2024; DARTS-CC): alphas from a hypernetwork, decoded under budgets.

`search.training.training` has the updates; `search.family.family` turns alphas on a grid of
trade-offs into a family. This strategy runs both in a run directory of its own. Candidates are
always decoded from the alphas, even where `search` scores a small space whole, and no strategy
scores more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from search.alphas.trade_offs import trade_off_log_probabilities
from search.config import HYPERNETWORKS
from search.decoding.decoding import decode_pool
from search.family.candidate_pool import bands_between, merge_distinct
from search.family.family import FamilySettings, spread
from search.family.local_search import score_with_neighbours
from search.strategies.context import Bench, Outcome
from search.strategies.one_shot import make_outcome, open_ranker, stopping, train_run
from shared.errors import UnknownName


@dataclass(frozen=True)
class DartsCC:
    """The hypernetwork, and most networks to return."""

    hypernetwork: str = HYPERNETWORKS[0]
    members: int = FamilySettings.members

    uses_one_shot: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.hypernetwork not in HYPERNETWORKS:
            raise UnknownName("hypernetwork", self.hypernetwork, HYPERNETWORKS)

    def search(self, bench: Bench) -> Outcome:
        config = replace(bench.config, hypernetwork=self.hypernetwork)
        run = train_run(bench.folder / "run", config, bench.table, bench.images, bench.progress, bench.stopped)
        settings = FamilySettings(candidates=bench.evaluations)
        alphas = trade_off_log_probabilities(run.hypernetwork(), bench.table, settings.trade_offs)
        budgets_ms = spread(bench.decoder.smallest_ms, bench.decoder.largest_ms, settings.budgets)
        bands = bands_between(budgets_ms)
        first = settings.candidates - round(settings.refined * settings.candidates)
        pool = decode_pool(bench.decoder, list(alphas.values()), bands, settings.per_budget, first)
        pool = merge_distinct([bench.decoder.fastest], pool)[:first]
        ranker, refined = open_ranker(bench, run), settings.candidates - first
        with bench.progress.phase("scoring candidates", settings.candidates) as phase:
            advance = stopping(bench, phase.advance)
            pool = score_with_neighbours(bench.space, pool, refined, [ranker], config.seed, advance)
        return make_outcome(bench, run, ranker.rank(pool), self.members)
