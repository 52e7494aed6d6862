"""The default strategy (Firsov, 2024; DARTS-CC): alphas from a hypernetwork, decoded under budgets.

`search.training.training` has the updates; `search.family.build` turns alphas on a grid of
trade-offs into a family. This strategy runs both in a run directory of its own. Candidates are
always decoded from the alphas, even where `search` scores a small space whole, and no strategy
scores more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from search.alphas.trade_offs import trade_off_log_probabilities
from search.config import HYPERNETWORKS
from search.decoding.decoding import decode_queues
from search.family.build import spread
from search.family.candidate_pool import DeviceQueues, bands_between, fill_evenly, merge_distinct
from search.family.family import FamilySettings
from search.family.fitted_candidates import score_with_fitted
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
        settings, decoder = FamilySettings(candidates=bench.evaluations), bench.decoder
        alphas = list(trade_off_log_probabilities(run.hypernetwork(), bench.table, settings.trade_offs).values())
        budgets_ms = spread(decoder.smallest_ms, decoder.largest_ms, settings.budgets)
        queues = decode_queues(decoder, alphas, bands_between(budgets_ms), settings.per_budget)
        device = DeviceQueues(bench.model, config.confidence, budgets_ms, queues)
        fitted = settings.fitted_of(settings.candidates)
        first = settings.candidates - fitted
        pool = merge_distinct([decoder.fastest], fill_evenly([device], first))[:first]
        ranker, each = open_ranker(bench, run), settings.per_round(settings.candidates)
        with bench.progress.phase("scoring candidates", settings.candidates) as phase:
            advance = stopping(bench, phase.advance)
            pool = score_with_fitted(bench.space, pool, fitted, [(decoder, device)], each, ranker.scorer, advance)
        return make_outcome(bench, run, ranker.rank(pool), self.members)
