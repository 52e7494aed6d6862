"""Networks with what is known of them: what the table says (an offer), and their rank among others (a member)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from search.latency_model import LatencyModel
from search.ranking import mean_ranks
from search.scoring import Scorer
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
    """Those that no other candidate beats in both bound and rank, latency rising; thinned evenly to `most`."""
    front: list[Member] = []
    for candidate in sorted(candidates, key=lambda member: (member.upper_ms, member.rank)):
        if not front or (candidate.rank < front[-1].rank and candidate.predicted_ms > front[-1].predicted_ms):
            front.append(candidate)
    if len(front) <= most:
        return front
    return [front[index] for index in np.linspace(0, len(front) - 1, most).round().astype(int)]
