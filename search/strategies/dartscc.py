"""The default strategy (Firsov, 2024; DARTS-CC): alphas from a hypernetwork, decoded under budgets.

See `search.training.training` for the updates and `search.family.family` for how alphas on a grid
of trade-offs become a family. This runs them in a run directory of its own and hands the family
over. Candidates are always decoded from the alphas and no more than any strategy may score, also
where `search` scores a small space whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from search.alphas.trade_offs import trade_off_log_probabilities
from search.config import HYPERNETWORKS
from search.decoding.decoding import decode_pool
from search.family.candidate_pool import bands_between, led_by
from search.family.family import FamilySettings, spread
from search.family.local_search import score_with_neighbours
from search.family.pareto import select_members
from search.strategies.context import Bench, Outcome
from search.strategies.one_shot import open_ranker, stopping, train_run
from shared.errors import UnknownName


@dataclass(frozen=True)
class DartsCC:
    """The kind of the hypernetwork, and how many networks to hand over at most."""

    hypernetwork: str = HYPERNETWORKS[0]
    members: int = FamilySettings.members

    uses_one_shot: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.hypernetwork not in HYPERNETWORKS:
            raise UnknownName("hypernetwork", self.hypernetwork, HYPERNETWORKS)

    def search(self, bench: Bench) -> Outcome:
        """See `Strategy.search`."""
        config = replace(bench.config, hypernetwork=self.hypernetwork)
        run = train_run(bench.folder / "run", config, bench.table, bench.images, bench.progress, bench.stopped)
        settings = FamilySettings(candidates=bench.evaluations)
        alphas = trade_off_log_probabilities(run.hypernetwork(), bench.table, settings.trade_offs)
        budgets_ms = spread(bench.decoder.smallest_ms, bench.decoder.largest_ms, settings.budgets)
        bands = bands_between(budgets_ms)
        first = settings.candidates - round(settings.refined * settings.candidates)
        pool = decode_pool(bench.decoder, list(alphas.values()), bands, settings.per_budget, first)
        pool = led_by([bench.decoder.fastest], pool)[:first]
        ranker, refined = open_ranker(bench, run), settings.candidates - first
        with bench.progress.phase("scoring candidates", settings.candidates) as phase:
            advance = stopping(bench, phase.advance)
            pool = score_with_neighbours(bench.space, pool, refined, [ranker], config.seed, advance)
        ranked = ranker.rank(pool)
        chosen = select_members(ranked, self.members)
        images = config.total_steps * bench.batch_size
        return Outcome(bench.propose_members(chosen), images, len(pool))
