"""Networks for latency budgets, from methods that guarantee none.

FBNet (Wu et al., 2019) and ProxylessNAS (Cai, Zhu and Han, 2019) weigh latency against accuracy by
a constant and find it by trial. Here the trials are a binary search over a geometric series of
constants; each trial is a whole search. A search depends on its constant alone, so budgets share
searches. Every search is counted.

For each budget there are two proposals: the network that the method derives by its own rule,
whatever its latency, and the most probable network of the same alphas whose bound meets the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from search.decoding.decoding import Band
from search.strategies.context import Bench, Outcome, Proposal
from shared.errors import InvalidValue
from shared.spaces import Genotype


@dataclass(frozen=True, eq=False)
class Attempt:
    """The result of a whole search.

    Attributes:
        alphas: final logits (slots, primitives).
        genotype: derived by the method's own rule; None if that connects nothing.
        upper_ms: bound of the derived network; 0 without one: the search kept too few ops.
    """

    alphas: Tensor
    genotype: Genotype | None
    upper_ms: float


CLOSE = 1 + 1e-9
"""A bound that equals a budget keeps it, whatever the rounding."""
Search = Callable[[float], Attempt]
"""A whole search at a trade-off."""


def keeps(upper_ms: float, budget_ms: float) -> bool:
    """Whether a bound keeps a budget."""
    return upper_ms <= budget_ms * CLOSE


def make_attempt(bench: Bench, alphas: Tensor, genotype: Genotype | None) -> Attempt:
    """An attempt with the bound of its network."""
    if genotype is None or not bench.space.is_connected(genotype):
        return Attempt(alphas.detach(), None, 0.0)
    return Attempt(alphas.detach(), genotype, float(bench.model.upper_ms([genotype], bench.config.confidence)[0]))


def make_outcome(bench: Bench, attempts: Sequence[Attempt], weight_updates: int, notes: Sequence[str] = ()) -> Outcome:
    """The proposals of the best attempt for each of the bench's budgets, with a note about each."""
    pairs = list(zip(bench.budgets_ms, attempts, strict=True))
    proposals = [proposal for pair in pairs for proposal in proposals_for(bench, *pair)]
    told = [describe(*pair) for pair in pairs]
    return Outcome(tuple(proposals), weight_updates * bench.batch_size, notes=(*notes, *told))


def proposals_for(bench: Bench, budget_ms: float, attempt: Attempt) -> list[Proposal]:
    """The derived network, if there is any, and the network decoded under the budget."""
    log_probabilities = torch.log_softmax(attempt.alphas.double(), dim=1).numpy()
    ((decoded,),) = bench.decoder.decode(log_probabilities, [Band(budget_ms)])
    under = bench.propose(decoded.genotype, budget_ms, derived=False)
    return [under] if attempt.genotype is None else [bench.propose(attempt.genotype, budget_ms), under]


def describe(budget_ms: float, attempt: Attempt) -> str:
    """Whether the derived network meets the budget, in a line."""
    if attempt.genotype is None:
        return f"{budget_ms:.4g} ms: the derived network does not connect input and output"
    word = "met" if keeps(attempt.upper_ms, budget_ms) else "not met"
    return f"{budget_ms:.4g} ms: the derived network's bound is {attempt.upper_ms:.4g} ms, {word}"


def count_searches(bench: Bench, searches: int) -> str:
    """The number of whole searches, in a line."""
    return f"{searches} whole searches for {len(bench.budgets_ms)} budgets"


def trade_off_series(low: float, high: float, rounds: int) -> list[float]:
    """A geometric series for `rounds` halvings: 2^rounds - 1 values, from low to high.

    One round is one search at the middle, for all budgets.

    Raises:
        InvalidValue: there is nothing to halve.
    """
    if rounds < 1 or not 0 < low < high:
        raise InvalidValue("rounds", f"{rounds} halvings between {low:g} and {high:g} are no search (1 or more)")
    steps = 2**rounds - 2
    return [low * (high / low) ** (place / steps) for place in range(steps + 1)] if steps else [(low * high) ** 0.5]


def reach_budget(budget_ms: float, series: Sequence[float], search: Search) -> list[Attempt]:
    """Binary search: less weight on latency while the budget is met.

    Args:
        budget_ms: for the bound of the derived network.
        series: weights of the latency, rising.
        search: runs a whole search, or returns its known result.

    Returns:
        The results in their order. Searches are noisy: the last is not always the best.
    """
    tried = []
    low, high = 0, len(series)
    while low < high:
        middle = (low + high) // 2
        tried.append(search(series[middle]))
        if keeps(tried[-1].upper_ms, budget_ms):
            high = middle
        else:
            low = middle + 1
    return tried


def best_attempt(budget_ms: float, tried: Sequence[Attempt]) -> Attempt:
    """The slowest derived network that meets the budget; else the last."""
    within = [attempt for attempt in tried if attempt.genotype is not None and keeps(attempt.upper_ms, budget_ms)]
    return max(within, key=lambda attempt: attempt.upper_ms, default=tried[-1])


def search_for_budgets(bench: Bench, series: Sequence[float], search: Search, shared_updates: int) -> Outcome:
    """The outcome of a binary search over the series for each budget of the bench.

    Args:
        series: weights of the latency, rising.
        search: runs a whole search.
        shared_updates: of the weights, done once for all searches.
    """
    once = lru_cache(maxsize=None)(search)
    attempts = [best_attempt(budget_ms, reach_budget(budget_ms, series, once)) for budget_ms in bench.budgets_ms]
    searches = once.cache_info().currsize
    updates = shared_updates + searches * (bench.config.total_steps - shared_updates)
    return make_outcome(bench, attempts, updates, [count_searches(bench, searches)])
