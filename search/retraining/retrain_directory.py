"""What `search train` leaves in a run's folder, one subfolder per network, recipe and seed:

    trained/NAME/seed-N/training.json    genotype, recipe, images, and the test accuracy once it is done
                        metrics.jsonl    one JSON object per epoch
                        checkpoint.pt    where training stands, after each epoch
                        weights.pt       the result: the network's tensors

NAME follows from the genotype and the recipe, so the same request finds what is there and goes on with it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from search.data import ImageSet
from search.process.atomic_files import append_line, drop_lines_after, read_torch, write_atomically, write_torch
from search.retraining.retrain import Retraining, RetrainingSettings
from search.runs.run_directory import RunDirectory
from search.supernet import Network
from shared.errors import CorruptFile, InvalidValue, UnknownName, WrongUse
from shared.schemas import RUN_DIRECTORY_SCHEMA, require_schema
from shared.spaces import Genotype, parse_space
from shared.wire import from_wire

FOLDER = "trained"


class TrainedNetwork:
    """One such folder.

    Attributes:
        path: of the folder.
        space: of the network, in its string form.
        genotype: of the network.
        settings: the recipe.
        data_fingerprint: of the images.
        test_accuracy: percent; None until training is done.
    """

    def __init__(self, path: Path, description: dict[str, Any]) -> None:
        self.path = path
        try:
            require_schema(str(path / "training.json"), description["schema"], RUN_DIRECTORY_SCHEMA)
            self.space = str(description["space"])
            self.genotype = parse_space(self.space).parse(str(description["genotype"]))
            self.settings = from_wire(RetrainingSettings, description["settings"])
            self.data_fingerprint = str(description["data_fingerprint"])
            self.test_accuracy: float | None = description.get("test_accuracy")
        except (KeyError, TypeError, InvalidValue, UnknownName) as error:
            raise CorruptFile(f"{path / 'training.json'} does not describe a training: {error}") from error
        self._description = description

    @classmethod
    def begin(cls, run: RunDirectory, genotype: Genotype, settings: RetrainingSettings) -> TrainedNetwork:
        """The folder in a run for a network, a recipe and its seed: found, or made."""
        written = run.space.format(genotype)
        recipe = json.dumps([run.config.space, written, asdict(replace(settings, seed=0))], sort_keys=True)
        name = hashlib.sha256(recipe.encode()).hexdigest()[:12]
        path = run.path / FOLDER / name / f"seed-{settings.seed}"
        if (path / "training.json").exists():
            return cls.open(path)
        path.mkdir(parents=True, exist_ok=True)
        trained = cls(
            path,
            {
                "schema": RUN_DIRECTORY_SCHEMA,
                "space": run.config.space,
                "genotype": written,
                "settings": asdict(settings),
                "dataset": run.config.dataset,
                "data_fingerprint": run.config.data_fingerprint,
                "accuracy_kind": settings.accuracy_kind,
            },
        )
        trained._write()
        return trained

    @classmethod
    def open(cls, path: Path) -> TrainedNetwork:
        """A folder that is there.

        Raises:
            WrongUse: it holds no training.
            CorruptFile: its description is damaged.
            OtherSchema: another lutnas wrote it.
        """
        try:
            description = json.loads((path / "training.json").read_text(encoding="utf-8"))
        except OSError as error:
            raise WrongUse(
                f"{path} holds no trained network (no training.json); `search train` makes such folders"
            ) from error
        except ValueError as error:
            raise CorruptFile(f"{path / 'training.json'} is not JSON: {error}") from error
        return cls(path, description)

    @property
    def done(self) -> bool:
        """Whether training came to its end."""
        return self.test_accuracy is not None

    def restore(self, training: Retraining) -> None:
        """Go on where an interrupted training stood, if there was one; forget the epochs after it."""
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

    def finish(self, network: Network, test_accuracy: float) -> None:
        """Write the weights and the accuracy; the checkpoint is needed no more."""
        write_torch(self.path / "weights.pt", dict(network.state_dict()))
        self.test_accuracy = test_accuracy
        self._description["test_accuracy"] = test_accuracy
        self._write()
        self._checkpoint.unlink(missing_ok=True)

    def network(self, run: RunDirectory, images: ImageSet) -> Network:
        """The trained network.

        Raises:
            WrongUse: it is not done, or was trained for another space or on other images than the run's.
            CorruptFile: the weights are damaged.
        """
        if not self.done:
            raise WrongUse(f"the training in {self.path} is not done: give its `search train` again, it goes on")
        if self.space != run.config.space:
            raise WrongUse(f"{self.path} is of the space {self.space}, the run is of {run.config.space}")
        if self.data_fingerprint != images.fingerprint:
            raise WrongUse(f"{self.path} was trained on other images than those of {run.path}")
        network = Network(run.space, self.genotype)
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

    def _write(self) -> None:
        write_atomically(self.path / "training.json", json.dumps(self._description, indent=1).encode() + b"\n")
