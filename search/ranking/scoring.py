"""Scores and ranks of candidates: the supernet's judgement, expressivity, parameter count; kept in `scores.json`.

Scores depend on nothing but the network, the supernet's weights and the images, so each network is
scored once per run directory, whoever asks: building the family, the random baseline, or a later
pick. Networks that are asked for together are scored in the order of their choices: what neighbours
have in common is computed once (`search.ranking.activation_cache`).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
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


def rank_all(scores: Sequence[Score]) -> npt.NDArray[np.float64]:
    """Ranks (scores,) among one another; 1 is best, ties share their mean rank.

    Three orders are made one as AZ-NAS does it (Lee and Ham, 2024): by likelihood, expressivity and parameter count.

        score = sum over the three of log(place / networks)       place 1 is the worst

    The logarithm lets a network that is among the worst by any of the three not make up for it by the others. Each
    order alone, and their plain mean, rank worse (docs/notes/search.md gives the figures).
    """
    if not scores:
        return np.zeros(0)
    columns = np.array([(-score.nll, score.expressivity, score.parameters) for score in scores])
    # A network that diverged has no likelihood: it comes last.
    columns = np.where(np.isfinite(columns), columns, -np.inf)
    places = rankdata(columns, axis=0)
    # Rounded, so that equal products of places tie whatever the order of summation.
    return np.asarray(rankdata(-np.log(places).sum(axis=1).round(9)), dtype=np.float64)


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
    def score(self, genotype: Genotype) -> Score:
        """The score of a connected network."""
        trained, untrained = self._paths()
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
        space: of the networks.
        path: of the file that keeps the scores.
        fingerprint: of all that a score depends on but the network (`fingerprint_of`).
        make_judge: called when the first network is scored: a pick among known ones needs neither weights nor images.
        workers: networks scored side by side, each with one thread; scores do not depend on it.
    """

    def __init__(
        self, space: Space, path: Path, fingerprint: str, make_judge: Callable[[], Judge], workers: int = 1
    ) -> None:
        self._space = space
        self._path = path
        self._fingerprint = fingerprint
        self._make_judge = make_judge
        self._workers = workers
        self._scores = self._load()

    def score(self, genotypes: Iterable[Genotype], advance: Callable[[int], None] = lambda n: None) -> list[Score]:
        """Scores in the order of the genotypes.

        Args:
            genotypes: connected; what computes the same is scored once.
            advance: told how many genotypes are done, as they are.
        """
        forms = [representative(self._space, genotype) for genotype in genotypes]
        missing = sorted({form for form in forms if form not in self._scores})
        advance(len(forms) - len(missing))
        if missing:
            self._score(missing, advance)
        return [self._scores[form] for form in forms]

    def _score(self, genotypes: Sequence[Genotype], advance: Callable[[int], None]) -> None:
        judge = self._judge
        with single_threaded_workers(self._workers) as pool:
            scores = zip(genotypes, pool.map(judge.score, genotypes), strict=True)
            for count, (genotype, score) in enumerate(scores, start=1):
                self._scores[genotype] = score
                advance(1)
                if count % SAVE_EVERY == 0 or count == len(genotypes):
                    self._save()

    @cached_property
    def _judge(self) -> Judge:
        return self._make_judge()

    def _load(self) -> dict[Genotype, Score]:
        """What was scored before, if by the same supernet; anything else is scored anew."""
        try:
            stored = from_wire(_Stored, json.loads(self._path.read_text(encoding="utf-8")))
            if stored.fingerprint != self._fingerprint:
                return {}
            return {self._space.parse(name): score for name, score in stored.scores.items()}
        except (FileNotFoundError, ValueError, InvalidValue):
            return {}

    def _save(self) -> None:
        scores = {self._space.format(genotype): score for genotype, score in self._scores.items()}
        text = json.dumps(to_wire(_Stored(self._fingerprint, scores)), indent=1, sort_keys=True)
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

    def make_judge() -> Judge:
        untrained_space = settings.untrained_space(run.space)
        return Judge(
            run.supernet(),
            scoring_images(run.load_images(), config.seed, config.search_resolution, settings),
            UntrainedSupernet(untrained_space, config.seed),
            untrained_space,
            config.precision,
        )

    identity = f"{config.seed} {config.data_fingerprint} {config.search_resolution} {settings} {config.precision}"
    fingerprint = fingerprint_of(run.space, run.load_checkpoint().supernet, identity)
    return Scorer(run.space, path or run.path / "scores.json", fingerprint, make_judge, config.threads)


def fingerprint_of(space: Space, weights: Mapping[str, Tensor], identity: str) -> str:
    """SHA-256 of the supernet's weights and of what else scores depend on: the seed, the images and how many."""
    digest = hashlib.sha256(f"{space} {identity}".encode())
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()
