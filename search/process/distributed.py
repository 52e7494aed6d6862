"""The processes of a search (`torchrun --nproc-per-node N -m search ...`), and sums over them.

Each process computes its share of the paths and conditions of a step. Gradients are summed over all
processes, and every process performs the same update. A path follows from its number, so N
processes find the same as a single process, up to the order of summation. The first process alone
writes files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from shared.errors import InvalidValue, LutnasError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Process `index` (from 0) of `count`.

    All processes have to call the methods that say "all", and in the same order.
    """

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.index == 0

    def check_divides(self, name: str, number: int) -> None:
        """Raise InvalidValue unless every process gets as many of a step's parts."""
        if number % self.count:
            raise InvalidValue(name, f"{number} cannot be shared evenly by {self.count} processes")

    def share(self, parts: Sequence[T]) -> Sequence[T]:
        """The parts of a step that this process computes."""
        return parts[self.index :: self.count]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any of all processes."""
        return flag if self.count == 1 else self.sum([float(flag)])[0] > 0

    def sum(self, numbers: Sequence[float]) -> list[float]:
        if self.count == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64)
        _translated(lambda: dist.all_reduce(total))
        return [float(value) for value in total]

    def sum_gradients(self, gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor | None]:
        """Sums over all processes; None where no process has a gradient.

        `like` are tensors of the gradients' shapes and layouts.
        """
        if self.count == 1:
            return list(gradients)
        used = torch.tensor([gradient is not None for gradient in gradients], dtype=torch.int32)
        _translated(lambda: dist.all_reduce(used))
        wanted = [place for place, count in enumerate(used.tolist()) if count]
        totals = [torch.zeros_like(like[place]) for place in wanted]
        for total, place in zip(totals, wanted, strict=True):
            if (own := gradients[place]) is not None:
                total.copy_(own)
        flat = torch.cat([total.flatten() for total in totals])
        _translated(lambda: dist.all_reduce(flat))
        found: list[Tensor | None] = [None] * len(like)
        for total, place, part in zip(totals, wanted, flat.split([total.numel() for total in totals]), strict=True):
            found[place] = total.copy_(part.view(total.shape))
        return found

    def from_first(self, text: str | None) -> str:
        """The first process's text, for all processes; the others give None."""
        if self.count == 1:
            assert text is not None
            return text
        box = [text]
        _translated(lambda: dist.broadcast_object_list(box, src=0))
        assert box[0] is not None
        return box[0]


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """This process's place by torchrun's environment variables; a single process without them."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    # Tensors on a GPU go through nccl, which is untested: there was none here.
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Ranks(dist.get_rank(), count)
        _translated(dist.barrier)  # a process that ends early takes its connections with it
    finally:
        dist.destroy_process_group()


def _translated(collective: Callable[[], object]) -> None:
    try:
        collective()
    except RuntimeError as error:
        raise LutnasError("another process of the search has ended; the last checkpoint stays (--resume)") from error
