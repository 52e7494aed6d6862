"""Expressivity of an untrained network (AZ-NAS: Lee and Ham, 2024): the spread of its features.

Features (images, channels, height, width) are points in the space of channels, a point for each
pixel. With p the eigenvalues of their covariance, normalised to sum 1, their expressivity is the
entropy

    - sum over channels of p log p      (nats; log of the channels if all vary alike)

The expressivity of a network is the sum over the features that its fixed ops read, without the
image: in NAS-Bench-201 the outputs of the stages. Cells that double, average or only pass on their
input score low, the lower the more cells a stage has. Networks are therefore scored at their final
depth.

All networks of a space are paths of the same untrained supernet, so the same op in the same place
has the same random weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from search.ranking.activation_cache import ActivationCache, StepResult
from search.supernet import Supernet
from shared.spaces import Genotype, Space
from shared.spaces.wiring import INPUT, Step


class UntrainedSupernet:
    """Random weights for every op of a space, and the entropy of the inputs of fixed ops.

    Batch norms use the batch's statistics, as in a first training step. The seed is that of the
    weights.
    """

    def __init__(self, space: Space, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._supernet = Supernet(space, near_identity=False).train()

    def paths(self, images: Tensor) -> ActivationCache:
        """The paths for `expressivity`, of a batch and a thread."""
        return ActivationCache(self._run, images)

    def _run(self, step: Step, x: Tensor) -> StepResult:
        is_read_by_fixed_op = step.slot is None and INPUT not in step.inputs
        return StepResult(self._supernet.run_step(step, x), entropy(x) if is_read_by_fixed_op else None)


def entropy(features: Tensor) -> Tensor:
    """Entropy in nats of the spectrum of features (images, channels, height, width).

    NaN if a covariance is not finite.
    """
    points = features.movedim(1, -1).flatten(0, -2)
    centred = points - points.mean(dim=0)
    covariance = (centred.T @ centred).double()
    if not covariance.isfinite().all():
        return covariance.new_tensor(math.nan)
    spectrum = torch.linalg.eigvalsh(covariance).clamp_min(0)
    shares = spectrum / spectrum.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return torch.special.entr(shares).sum()  # type: ignore[no-any-return]


@torch.no_grad()
def expressivity(paths: ActivationCache, space: Space, genotype: Genotype) -> float:
    """Expressivity of a connected network of the untrained space in nats; higher is better.

    Not finite if its features are not.
    """
    _, entropies = paths.evaluate(space.wiring(genotype))
    return float(torch.stack(entropies).sum())
