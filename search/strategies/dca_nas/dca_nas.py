"""DCA-NAS (Dutta, Kanvar and Agarwal, 2023): a resource constraint with a learned multiplier.

    min over alpha  L_val(w*(alpha), alpha)   subject to   k(alpha) <= K

k is the expected resource of softmax(alpha): latency, parameters or FLOPs
(`search.latency.slot_costs`). The Lagrangian is minimised over alpha and maximised over its
multiplier lambda >= 0, in turn:

    alpha   by the gradient of   L_val + lambda (k(alpha) / K - 1)
    lambda  grows by rate x (k(alpha) / K - 1)  and never falls below 0
    w       by the gradient of   L_train(w, alpha)

All ops of all edges are weighted by softmax(alpha), as in first-order DARTS, with the same
optimisers, on a cheaper supernet (`search.strategies.dca_nas.slim_supernet`). A look-up graph
(`search.strategies.dca_nas.look_up_graph`) gives the search-time budget K for a device's budget. The graph
costs a few whole searches; then each budget has one search. The latency of the derived network is
not guaranteed.

Only the paper's abstract and introduction were available when this was written; docs/strategies.md
lists the decisions made without the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search.latency.slot_costs import RESOURCES, SlotCosts
from search.strategies.bilevel_loop import Learner, OptimizerSettings, run_updates
from search.strategies.budgets import Attempt, count_searches, make_attempt, make_outcome
from search.strategies.context import Bench, Outcome
from search.strategies.dca_nas.look_up_graph import LookUpGraph
from search.strategies.dca_nas.slim_supernet import SlimSupernet
from search.strategies.discretize import strongest
from search.supernet import Supernet
from shared.errors import InvalidValue, UnknownName


@dataclass(frozen=True)
class DcaNas(OptimizerSettings):
    """Options beside DARTS' settings.

    Attributes:
        resource: that is constrained: "latency", "parameters" or "flops".
        graph_points: whole searches that define the look-up graph.
        shares_sources, derives_cells, bottleneck: see `search.strategies.dca_nas.slim_supernet`.
    """

    resource: str = "latency"
    graph_points: int = 3
    multiplier_rate: float = 0.01
    shares_sources: bool = True
    derives_cells: bool = True
    bottleneck: int = 4

    def __post_init__(self) -> None:
        if self.resource not in RESOURCES:
            raise UnknownName("resource", self.resource, RESOURCES)
        if self.graph_points < 2:
            raise InvalidValue("dca-nas:graph_points", f"{self.graph_points} is not 2 or more")
        if self.bottleneck < 1:
            raise InvalidValue("dca-nas:bottleneck", f"{self.bottleneck} is not 1 or more")
        if self.multiplier_rate <= 0:
            raise InvalidValue("dca-nas:multiplier_rate", f"{self.multiplier_rate} is not above 0")

    def search(self, bench: Bench) -> Outcome:
        costs = RESOURCES[self.resource](bench.table)
        search = lru_cache(maxsize=None)(lambda search_time_budget: self._search_at(bench, costs, search_time_budget))
        shares = [(place + 0.5) / self.graph_points for place in range(self.graph_points)]
        given = tuple(costs.smallest + share * (costs.largest - costs.smallest) for share in shares)
        graph = LookUpGraph(given, tuple(search(budget).upper_ms for budget in given))
        attempts = [search(graph.search_time_budget(budget_ms)) for budget_ms in bench.budgets_ms]
        searches = search.cache_info().currsize
        notes = [f"look-up graph of {self.resource}: {graph}", count_searches(bench, searches)]
        return make_outcome(bench, attempts, searches * bench.config.total_steps, notes)

    def _search_at(self, bench: Bench, costs: SlotCosts, search_time_budget: float) -> Attempt:
        updates = DcaUpdates(self, bench, costs, search_time_budget)
        name = f"{self.resource}-{search_time_budget:.9g}"
        run_updates(bench.part(name), f"dca-nas, {name}", bench.config.total_steps, updates.state, updates.update)
        return make_attempt(bench, updates.alphas(), strongest(bench.space, updates.alphas()))


class DcaUpdates(Learner):
    """Updates of a DCA-NAS search."""

    def __init__(self, settings: DcaNas, bench: Bench, costs: SlotCosts, search_time_budget: float) -> None:
        super().__init__(settings, bench, new_slim_supernet(settings, bench))
        self._costs, self._budget = costs, search_time_budget
        self.multiplier = self.state["multiplier"] = Multiplier(settings.multiplier_rate)

    def update(self, step: int) -> dict[str, float]:
        """Update alpha, the multiplier, and the weights."""
        loss, violation = self.lagrangian(*self.bench.alpha_batches.batch(step))
        self.update_alphas(loss)
        self.multiplier.ascend(violation)
        images, labels = self.bench.weight_batches.batch(step)
        gates = torch.softmax(self.alphas().detach(), dim=1)
        train_loss = F.cross_entropy(self.supernet(images, gates), labels)
        return {
            "loss": self.update_weights(train_loss, self.weight_lr(step)),
            "violation": violation,
            "multiplier": self.multiplier.value.item(),
        }

    def lagrangian(self, images: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """L_val + lambda (k / K - 1), and the violation k / K - 1."""
        probabilities = torch.softmax(self.alphas(), dim=1)
        violation = self._costs.expected(probabilities) / self._budget - 1
        loss = F.cross_entropy(self.supernet(images, probabilities), labels)
        return loss + self.multiplier.value * violation, violation.item()


class Multiplier(nn.Module):
    """lambda, from 0 on: rises while the constraint is violated and falls while there is room."""

    value: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._rate = rate
        self.register_buffer("value", torch.tensor(0.0))

    @torch.no_grad()
    def ascend(self, violation: float) -> None:
        """A step of gradient ascent on the Lagrangian, kept at 0 or above."""
        self.value.add_(self._rate * violation).clamp_(min=0)


def new_slim_supernet(settings: DcaNas, bench: Bench) -> Supernet | SlimSupernet:
    """In training mode, drawn from the seed; the common supernet if all savings are off."""
    if not (settings.shares_sources or settings.derives_cells or settings.bottleneck > 1):
        return bench.new_supernet()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(bench.config.seed)
        slim = SlimSupernet(bench.space, settings.shares_sources, settings.derives_cells, settings.bottleneck)
        return slim.train()
