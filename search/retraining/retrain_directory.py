"""Results of `search train` in a run's folder, a subfolder per network, recipe and seed:

    trained/NAME/seed-N/training.json    genotype, recipe, images, and the final test accuracy
                        metrics.jsonl    a JSON object per epoch
                        checkpoint.pt    state of the training, after each epoch
                        weights.pt       the result: the network's tensors

NAME follows from the genotype and the recipe, with inherited weights from the search's checkpoint
too: the same request finds its folder and goes on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from search.data import ImageSet
from search.process.tensor_files import append_line, drop_lines_after, read_torch, write_torch
from search.retraining.retrain import Retraining, RetrainingSettings
from search.runs.run_directory import RunDirectory, find_value, write_value
from shared.errors import CorruptFile, UnknownName, WrongUse
from shared.spaces import Genotype, parse_space
from shared.wire import RUN_DIRECTORY_SCHEMA

FOLDER = "trained"


@dataclass(frozen=True)
class Training:
    """Content of `training.json`. `test_accuracy` in percent; None until training is done."""

    space: str
    genotype: str
    settings: RetrainingSettings
    dataset: str
    data_fingerprint: str
    accuracy_kind: str
    test_accuracy: float | None = None
    schema: int = RUN_DIRECTORY_SCHEMA


class TrainedNetwork:
    """Such a folder.

    Raises:
        CorruptFile: the training is of no network of its space.
    """

    def __init__(self, path: Path, training: Training) -> None:
        self.path, self._training = path, training
        try:
            self.genotype = parse_space(training.space).parse(training.genotype)
        except (ValueError, UnknownName) as error:
            raise CorruptFile(f"{path / 'training.json'} does not describe a training: {error}") from error

    @classmethod
    def begin(cls, run: RunDirectory, genotype: Genotype, settings: RetrainingSettings) -> TrainedNetwork:
        """The folder in a run for a network, a recipe and its seed: found, or made.

        Raises:
            WrongUse: weights are to be inherited, and the run has no checkpoint yet.
        """
        config, written = run.config, run.space.format(genotype)
        recipe: list[Any] = [config.space, written, asdict(replace(settings, seed=0))]
        if settings.inherit:  # a search that went on has other weights to give
            recipe.append(hashlib.sha256(run.require_checkpoint().read_bytes()).hexdigest())
        name = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
        path = run.path / FOLDER / name / f"seed-{settings.seed}"
        if (path / "training.json").exists():
            return cls.open(path)
        path.mkdir(parents=True, exist_ok=True)
        kind = settings.accuracy_kind
        training = Training(config.space, written, settings, config.dataset, config.data_fingerprint, kind)
        write_value(path / "training.json", training)
        return cls(path, training)

    @classmethod
    def open(cls, path: Path) -> TrainedNetwork:
        """A folder that is there.

        Raises:
            WrongUse: it holds no training.
            CorruptFile: its description is damaged.
            OtherSchema: another lutnas wrote it.
        """
        training = find_value(Training, path / "training.json")
        if training is None:
            raise WrongUse(f"{path} holds no trained network (no training.json); `search train` makes such folders")
        return cls(path, training)

    @property
    def settings(self) -> RetrainingSettings:
        return self._training.settings

    @property
    def test_accuracy(self) -> float | None:
        """Percent; None until training is done."""
        return self._training.test_accuracy

    def restore(self, training: Retraining) -> None:
        """Go on from the checkpoint, if there is one; drop the metrics of later epochs."""
        if self._checkpoint.exists():
            try:
                training.load(read_torch(self._checkpoint))
            except (KeyError, RuntimeError, TypeError, ValueError) as error:
                problem = str(error).splitlines()[0][:160]
                raise CorruptFile(f"{self._checkpoint} is no checkpoint of this training: {problem}") from error
        drop_lines_after(self._metrics, training.step)

    def keep(self, training: Retraining, metrics: dict[str, float] | None = None) -> None:
        """Write the checkpoint, and the metrics of an epoch."""
        if metrics is not None:
            append_line(self._metrics, json.dumps(metrics))
        write_torch(self._checkpoint, training.state())

    def finish(self, network: nn.Module, test_accuracy: float) -> None:
        """Write the weights and the accuracy, and remove the checkpoint."""
        write_torch(self.path / "weights.pt", dict(network.state_dict()))
        self._training = replace(self._training, test_accuracy=test_accuracy)
        write_value(self.path / "training.json", self._training)
        self._checkpoint.unlink(missing_ok=True)

    def require_space_of(self, run: RunDirectory) -> None:
        """Raise WrongUse unless the network is of the run's space."""
        if self._training.space != run.config.space:
            raise WrongUse(f"{self.path} is of the space {self._training.space}, the run is of {run.config.space}")

    def network(self, run: RunDirectory, images: ImageSet) -> nn.Module:
        """The trained network.

        Raises:
            WrongUse: it is not done, or is of another space or other images than the run.
            CorruptFile: the weights are damaged.
        """
        if self.test_accuracy is None:
            raise WrongUse(f"the training in {self.path} is not done: give its `search train` again, it goes on")
        self.require_space_of(run)
        if self._training.data_fingerprint != images.fingerprint:
            raise WrongUse(f"{self.path} was trained on other images than those of {run.path}")
        network = run.new_network(self.genotype)
        weights: dict[str, Tensor] = read_torch(self.path / "weights.pt")
        try:
            network.load_state_dict(weights)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise CorruptFile(f"{self.path / 'weights.pt'} does not hold the weights of its network") from error
        return network.eval()

    @property
    def _checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"
