"""Training to the end on all training images, by DARTS' recipe (Liu, Simonyan and Yang, 2019).

SGD with momentum, a cosine to zero, shifts and mirrors, cutout (DeVries and Taylor, 2017), drop
path that rises over the epochs, an auxiliary classifier. The test images are used once, at the end.

An update averages the gradients of two half batches. Each has a thread and batch-norm statistics of
its own: two small networks side by side keep two cores busy, a single network does not. A step
follows from the seed and its number, so an interrupted training goes on bit-equal.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search.config import Domains, check_domains, list_settings, setting
from search.data import ImageSet
from search.data.preprocessing import cutout
from search.data.stream import Stream
from search.own_model.model_file import Loss
from search.process.randomness import generator
from search.process.threads_and_memory import single_threaded_workers
from search.retraining.finetune import learning_rate_share, parameter_groups
from search.retraining.regularisation import AuxiliaryHead, DropPath
from search.supernet import Network
from search.training.gradients import set_mean_gradients
from shared.errors import InvalidValue, LutnasError
from shared.spaces import Space

SHARDS = 2
"""Parts of a batch. It is constant: the number that run at the same time changes no number."""
LEAST_BATCH = 2 * SHARDS
"""With the auxiliary head, whose last maps have a pixel: no statistics follow from one image."""
INHERITED_WARMUP = 0.05
"""Default share of the updates with inherited weights, which are near a good place already."""


@dataclass(frozen=True)
class RetrainingSettings:
    """The recipe. Defaults are those of DARTS, but for its 600 epochs and cutout of 16 pixels."""

    epochs: int = setting(100, "times that each training image is seen")
    batch_size: int = setting(96, "images per update")
    learning_rate: float = setting(0.025, "the first one; falls to 0 as a cosine")
    momentum: float = setting(0.9, "of SGD")
    weight_decay: float = setting(3e-4, "on weights of convolutions and linear layers")
    gradient_clip: float = setting(5.0, "largest norm of an update's gradient")
    label_smoothing: float = setting(0.0, "share of the target that is spread over all classes")
    cutout: float = setting(0.5, "side of the square that is cut out of an image, as a share of its side; 0: none")
    drop_path_prob: float = setting(0.2, "probability at the end that an op is left out for an image; 0: never")
    auxiliary_weight: float = setting(0.4, "of the auxiliary classifier's loss; 0: no such classifier")
    warmup: float = setting(0.0, "share of the updates over which the learning rate rises to the first one")
    half_size: float = setting(0.0, "share of the epochs, the first ones, with images of half the side")
    seed: int = 0
    inherit: bool = False
    precision: str = "fp32"

    def __post_init__(self) -> None:
        check_domains(self, _DOMAINS)

    @property
    def accuracy_kind(self) -> str:
        """How the accuracy of such a network came about, in words."""
        start = ", from the supernet's weights" if self.inherit else ""
        return f"trained for {self.epochs} epoch{'' if self.epochs == 1 else 's'}{start}"


_DOMAINS: Domains = (
    ("epochs batch_size", lambda value: value >= 1, "1 or more"),
    ("learning_rate gradient_clip", lambda value: value > 0, "above 0"),
    ("weight_decay auxiliary_weight", lambda value: value >= 0, "0 or more"),
    ("momentum label_smoothing drop_path_prob", lambda value: 0 <= value < 1, "from 0 to below 1"),
    ("cutout warmup half_size", lambda value: 0 <= value <= 1, "from 0 to 1"),
)
RECIPES: Mapping[str, Mapping[str, float]] = {
    "darts": {},
    "short": {
        "batch_size": 64,
        "learning_rate": 0.1,
        "warmup": 0.2,
        "cutout": 0.0,
        "drop_path_prob": 0.0,
        "auxiliary_weight": 0.0,
    },
}
"""Differences from the defaults. `short` regularises less: small networks underfit."""
SHORT_UP_TO_EPOCHS = 30
SETTINGS = list_settings(RetrainingSettings)


class Retraining:
    """Training of a network with a seed; `state()` and `load()` interrupt it anywhere.

    Args:
        networks: `SHARDS` networks of the same genotype. The first has the initial weights, and at
            the end the result.
        image_set: all training images are used.
        threads: shards computed at the same time.

    Attributes:
        loss: of logits and labels; another may take its place before the first step.

    Raises:
        InvalidValue: a batch is too small for the auxiliary head, or images have no half side.
    """

    def __init__(
        self, networks: Sequence[nn.Module], image_set: ImageSet, settings: RetrainingSettings, threads: int = SHARDS
    ) -> None:
        self.settings, self.network, self.threads = settings, networks[0], threads
        self.loss: Loss = partial(F.cross_entropy, label_smoothing=settings.label_smoothing)
        if settings.auxiliary_weight and isinstance(self.network, Network) and settings.batch_size < LEAST_BATCH:
            raise InvalidValue(
                "batch-size",
                f"{settings.batch_size} is not {LEAST_BATCH} or more, which batch norms of the auxiliary classifier"
                " need (--auxiliary-weight 0: no such classifier)",
            )
        side = image_set.preprocessing.size
        everything = torch.arange(len(image_set.train_labels))
        share = max(1, settings.batch_size // SHARDS)
        self._stream = Stream(image_set, everything, side, share, settings.seed, "retraining")
        self._half_stream: Stream | None = None
        if settings.half_size:
            if not isinstance(self.network, Network):
                raise InvalidValue(
                    "half-size", "is for our spaces: whether a model of your own takes it, we cannot tell"
                )
            half = half_side(self.network.space)
            self._half_stream = Stream(image_set, everything, half, share, settings.seed, "retraining")
        self.steps_per_epoch = max(1, self._stream.batches_per_epoch // SHARDS)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self._shards = [_Shard(network, settings.auxiliary_weight) for network in networks]
        first, *others = self._shards
        self._parameters = list(first.parameters())
        for other in others:
            for own, shared in zip(other.parameters(), self._parameters, strict=True):
                own.data = shared.data
        self._optimizer = torch.optim.SGD(
            parameter_groups(first, settings.weight_decay), settings.learning_rate, settings.momentum, foreach=True
        )
        self.step = 0

    @property
    def total_steps(self) -> int:
        return self.settings.epochs * self.steps_per_epoch

    def state(self) -> dict[str, Any]:
        """All that the next step depends on beside the settings."""
        shards = [shard.state_dict() for shard in self._shards]
        return {"step": self.step, "shards": shards, "optimizer": self._optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same network and settings."""
        for shard, tensors in zip(self._shards, state["shards"], strict=True):
            shard.load_state_dict(tensors)
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def train(
        self,
        on_epoch: Callable[[dict[str, float]], None] = lambda metrics: None,
        stopped: Callable[[], bool] = lambda: False,
        advance: Callable[..., None] = lambda n, **shown: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> bool:
        """Train to the end, or until `stopped()`; returns whether it is the end.

        Args:
            on_epoch: takes the metrics of each finished epoch, on augmented training images.
            stopped: asked after each step.
            advance: told of each step.
            clock: seconds.

        Raises:
            LutnasError: the loss is no longer finite.
        """
        began_s, losses, right = clock(), [], []
        with single_threaded_workers(self.threads) as pool:
            while self.step < self.total_steps and not stopped():
                loss, accuracy = self._update(pool)
                losses.append(loss)
                right.append(accuracy)
                self.step += 1
                advance(1, loss=loss, accuracy=100 * accuracy)
                if self.step % self.steps_per_epoch == 0:
                    on_epoch(self._metrics(losses, right, clock() - began_s))
                    began_s, losses, right = clock(), [], []
        if self.step == self.total_steps:
            self.network.eval()
        return self.step == self.total_steps

    def _metrics(self, losses: Sequence[float], right: Sequence[float], seconds: float) -> dict[str, float]:
        """Means over the steps of an epoch since training began or went on."""
        images = len(losses) * SHARDS * self._stream.batch_size
        return {
            "epoch": self.step // self.steps_per_epoch,
            "step": self.step,
            "loss": sum(losses) / len(losses),
            "accuracy": 100 * sum(right) / len(right),
            "learning_rate": self._learning_rate(self.step - 1),
            "drop_path_prob": self._drop_path_prob(self.step - 1),
            "seconds": round(seconds, 3),
            "images_per_s": round(images / seconds, 1) if seconds else 0.0,
        }

    def _update(self, pool: ThreadPoolExecutor) -> tuple[float, float]:
        """Do a step; returns loss and accuracy (a share) of its batch."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate(self.step)
        results = list(pool.map(self._gradients, range(SHARDS)))
        losses, right, gradients = zip(*results, strict=True)
        norm = set_mean_gradients(self._parameters, gradients, self.settings.gradient_clip)
        if not (math.isfinite(norm) and all(map(math.isfinite, losses))):
            raise LutnasError(
                f"training diverged at step {self.step} (epoch {self.step // self.steps_per_epoch + 1}): loss"
                f" {sum(losses) / SHARDS:g}, gradient norm {norm:g}; the checkpoint of the epoch before stays,"
                " a smaller --learning-rate may help"
            )
        self._optimizer.step()
        return sum(losses) / SHARDS, sum(right) / SHARDS

    def _gradients(self, index: int) -> tuple[float, float, Sequence[Tensor | None]]:
        settings, number = self.settings, self.step * SHARDS + index
        images, labels = self._stream_at(self.step).batch(number)
        random = generator(settings.seed, "retraining", number)
        images = cutout(images, random, round(settings.cutout * images.shape[-1]))
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16", cache_enabled=False):
            logits, auxiliary = self._shards[index](images, self._drop_path_prob(self.step), random)
        loss = self.loss(logits.float(), labels)
        right = (logits.argmax(dim=1) == labels).double().mean().item()
        total = loss
        if auxiliary is not None:
            total = loss + settings.auxiliary_weight * self.loss(auxiliary.float(), labels)
        gradients = torch.autograd.grad(total, list(self._shards[index].parameters()), allow_unused=True)
        return loss.item(), right, gradients

    def _stream_at(self, step: int) -> Stream:
        """The stream of the step's resolution; both have the same images in the same order."""
        half = self._half_stream
        return self._stream if half is None or step >= self.settings.half_size * self.total_steps else half

    def _learning_rate(self, step: int) -> float:
        share = self.settings.warmup or (INHERITED_WARMUP if self.settings.inherit else 0.0)
        warmup = max(1, int(share * self.total_steps))
        return self.settings.learning_rate * learning_rate_share(step, self.total_steps, warmup)

    def _drop_path_prob(self, step: int) -> float:
        return self.settings.drop_path_prob * (step // self.steps_per_epoch) / self.settings.epochs


def half_side(space: Space) -> int:
    """Half the side of a space's images.

    Raises:
        InvalidValue: the space's reductions do not divide it.
    """
    if space.resolution % (2 * space.total_stride):
        problem = f"half of {space.resolution} pixels is no multiple of {space.total_stride}, the stride"
        raise InvalidValue("half-size", problem)
    return space.resolution // 2


class _Shard(nn.Module):
    """A network with the parts for its training; shards share weights, but not statistics.

    A user's own has neither drop path nor an auxiliary head: where they would stand, only its author knows.
    """

    def __init__(self, network: nn.Module, auxiliary_weight: float) -> None:
        super().__init__()
        self.network, self.auxiliary, self._paths = network.train(), None, None
        if isinstance(network, Network):
            self.auxiliary = AuxiliaryHead(network) if auxiliary_weight else None
            self._paths = DropPath(network)

    def forward(self, images: Tensor, drop_path_prob: float, random: torch.Generator) -> tuple[Tensor, Tensor | None]:
        if self._paths is not None:
            self._paths.drop_path_prob, self._paths.generator = drop_path_prob, random
        logits = self.network(images)
        return logits, None if self.auxiliary is None else self.auxiliary.logits()
