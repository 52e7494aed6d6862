"""Networks with what is known of them: what the table says (an offer), and their rank among others (a member)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.latency_model import LatencyModel
from search.ranking import mean_ranks
from search.scoring import Scorer
from search.thinning import thin
from shared.spaces import Genotype


@dataclass(frozen=True)
class Offer:
    """A network, in its space's string form, and what the table says of it."""

    genotype: str
    predicted_ms: float
    upper_ms: float
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Member(Offer):
    """An offer with what its rank is made of (`search.scoring.Score`).

    `rank` is the mean of its three ranks among the candidates that it was ranked with, 1 is best. `accuracy` is
    inherited, in percent, on the ranking images at the search's resolution. `by` says what latency and bound were made
    from: "ops", or "kernels" where the device said which it executes.
    """

    nll: float
    naswot: float
    rank: float
    accuracy: float
    by: str = "ops"


def make_offers(model: LatencyModel, genotypes: Sequence[Genotype], confidence: float) -> list[Offer]:
    """Offers in the order of the connected genotypes.

    Raises:
        InvalidValue: the confidence is not within 0.5 and 1.
    """
    space = model.space
    mean_ms, _ = model.mean_and_sd_ms(genotypes)
    upper_ms = model.upper_ms(genotypes, confidence)
    return [
        Offer(space.format(genotype), mean, upper, space.parameter_count(genotype), space.multiply_adds(genotype))
        for genotype, mean, upper in zip(genotypes, mean_ms.tolist(), upper_ms.tolist(), strict=True)
    ]


class Ranker:
    """Turns genotypes into ranked members."""

    def __init__(self, model: LatencyModel, scorer: Scorer, confidence: float) -> None:
        self._model = model
        self._scorer = scorer
        self._confidence = confidence

    def rank(self, genotypes: Sequence[Genotype], advance: Callable[[int], None] = lambda n: None) -> list[Member]:
        """Members in the order of the genotypes, ranked among one another."""
        offers = make_offers(self._model, genotypes, self._confidence)
        scores = self._scorer.score(genotypes, advance)
        return [
            Member(**vars(offer), nll=score.nll, naswot=score.naswot, rank=rank, accuracy=score.accuracy)
            for offer, score, rank in zip(offers, scores, mean_ranks(scores).tolist(), strict=True)
        ]


def select_members(candidates: Sequence[Member], most: int) -> list[Member]:
    """At most `most` of the candidates, latency rising: their front, and as far as there is room what only it beats.

    A front that is too long is thinned (`search.thinning`). One that is too short leaves places, which go to the front
    of the other candidates, and so on: ranks are proxies and latencies predictions, so the best network of a budget is
    often one that seems to be beaten by a hair. The network with the smallest bound is always among them.
    """
    if not candidates:
        return []
    surest = min(candidates, key=lambda member: (member.upper_ms, member.rank))
    chosen = [] if surest in find_front(candidates) else [surest]
    left = [one for one in candidates if one not in chosen]
    while left and len(chosen) < most:
        front = find_front(left)
        kept = thin([one.predicted_ms for one in front], [one.rank for one in front], most - len(chosen))
        chosen += [front[index] for index in kept]
        of_front = {one.genotype for one in front}
        left = [one for one in left if one.genotype not in of_front]
    return sorted(chosen, key=lambda member: (member.predicted_ms, member.rank))


def find_front(candidates: Sequence[Member]) -> list[Member]:
    """Those that no other candidate beats in both predicted latency and rank, latency rising.

    The prediction is what a network will most likely take; its bound is for who promises a budget (`search.picking`).
    """
    front: list[Member] = []
    for candidate in sorted(candidates, key=lambda member: (member.predicted_ms, member.rank)):
        if not front or (candidate.rank < front[-1].rank and candidate.predicted_ms > front[-1].predicted_ms):
            front.append(candidate)
    return front
