"""What every strategy works with, and what it hands back. Nothing in here knows a strategy.

All strategies of one seed get the same images in the same splits, the same table, bound, budgets and step counts, and a
supernet with the same first weights. They return networks; which of these are good is for others to say
(`search.compare.comparison`), by one supernet that no strategy trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from search.alphas.expected_cost import Objective, make_objective
from search.config import Config
from search.data import ImageSet, Splits, splits
from search.data.stream import Stream
from search.decoding.decoding import Decoder, make_decoder
from search.family.candidates import Member
from search.latency.latency_model import LatencyModel
from search.process.progress import Progress
from search.process.randomness import generator
from search.runs.run_directory import RunDirectory
from search.supernet import Supernet
from search.training.training import Stopped, new_supernet
from shared.errors import LutnasError, WrongUse
from shared.spaces import Genotype, Space
from shared.tables.table import LatencyTable


class SearchStopped(LutnasError):
    """Somebody asked to stop; everything is saved, and the same search goes on where it was."""


@dataclass(frozen=True)
class Proposal:
    """A network that a strategy hands over.

    Attributes:
        genotype: connected.
        budget_ms: that the network was searched for; None where the strategy knows no budgets.
        derived: by the method's own rule from its alphas; False where the bound of the table had a say in it (decoded
            under the budget, or chosen by its bound).
    """

    genotype: Genotype
    budget_ms: float | None = None
    derived: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a search came to.

    Attributes:
        proposals: may be empty: a derived network may not connect input and output.
        training_images: that updates of the weights saw.
        evaluations: distinct networks scored on a supernet.
        notes: what a reader of the comparison should know; one line each.
    """

    proposals: tuple[Proposal, ...]
    training_images: int
    evaluations: int = 0
    notes: tuple[str, ...] = ()


class Alphas(nn.Module):
    """Logits (slots, primitives), drawn around 0."""

    def __init__(self, space: Space, seed: int, scale: float) -> None:
        super().__init__()
        shape = len(space.slots), len(space.slots[0].primitives)
        self.values = nn.Parameter(scale * torch.randn(shape, generator=generator(seed, "alphas")))

    def forward(self) -> Tensor:
        """The logits."""
        return self.values


@dataclass(frozen=True, eq=False)
class Bench:
    """The working set of one search.

    Attributes:
        config: seed, step counts, batch sizes, threads, resolution of the images, confidence of the bound.
        table: of the device.
        images: of the config's data set.
        budgets_ms: rising; each at least the decoder's `smallest_ms`.
        folder: of this search alone, there already.
        evaluations: most networks to score on a supernet.
        one_shot: a supernet trained by fairly sampled paths; only for strategies that ask for it (`uses_one_shot`).
        stopped: asked after each update.
    """

    config: Config
    table: LatencyTable
    images: ImageSet
    budgets_ms: tuple[float, ...]
    folder: Path
    evaluations: int
    progress: Progress
    one_shot: RunDirectory | None = None
    stopped: Stopped = field(default=lambda: False)

    @cached_property
    def space(self) -> Space:
        """Of the table."""
        return self.table.parsed_space

    @cached_property
    def model(self) -> LatencyModel:
        """Means and bounds of networks."""
        return LatencyModel(self.table)

    @cached_property
    def decoder(self) -> Decoder:
        """The most probable networks under a budget."""
        return make_decoder(self.model, self.config.confidence)

    @cached_property
    def objective(self) -> Objective:
        """Expected latency and parameters of alphas."""
        return make_objective(self.table)

    @cached_property
    def splits(self) -> Splits:
        """Which training images serve which purpose."""
        return splits(self.images, self.config.seed)

    @property
    def batch_size(self) -> int:
        """Images per update of the weights: as many as an update of the default strategy takes."""
        return self.config.paths_per_step * self.config.batch_size

    @cached_property
    def weight_batches(self) -> Stream:
        """For the weights, `batch_size` images each."""
        return self._stream(self.splits.train, self.batch_size, "weights")

    @cached_property
    def alpha_batches(self) -> Stream:
        """For the architecture: as many images as an update of the default strategy's alphas takes."""
        size = self.config.conditions_per_step * self.config.alpha_batch_size
        return self._stream(self.splits.validation, size, "alpha")

    def new_supernet(self) -> Supernet:
        """In training mode, its first weights drawn from the seed."""
        return new_supernet(self.config, self.space)

    def new_alphas(self, scale: float = 1e-3) -> Alphas:
        """As DARTS begins: nearly equal."""
        return Alphas(self.space, self.config.seed, scale)

    def get_one_shot(self) -> RunDirectory:
        """The trained one-shot supernet.

        Raises:
            WrongUse: nobody trained one for this bench.
        """
        if self.one_shot is None:
            raise WrongUse("this strategy scores networks on a one-shot supernet: the bench has none")
        return self.one_shot

    def part(self, name: str) -> Bench:
        """The same bench with a folder within its folder, for one of several searches."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return replace(self, folder=folder)

    def propose(self, genotype: Genotype, budget_ms: float | None = None, derived: bool = True) -> Proposal:
        """A proposal of a connected network."""
        return Proposal(self.space.canonical(genotype), budget_ms, derived)

    def propose_members(self, members: Iterable[Member]) -> tuple[Proposal, ...]:
        """Proposals of networks that were chosen by bound and rank."""
        return tuple(self.propose(member.genotype, derived=False) for member in members)

    def _stream(self, indices: Tensor, size: int, name: str) -> Stream:
        return Stream(self.images, indices, self.config.search_resolution, size, self.config.seed, name)


class Strategy(Protocol):
    """A way to search, as a frozen dataclass: its fields are its options and check themselves."""

    uses_one_shot: ClassVar[bool] = False
    """Whether it scores networks on a supernet that was trained by fairly sampled paths."""

    def search(self, bench: Bench) -> Outcome:
        """Search. Called again after an interruption, on the same folder, it goes on where it was.

        Raises:
            SearchStopped: `bench.stopped()`; everything is saved.
            LutnasError: training diverged.
        """
