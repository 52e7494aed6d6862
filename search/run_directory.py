"""A search's folder: what was asked, the table it used, where training stands, and what came of it.

    config.json      search.config.Config
    table.json       the exact bytes of the latency table; their SHA-256 is config.table_hash
    environment.json versions and processor of every start (`search.environment`)
    data.json        what was found out about the images: classes, normalisation, split, what was left out
    checkpoint.pt    weights, alphas and optimisers after some step
    metrics.jsonl    one JSON object per line, written while training
    family.json      the family of networks
    trained/         networks trained to the end (`search.trained_network`)

Files are replaced at once (written beside, synced, renamed), so that a crash leaves the old or the new one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from search.condition import device_simplex, space_primitives
from search.config import Config
from search.data import ImageSet, load_images
from search.hypernetwork import HYPERNETWORK_BUILDERS, Hypernetwork
from search.supernet import Supernet
from search.torch_files import append_line, read_torch, write_atomically, write_torch
from shared.errors import CorruptFile, InvalidValue, LutnasError, SchemaTooNew, WrongUse
from shared.table import LatencyTable, read_table
from shared.wire import canonical_json, content_hash, from_wire, to_wire

CHECKPOINT_SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where training stands: everything else follows from the config and the step."""

    step: int
    supernet: dict[str, Tensor]
    hypernetwork: dict[str, Tensor]
    weight_optimizer: dict[str, Any]
    alpha_optimizer: dict[str, Any]


class RunDirectory:
    """A run's folder; its files are read when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: Config, table: LatencyTable, images: ImageSet | None = None) -> RunDirectory:
        """Make the folder and write config, table, and what is known of the images.

        Raises:
            WrongUse: the folder already holds a run.
            InvalidValue: the table is not the config's.
        """
        if (path / "config.json").exists():
            raise WrongUse(f"{path} already holds a run: go on with it (--resume) or choose another folder (--out)")
        content = canonical_json(table)
        if hashlib.sha256(content).hexdigest() != config.table_hash:
            raise InvalidValue("table", f"has hash {table.hash[:12]}…, the config says {config.table_hash[:12]}…")
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / "table.json", content)
        if images is not None:
            write_atomically(path / "data.json", json.dumps(images.record(), indent=1).encode() + b"\n")
        write_atomically(path / "config.json", json.dumps(to_wire(config), indent=2, sort_keys=True).encode() + b"\n")
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open an existing run and check its config and table.

        Raises:
            WrongUse: the folder holds no run.
            CorruptFile: config or table are not what they should be.
            SchemaTooNew: a newer lutnas wrote them.
        """
        if not (path / "config.json").is_file():
            raise WrongUse(
                f"{path} holds no run (no config.json); `search --device D --lut-url URL --out {path}` makes one"
            )
        run = cls(path)
        _ = run.config, run.table
        return run

    @cached_property
    def config(self) -> Config:
        """What was asked."""
        data = self._read_json("config.json")
        try:
            return from_wire(Config, data)
        except InvalidValue as error:
            raise CorruptFile(f"{self.path / 'config.json'} is not a run's config: {error}") from error

    @cached_property
    def _config_hash(self) -> str:
        """Of what the file says, not of `config`: settings that are newer than the run would change that one."""
        return content_hash(self._read_json("config.json"))

    @cached_property
    def table(self) -> LatencyTable:
        """The table that the search used."""
        content = self._read_bytes("table.json")
        found = hashlib.sha256(content).hexdigest()
        if found != self.config.table_hash:
            raise CorruptFile(
                f"{self.path / 'table.json'} has hash {found[:12]}…, the search used {self.config.table_hash[:12]}…"
            )
        return read_table(json.loads(content))

    @property
    def metrics_path(self) -> Path:
        """One JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def family_path(self) -> Path:
        """Written by `search.family`."""
        return self.path / "family.json"

    @property
    def checkpoint_path(self) -> Path:
        """Written by the trainer."""
        return self.path / "checkpoint.pt"

    def load_images(self) -> ImageSet:
        """The very images of the search.

        Raises:
            LutnasError: they cannot be had, or others were found.
        """
        space, config = self.table.parsed_space, self.config
        data_dir = Path(config.data_dir) if config.data_dir else None
        images = load_images(
            config.dataset, space.resolution, space.image_channels, data_dir, skip_broken=self._skips_broken()
        )
        if images.fingerprint != config.data_fingerprint:
            raise LutnasError(
                f"{self.path} was searched on other images: {config.dataset} with fingerprint"
                f" {config.data_fingerprint[:12]}…, found {images.name} with {images.fingerprint[:12]}…"
            )
        return images

    def _skips_broken(self) -> bool:
        """Runs of earlier revisions have no data.json and left nothing out."""
        found = self._read_json("data.json") if (self.path / "data.json").exists() else {}
        return isinstance(found, dict) and bool(found.get("skip_broken"))

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Add one line.

        Raises:
            LutnasError: it cannot be written, as on a full disk.
        """
        append_line(self.metrics_path, json.dumps(values))

    def drop_metrics_after(self, step: int) -> None:
        """Forget what an interrupted run wrote after its last checkpoint."""
        if self.metrics_path.exists():
            lines = self.metrics_path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _step_of(line) <= step]
            write_atomically(self.metrics_path, "".join(f"{line}\n" for line in kept).encode())

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint."""
        write_torch(
            self.checkpoint_path,
            {
                "schema": CHECKPOINT_SCHEMA,
                "config_hash": self._config_hash,
                "table_hash": self.config.table_hash,
                "data_fingerprint": self.config.data_fingerprint,
                **vars(checkpoint),
            },
        )

    def load_checkpoint(self) -> Checkpoint:
        """Read the checkpoint.

        Raises:
            WrongUse: there is none yet.
            CorruptFile: it is damaged, or belongs to another table, data or config.
            SchemaTooNew: a newer lutnas wrote it.
        """
        if not self.checkpoint_path.exists():
            raise WrongUse(f"{self.path} has no checkpoint yet: the search has to run first (--resume)")
        content = self._read_checkpoint()
        expected = {
            "table_hash": self.config.table_hash,
            "data_fingerprint": self.config.data_fingerprint,
            "config_hash": self._config_hash,
        }
        for name, value in expected.items():
            if content[name] != value:
                what = name.replace("_", " ")
                raise CorruptFile(
                    f"{self.checkpoint_path} was written with another {what}"
                    f" ({str(content[name])[:12]}…) than this run's ({value[:12]}…); it cannot be used here"
                )
        return Checkpoint(**{name: content[name] for name in Checkpoint.__dataclass_fields__})

    def supernet(self) -> Supernet:
        """The supernet with the checkpoint's weights, in evaluation mode."""
        supernet = Supernet(self.table.parsed_space)
        supernet.load_state_dict(self.load_checkpoint().supernet)
        return supernet.eval()

    def hypernetwork(self) -> Hypernetwork:
        """The hypernetwork with the checkpoint's alphas, in evaluation mode."""
        hypernetwork = new_hypernetwork(self.config, self.table)
        hypernetwork.load_state_dict(self.load_checkpoint().hypernetwork)
        return hypernetwork.eval()

    def _read_checkpoint(self) -> dict[str, Any]:
        content = read_torch(self.checkpoint_path)
        if isinstance(content, dict) and isinstance(content.get("schema"), int):
            if content["schema"] > CHECKPOINT_SCHEMA:
                raise SchemaTooNew(str(self.checkpoint_path), content["schema"], CHECKPOINT_SCHEMA)
            if {"config_hash", "table_hash", "data_fingerprint", *Checkpoint.__dataclass_fields__} <= content.keys():
                return content
        raise CorruptFile(f"{self.checkpoint_path} is damaged: it is no checkpoint of a search")

    def _read_bytes(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise CorruptFile(f"{self.path / name} cannot be read: {error.strerror}") from error

    def _read_json(self, name: str) -> Any:
        try:
            return json.loads(self._read_bytes(name))
        except ValueError as error:
            raise CorruptFile(f"{self.path / name} is not JSON: {error}") from error


def new_hypernetwork(config: Config, table: LatencyTable) -> Hypernetwork:
    """An untrained hypernetwork for the space and the device of a table."""
    slots = len(table.parsed_space.slots)
    space_primitives(table.parsed_space)
    devices = device_simplex(table)[None]
    return HYPERNETWORK_BUILDERS[config.hypernetwork](slots, devices, config.bandwidth)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
