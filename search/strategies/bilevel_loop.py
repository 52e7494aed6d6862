"""The loop that methods with alphas share: updates of alphas and weights in turn, numbered, saved, gone on with.

What an update does has to follow from its number alone (batches and noise by
`search.process.randomness`): then a search that was interrupted ends with the same bits as one that
was not.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from search.process.atomic_files import read_torch, write_torch
from search.process.threads_and_memory import torch_threads
from search.strategies.context import Bench, SearchStopped
from shared.errors import CorruptFile, LutnasError
from shared.wire import content_hash

CHECKPOINT = "updates.pt"
SHOWN_EVERY = 20

Update = Callable[[int], Mapping[str, float]]
"""Performs update number `step` and returns its losses by name."""


class Stateful(Protocol):
    """What an update changes: a module, an optimiser, a multiplier."""

    def state_dict(self) -> dict[str, Any]:
        """As tensors and numbers."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Be as then."""


def run_updates(bench: Bench, name: str, count: int, state: Mapping[str, Stateful], update: Update) -> None:
    """Perform the updates 0 to `count` - 1, each once, over however many starts. They may use the config's threads.

    Args:
        bench: whose folder keeps the checkpoint; several loops of one search need a `bench.part` each.
        name: of the phase, for the progress.
        count: of updates.
        state: all that updates change, by name.
        update: performs one.

    Raises:
        SearchStopped: `bench.stopped()`; the state is saved.
        LutnasError: a loss is no longer finite; the last good checkpoint stays.
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


def cosine(first: float, last: float, step: int, count: int) -> float:
    """The value at a step of a cosine from first to last (Loshchilov and Hutter, 2017)."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * step / count))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = value


def descend(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    gradients: Sequence[Tensor | None],
    largest_norm: float = math.inf,
) -> None:
    """One update with these gradients, clipped; a parameter without one stays as it is."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    if math.isfinite(largest_norm):
        nn.utils.clip_grad_norm_(parameters, largest_norm)
    optimizer.step()


def _save(bench: Bench, step: int, state: Mapping[str, Stateful]) -> None:
    content = {name: one.state_dict() for name, one in state.items()}
    write_torch(bench.folder / CHECKPOINT, {"search": _identity(bench), "step": step, "state": content})


def _restore(bench: Bench, state: Mapping[str, Stateful]) -> int:
    """The number of updates done before."""
    path = bench.folder / CHECKPOINT
    if not path.exists():
        return 0
    content = read_torch(path)
    if not (isinstance(content, dict) and {"search", "step", "state"} <= content.keys()):
        raise CorruptFile(f"{path} is damaged: it is no checkpoint of a search")
    if content["search"] != _identity(bench) or content["state"].keys() != state.keys():
        raise CorruptFile(f"{path} was written by another search; remove the folder to begin anew")
    for name, one in state.items():
        one.load_state_dict(content["state"][name])
    return int(content["step"])


def _identity(bench: Bench) -> str:
    return content_hash(bench.config)


def copy_state(source: Mapping[str, Stateful], target: Mapping[str, Stateful]) -> None:
    """Make the target what the source is; later updates of one do not reach the other."""
    for name, one in target.items():
        one.load_state_dict(copy.deepcopy(source[name].state_dict()))
