"""Scores of candidates (`scores.json`) by supernet, expressivity and parameters; their ranks.

A score depends only on the network, the supernet's weights and the images. So each network is
scored once per run directory, for the family, the random baseline and later picks. A batch of
networks is scored in the order of choices: `search.ranking.activation_cache` then shares their
values.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from search.alphas.trade_offs import SKIPS
from search.data import ImageSet, at_resolution, splits
from search.decoding.decoding import representative
from search.own_model.depth import find_depth
from search.own_model.model_file import Loss
from search.process.threads_and_memory import single_threaded_workers
from search.ranking.activation_cache import ActivationCache, StepResult
from search.ranking.additive_fit import fit_additive
from search.ranking.expressivity import UntrainedSupernet, expressivity
from search.runs.run_directory import RunDirectory
from search.supernet import Supernet
from search.supernet.own_supernet import OwnSupernet, batch_norms
from shared.atomic_files import write_atomically
from shared.errors import InvalidValue
from shared.spaces import Genotype, IndependentSlots, Space
from shared.spaces.primitives import parameter_count
from shared.spaces.wiring import INPUT
from shared.wire import from_wire, to_wire

SAVE_EVERY = 200


@dataclass(frozen=True)
class Score:
    """The score of a candidate.

    Attributes:
        nll: mean negative log-likelihood (or the user's own loss) on the ranking images, with the supernet's
            weights and the batch-norm statistics of these images in this network; lower is better.
        accuracy: likewise, in percent. For display: it ranks worse than the likelihood.
        expressivity: of the untrained network, nats; higher is better. 0 where no order is by it.
        parameters: trainable, of the ops that reach the output.
        depth: by `longest_path`; in a user's own model by `search.own_model.depth`.
    """

    nll: float
    accuracy: float
    expressivity: float
    parameters: int
    depth: int


def rank_all(space: Space, genotypes: Sequence[Genotype], scores: Sequence[Score]) -> npt.NDArray[np.float64]:
    """Ranks (scores,) of connected genotypes; 1 is best, ties share their mean rank.

    As in AZ-NAS (Lee and Ham, 2024), orders are combined:

        score = sum over the orders of log(place / networks)       place 1 is the worst

    Through the logarithm, a bad place in one order outweighs good places in the others. The orders
    are by likelihood; by depth, which counts half in cells; and in cells by expressivity and
    parameter count. Elsewhere the mean of the score and an additive fit to it counts.
    docs/notes/ranking.md has the figures.
    """
    if not scores:
        return np.zeros(0)
    likelihood, depth = _places([-score.nll for score in scores]), _places([score.depth for score in scores])
    if isinstance(space, IndependentSlots):
        own = np.log([likelihood, depth]).sum(axis=0)
        combined = (own + fit_additive(space, genotypes, own).fitted) / 2
    else:
        expressivity = _places([score.expressivity for score in scores])
        parameters = _places([score.parameters for score in scores])
        combined = np.log([likelihood, expressivity, parameters, np.sqrt(depth)]).sum(axis=0)
    # Rounded, so that equal sums tie in any order of summation.
    return np.asarray(rankdata(-combined.round(7)), dtype=np.float64)


@lru_cache(maxsize=1 << 15)
def longest_path(space: Space, genotype: Genotype) -> int:
    """Most chosen ops in a row from input to output of a connected network.

    Skips and ops without weights do not count. Supernets train wide and shallow cells first, and so
    overrate them (Shu, Wang and Cai, 2020).
    """
    length = {INPUT: 0}
    for step in space.wiring(genotype):
        key = step.key if step.slot is not None else None
        is_counted = key is not None and key.primitive not in SKIPS and parameter_count(key) > 0
        length[step.name] = is_counted + max(length[name] for name in step.inputs)
    return length[step.name]


def _places(values: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 is the lowest value. A network that diverged has no finite value: it comes last."""
    return np.asarray(rankdata(np.where(np.isfinite(values), values, -np.inf)), dtype=np.float64)


@dataclass(frozen=True)
class _Stored:
    fingerprint: str
    scores: dict[str, Score]


@dataclass(frozen=True)
class ScoringSettings:
    """Images per score, and the depth of the untrained networks.

    Attributes:
        untrained_depth: cells per stage of the untrained networks; None takes the supernet's.
            A supernet of fewer cells than the table needs the table's depth here.
    """

    ranking_images: int = 512
    untrained_images: int = 32
    untrained_depth: int | None = None

    def untrained_space(self, space: Space) -> Space:
        """The space of the untrained networks, with the same genotypes."""
        return space if self.untrained_depth is None else replace(space, depth=self.untrained_depth)


@dataclass(frozen=True, eq=False)
class ScoringImages:
    """Batches of images for the supernet and the untrained networks."""

    ranking: Tensor
    labels: Tensor
    untrained: Tensor


def scoring_images(image_set: ImageSet, seed: int, resolution: int, settings: ScoringSettings) -> ScoringImages:
    """Ranking images that training never saw, and training images for untrained networks."""
    parts = splits(image_set, seed)

    def prepare(indices: Tensor) -> Tensor:
        images = at_resolution(image_set.preprocessing.apply(image_set.train_images[indices]), resolution)
        return images.contiguous(memory_format=torch.channels_last)

    ranking = parts.ranking[: settings.ranking_images]
    return ScoringImages(
        prepare(ranking), image_set.train_labels[ranking], prepare(parts.train[: settings.untrained_images])
    )


class Judge:
    """Scores networks; several threads may call it at once.

    Args:
        supernet: trained; put into training mode, for statistics of the ranking images.
        images: for the scores.
        untrained: supernet of random weights; None where no order is by expressivity.
        precision: "fp32" or "bf16", of the likelihood; untrained networks are always fp32.
    """

    def __init__(
        self,
        supernet: Supernet,
        images: ScoringImages,
        untrained: UntrainedSupernet | None,
        untrained_space: Space,
        precision: str,
    ) -> None:
        self._space, self._untrained_space = supernet.space, untrained_space
        self._supernet, self._untrained = supernet.train(), untrained
        self._images, self._bf16 = images, precision == "bf16"
        self._own = threading.local()  # paths of a thread: they cache values

    @torch.no_grad()
    def score(self, genotype: Genotype) -> Score:
        trained, untrained = self._paths()
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16, cache_enabled=False):
            logits = trained.evaluate(self._space.wiring(genotype))[0].float()
        correct = (logits.argmax(dim=1) == self._images.labels).double().mean()
        return Score(
            nll=float(F.cross_entropy(logits, self._images.labels)),
            accuracy=100 * float(correct),
            expressivity=expressivity(untrained, self._untrained_space, genotype) if untrained else 0.0,
            parameters=self._space.parameter_count(genotype),
            depth=longest_path(self._space, genotype),
        )

    def _paths(self) -> tuple[ActivationCache, ActivationCache | None]:
        if not hasattr(self._own, "paths"):
            trained = ActivationCache(
                lambda step, x: StepResult(self._supernet.run_step(step, x)), self._images.ranking
            )
            self._own.paths = trained, self._untrained and self._untrained.paths(self._images.untrained)
        paths: tuple[ActivationCache, ActivationCache | None] = self._own.paths
        return paths


class OwnJudge:
    """Scores networks of a user's own model by loss and depth; several threads may call it at once.

    Batch norms take the statistics of the ranking images. All else is as in inference.
    """

    def __init__(self, supernet: OwnSupernet, images: ScoringImages, loss: Loss | None = None) -> None:
        self._supernet, self._images, self._loss = supernet.eval(), images, loss or F.cross_entropy
        for norm in batch_norms(supernet):
            norm.train()

    def score(self, genotype: Genotype) -> Score:
        with torch.no_grad():
            logits = self._supernet(self._images.ranking, genotype).float()
            correct = (logits.argmax(dim=1) == self._images.labels).double().mean()
            nll = float(self._loss(logits, self._images.labels))
        depth = find_depth(lambda x: self._supernet(x, genotype), self._images.ranking[:2])
        return Score(nll, 100 * float(correct), 0.0, self._supernet.own.parameter_count(genotype), depth)


class Scorer:
    """Scores networks, each once.

    Args:
        fingerprint: of everything else that a score depends on.
        make_judge: called for the first new network; known networks need no weights.
        workers: threads, each with its own network; scores do not depend on their number.
    """

    def __init__(
        self, space: Space, path: Path, fingerprint: str, make_judge: Callable[[], Judge | OwnJudge], workers: int = 1
    ) -> None:
        self._space = space
        self._path = path
        self._fingerprint = fingerprint
        self._make_judge = lru_cache(maxsize=1)(make_judge)
        self._workers = workers
        self._scores = self._load()

    def score(self, genotypes: Iterable[Genotype], advance: Callable[[int], None] = lambda n: None) -> list[Score]:
        """Scores in the order of the genotypes.

        Args:
            genotypes: connected; networks that compute the same are scored once.
            advance: gets the number of genotypes done, as they are.
        """
        forms = [representative(self._space, genotype) for genotype in genotypes]
        missing = sorted({form for form in forms if form not in self._scores})
        advance(len(forms) - len(missing))
        if missing:
            self._score(missing, advance)
        return [self._scores[form] for form in forms]

    def _score(self, genotypes: Sequence[Genotype], advance: Callable[[int], None]) -> None:
        judge = self._make_judge()
        with single_threaded_workers(self._workers) as pool:
            scores = zip(genotypes, pool.map(judge.score, genotypes), strict=True)
            for count, (genotype, score) in enumerate(scores, start=1):
                self._scores[genotype] = score
                advance(1)
                if count % SAVE_EVERY == 0 or count == len(genotypes):
                    self._save()

    def _load(self) -> dict[Genotype, Score]:
        """The scores of the same supernet; others are dropped."""
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
        settings: numbers of images.
        path: of the scores' file; None takes the run's own.

    Raises:
        WrongUse: the run has no checkpoint.
    """
    config, settings = run.config, settings or ScoringSettings()

    def make_judge() -> Judge | OwnJudge:
        supernet = run.supernet()
        images = scoring_images(run.load_images(), config.seed, config.search_resolution, settings)
        if isinstance(supernet, OwnSupernet):
            return OwnJudge(supernet, images, run.loss)
        deep = settings.untrained_space(run.space)
        untrained = None if isinstance(run.space, IndependentSlots) else UntrainedSupernet(deep, config.seed)
        return Judge(supernet, images, untrained, deep, config.precision)

    # The checkpoint holds weights, and hashes of config and images.
    checkpoint = run.require_checkpoint().read_bytes()
    fingerprint = hashlib.sha256(f"{settings}".encode() + checkpoint).hexdigest()
    return Scorer(run.space, path or run.path / "scores.json", fingerprint, make_judge, config.threads)
