"""DCA-NAS (Dutta, Kanvar and Agarwal, 2023): device constraints as constraints, their multiplier learned.

    min over alpha  L_val(w*(alpha), alpha)   subject to   k(alpha) <= K

with k the expected resource of softmax(alpha): latency, parameters or FLOPs (`search.latency.slot_costs`). The
Lagrangian is minimised over alpha and maximised over its multiplier lambda >= 0, by turns:

    alpha   by the gradient of   L_val + lambda (k(alpha) / K - 1)
    lambda  grows by rate x (k(alpha) / K - 1)  and never falls below 0
    w       by the gradient of   L_train(w, alpha)

All ops of all edges are weighted by softmax(alpha), as in first-order DARTS, whose optimisers these are, on a supernet
with less to compute (`search.strategies.slim_supernet`). The search-time budget K of a device's budget comes from a
look-up graph (`search.strategies.look_up_graph`), which costs a few whole searches; then each budget has one search.
The derived network's own latency is what it is.

Only the paper's abstract and introduction could be read again when this was written.
docs/strategies.md says what was decided without the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search.latency.slot_costs import RESOURCES, SlotCosts
from search.strategies.bilevel_loop import Stateful, cosine, descend, run_updates, set_learning_rate
from search.strategies.budgets import Attempt, describe, make_attempt, proposals_for
from search.strategies.context import Bench, Outcome
from search.strategies.discretize import strongest
from search.strategies.look_up_graph import LookUpGraph
from search.strategies.slim_supernet import SlimSupernet
from search.supernet import Supernet
from shared.errors import InvalidValue, UnknownName


@dataclass(frozen=True)
class DcaNas:
    """Options; the rest is DARTS' settings.

    Attributes:
        resource: that is constrained: "latency", "parameters" or "flops".
        graph_points: whole searches that the look-up graph is drawn through.
        multiplier_rate: of lambda's growth.
        shares_sources, derives_cells, bottleneck: of the supernet (`search.strategies.slim_supernet`).
    """

    resource: str = "latency"
    graph_points: int = 3
    multiplier_rate: float = 0.01
    shares_sources: bool = True
    derives_cells: bool = True
    bottleneck: int = 4
    weight_lr: float = 0.025
    last_weight_lr: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    gradient_clip: float = 5.0
    alpha_lr: float = 3e-4
    alpha_weight_decay: float = 1e-3

    uses_one_shot: ClassVar[bool] = False

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
        """See `Strategy.search`."""
        costs = RESOURCES[self.resource](bench.table)
        search = lru_cache(maxsize=None)(lambda search_time_budget: self._search_at(bench, costs, search_time_budget))
        shares = [(place + 0.5) / self.graph_points for place in range(self.graph_points)]
        given = tuple(costs.smallest + share * (costs.largest - costs.smallest) for share in shares)
        graph = LookUpGraph(given, tuple(search(one).upper_ms for one in given))
        proposals, notes = [], [f"look-up graph of {self.resource}: {graph}"]
        for budget_ms in bench.budgets_ms:
            attempt = search(graph.search_time_budget(budget_ms))
            proposals += proposals_for(bench, budget_ms, attempt)
            notes.append(describe(budget_ms, attempt))
        searches = search.cache_info().currsize
        notes.append(f"{searches} whole searches for {len(bench.budgets_ms)} budgets")
        images = searches * bench.config.total_steps * bench.weight_batches.batch_size
        return Outcome(tuple(proposals), images, notes=tuple(notes))

    def _search_at(self, bench: Bench, costs: SlotCosts, search_time_budget: float) -> Attempt:
        """A whole search."""
        updates = DcaUpdates(self, bench, costs, search_time_budget)
        name = f"{self.resource}-{search_time_budget:.9g}"
        run_updates(bench.part(name), f"dca-nas, {name}", bench.config.total_steps, updates.state, updates.update)
        return make_attempt(bench, updates.alphas(), strongest(bench.space, updates.alphas()))


class DcaUpdates:
    """Supernet, alphas, multiplier and optimisers."""

    def __init__(self, settings: DcaNas, bench: Bench, costs: SlotCosts, search_time_budget: float) -> None:
        self._settings, self._bench = settings, bench
        self._costs, self._budget = costs, search_time_budget
        self.supernet, self.alphas = new_slim_supernet(settings, bench), bench.new_alphas()
        self.multiplier = Multiplier(settings.multiplier_rate)
        self.weights = list(self.supernet.parameters())
        self.weight_optimizer = torch.optim.SGD(
            self.weights, settings.weight_lr, settings.momentum, weight_decay=settings.weight_decay, foreach=True
        )
        self.alpha_optimizer = torch.optim.Adam(
            self.alphas.parameters(), settings.alpha_lr, (0.5, 0.999), weight_decay=settings.alpha_weight_decay
        )
        self.state: dict[str, Stateful] = {
            "supernet": self.supernet,
            "alphas": self.alphas,
            "multiplier": self.multiplier,
            "weight_optimizer": self.weight_optimizer,
            "alpha_optimizer": self.alpha_optimizer,
        }

    def update(self, step: int) -> dict[str, float]:
        """One of alpha, one of the multiplier, one of the weights."""
        settings, alphas = self._settings, self.alphas.values
        loss, violation = self._lagrangian(*self._bench.alpha_batches.batch(step))
        descend(self.alpha_optimizer, [alphas], torch.autograd.grad(loss, alphas))
        self.multiplier.ascend(violation)

        learning_rate = cosine(settings.weight_lr, settings.last_weight_lr, step, self._bench.config.total_steps)
        set_learning_rate(self.weight_optimizer, learning_rate)
        images, labels = self._bench.weight_batches.batch(step)
        train_loss = F.cross_entropy(self.supernet(images, torch.softmax(alphas.detach(), dim=1)), labels)
        gradients = torch.autograd.grad(train_loss, self.weights)
        descend(self.weight_optimizer, self.weights, gradients, settings.gradient_clip)
        return {"loss": train_loss.item(), "violation": violation, "multiplier": self.multiplier.value.item()}

    def _lagrangian(self, images: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """L_val + lambda (k / K - 1), and the bracket."""
        probabilities = torch.softmax(self.alphas(), dim=1)
        violation = self._costs.expected(probabilities) / self._budget - 1
        loss = F.cross_entropy(self.supernet(images, probabilities), labels)
        return loss + self.multiplier.value * violation, violation.item()


class Multiplier(nn.Module):
    """lambda, from 0 on: it rises while the constraint is violated and falls while there is room."""

    value: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._rate = rate
        self.register_buffer("value", torch.tensor(0.0))

    @torch.no_grad()
    def ascend(self, violation: float) -> None:
        """One step of gradient ascent on the Lagrangian, kept at 0 or above."""
        self.value.add_(self._rate * violation).clamp_(min=0)


def new_slim_supernet(settings: DcaNas, bench: Bench) -> Supernet | SlimSupernet:
    """In training mode, its first weights drawn from the seed; without any of the three flags the common supernet."""
    if not (settings.shares_sources or settings.derives_cells or settings.bottleneck > 1):
        return bench.new_supernet()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(bench.config.seed)
        slim = SlimSupernet(bench.space, settings.shares_sources, settings.derives_cells, settings.bottleneck)
        return slim.train()
