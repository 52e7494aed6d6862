"""From inherited weights to a network of its own: a short training at full resolution.

SGD with Nesterov momentum, a cosine to zero, label smoothing, padded random crops and, where a mirrored image keeps its
meaning, flips. It sees all training images (those of the weights, of the alphas and of the ranking); the test images
only once, for the accuracy of the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search.data import ImageSet
from search.evaluation import batches, evaluate
from search.supernet import Network, recompute_statistics
from shared.errors import InvalidValue

MIRRORED = ("fashion-mnist",)
"""Data sets whose images mean the same when mirrored (digits do not)."""


@dataclass(frozen=True)
class TuningSettings:
    """How a member is tuned. `epochs` may be a fraction; 0 recomputes the batch-norm statistics and nothing else."""

    epochs: float = 1.0
    batch_size: int = 128
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    padding: int = 2
    recalibration_images: int = 1024
    seed: int = 0
    precision: str = "fp32"
    threads: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epochs) and self.epochs >= 0):
            raise InvalidValue("tune-epochs", f"{self.epochs} is not a number of epochs")

    @property
    def accuracy_kind(self) -> str:
        """How the accuracy of a network that was tuned so came about."""
        if self.epochs == 0:
            return "inherited from the supernet, batch-norm statistics recomputed"
        return f"inherited from the supernet, tuned for {self.epochs:g} epoch{'' if self.epochs == 1 else 's'}"


def tuning_steps(image_set: ImageSet, settings: TuningSettings) -> int:
    """Updates that the tuning takes."""
    return math.ceil(settings.epochs * len(image_set.train_labels) / settings.batch_size)


def tune(
    network: Network,
    image_set: ImageSet,
    settings: TuningSettings,
    advance: Callable[[int], None] = lambda n: None,
) -> None:
    """Train a network in place. The same settings on the same machine give the same weights.

    Args:
        network: with the weights to start from.
        image_set: at the network's full resolution.
        settings: see there.
        advance: told of each update.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        # The supernet kept no statistics, and at full resolution they are others anyway.
        recompute_statistics(network, batches(_recalibration(image_set, settings)))
        _train(network, image_set, settings, generator, advance)
    finally:
        torch.set_num_threads(threads)
        network.eval()


def accuracy_on_test_images(network: Network, image_set: ImageSet, size: int = 500) -> float:
    """Accuracy over all test images, percent, preprocessed a batch at a time."""
    correct = 0.0
    for images, labels in zip(image_set.test_images.split(size), image_set.test_labels.split(size), strict=True):
        correct += evaluate(network, image_set.preprocessing.apply(images), labels).accuracy * len(labels)
    return correct / len(image_set.test_labels)


def _train(
    network: Network,
    image_set: ImageSet,
    settings: TuningSettings,
    generator: torch.Generator,
    advance: Callable[[int], None],
) -> None:
    steps = tuning_steps(image_set, settings)
    optimizer = torch.optim.SGD(
        _parameter_groups(network, settings.weight_decay), settings.learning_rate, settings.momentum, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate_share(step, steps))
    network.train()
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < settings.batch_size:
            order = torch.cat([order, torch.randperm(len(image_set.train_labels), generator=generator)])
        chosen, order = order[: settings.batch_size], order[settings.batch_size :]
        images = _augmented(image_set, chosen, settings, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            logits = network(images)
        loss = F.cross_entropy(logits.float(), image_set.train_labels[chosen], label_smoothing=settings.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        advance(1)


def _learning_rate_share(step: int, steps: int) -> float:
    """A short linear warm-up (the inherited weights are near a good place), then a cosine to zero."""
    warmup = max(1, steps // 20)
    return min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / max(1, steps))))


def _parameter_groups(network: Network, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay on weights of convolutions and linear layers; none on batch norms and biases."""
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _recalibration(image_set: ImageSet, settings: TuningSettings) -> Tensor:
    return image_set.preprocessing.apply(image_set.train_images[: settings.recalibration_images])


def _augmented(image_set: ImageSet, chosen: Tensor, settings: TuningSettings, generator: torch.Generator) -> Tensor:
    """Preprocessed images, each moved by up to `padding` pixels and perhaps mirrored; as the network takes them."""
    preprocessing = image_set.preprocessing
    raw = preprocessing.resize(image_set.train_images[chosen].float())
    count, side, padding = len(chosen), raw.shape[-1], settings.padding
    padded = F.pad(raw, [padding] * 4)
    top, left = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
    rows, columns = top + torch.arange(side), left + torch.arange(side)  # each (count, side)
    if image_set.name in MIRRORED:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    each = torch.arange(count)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]  # (count, side, side, channels)
    return preprocessing.normalise(moved.permute(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)
