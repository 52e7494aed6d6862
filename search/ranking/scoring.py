"""What a candidate's rank is made of: the supernet's judgement, expressivity, parameter count; kept in `scores.json`.

Scores depend on nothing but the network, the supernet's weights and the images, so each network is
scored once per run directory, whoever asks: building the family, the random baseline, or a later
pick. Networks that are asked for together are scored in the order of their choices: what neighbours
have in common is computed once (`search.ranking.activation_cache`).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from search.data import ImageSet, at_resolution, splits
from search.genotypes.enumeration import representative
from search.process.atomic_files import write_atomically
from search.process.threads_and_memory import single_threaded_workers
from search.ranking.activation_cache import SharedPaths, StepResult
from search.ranking.expressivity import UntrainedSupernet, expressivity
from search.runs.run_directory import RunDirectory
from search.supernet import Supernet
from shared.errors import InvalidValue
from shared.spaces import Genotype, Space
from shared.wire import from_wire, to_wire

SAVE_EVERY = 200


@dataclass(frozen=True)
class Score:
    """One candidate.

    Attributes:
        nll: mean negative log-likelihood on the ranking images, weights from the supernet, batch-norm statistics
            of these very images through this network; lower is better.
        accuracy: likewise, in percent. Shown, never ranked by: it ranks worse than the likelihood.
        expressivity: of the untrained network, nats; higher is better.
        parameters: trainable ones of the ops that reach the output.
    """

    nll: float
    accuracy: float
    expressivity: float
    parameters: int


@dataclass(frozen=True)
class _Stored:
    fingerprint: str
    scores: dict[str, Score]


@dataclass(frozen=True)
class ScoringSettings:
    """Images per score, and what they are shown to.

    Attributes:
        untrained_depth: cells per stage of the untrained networks; None: as many as the supernet has. Where that has
            fewer cells than the networks that the table speaks of, their number belongs here.
    """

    ranking_images: int = 512
    untrained_images: int = 32
    untrained_depth: int | None = None

    def untrained_space(self, space: Space) -> Space:
        """Of the untrained networks; genotypes mean the same in it."""
        return space if self.untrained_depth is None else replace(space, depth=self.untrained_depth)


@dataclass(frozen=True, eq=False)
class ScoringImages:
    """Images as the supernet takes them, one batch each."""

    ranking: Tensor
    labels: Tensor
    untrained: Tensor


def scoring_images(image_set: ImageSet, seed: int, resolution: int, settings: ScoringSettings) -> ScoringImages:
    """Ranking images that neither weights nor alphas were trained on; the rest from the weights' training images."""
    parts = splits(image_set, seed)

    def prepare(indices: Tensor) -> Tensor:
        images = at_resolution(image_set.preprocessing.apply(image_set.train_images[indices]), resolution)
        return images.contiguous(memory_format=torch.channels_last)

    ranking = parts.ranking[: settings.ranking_images]
    return ScoringImages(
        prepare(ranking), image_set.train_labels[ranking], prepare(parts.train[: settings.untrained_images])
    )


class Judge:
    """Looks at one network after another; several threads may ask at once.

    Args:
        supernet: where weights come from; put into training mode, since batch norms use the ranking images' statistics.
        images: that networks are judged on.
        untrained: networks of random weights.
        untrained_space: of these.
        precision: "fp32" or "bf16", of the likelihood; untrained networks are always fp32.
    """

    def __init__(
        self,
        supernet: Supernet,
        images: ScoringImages,
        untrained: UntrainedSupernet,
        untrained_space: Space,
        precision: str,
    ) -> None:
        self._space, self._untrained_space = supernet.space, untrained_space
        self._supernet, self._untrained = supernet.train(), untrained
        self._images, self._bf16 = images, precision == "bf16"
        self._own = threading.local()  # a thread's shared paths, since these keep values as they go

    @torch.no_grad()
    def score(self, name: str) -> Score:
        """The score of a connected network, by its string form."""
        trained, untrained = self._paths()
        genotype = self._space.parse(name)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16, cache_enabled=False):
            logits = trained.evaluate(self._space.wiring(genotype))[0].float()
        correct = (logits.argmax(dim=1) == self._images.labels).double().mean()
        return Score(
            nll=float(F.cross_entropy(logits, self._images.labels)),
            accuracy=100 * float(correct),
            expressivity=expressivity(untrained, self._untrained_space, genotype),
            parameters=self._space.parameter_count(genotype),
        )

    def _paths(self) -> tuple[SharedPaths, SharedPaths]:
        if not hasattr(self._own, "paths"):
            trained = SharedPaths(lambda step, x: StepResult(self._supernet.run_step(step, x)), self._images.ranking)
            self._own.paths = trained, self._untrained.paths(self._images.untrained)
        paths: tuple[SharedPaths, SharedPaths] = self._own.paths
        return paths


class Scorer:
    """Scores networks, each once.

    Args:
        supernet: where weights come from.
        images: makes the images when the first network is scored: a pick among known ones needs none.
        path: of the file that keeps the scores.
        seed: of the untrained networks.
        identity: what else a score depends on (the data set, numbers of images), for the file's fingerprint.
        workers: networks scored side by side, each with one thread; scores do not depend on it.
        precision: "fp32" or "bf16", of the likelihood.
        untrained_space: of the untrained networks; None: the supernet's.
    """

    def __init__(
        self,
        supernet: Supernet,
        images: Callable[[], ScoringImages],
        path: Path,
        seed: int,
        identity: str = "",
        workers: int = 1,
        precision: str = "fp32",
        untrained_space: Space | None = None,
    ) -> None:
        self._supernet = supernet
        self._untrained_space = untrained_space or supernet.space
        self._make_images = images
        self._path = path
        self._seed = seed
        self._workers = workers
        self._precision = precision
        self._fingerprint = _fingerprint(supernet, f"{seed} {identity} {precision}")
        self._scores = self._load()

    def score(self, genotypes: Iterable[Genotype], advance: Callable[[int], None] = lambda n: None) -> list[Score]:
        """Scores in the order of the genotypes.

        Args:
            genotypes: connected; what computes the same is scored once.
            advance: told how many genotypes are done, as they are.
        """
        names = [self._name(genotype) for genotype in genotypes]
        missing = sorted({name for name in names if name not in self._scores}, key=self._supernet.space.parse)
        advance(len(names) - len(missing))
        if missing:
            self._score(missing, advance)
        return [self._scores[name] for name in names]

    def _score(self, names: Sequence[str], advance: Callable[[int], None]) -> None:
        judge = self._judge
        with single_threaded_workers(self._workers) as pool:
            for count, (name, score) in enumerate(zip(names, pool.map(judge.score, names), strict=True), start=1):
                self._scores[name] = score
                advance(1)
                if count % SAVE_EVERY == 0 or count == len(names):
                    self._save()

    @cached_property
    def _judge(self) -> Judge:
        untrained = UntrainedSupernet(self._untrained_space, self._seed)
        return Judge(self._supernet, self._make_images(), untrained, self._untrained_space, self._precision)

    def _name(self, genotype: Genotype) -> str:
        space = self._supernet.space
        return space.format(representative(space, genotype))

    def _load(self) -> dict[str, Score]:
        """What was scored before, if by the same supernet; anything else is scored anew."""
        try:
            stored = from_wire(_Stored, json.loads(self._path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, InvalidValue):
            return {}
        return dict(stored.scores) if stored.fingerprint == self._fingerprint else {}

    def _save(self) -> None:
        text = json.dumps(to_wire(_Stored(self._fingerprint, self._scores)), indent=1, sort_keys=True)
        write_atomically(self._path, text.encode() + b"\n")


def open_scorer(run: RunDirectory, settings: ScoringSettings | None = None, path: Path | None = None) -> Scorer:
    """The scorer of a finished search.

    Args:
        run: trained.
        settings: numbers of images.
        path: of the file that keeps the scores; None takes the run's own.

    Raises:
        WrongUse, CorruptFile: the run has no checkpoint, or a damaged one.
    """
    config, settings = run.config, settings or ScoringSettings()
    supernet = run.supernet()
    return Scorer(
        supernet,
        lambda: scoring_images(run.load_images(), config.seed, config.search_resolution, settings),
        path or run.path / "scores.json",
        config.seed,
        f"{config.data_fingerprint} {config.search_resolution} {settings}",
        config.threads,
        config.precision,
        settings.untrained_space(supernet.space),
    )


def _fingerprint(supernet: Supernet, identity: str) -> str:
    digest = hashlib.sha256(f"{supernet.space} {identity}".encode())
    for name, tensor in sorted(supernet.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()
