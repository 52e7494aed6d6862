"""Tuning: a short training of inherited weights at full resolution.

SGD with Nesterov momentum, a cosine to zero, label smoothing; a long tuning has the shifts and
mirrors of the search. It uses all training images (of the weights, the alphas and the ranking). The
test images are used once, for the accuracy of the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search.data import ImageSet
from search.data.stream import Stream
from search.own_model.model_file import Loss
from search.process.randomness import generator
from search.process.threads_and_memory import torch_threads
from search.supernet import recompute_statistics
from shared.errors import InvalidValue

AUGMENTED_FROM_EPOCHS = 10.0
"""In a shorter tuning shifts and mirrors cost accuracy (docs/notes/search.md)."""
LONG_FROM_EPOCHS = 1.0
AT_ONCE = 500
"""Images that are preprocessed at once to judge a network."""
SHORT, LONG = (32, 0.05), (64, 0.2)
"""Batch size and first learning rate: a short tuning needs updates more than smooth gradients."""


@dataclass(frozen=True)
class TuningSettings:
    """How a member is tuned. `epochs` may be a fraction; 0 recomputes batch-norm statistics alone.

    By default `batch_size` and `learning_rate` follow from the epochs.
    """

    epochs: float = 1.0
    batch_size: int = 0
    learning_rate: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    gradient_clip: float = 5.0
    recalibration_images: int = 1024
    seed: int = 0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epochs) and self.epochs >= 0):
            raise InvalidValue("tune-epochs", f"{self.epochs} is not a number of epochs")
        batch_size, learning_rate = LONG if self.epochs >= LONG_FROM_EPOCHS else SHORT
        object.__setattr__(self, "batch_size", self.batch_size or batch_size)
        object.__setattr__(self, "learning_rate", self.learning_rate or learning_rate)

    @property
    def accuracy_kind(self) -> str:
        """How the accuracy of such a network came about, in words."""
        if self.epochs == 0:
            return "inherited from the supernet, batch-norm statistics recomputed"
        return f"inherited from the supernet, tuned for {self.epochs:.3g} epoch{'' if self.epochs == 1 else 's'}"


def tuning_steps(image_set: ImageSet, settings: TuningSettings) -> int:
    """Updates of a tuning on all training images."""
    return updates(len(image_set.train_labels), settings)


def updates(images: int, settings: TuningSettings) -> int:
    """Updates of a tuning on so many images."""
    return math.ceil(settings.epochs * images / settings.batch_size)


class TuningImages:
    """Training images, prepared once for all members, and the loss; several threads may read them.

    Args:
        indices: of the training images; all by default.
    """

    def __init__(
        self, image_set: ImageSet, settings: TuningSettings, loss: Loss | None = None, indices: Tensor | None = None
    ) -> None:
        self.loss = loss or partial(F.cross_entropy, label_smoothing=settings.label_smoothing)
        chosen = torch.arange(len(image_set.train_images)) if indices is None else indices
        augmented, side = settings.epochs >= AUGMENTED_FROM_EPOCHS, image_set.preprocessing.size
        batch_size, seed = settings.batch_size, settings.seed
        self.stream = Stream(image_set, chosen, side, batch_size, seed, "tuning", augmented)
        self.recalibration = recalibration_images(image_set, settings.recalibration_images, chosen)


class Tuner:
    """A network in tuning, update by update, in training mode. Its batch-norm statistics come first.

    Args:
        steps: of the whole tuning, as `tuning_steps` says.
    """

    def __init__(self, network: nn.Module, images: TuningImages, settings: TuningSettings, steps: int) -> None:
        self._network, self._settings, self._steps, self._loss = network, settings, steps, images.loss
        # The supernet keeps no statistics, and at full resolution they differ anyway.
        recompute_statistics(network, batches(images.recalibration))
        groups = parameter_groups(network, settings.weight_decay)
        self._optimizer = torch.optim.SGD(groups, settings.learning_rate, settings.momentum, nesterov=True)
        self._warmup = max(1, steps // 20)  # the inherited weights are near a good place
        network.train()

    def update(self, batch: tuple[Tensor, Tensor], position: float) -> None:
        """Perform an update. `position`: of the learning rate's course, from 0 to `steps`."""
        settings = self._settings
        share = learning_rate_share(position, self._steps, self._warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * share
        images, labels = batch
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            logits = self._network(images)
        loss = self._loss(logits.float(), labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), settings.gradient_clip)
        self._optimizer.step()

    def update_by_each(self, batches: Iterable[tuple[Tensor, Tensor]], position: float) -> None:
        """Perform an update with each batch, at one learning rate."""
        for batch in batches:
            self.update(batch, position)


def tune(
    network: nn.Module,
    images: TuningImages,
    settings: TuningSettings,
    steps: int,
    advance: Callable[[int], None] = lambda n: None,
) -> None:
    """Train a network in place, with a single thread; in evaluation mode afterwards.

    The same settings on the same machine give the same weights. `steps` are those of
    `tuning_steps`; `advance` is told of each.
    """
    try:
        with torch_threads(1):
            tuner = Tuner(network, images, settings, steps)
            for step in range(steps):
                tuner.update(images.stream.batch(step), step)
                advance(1)
    finally:
        network.eval()


def recalibration_images(image_set: ImageSet, most: int, indices: Tensor | None = None) -> Tensor:
    """Training images for batch-norm statistics, prepared. They are drawn: those of a folder lie class by class.

    Args:
        most: images.
        indices: of the training images to draw from; all by default.
    """
    chosen = torch.arange(len(image_set.train_images)) if indices is None else indices
    order = torch.randperm(len(chosen), generator=generator(0, "recalibration"))
    return image_set.preprocessing.apply(image_set.train_images[chosen[order[:most]]])


@torch.no_grad()
def accuracy_on_images(network: nn.Module, image_set: ImageSet, images: Tensor, labels: Tensor) -> float:
    """Accuracy in percent, with running statistics. `images` are as the set has them stored."""
    network.eval()
    correct = 0
    for some, theirs in zip(images.split(AT_ONCE), labels.split(AT_ONCE), strict=True):
        logits = torch.cat([network(part) for part in batches(image_set.preprocessing.apply(some))])
        correct += int((logits.argmax(dim=1) == theirs).sum())
    return 100 * correct / len(labels)


def accuracy_on_test_images(network: nn.Module, image_set: ImageSet) -> float:
    """Accuracy over all test images, percent."""
    return accuracy_on_images(network, image_set, image_set.test_images, image_set.test_labels)


def learning_rate_share(step: float, steps: int, warmup: int = 1) -> float:
    """The lesser of a linear rise over `warmup` steps and a cosine from 1 to 0 over all steps."""
    return min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / max(1, steps))))


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay on weights of convolutions and linear layers, none on batch norms and biases."""
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def batches(images: Tensor, size: int = 250) -> Iterator[Tensor]:
    """Views of consecutive images, channels last."""
    for part in images.split(size):
        yield part.contiguous(memory_format=torch.channels_last)
