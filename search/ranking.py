"""The order of candidates: the mean of three ranks. Each alone ranks worse (docs/method.md gives the figures)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from search.scoring import Score


def mean_ranks(scores: Sequence[Score]) -> npt.NDArray[np.float64]:
    """Mean of the ranks by likelihood, NASWOT and parameter count, (scores,); 1 is best, ties share their mean rank."""
    if not scores:
        return np.zeros(0)
    columns = np.array([(score.nll, -score.naswot, -score.parameters) for score in scores])
    # A network that diverged has no likelihood: it comes last.
    columns = np.where(np.isfinite(columns), columns, np.inf)
    return np.asarray(rankdata(columns, axis=0).mean(axis=1), dtype=np.float64)
