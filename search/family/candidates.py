"""A candidate is a network with its predicted latency; a member also has a score and a rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from search.latency.latency_model import LatencyModel
from search.ranking.scoring import Scorer, rank_all
from shared.spaces import Genotype


@dataclass(frozen=True)
class Candidate:
    """A network with its latency by the table.

    Latency and bound come from op prices (`by="ops"`), or from the kernels that the device executes
    (`by="kernels"`).
    """

    genotype: Genotype
    predicted_ms: float
    upper_ms: float
    parameters: int
    multiply_adds: int
    by: str = field(default="ops", kw_only=True)


@dataclass(frozen=True)
class Member(Candidate):
    """A candidate with its score (`search.ranking.scoring`) and its rank; 1 is best.

    `accuracy` is inherited, in percent, on the ranking images at the search's resolution.
    """

    nll: float
    expressivity: float
    rank: float
    accuracy: float


def make_candidates(model: LatencyModel, genotypes: Sequence[Genotype], confidence: float) -> list[Candidate]:
    """Candidates in the order of the connected genotypes.

    Raises:
        InvalidValue: the confidence is not within 0.5 and 1.
    """
    space = model.space
    mean_ms, _ = model.mean_and_sd_ms(genotypes)
    upper_ms = model.upper_ms(genotypes, confidence)
    return [
        Candidate(genotype, mean, upper, space.parameter_count(genotype), space.multiply_adds(genotype))
        for genotype, mean, upper in zip(genotypes, mean_ms.tolist(), upper_ms.tolist(), strict=True)
    ]


class Ranker:
    """Turns genotypes into ranked members."""

    def __init__(self, model: LatencyModel, scorer: Scorer, confidence: float) -> None:
        self._model = model
        self.scorer = scorer
        self._confidence = confidence

    def rank(self, genotypes: Sequence[Genotype], advance: Callable[[int], None] = lambda n: None) -> list[Member]:
        """Members in the order of the genotypes, ranked among themselves."""
        candidates = make_candidates(self._model, genotypes, self._confidence)
        scores = self.scorer.score(genotypes, advance)
        return [
            Member(
                **vars(candidate), nll=score.nll, expressivity=score.expressivity, rank=rank, accuracy=score.accuracy
            )
            for candidate, score, rank in zip(candidates, scores, rank_all(scores).tolist(), strict=True)
        ]
