"""A search's folder: what was asked, the tables it used, where training stands, and what came of it.

    config.json      search.config.Config
    tables/          the exact bytes of each device's latency table, HASH.json
    environment.json versions and processor of every start (`search.process.environment`)
    data.json        what was found out about the images: classes, normalisation, split, what was left out
    checkpoint.pt    weights, alphas and optimisers after some step
    metrics.jsonl    one JSON object per line, written while training
    scores.json      what candidates were scored with, whichever device they are for (`search.ranking.scoring`)
    family.json      the family of networks; beside it kernel_counts.json, ladder.json, models/ and report.html
    trained/         networks trained to the end (`search.retraining.retrain_directory`)
    devices/NAME/    family.json and what stands beside it, of each device where the run has several

Files are replaced at once (written beside, synced, renamed), so that a crash leaves the old or the new one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from search.alphas.condition import device_simplex
from search.alphas.hypernetwork import HYPERNETWORK_BUILDERS, Hypernetwork
from search.config import Config, TableReference, references
from search.data import ImageSet, load_images
from search.process.atomic_files import (
    append_line,
    drop_lines_after,
    read_json,
    read_torch,
    write_atomically,
    write_torch,
)
from search.supernet import Supernet
from shared.errors import CorruptFile, InvalidValue, LutnasError, WrongUse
from shared.spaces import Space
from shared.tables.table import LatencyTable, profile_command, read_table
from shared.wire import canonical_json, content_hash, from_wire, to_wire

TABLES_FOLDER = "tables"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where training stands: everything else follows from the config and the step."""

    step: int
    supernet: dict[str, Tensor]
    hypernetwork: dict[str, Tensor]
    weight_optimizer: dict[str, Any]
    alpha_optimizer: dict[str, Any]


class RunDirectory:
    """A run's folder; its files are read when asked for. What belongs to one device is a `DeviceRun`'s."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: Config, *tables: LatencyTable, images: ImageSet | None = None) -> RunDirectory:
        """Make the folder and write config, tables, and what is known of the images.

        Raises:
            WrongUse: the folder already holds a run.
            InvalidValue: the tables are not the config's, or of several spaces.
        """
        if (path / "config.json").exists():
            raise WrongUse(f"{path} already holds a run: go on with it (--resume) or choose another folder (--out)")
        if references(tables) != config.tables:
            named = ", ".join(f"{one.device} {one.hash[:12]}…" for one in config.tables)
            raise InvalidValue("tables", f"are not those of the config ({named})")
        require_one_space(tables)
        path.mkdir(parents=True, exist_ok=True)
        for table in tables:
            write_table(path, table)
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
            OtherSchema: another lutnas wrote them.
        """
        if not (path / "config.json").is_file():
            raise WrongUse(
                f"{path} holds no run (no config.json); `search --device D --lut-url URL --out {path}` makes one"
            )
        run = cls(path)
        _ = run.tables
        return run

    @cached_property
    def config(self) -> Config:
        """What was asked."""
        path = self.path / "config.json"
        try:
            return from_wire(Config, read_json(path), str(path))
        except InvalidValue as error:
            raise CorruptFile(f"this is not a run's config: {error}") from error

    @cached_property
    def config_hash(self) -> str:
        """Of the config."""
        return content_hash(self.config)

    @cached_property
    def tables(self) -> tuple[LatencyTable, ...]:
        """The tables that the search used, in the order of the devices' names."""
        tables = tuple(read_kept_table(self.path, one) for one in self.config.tables)
        require_one_space(tables)
        return tables

    @cached_property
    def space(self) -> Space:
        """The space that was searched."""
        return self.tables[0].parsed_space

    @property
    def metrics_path(self) -> Path:
        """Lines of JSON."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint_path(self) -> Path:
        """Written by the trainer."""
        return self.path / "checkpoint.pt"

    def load_images(self) -> ImageSet:
        """The very images of the search.

        Raises:
            LutnasError: they cannot be had, or others were found.
        """
        space, config = self.space, self.config
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
        """Whether images that cannot be read were left out."""
        found = read_json(self.path / "data.json") if (self.path / "data.json").exists() else {}
        return isinstance(found, dict) and bool(found.get("skip_broken"))

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Add one line (`append_line`)."""
        append_line(self.metrics_path, json.dumps(values))

    def drop_metrics_after(self, step: int) -> None:
        """Forget what an interrupted run wrote after its last checkpoint."""
        drop_lines_after(self.metrics_path, step)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint."""
        write_torch(
            self.checkpoint_path,
            {
                "config_hash": self.config_hash,
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
        """
        if not self.checkpoint_path.exists():
            raise WrongUse(f"{self.path} has no checkpoint yet: the search has to run first (--resume)")
        content = self._read_checkpoint()
        expected = {
            "table_hash": self.config.table_hash,
            "data_fingerprint": self.config.data_fingerprint,
            "config_hash": self.config_hash,
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
        supernet = Supernet(self.space)
        supernet.load_state_dict(self.load_checkpoint().supernet)
        return supernet.eval()

    def hypernetwork(self) -> Hypernetwork:
        """The hypernetwork with the checkpoint's alphas, in evaluation mode."""
        hypernetwork = new_hypernetwork(self.config, self.tables)
        hypernetwork.load_state_dict(self.load_checkpoint().hypernetwork)
        return hypernetwork.eval()

    def _read_checkpoint(self) -> dict[str, Any]:
        content = read_torch(self.checkpoint_path)
        names = {"config_hash", "table_hash", "data_fingerprint", *Checkpoint.__dataclass_fields__}
        if isinstance(content, dict) and names <= content.keys():
            return content
        raise CorruptFile(f"{self.checkpoint_path} is damaged: it is no checkpoint of a search")


def new_hypernetwork(config: Config, tables: Sequence[LatencyTable]) -> Hypernetwork:
    """An untrained hypernetwork for the space and the devices of the tables."""
    slots, devices = len(tables[0].parsed_space.slots), torch.stack([device_simplex(table) for table in tables])
    return HYPERNETWORK_BUILDERS[config.hypernetwork](slots, devices, config.bandwidth)


def write_table(folder: Path, table: LatencyTable) -> None:
    """Keep a table in a run's folder."""
    (folder / TABLES_FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomically(folder / TABLES_FOLDER / f"{table.hash}.json", canonical_json(table))


def read_kept_table(folder: Path, reference: TableReference) -> LatencyTable:
    """A table that a run's folder keeps.

    Raises:
        CorruptFile: it is not there, or not the very bytes, or of another device.
        OtherSchema: another lutnas wrote it.
    """
    path = folder / TABLES_FOLDER / f"{reference.hash}.json"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorruptFile(f"{path}, the table of {reference.device}, cannot be read: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != reference.hash:
        raise CorruptFile(f"{path} has hash {found[:12]}…, the search used {reference.hash[:12]}…")
    table = read_table(json.loads(content), str(path))
    if table.device != reference.device:
        raise CorruptFile(f"{path} is a table of {table.device}, the run has it for {reference.device}")
    return table


def require_one_space(tables: Sequence[LatencyTable]) -> None:
    """Raise InvalidValue unless all tables are of the same space; two that differ are named."""
    for table in tables[1:]:
        if table.space != tables[0].space:
            raise InvalidValue(
                "device",
                f"one run is of one space, but the table of {tables[0].device} is of {tables[0].space}, that of"
                f" {table.device} of {table.space}; measure the one on the other device:"
                f" {profile_command(table.device, tables[0].parsed_space)}",
            )


def require_fp32(table: LatencyTable) -> None:
    """Raise InvalidValue unless the table is of fp32, in which networks are exported."""
    if table.runtime.precision != "fp32":
        raise InvalidValue(
            "--runtime",
            f"is of {table.runtime.precision} on {table.device}; networks are exported in fp32, take a table of fp32",
        )
