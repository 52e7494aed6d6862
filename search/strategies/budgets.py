"""Networks for latency budgets, from searches that promise none.

FBNet (Wu et al., 2019) and ProxylessNAS (Cai, Zhu and Han, 2019) weigh latency against accuracy by a constant and find
it by trial. Here the trials are a binary search over a geometric series of constants: as many whole searches as the
series has binary digits. A search depends on its constant alone, not on the budget, so what one budget has tried
serves the next; every search is counted.

None of these methods guarantees a budget. For each one there are two proposals: the network that the method derives by
its own rule, whatever its latency, and the most probable one by the same alphas whose bound keeps the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from search.decoding.decoding import Band
from search.strategies.context import Bench, Proposal
from shared.errors import InvalidValue
from shared.spaces import Genotype


@dataclass(frozen=True, eq=False)
class Attempt:
    """What one whole search came to.

    Attributes:
        alphas: logits (slots, primitives) at its end.
        genotype: derived by the method's own rule; None where that connects nothing.
        upper_ms: bound of the derived network; 0 where there is none, as a search that keeps too few ops does it.
    """

    alphas: Tensor
    genotype: Genotype | None
    upper_ms: float


Search = Callable[[float], Attempt]
"""A whole search at a trade-off."""


def make_attempt(bench: Bench, alphas: Tensor, genotype: Genotype | None) -> Attempt:
    """An attempt with the bound of its network."""
    if genotype is None or not bench.space.is_connected(genotype):
        return Attempt(alphas.detach(), None, 0.0)
    return Attempt(alphas.detach(), genotype, float(bench.model.upper_ms([genotype], bench.config.confidence)[0]))


def proposals_for(bench: Bench, budget_ms: float, attempt: Attempt) -> list[Proposal]:
    """The derived network, if there is one, and what the alphas say under the bound."""
    log_probabilities = torch.log_softmax(attempt.alphas.double(), dim=1).numpy()
    ((decoded,),) = bench.decoder.decode(log_probabilities, [Band(budget_ms)])
    under = bench.propose(decoded.genotype, budget_ms, derived=False)
    return [under] if attempt.genotype is None else [bench.propose(attempt.genotype, budget_ms), under]


def describe(budget_ms: float, attempt: Attempt) -> str:
    """How the derived network stands to the budget, in a line."""
    if attempt.genotype is None:
        return f"{budget_ms:.4g} ms: the derived network does not connect input and output"
    word = "met" if attempt.upper_ms <= budget_ms else "not met"
    return f"{budget_ms:.4g} ms: the derived network's bound is {attempt.upper_ms:.4g} ms, {word}"


def trade_off_series(low: float, high: float, rounds: int) -> list[float]:
    """A geometric series that `rounds` halvings search through: 2^rounds - 1 values, low and high among them.

    One round is one search at the middle, for all budgets.

    Raises:
        InvalidValue: there is nothing to halve.
    """
    if rounds < 1 or not 0 < low < high:
        raise InvalidValue("rounds", f"{rounds} halvings between {low:g} and {high:g} are no search (1 or more)")
    steps = 2**rounds - 2
    return [low * (high / low) ** (place / steps) for place in range(steps + 1)] if steps else [(low * high) ** 0.5]


def reach_budget(budget_ms: float, series: Sequence[float], search: Search) -> list[Attempt]:
    """Search at the values that a binary search visits: less weight on latency as long as the budget is met.

    Args:
        budget_ms: for the bound of the derived network.
        series: weights of the latency, rising.
        search: runs a whole search, or knows what came of it before.

    Returns:
        What the searches came to, in their order. Searches are noisy, so the last one is not always the best one.
    """
    tried = []
    low, high = 0, len(series)
    while low < high:
        middle = (low + high) // 2
        tried.append(search(series[middle]))
        if tried[-1].upper_ms <= budget_ms:
            high = middle
        else:
            low = middle + 1
    return tried


def best_attempt(budget_ms: float, tried: Sequence[Attempt]) -> Attempt:
    """The slowest derived network that meets the budget, as latency that is granted should be used; else the last."""
    within = [one for one in tried if one.genotype is not None and one.upper_ms <= budget_ms]
    return max(within, key=lambda one: one.upper_ms, default=tried[-1])


def propose_by_trade_off(
    bench: Bench, series: Sequence[float], search: Search
) -> tuple[list[Proposal], list[str], int]:
    """For every budget of the bench the best of the searches that a binary search over the series visits.

    Returns:
        Proposals, what to say of each budget, and how many whole searches were run.
    """
    once = lru_cache(maxsize=None)(search)
    proposals, notes = [], []
    for budget_ms in bench.budgets_ms:
        best = best_attempt(budget_ms, reach_budget(budget_ms, series, once))
        proposals += proposals_for(bench, budget_ms, best)
        notes.append(describe(budget_ms, best))
    count = once.cache_info().currsize
    return proposals, [f"{count} whole searches for {len(bench.budgets_ms)} budgets", *notes], count
