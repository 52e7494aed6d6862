"""The default strategy (Firsov, 2024; DARTS-CC): alphas from a hypernetwork, decoded under budgets.

`search.training.training` has the updates; `search.family.build` turns alphas on a grid of
trade-offs into a family. This strategy runs both in a run directory of its own. Candidates are
always decoded from the alphas, even where `search` scores a small space whole, and no strategy
scores more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from search.config import HYPERNETWORKS
from search.family.build import propose, search_pool
from search.family.family import FamilySettings
from search.runs.run_directory import on_every_device
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
        settings, ranker = FamilySettings(candidates=bench.evaluations), open_ranker(bench, run)
        device = propose(on_every_device(run)[0], run.hypernetwork(), settings)
        with bench.progress.phase("scoring candidates", settings.candidates) as phase:
            pool = search_pool([device], settings, ranker.scorer, stopping(bench, phase.advance))
        return make_outcome(bench, run, ranker.rank(pool), self.members)
