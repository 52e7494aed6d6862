"""What a candidate's rank is made of: the supernet's judgement, NASWOT and the parameter count; kept in `scores.json`.

Scores depend on nothing but the network, the supernet's weights and the images, so each network is scored once per run
directory, whoever asks: building the family, the random baseline, or a later pick.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from search.data import ImageSet, at_resolution, splits
from search.evaluation import batches, evaluate
from search.naswot import naswot
from search.run_directory import RunDirectory
from search.supernet import Network, Supernet, recompute_statistics
from search.torch_files import write_atomically
from shared.errors import InvalidValue
from shared.spaces import Genotype
from shared.wire import from_wire, to_wire

SCORES_SCHEMA = 1
SAVE_EVERY = 16


@dataclass(frozen=True)
class Score:
    """One candidate.

    Attributes:
        nll: mean negative log-likelihood on the ranking images, weights from the supernet, batch-norm statistics
            recomputed for this network; lower is better.
        accuracy: likewise, in percent. Shown, never ranked by: it ranks worse than the likelihood.
        naswot: of the untrained network; higher is better.
        parameters: trainable ones of the ops that reach the output.
    """

    nll: float
    accuracy: float
    naswot: float
    parameters: int


@dataclass(frozen=True)
class _Stored:
    schema: int
    fingerprint: str
    scores: dict[str, Score]


@dataclass(frozen=True)
class ScoringSettings:
    """Images per score; these take about a sixth of a second per network on two cores (c16, n2, 16 x 16 pixels)."""

    ranking_images: int = 1000
    recalibration_images: int = 512
    naswot_images: int = 128


@dataclass(frozen=True, eq=False)
class ScoringImages:
    """Images as the supernet takes them."""

    ranking: Tensor
    labels: Tensor
    recalibration: Tensor
    naswot: Tensor


def scoring_images(image_set: ImageSet, seed: int, resolution: int, settings: ScoringSettings) -> ScoringImages:
    """Ranking images that neither weights nor alphas were trained on; the rest from the weights' training images."""
    parts = splits(image_set, seed)

    def prepare(indices: Tensor) -> Tensor:
        return at_resolution(image_set.preprocessing.apply(image_set.train_images[indices]), resolution)

    ranking = parts.ranking[: settings.ranking_images]
    recalibration = prepare(parts.train[: max(settings.recalibration_images, settings.naswot_images)])
    return ScoringImages(
        prepare(ranking),
        image_set.train_labels[ranking],
        recalibration[: settings.recalibration_images],
        recalibration[: settings.naswot_images],
    )


class Scorer:
    """Scores networks, each once.

    Args:
        supernet: where weights come from.
        images: makes the images when the first network is scored: a pick among known ones needs none.
        path: of the file that keeps the scores.
        seed: of the untrained networks.
        identity: what else a score depends on (the data set, numbers of images), for the file's fingerprint.
        workers: networks scored side by side, each with one thread; scores do not depend on it.
    """

    def __init__(
        self,
        supernet: Supernet,
        images: Callable[[], ScoringImages],
        path: Path,
        seed: int,
        identity: str = "",
        workers: int = 1,
    ) -> None:
        self._supernet = supernet
        self._make_images = images
        self._path = path
        self._seed = seed
        self._workers = workers
        self._fingerprint = _fingerprint(supernet, f"{seed} {identity}")
        self._scores = self._load()
        self._building = threading.Lock()

    def score(self, genotypes: Iterable[Genotype], advance: Callable[[int], None] = lambda n: None) -> list[Score]:
        """Scores in the order of the genotypes.

        Args:
            genotypes: connected; what computes the same is scored once.
            advance: told how many genotypes are done, as they are.
        """
        names = [self._name(genotype) for genotype in genotypes]
        missing = [name for name in dict.fromkeys(names) if name not in self._scores]
        advance(len(names) - len(missing))
        if missing:
            _ = self._images  # made here, not by several workers at once
        with ThreadPoolExecutor(self._workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for count, (name, score) in enumerate(zip(missing, pool.map(self._score, missing), strict=True), start=1):
                self._scores[name] = score
                advance(1)
                if count % SAVE_EVERY == 0 or count == len(missing):
                    self._save()
        return [self._scores[name] for name in names]

    @cached_property
    def _images(self) -> ScoringImages:
        return self._make_images()

    def _name(self, genotype: Genotype) -> str:
        space = self._supernet.space
        return space.format(space.canonical(genotype))

    def _score(self, name: str) -> Score:
        space = self._supernet.space
        genotype = space.parse(name)
        with self._building, torch.random.fork_rng(devices=[]):  # initialisation draws from torch's one generator
            torch.manual_seed(self._seed)
            untrained = Network(space, genotype)
            derived = self._supernet.derive(genotype)
        recompute_statistics(derived, batches(self._images.recalibration))
        found = evaluate(derived, self._images.ranking, self._images.labels)
        return Score(found.nll, found.accuracy, naswot(untrained, self._images.naswot), space.parameter_count(genotype))

    def _load(self) -> dict[str, Score]:
        """What was scored before, if by the same supernet; anything else is scored anew."""
        try:
            stored = from_wire(_Stored, json.loads(self._path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, InvalidValue):
            return {}
        return dict(stored.scores) if (stored.schema, stored.fingerprint) == (SCORES_SCHEMA, self._fingerprint) else {}

    def _save(self) -> None:
        text = json.dumps(to_wire(_Stored(SCORES_SCHEMA, self._fingerprint, self._scores)), indent=1, sort_keys=True)
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
    return Scorer(
        run.supernet(),
        lambda: scoring_images(run.load_images(), config.seed, config.search_resolution, settings),
        path or run.path / "scores.json",
        config.seed,
        f"{config.data_fingerprint} {config.search_resolution} {settings}",
        config.threads,
    )


def _fingerprint(supernet: Supernet, identity: str) -> str:
    digest = hashlib.sha256(f"{supernet.space} {identity}".encode())
    for name, tensor in sorted(supernet.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()
