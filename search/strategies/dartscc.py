"""The default strategy (Firsov, 2024; DARTS-CC): alphas from a hypernetwork, decoded under budgets.

See `search.training` for the updates and `search.family` for how alphas on a grid of trade-offs become a family.
Nothing of either stands here: this runs them in a run directory of its own and hands the family over. Candidates are
always decoded from the alphas and no more than any strategy may score, also where `search` scores a small space whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from search.config import HYPERNETWORKS
from search.family import FamilySettings, spread, trade_off_log_probabilities
from search.members import select_members
from search.pooling import bands_between, decode_pool, led_by
from search.strategies.bench import Bench, Outcome
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
        pool = decode_pool(bench.decoder, list(alphas.values()), bands, settings.per_budget, settings.candidates)
        pool = led_by([bench.decoder.fastest], pool)[: settings.candidates]
        with bench.progress.phase("scoring candidates", len(pool)) as phase:
            ranked = open_ranker(bench, run).rank(pool, stopping(bench, phase.advance))
        chosen = select_members(ranked, self.members)
        images = config.total_steps * bench.batch_size
        return Outcome(bench.propose_members(chosen), images, len(pool))
