"""Expressivity of an untrained network (AZ-NAS: Lee and Ham, 2024): how evenly its features use their channels.

Features (images, channels, height, width) are points in the space of channels, one for each place of each image. With p
the eigenvalues of their covariance over the eigenvalues' sum, their expressivity is the entropy

    - sum over channels of p log p      (nats; log of the channels where all vary alike, 0 where one varies)

A network's is the sum over the features that its fixed ops read, the image left out: in NAS-Bench-201 what each stage
hands on. Cells that add their input to itself, average it away or let it through as it is score low there, and the
more cells a stage has, the lower: so networks are looked at as deep as they will be.

All networks of a space are paths of one untrained supernet: the same op in the same place has the same random weights
in each, so that networks differ by what they are and not by what was drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from search.ranking.activation_cache import SharedPaths, StepResult
from search.supernet import Supernet
from shared.spaces import Genotype, Space
from shared.spaces.wiring import INPUT, Step


class UntrainedSupernet:
    """Random weights for every op of a space, and the entropy of what its fixed ops read.

    Batch norms use the batch's own statistics, as a network's first training step does.

    Args:
        space: of the networks.
        seed: of the weights.
    """

    def __init__(self, space: Space, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._supernet = Supernet(space, near_identity=False).train()

    def paths(self, images: Tensor) -> SharedPaths:
        """What `expressivity` asks, for one batch and one thread."""
        return SharedPaths(self._run, images)

    def _run(self, step: Step, x: Tensor) -> StepResult:
        is_read_by_fixed_op = step.slot is None and INPUT not in step.inputs
        return StepResult(self._supernet.run_step(step, x), entropy(x) if is_read_by_fixed_op else None)


def entropy(features: Tensor) -> Tensor:
    """Entropy of the spectrum of features (images, channels, height, width), nats, a scalar; 0 where nothing varies."""
    points = features.movedim(1, -1).flatten(0, -2)
    centred = points - points.mean(dim=0)
    spectrum = torch.linalg.eigvalsh((centred.T @ centred).double()).clamp_min(0)
    shares = spectrum / spectrum.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return torch.special.entr(shares).sum()  # type: ignore[no-any-return]


@torch.no_grad()
def expressivity(paths: SharedPaths, space: Space, genotype: Genotype) -> float:
    """Of a network, nats; higher is better. Not finite where its features are not.

    Args:
        paths: of an `UntrainedSupernet`, on a batch.
        space: of the untrained networks.
        genotype: connected.
    """
    _, entropies = paths.evaluate(space.wiring(genotype))
    return float(torch.stack(entropies).sum())
