"""What every strategy gets, and what it returns. Nothing here knows a strategy.

All strategies of a seed get the same images in the same splits, the same table, bound, budgets and
step counts, and a supernet with the same first weights. They return networks.
`search.compare.comparison` judges them, by a supernet that no strategy trained.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from search.config import Config
from search.data import ImageSet, Splits, splits
from search.data.stream import Stream
from search.decoding.decoding import Decoder, make_decoder
from search.latency.latency_model import LatencyModel
from search.process.progress import Progress
from search.process.randomness import generator
from search.ranking.scoring import ScoringSettings
from search.runs.run_directory import RunDirectory, new_supernet
from search.supernet import Supernet
from search.training.training import Stopped
from shared.errors import LutnasError, WrongUse
from shared.spaces import Genotype, Space
from shared.tables.table import LatencyTable


class SearchStopped(LutnasError):
    """A stop was asked for. Everything is saved; the same search can go on from here."""


@dataclass(frozen=True)
class Proposal:
    """A network that a strategy returns.

    Attributes:
        genotype: connected.
        budget_ms: that the network was searched for; None if the strategy knows no budgets.
        derived: by the method's own rule; False if chosen or decoded by its bound.
        rank: among the networks that the strategy scored, 1 is best; None if it scores none.
    """

    genotype: Genotype
    budget_ms: float | None = None
    derived: bool = True
    rank: float | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of a search.

    Attributes:
        proposals: empty if no derived network connects input and output.
        training_images: seen by updates of the weights.
        evaluations: distinct networks scored on a supernet.
        notes: for the reader of the comparison, a line each.
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
        return self.values


@dataclass(frozen=True, eq=False)
class Bench:
    """The working set of a search.

    Attributes:
        config: seed, steps, batch sizes, threads, image resolution, confidence of the bound.
        budgets_ms: rising; each at least the decoder's `smallest_ms`.
        folder: of this search alone; it exists.
        evaluations: most networks to score on a supernet.
        one_shot: a supernet trained by fairly sampled paths, for strategies with `uses_one_shot`.
        look: images of a score, and depth of untrained networks.
        stopped: asked after each update.
        split_seed: of the division of the images; None takes the config's seed.
    """

    config: Config
    table: LatencyTable
    images: ImageSet
    budgets_ms: tuple[float, ...]
    folder: Path
    evaluations: int
    progress: Progress
    one_shot: RunDirectory | None = None
    look: ScoringSettings = field(default_factory=ScoringSettings)
    stopped: Stopped = field(default=lambda: False)
    split_seed: int | None = None

    @cached_property
    def space(self) -> Space:
        return self.table.parsed_space

    @cached_property
    def model(self) -> LatencyModel:
        return LatencyModel(self.table)

    @cached_property
    def decoder(self) -> Decoder:
        return make_decoder(self.model, self.config.confidence)

    @cached_property
    def splits(self) -> Splits:
        return splits(self.images, self.config.seed if self.split_seed is None else self.split_seed)

    @property
    def batch_size(self) -> int:
        """Images per update of the weights, as in the default strategy."""
        return self.config.paths_per_step * self.config.batch_size

    @property
    def alpha_batch_size(self) -> int:
        """Images per update of the alphas, as in the default strategy."""
        return self.config.conditions_per_step * self.config.alpha_batch_size

    @cached_property
    def weight_batches(self) -> Stream:
        return self._stream(self.splits.train, self.batch_size, "weights")

    @cached_property
    def alpha_batches(self) -> Stream:
        return self._stream(self.splits.validation, self.alpha_batch_size, "alpha")

    @cached_property
    def validation_batches(self) -> Stream:
        """The images of the alphas, neither shifted nor mirrored."""
        return self._stream(self.splits.validation, self.alpha_batch_size, "validation", augmented=False)

    def new_supernet(self) -> Supernet:
        """In training mode, its first weights drawn from the seed."""
        return new_supernet(self.config, self.space)

    def new_alphas(self, scale: float = 1e-3) -> Alphas:
        """Nearly equal at first, as in DARTS."""
        return Alphas(self.space, self.config.seed, scale)

    def get_one_shot(self) -> RunDirectory:
        """The trained one-shot supernet.

        Raises:
            WrongUse: this bench has none.
        """
        if self.one_shot is None:
            raise WrongUse("this strategy scores networks on a one-shot supernet: the bench has none")
        return self.one_shot

    def part(self, name: str) -> Bench:
        """The same bench in a subfolder, for one of several searches."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return replace(self, folder=folder)

    def propose(
        self, genotype: Genotype, budget_ms: float | None = None, derived: bool = True, rank: float | None = None
    ) -> Proposal:
        return Proposal(self.space.canonical(genotype), budget_ms, derived, rank)

    def _stream(self, indices: Tensor, size: int, name: str, augmented: bool = True) -> Stream:
        return Stream(self.images, indices, self.config.search_resolution, size, self.config.seed, name, augmented)


class Strategy(Protocol):
    """A search method as a frozen dataclass. Its fields are its options; it checks them itself."""

    uses_one_shot: ClassVar[bool] = False
    """Whether it scores networks on a supernet trained by fairly sampled paths."""

    def search(self, bench: Bench) -> Outcome:
        """Search. A call on the folder of an interrupted search continues it.

        Raises:
            SearchStopped: `bench.stopped()`; everything is saved.
            LutnasError: training diverged.
        """
