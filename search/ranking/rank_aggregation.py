"""The order of candidates: three orders made one as AZ-NAS does it (Lee and Ham, 2024).

    score = sum over likelihood, expressivity and parameter count of log(place / networks)       place 1 is the worst

The logarithm lets a network that is among the worst by any of the three not make up for it by the others. Each order
alone, and their plain mean, rank worse (docs/notes/search.md gives the figures).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from search.ranking.scoring import Score


def rank_all(scores: Sequence[Score]) -> npt.NDArray[np.float64]:
    """Ranks (scores,) among one another; 1 is best, ties share their mean rank."""
    if not scores:
        return np.zeros(0)
    columns = np.array([(-score.nll, score.expressivity, score.parameters) for score in scores])
    # A network that diverged has no likelihood: it comes last.
    columns = np.where(np.isfinite(columns), columns, -np.inf)
    places = rankdata(columns, axis=0)
    # Rounded, so that equal products of places tie whatever the order of summation.
    return np.asarray(rankdata(-np.log(places).sum(axis=1).round(9)), dtype=np.float64)
