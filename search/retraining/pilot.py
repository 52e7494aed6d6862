"""Chooses among networks of several searches by a short training of each.

Ranks of different supernets cannot be compared: widths, and what the weights have learnt, differ.
So the networks are tuned side by side on most of the training images, and judged on the others.
Test images choose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search.data import ImageSet, splits
from search.own_model.model_file import Loss
from search.retraining.finetune import TuningImages, TuningSettings, accuracy_on_images, tune, updates
from shared.errors import InvalidValue

JUDGED_SHARE, MOST_JUDGED, LEAST_JUDGED = 1 / 6, 10_000, 50


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Indices into the training images.

    Attributes:
        tuning: of a pilot.
        judged: of no weights so far, and not of the pilot.
    """

    tuning: Tensor
    judged: Tensor


def hold_out(images: ImageSet, seeds: Iterable[int]) -> HeldOut:
    """Hold out images that gave no search of these seeds its weights.

    Raises:
        InvalidValue: too few are left of the images.
    """
    count = len(images.train_labels)
    is_unseen = torch.ones(count, dtype=torch.bool)
    for seed in seeds:
        is_unseen[splits(images, seed).train] = False
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    unseen = order[is_unseen[order]]
    judged = unseen[: min(MOST_JUDGED, int(JUDGED_SHARE * count))]
    if len(judged) < LEAST_JUDGED:
        problem = f"leaves {len(judged)} images that no search was trained on, {LEAST_JUDGED} are needed to choose"
        raise InvalidValue("dataset", f"{images.name} {problem}")
    is_unseen[:] = True
    is_unseen[judged] = False
    return HeldOut(order[is_unseen[order]], judged)


def pilot(
    networks: Sequence[nn.Module],
    images: ImageSet,
    held_out: HeldOut,
    settings: TuningSettings,
    pool: Executor,
    loss: Loss | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> list[float]:
    """Accuracies in percent on the images held out, after a tuning in place on the others.

    Args:
        pool: its threads share the networks.
        advance: told of each update.
    """
    prepared = TuningImages(images, settings, loss, held_out.tuning)
    steps = updates(len(held_out.tuning), settings)
    judged = images.train_images[held_out.judged], images.train_labels[held_out.judged]

    def accuracy(network: nn.Module) -> float:
        tune(network, prepared, settings, steps, advance)
        return accuracy_on_images(network, images, *judged)

    return list(pool.map(accuracy, networks))
