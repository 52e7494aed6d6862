"""A search's folder: its config, its tables, its checkpoint and its results.

    config.json      search.config.Config
    tables/          the exact bytes of each device's latency table, HASH.json
    environment.json versions and processor of every start (`search.runs.environment`)
    data.json        the images: classes, normalisation, split, files that were left out
    checkpoint.pt    weights, alphas and optimisers after some step
    metrics.jsonl    a JSON object per line, written while training
    scores.json      scores of candidates, the same for every device (`search.ranking.scoring`)
    family.json      the family of networks; beside it kernel_counts.json, ladder.json, models/
                     and report.html
    trained/         networks trained to the end (`search.retraining.retrain_directory`)
    devices/NAME/    family.json and the files beside it, where the run has several devices

A crash leaves the old or the new content of a file: it is written beside, synced and renamed.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from search.alphas.condition import device_simplex
from search.alphas.hypernetwork import HYPERNETWORK_BUILDERS, Hypernetwork
from search.config import Config, TableReference, references
from search.data import ImageSet, load_images
from search.data.own_loaders import MAKE_DATA, find_own_images
from search.own_model.examine import OwnModel, describe_choices, examine
from search.own_model.model_file import OwnLoss, find_loss, load_model
from search.process.tensor_files import append_line, drop_lines_after, read_torch, write_torch
from search.supernet import Network, Supernet
from search.supernet.own_supernet import OwnSupernet, prepared
from shared.atomic_files import write_atomically
from shared.errors import CorruptFile, InvalidValue, LutnasError, UnknownName, WrongUse
from shared.spaces import Genotype, Own, Space
from shared.tables.table import LatencyTable, profile_command, read_table
from shared.wire import canonical_json, content_hash, from_wire, to_wire

T = TypeVar("T")
TABLES_FOLDER, DEVICES_FOLDER = "tables", "devices"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State of the training after a step; all else follows from the config and the step."""

    step: int
    supernet: dict[str, Tensor]
    hypernetwork: dict[str, Tensor]
    weight_optimizer: dict[str, Any]
    alpha_optimizer: dict[str, Any]


class RunDirectory:
    """A run's folder; files are read when asked for. `DeviceRun` has what belongs to a device."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.checkpoint_path = path / "checkpoint.pt"

    @classmethod
    def create(cls, path: Path, config: Config, *tables: LatencyTable, images: ImageSet | None = None) -> RunDirectory:
        """Make the folder and write config, tables and the record of the images.

        Raises:
            WrongUse: the folder already holds a run.
            InvalidValue: the tables are not the config's, or of several spaces.
        """
        if (path / "config.json").exists():
            raise WrongUse(f"{path} already holds a run: go on with it (--resume) or choose another folder (--out)")
        if references(tables) != config.tables:
            named = ", ".join(f"{table.device} {table.hash[:12]}…" for table in config.tables)
            raise InvalidValue("tables", f"are not those of the config ({named})")
        require_one_space(tables)
        path.mkdir(parents=True, exist_ok=True)
        for table in tables:
            write_table(path, table)
        if images is not None:
            write_value(path / "data.json", images.record())
        write_value(path / "config.json", config)
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
                f"{path} holds no run (no config.json); `search --device D --lut-url URL"
                f" --out {shlex.quote(str(path))}` makes one"
            )
        run = cls(path)
        _ = run.tables  # reads and checks both
        return run

    @cached_property
    def config(self) -> Config:
        path = self.path / "config.json"
        try:
            return from_wire(Config, read_json(path), str(path))
        except InvalidValue as error:
            raise CorruptFile(f"this is not a run's config: {error}") from error

    @cached_property
    def config_hash(self) -> str:
        return content_hash(self.config)

    @cached_property
    def tables(self) -> tuple[LatencyTable, ...]:
        """The tables that the search used, in the order of the devices' names."""
        tables = tuple(read_kept_table(self.path, table) for table in self.config.tables)
        require_one_space(tables)
        return tables

    @cached_property
    def space(self) -> Space:
        return self.tables[0].parsed_space

    def describe(self, genotype: Genotype) -> str:
        """For people: the genotype, and of a user's own model what is chosen."""
        written, names = self.space.format(genotype), self.config.choices
        if not names:
            return written
        chosen = (f"{choice}={candidate}" for choice, candidate in describe_choices(names, genotype).items())
        return f"{written} ({', '.join(chosen)})"

    def load_images(self) -> ImageSet:
        """The images of the search.

        Raises:
            LutnasError: they cannot be had, or others were found.
        """
        space, config = self.space, self.config
        data_dir = Path(config.data_dir) if config.data_dir else None
        record = find_value(dict[str, Any], self.path / "data.json") or {}
        skip_broken = bool(record.get("skip_broken"))
        own = config.dataset.startswith(f"{MAKE_DATA}:")
        images = find_own_images(str(config.model), space.input_shape, space.classes) if own else None
        images = images or load_images(
            config.dataset, space.resolution, space.image_channels, data_dir, skip_broken=skip_broken
        )
        if images.fingerprint != config.data_fingerprint:
            raise LutnasError(
                f"{self.path} was searched on other images: {config.dataset} with fingerprint"
                f" {config.data_fingerprint[:12]}…, found {images.name} with {images.fingerprint[:12]}…"
            )
        return images

    def append_metrics(self, values: dict[str, Any]) -> None:
        append_line(self.metrics_path, json.dumps(values))

    def drop_metrics_after(self, step: int) -> None:
        """Drop what an interrupted run wrote after its last checkpoint."""
        drop_lines_after(self.metrics_path, step)

    @property
    def _identity(self) -> dict[str, str]:
        return {
            "table_hash": self.config.table_hash,
            "data_fingerprint": self.config.data_fingerprint,
            "config_hash": self.config_hash,
        }

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        write_torch(self.checkpoint_path, {**self._identity, **vars(checkpoint)})

    def require_checkpoint(self) -> Path:
        """The file of the checkpoint.

        Raises:
            WrongUse: there is none yet.
        """
        if not self.checkpoint_path.exists():
            raise WrongUse(f"{self.path} has no checkpoint yet: the search has to run first (--resume)")
        return self.checkpoint_path

    def load_checkpoint(self) -> Checkpoint:
        """Read the checkpoint.

        Raises:
            WrongUse: there is none yet.
            CorruptFile: it is damaged, or belongs to another table, data or config.
        """
        content = read_torch(self.require_checkpoint())
        identity, names = self._identity, Checkpoint.__dataclass_fields__
        if not (isinstance(content, dict) and {*identity, *names} <= content.keys()):
            raise CorruptFile(f"{self.checkpoint_path} is damaged: it is no checkpoint of a search")
        for name, value in identity.items():
            if content[name] != value:
                what = name.replace("_", " ")
                raise CorruptFile(
                    f"{self.checkpoint_path} was written with another {what}"
                    f" ({str(content[name])[:12]}…) than this run's ({value[:12]}…); it cannot be used here"
                )
        return Checkpoint(**{name: content[name] for name in names})

    @cached_property
    def own_model(self) -> OwnModel | None:
        """The user's own model of the search; None where the space is one of ours. This runs the file's code.

        Raises:
            InvalidValue: it fails, or is not the model of the search any more.
        """
        where, space = self.config.model, self.space
        if where is None or not isinstance(space, Own):
            return None
        own = examine(load_model(where), space.input_shape)
        if own.space != space:
            raise InvalidValue(
                "model", f"{where} has changed: it makes {own.space}, {self.path} was searched with {space}"
            )
        return own

    @cached_property
    def loss(self) -> OwnLoss | None:
        """The loss of the user's own file; None where cross-entropy trains. Raises InvalidValue if it has changed."""
        where = self.config.model
        loss = None if where is None else find_loss(where, self.space.classes)
        if (None if loss is None else loss.mark) != self.config.loss:
            raise InvalidValue("make_loss", f"of {where} has changed: {self.path} was searched with another loss")
        return loss

    def new_supernet(self) -> Supernet | OwnSupernet:
        """In training mode, first weights drawn from the seed; a user's own model draws them itself."""
        if self.own_model is not None:
            return OwnSupernet(self.own_model, load_model(str(self.config.model), self.config.seed)).train()
        return new_supernet(self.config, self.space)

    def new_network(self, genotype: Genotype, seed: int = 0) -> nn.Module:
        """A network with weights of the seed, whatever the model of a user's own file makes of it."""
        if self.own_model is not None:
            network = self.own_model.freeze(genotype, load_model(str(self.config.model), seed))
            return prepared(network, self.own_model.layout)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Network(self.space, genotype)

    def supernet(self) -> Supernet | OwnSupernet:
        """With the checkpoint's weights, in evaluation mode."""
        supernet = self.new_supernet()
        supernet.load_state_dict(self.load_checkpoint().supernet)
        return supernet.eval()

    def hypernetwork(self) -> Hypernetwork:
        """With the checkpoint's alphas, in evaluation mode."""
        hypernetwork = new_hypernetwork(self.config, self.tables)
        hypernetwork.load_state_dict(self.load_checkpoint().hypernetwork)
        return hypernetwork.eval()


class DeviceRun(RunDirectory):
    """A run with the table of a device, which may be new to the run.

    Raises:
        InvalidValue: the table is of another space.
    """

    def __init__(self, run: RunDirectory, table: LatencyTable) -> None:
        require_one_space([*run.tables, table])
        super().__init__(run.path)
        vars(self).update(vars(run))
        self.table = table

    @property
    def folder(self) -> Path:
        """Folder of the device's files; that of the run where this is its only device."""
        return self.path if self.tables == (self.table,) else self.path / DEVICES_FOLDER / self.table.device

    @property
    def family_path(self) -> Path:
        return self.folder / "family.json"


def on_device(run: RunDirectory, device: str | None = None) -> DeviceRun:
    """The run with the table of a device, by default its only device.

    Raises:
        WrongUse: the run has several devices, and none was named.
        UnknownName: it has no such device.
    """
    devices = run.config.devices
    if device is None and len(devices) > 1:
        raise WrongUse(f"{run.path} has several devices, say which: --device {' | '.join(devices)}")
    device = device or devices[0]
    if device not in devices:
        raise UnknownName("device of the run", device, devices)
    return DeviceRun(run, run.tables[devices.index(device)])


def on_every_device(run: RunDirectory) -> list[DeviceRun]:
    return [DeviceRun(run, table) for table in run.tables]


def new_supernet(config: Config, space: Space) -> Supernet:
    """A supernet in training mode, first weights drawn from the config's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Supernet(space).train()


def new_hypernetwork(config: Config, tables: Sequence[LatencyTable]) -> Hypernetwork:
    """An untrained hypernetwork for the space and the devices of the tables, drawn from the config's seed."""
    slots, devices = len(tables[0].parsed_space.slots), torch.stack([device_simplex(table) for table in tables])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return HYPERNETWORK_BUILDERS[config.hypernetwork](slots, devices, config.bandwidth)


def write_value(path: Path, value: Any, texts: Mapping[type, Callable[[Any], str]] | None = None) -> None:
    """Replace a file by a value as JSON (`to_wire`)."""
    write_atomically(path, json.dumps(to_wire(value, texts), indent=1).encode() + b"\n")


def find_value(kind: type[T], path: Path, texts: Mapping[type, Callable[[str], Any]] | None = None) -> T | None:
    """What `write_value` wrote; None where there is no file.

    Raises:
        CorruptFile: the file is damaged.
        OtherSchema: another lutnas wrote it.
    """
    try:
        return from_wire(kind, json.loads(path.read_bytes()), str(path), texts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        problem = str(error).removeprefix(f"{path}.")
        raise CorruptFile(f"{path} is damaged: {problem}; remove it to make it anew") from error


def read_json(path: Path) -> Any:
    """Parsed JSON.

    Raises:
        CorruptFile: the file cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise CorruptFile(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CorruptFile(f"{path} is not JSON: {error}") from error


def write_table(folder: Path, table: LatencyTable) -> None:
    (folder / TABLES_FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomically(folder / TABLES_FOLDER / f"{table.hash}.json", canonical_json(table))


def read_kept_table(folder: Path, reference: TableReference) -> LatencyTable:
    """A table that a run's folder keeps.

    Raises:
        CorruptFile: it is missing, has other bytes, or is of another device.
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
                f"all tables of a run are of the same space, but that of {tables[0].device} is of {tables[0].space},"
                f" that of {table.device} of {table.space}"
                + (
                    "; the latter was imported, and cannot be measured anew"
                    if table.source
                    else f"; measure the first space on the other device:"
                    f" {profile_command(table.device, tables[0].parsed_space)}"
                ),
            )


def require_fp32(table: LatencyTable) -> None:
    """Raise InvalidValue unless the table is of fp32, in which networks are exported."""
    if table.runtime.precision != "fp32":
        raise InvalidValue(
            "--runtime",
            f"is of {table.runtime.precision} on {table.device}; networks are exported in fp32: take a table of fp32",
        )
