"""The loop of the methods with alphas: numbered updates of alphas and weights, saved and resumed.

An update must follow from its number alone (batches and noise come from
`search.process.randomness`). An interrupted search then ends with the same bits as an uninterrupted
search.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from search.process.tensor_files import read_torch, write_torch
from search.process.threads_and_memory import torch_threads
from search.strategies.context import Bench, SearchStopped
from shared.errors import CorruptFile, LutnasError
from shared.wire import content_hash

CHECKPOINT = "updates.pt"
SHOWN_EVERY = 20


Stateful = nn.Module | torch.optim.Optimizer
"""What an update changes."""


@dataclass(frozen=True)
class OptimizerSettings:
    """SGD for the weights, Adam for the alphas. The defaults are those of DARTS."""

    weight_lr: float = 0.025
    last_weight_lr: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    gradient_clip: float = 5.0
    alpha_lr: float = 3e-4
    alpha_weight_decay: float = 1e-3

    alpha_betas: ClassVar[tuple[float, float]] = (0.5, 0.999)
    nesterov: ClassVar[bool] = False
    uses_one_shot: ClassVar[bool] = False


class Learner:
    """Supernet, alphas and their optimisers: all that the updates of a method change.

    Args:
        bench: gives seed, batches and step count.
        supernet: in training mode; None takes the bench's.
        alpha_scale: standard deviation of the first alphas.
    """

    def __init__(
        self, settings: OptimizerSettings, bench: Bench, supernet: nn.Module | None = None, alpha_scale: float = 1e-3
    ) -> None:
        self.settings, self.bench = settings, bench
        self.supernet = bench.new_supernet() if supernet is None else supernet
        self.alphas = bench.new_alphas(alpha_scale)
        self.weights = list(self.supernet.parameters())
        self.weight_optimizer = torch.optim.SGD(
            self.weights,
            settings.weight_lr,
            settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov and settings.momentum > 0,
            foreach=True,
        )
        self.alpha_optimizer = torch.optim.Adam(
            self.alphas.parameters(), settings.alpha_lr, settings.alpha_betas, weight_decay=settings.alpha_weight_decay
        )
        self.state: dict[str, Stateful] = {
            "supernet": self.supernet,
            "alphas": self.alphas,
            "weight_optimizer": self.weight_optimizer,
            "alpha_optimizer": self.alpha_optimizer,
        }

    def weight_lr(self, step: int) -> float:
        """Cosine over the whole search."""
        return cosine(self.settings.weight_lr, self.settings.last_weight_lr, step, self.bench.config.total_steps)

    def update_weights(self, loss: Tensor, learning_rate: float) -> float:
        """Update the weights that have a gradient, clipped. Returns the loss.

        Weights stay as they are where a gradient is not finite; the loss is then NaN.
        """
        gradients = torch.autograd.grad(loss, self.weights, allow_unused=True)
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        if not nn.utils.clip_grad_norm_(self.weights, self.settings.gradient_clip).isfinite():
            return math.nan
        for group in self.weight_optimizer.param_groups:
            group["lr"] = learning_rate
        self.weight_optimizer.step()
        return loss.item()

    def update_alphas(self, loss: Tensor) -> float:
        """Update the alphas by the gradient of the loss. Returns the loss."""
        (self.alphas.values.grad,) = torch.autograd.grad(loss, self.alphas.values)
        self.alpha_optimizer.step()
        return loss.item()


def cosine(first: float, last: float, step: int, count: int) -> float:
    """The value at a step of a cosine from first to last (Loshchilov and Hutter, 2017)."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * step / count))


def run_updates(
    bench: Bench, name: str, count: int, state: Mapping[str, Stateful], update: Callable[[int], Mapping[str, float]]
) -> None:
    """Perform the updates 0 to `count` - 1, each once, over any number of starts.

    Args:
        bench: its folder keeps the checkpoint; each of several loops needs a `bench.part`.
        name: of the phase, for the progress.
        state: all that updates change, by name.
        update: performs the update of a number and returns its losses by name.

    Raises:
        SearchStopped: `bench.stopped()`; the state is saved.
        LutnasError: a loss is not finite; the last good checkpoint stays.
        CorruptFile: the checkpoint is damaged, or of another search.
    """
    step = _restore(bench, state)
    if step == count:
        return
    with torch_threads(bench.config.threads), bench.progress.phase(name, count - step) as phase:
        while step < count and not bench.stopped():
            losses = update(step)
            if not all(map(math.isfinite, losses.values())):
                told = ", ".join(f"{key} {value:g}" for key, value in losses.items())
                raise LutnasError(
                    f"{name} diverged at update {step}: {told}; the last good checkpoint stays in {bench.folder}"
                )
            step += 1
            phase.advance(1, **(losses if step % SHOWN_EVERY == 0 else {}))
            if step % bench.config.checkpoint_every == 0 and step < count:
                _save(bench, step, state)
    _save(bench, step, state)
    if step < count:
        raise SearchStopped(f"stopped after update {step} of {count} of {name}, everything is saved")


def copy_state(source: Mapping[str, Stateful], target: Mapping[str, Stateful]) -> None:
    """Give the target the state of the source. They share no tensor."""
    for name, part in target.items():
        part.load_state_dict(copy.deepcopy(source[name].state_dict()))


def _save(bench: Bench, step: int, state: Mapping[str, Stateful]) -> None:
    content = {name: part.state_dict() for name, part in state.items()}
    write_torch(bench.folder / CHECKPOINT, {"search": content_hash(bench.config), "step": step, "state": content})


def _restore(bench: Bench, state: Mapping[str, Stateful]) -> int:
    """Load the checkpoint, if there is one. Returns the number of updates done."""
    path = bench.folder / CHECKPOINT
    if not path.exists():
        return 0
    content = read_torch(path)
    if not (isinstance(content, dict) and {"search", "step", "state"} <= content.keys()):
        raise CorruptFile(f"{path} is damaged: it is no checkpoint of a search")
    if content["search"] != content_hash(bench.config) or content["state"].keys() != state.keys():
        raise CorruptFile(f"{path} was written by another search; remove the folder to begin anew")
    for name, part in state.items():
        part.load_state_dict(content["state"][name])
    return int(content["step"])
