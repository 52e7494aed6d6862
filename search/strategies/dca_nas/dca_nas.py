"""DCA-NAS (Dutta, Kanvar and Agarwal, 2023): a resource constraint with a trained multiplier.

    min over alpha  L_val(w*(alpha), alpha)                                                     (2)
    subject to      w*(alpha) = argmin over w of L_train(w, alpha)   and   k_s(alpha) <= K_d

    k_s(alpha) = sum over cells, edges and ops o of  softmax(alpha)_o b(o)                      (3)

b(o) is the resource of an op: latency, parameters or FLOPs (`search.latency.slot_costs`, which also
counts the fixed part). The network that is derived in the end has another resource than k_s. So a
look-up graph (`search.strategies.dca_nas.look_up_graph`), drawn through whole searches, gives the
search-time budget K_d' = LUG(K_d) of a device's budget. The objective is

    L = L_val(w*(alpha), alpha) + lambda (k_s(alpha) - LUG(K_d))                                (4)

and an update (algorithm 1)

    w       descends the gradient of L: that of L_train, as no resource depends on w
    alpha   descends the gradient of L on validation images
    lambda  ascends its own gradient of L, k_s(alpha) - K_d', and stays at 0 or above

The supernet is cheap (section 3.3, `search.strategies.dca_nas.slim_supernet`). The search for a
budget runs five times, and the network of the highest validation accuracy is taken (appendix D,
whose optimisers these are). Its latency is not guaranteed.

Decided here, because the paper does not say more:

* k_s and K_d' count in the resource of the largest choices. lambda then means the same for every
  resource and device. It begins at 0, and its steps are plain gradient steps.
* K_d is a latency, as all strategies have latency budgets, whatever the resource that is searched
  with. The graph is drawn through single runs.
* The learning rate of w is the paper's for a batch of 512, scaled with the batch (Goyal et al.,
  2017).
* Where the derived network of a point of the graph connects nothing, because of "none", the
  point is that of the network without "none".
* The runs have the same images in the same splits. The best run is that of the highest accuracy
  among those whose network keeps K_d; if there is none, among all. The accuracy is the supernet's
  at the end, where most cells are derived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search.latency.slot_costs import RESOURCES, SlotCosts
from search.process.threads_and_memory import torch_threads
from search.strategies.bilevel_loop import Learner, OptimizerSettings, run_updates
from search.strategies.budgets import Attempt, count_searches, keeps, make_attempt, make_outcome
from search.strategies.context import Bench, Outcome
from search.strategies.dca_nas.look_up_graph import LookUpGraph
from search.strategies.dca_nas.slim_supernet import SlimSupernet, repeated_steps, top_weighted
from search.strategies.discretize import strongest
from search.supernet import Supernet
from shared.errors import InvalidValue, UnknownName
from shared.spaces import Space

PAPER_BATCH = 512
"""Images of an update for which the paper's learning rate is meant."""
MOST_VALIDATED = 10_000
"""Images for the accuracy of a run: its standard error is half a point at most."""
SEED_OF_RUN = 10_007
"""Distance between the seeds of the runs of a search."""


@dataclass(frozen=True)
class DcaNas(OptimizerSettings):
    """Options and the paper's settings (appendix D).

    Attributes:
        resource: that is constrained: "latency", "parameters" or "flops".
        runs: searches for a budget, of which the best is taken.
        graph_points: whole searches that define the look-up graph.
        multiplier_rate: step length of lambda.
        constrains: whether there is a constraint at all (section 5 searches without, too).
        shares_sources, derives_cells, bottleneck: see `search.strategies.dca_nas.slim_supernet`.
            The paper does not say how narrow its bottleneck is.
    """

    weight_lr: float = 0.2
    last_weight_lr: float = 0.0
    alpha_lr: float = 6e-4
    resource: str = "latency"
    runs: int = 5
    graph_points: int = 3
    multiplier_rate: float = 0.01
    constrains: bool = True
    shares_sources: bool = True
    derives_cells: bool = True
    bottleneck: int = 4

    def __post_init__(self) -> None:
        if self.resource not in RESOURCES:
            raise UnknownName("resource", self.resource, RESOURCES)
        for name, least in (("runs", 1), ("graph_points", 2), ("bottleneck", 1)):
            if getattr(self, name) < least:
                raise InvalidValue(f"dca-nas:{name}", f"{getattr(self, name)} is not {least} or more")
        if self.multiplier_rate <= 0:
            raise InvalidValue("dca-nas:multiplier_rate", f"{self.multiplier_rate} is not above 0")

    def search(self, bench: Bench) -> Outcome:
        costs = RESOURCES[self.resource](bench.table)
        search = lru_cache(maxsize=None)(lambda budget, run: self._search_at(bench, costs, budget, run))
        notes = idle_savings(self, bench.space)
        if self.constrains:
            shares = [(place + 0.5) / self.graph_points for place in range(self.graph_points)]
            given = tuple(costs.smallest + share * (costs.largest - costs.smallest) for share in shares)
            graph = LookUpGraph(given, tuple(search(budget, 0).graph_ms for budget in given))
            search_time = [graph.search_time_budget(budget_ms) for budget_ms in bench.budgets_ms]
            notes.append(f"look-up graph of {self.resource}: {graph}")
        else:  # k_s never exceeds the largest, so lambda stays at 0
            search_time = [costs.largest] * len(bench.budgets_ms)
        attempts = [
            best_run([search(budget, run) for run in range(self.runs)], budget_ms).attempt
            for budget, budget_ms in zip(search_time, bench.budgets_ms, strict=True)
        ]
        searches = search.cache_info().currsize
        notes.append(count_searches(bench, searches))
        return make_outcome(bench, attempts, searches * bench.config.total_steps, notes)

    def _search_at(self, bench: Bench, costs: SlotCosts, search_time_budget: float, run: int) -> Run:
        name = f"{self.resource}-{search_time_budget:.9g}-run-{run}"
        config = replace(bench.config, seed=bench.config.seed + SEED_OF_RUN * run)
        bench = replace(bench.part(name), config=config, split_seed=bench.config.seed)
        updates = DcaUpdates(self, bench, costs, search_time_budget)
        run_updates(bench, f"dca-nas, {name}", config.total_steps, updates.state, updates.update)
        alphas, accuracy = updates.alphas(), updates.validation_accuracy()
        attempt = make_attempt(bench, alphas, strongest(bench.space, alphas))
        derived = make_attempt(bench, alphas, top_weighted(bench.space, updates.gates()))
        return Run(attempt, derived.upper_ms, accuracy)


@dataclass(frozen=True, eq=False)
class Run:
    """A whole search.

    Attributes:
        graph_ms: bound of the derived network, a point of the look-up graph. Where "none" cuts it
            off, it is that of the network of the derived cells, which leave "none" out.
        accuracy: share of the validation images that the supernet classifies.
    """

    attempt: Attempt
    graph_ms: float
    accuracy: float


def best_run(runs: Sequence[Run], budget_ms: float) -> Run:
    """The highest accuracy among the runs whose network keeps the budget; if none does, of all."""

    def worth(run: Run) -> tuple[bool, bool, float]:
        return run.attempt.genotype is not None, keeps(run.attempt.upper_ms, budget_ms), run.accuracy

    return max(runs, key=worth)


class DcaUpdates(Learner):
    """Updates of a DCA-NAS search."""

    def __init__(self, settings: DcaNas, bench: Bench, costs: SlotCosts, search_time_budget: float) -> None:
        super().__init__(settings, bench, new_slim_supernet(settings, bench))
        self._costs, self._budget = costs, search_time_budget
        self.multiplier = self.state["multiplier"] = Multiplier(settings.multiplier_rate)

    def update(self, step: int) -> dict[str, float]:
        """Update the weights, alpha, and lambda (algorithm 1)."""
        images, labels = self.bench.weight_batches.batch(step)
        train_loss = F.cross_entropy(self.supernet(images, self.gates().detach()), labels)
        loss = self.update_weights(train_loss, self.weight_lr(step))
        self.update_alphas(self.lagrangian(*self.bench.alpha_batches.batch(step)))
        violation = self.violation().item()
        self.multiplier.ascend(violation)
        return {"loss": loss, "violation": violation, "multiplier": self.multiplier.value.item()}

    def lagrangian(self, images: Tensor, labels: Tensor) -> Tensor:
        """Equation 4 on validation images."""
        loss = F.cross_entropy(self.supernet(images, self.gates()), labels)
        return loss + self.multiplier.value * self.violation()

    def violation(self) -> Tensor:
        """k_s(alpha) - K_d', in units of the largest choices' resource."""
        return (self._costs.expected(self.gates()) - self._budget) / self._costs.largest

    def gates(self) -> Tensor:
        return torch.softmax(self.alphas(), dim=1)

    def weight_lr(self, step: int) -> float:
        return super().weight_lr(step) * self.bench.batch_size / PAPER_BATCH

    @torch.no_grad()
    def validation_accuracy(self) -> float:
        """Of the supernet, on plain images that alpha was updated on: for every run the same."""
        batches = self.bench.validation_batches
        count = max(1, min(batches.batches_per_epoch, MOST_VALIDATED // batches.batch_size))
        with torch_threads(self.bench.config.threads):
            return fmean(
                float((self.supernet(images, self.gates()).argmax(dim=1) == labels).double().mean())
                for images, labels in map(batches.batch, range(count))
            )


class Multiplier(nn.Module):
    """lambda, from 0 on: rises while the constraint is violated and falls while there is room."""

    value: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._rate = rate
        self.register_buffer("value", torch.tensor(0.0))

    @torch.no_grad()
    def ascend(self, gradient: float) -> None:
        """A step of gradient ascent on equation 4, kept at 0 or above."""
        self.value.add_(self._rate * gradient).clamp_(min=0)


def new_slim_supernet(settings: DcaNas, bench: Bench) -> Supernet | SlimSupernet:
    """In training mode, drawn from the seed; the common supernet if all savings are off."""
    if not (settings.shares_sources or settings.derives_cells or settings.bottleneck > 1):
        return bench.new_supernet()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(bench.config.seed)
        slim = SlimSupernet(bench.space, settings.shares_sources, settings.derives_cells, settings.bottleneck)
        return slim.train()


def idle_savings(settings: DcaNas, space: Space) -> list[str]:
    """A line for each of the savings that has nothing to save in a space."""
    sources = [step.inputs[0] for step in space.supernet_wiring() if step.slot is not None]
    idle = []
    if settings.shares_sources and len(set(sources)) == len(sources):
        idle.append(f"{space.name}: no two ops read the same node, so shares_sources changes nothing")
    if settings.derives_cells and not repeated_steps(space):
        idle.append(f"{space.name}: no cell is repeated, so derives_cells changes nothing")
    return idle
