"""Settings of a search: a frozen value, written to `config.json` and never changed after.

Each setting's help text stands beside its default. The command line is made from the same list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

from shared.errors import InvalidValue, UnknownName
from shared.spaces import parse_space
from shared.tables.table import CONFIDENCE, LatencyTable
from shared.wire import RUN_DIRECTORY_SCHEMA, content_hash

HYPERNETWORKS = ("rbf", "piecewise-linear", "mlp")
KINDS: Mapping[str, tuple[str, ...]] = {
    "hypernetwork": HYPERNETWORKS,
    "path_sampler": ("fair", "uniform"),
    "precision": ("fp32", "bf16"),
    "processor": ("cpu", "cuda"),
}
"""Names that a setting may have."""

Domains = Sequence[tuple[str, Callable[[float], bool], str]]
"""Names of settings, a test of their values, and the domain in words."""


def setting(default: Any, help_text: str) -> Any:
    """A field of a frozen dataclass that a user sets."""
    return field(default=default, metadata={"help": help_text})


def list_settings(kind: Any) -> Mapping[str, tuple[Any, str]]:
    """Default and help text of every setting of a dataclass, by name."""
    return {entry.name: (entry.default, entry.metadata["help"]) for entry in fields(kind) if entry.metadata}


def check_domains(settings: Any, domains: Domains) -> None:
    """Raise InvalidValue, named like the option, unless every number lies in its domain."""
    for names, holds, domain in domains:
        for name in names.split():
            value = getattr(settings, name)
            if not (math.isfinite(value) and holds(value)):
                raise InvalidValue(name.replace("_", "-"), f"{value} is not {domain}")


@dataclass(frozen=True)
class TableReference:
    """A device, and the SHA-256 of its table's bytes."""

    device: str
    hash: str


def references(tables: Iterable[LatencyTable]) -> tuple[TableReference, ...]:
    """Tables as a config names them, ordered by the devices' names."""
    return tuple(sorted((TableReference(table.device, table.hash) for table in tables), key=lambda table: table.device))


@dataclass(frozen=True)
class Config:
    """All settings, with every default filled in.

    Attributes:
        tables: of the run's devices, ordered by the devices' names, all of the same space.
        data_dir, data_fingerprint: folder of the images, and SHA-256 of their values.
        search_resolution: side of the images in the training and evaluation of the supernet.
        model: of a user's own: FILE.py:FUNCTION, with the names of its choices and candidates.
        loss: of that file's own: its value at fixed logits; None is cross-entropy.
    """

    tables: tuple[TableReference, ...]
    lut_url: str
    space: str
    dataset: str
    data_fingerprint: str
    search_resolution: int
    data_dir: str | None = None
    model: str | None = None
    choices: tuple[tuple[str, ...], ...] = ()
    loss: str | None = None
    seed: int = setting(0, "of weights, splits, data order, sampled paths, conditions and gates")
    warmup_steps: int = setting(3000, "updates of the weights by fairly sampled paths, before alpha moves")
    search_steps: int = setting(4000, "updates of the weights after that")
    alpha_every: int = setting(12, "updates of the weights per update of alpha")
    paths_per_step: int = setting(2, "paths per update of the weights, each with a batch of its own")
    conditions_per_step: int = setting(2, "conditions per update of alpha, each with a batch of its own")
    batch_size: int = setting(32, "images per path")
    alpha_batch_size: int = setting(32, "images per condition")
    weight_lr: float = setting(0.05, "first learning rate of the weights (SGD); falls to 0 as a cosine")
    weight_momentum: float = setting(0.9, "Nesterov momentum of the weights")
    weight_decay: float = setting(3e-4, "weight decay of the weights")
    gradient_clip: float = setting(5.0, "largest norm of an update's gradient")
    alpha_lr: float = setting(0.05, "learning rate of the hypernetwork (Adam)")
    exploration: float = setting(0.5, "share of fairly sampled paths once alpha moves")
    path_sampler: str = setting("fair", f"of paths that ask no alpha: {', '.join(KINDS['path_sampler'])}")
    exploration_floor: float = setting(0.0, "share of even odds in the odds that paths and gates are drawn with")
    auxiliary_skip: float = setting(0.0, "first weight of a skip beside every op; falls to 0 over the search")
    hypernetwork: str = setting("rbf", f"kind of the hypernetwork: {', '.join(HYPERNETWORKS)}")
    bandwidth: float = setting(0.25, "of the rbf hypernetwork")
    temperature_start: float = setting(5.0, "first temperature of the Gumbel-Softmax gates")
    temperature_end: float = setting(0.5, "last temperature of the gates; falls geometrically")
    device_share: float = setting(0.5, "share of conditions with exactly the device's prices; others lie around them")
    precision: str = setting("fp32", f"of training: {', '.join(KINDS['precision'])} (autocast)")
    processor: str = setting("cpu", f"of training: {', '.join(KINDS['processor'])} (cuda is untested)")
    threads: int = setting(2, "paths computed at the same time; changes no number")
    confidence: float = setting(CONFIDENCE, "of the latency bound")
    whole_space: int = setting(
        10_000, "most distinct networks of a space that is scored whole, alphas unasked; 0: none"
    )
    checkpoint_every: int = setting(200, "steps between checkpoints")
    schema: int = RUN_DIRECTORY_SCHEMA

    def __post_init__(self) -> None:
        if not self.tables or any(a.device >= b.device for a, b in pairwise(self.tables)):
            named = ", ".join(self.devices) or "nothing"
            raise InvalidValue("tables", f"{named} is not one table per device, ordered by the devices' names")
        for kind, known in KINDS.items():
            if getattr(self, kind) not in known:
                raise UnknownName(kind.replace("_", " "), getattr(self, kind), known)
        check_domains(self, _DOMAINS)
        if self.model is not None and self.auxiliary_skip:
            raise InvalidValue("auxiliary-skip", "stands beside ops of known shapes, not in a model of your own")
        resolution = parse_space(self.space).resolution
        if self.search_resolution < 4 or self.search_resolution % 4 or resolution % self.search_resolution:
            raise InvalidValue(
                "search-resolution", f"{self.search_resolution} is not a multiple of 4 that divides {resolution}"
            )

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(table.device for table in self.tables)

    @property
    def table_hash(self) -> str:
        """The hash of the only table; the hash of their hashes where there are several."""
        hashes = [table.hash for table in self.tables]
        return hashes[0] if len(hashes) == 1 else content_hash(hashes)

    @property
    def total_steps(self) -> int:
        return self.warmup_steps + self.search_steps


LARGEST_SEED = 2**32 - 1
"""Of numpy's generator, which a user's own model may draw from."""

_DOMAINS: Domains = (
    (
        "alpha_every paths_per_step conditions_per_step batch_size alpha_batch_size threads checkpoint_every",
        lambda value: value >= 1,
        "1 or more",
    ),
    ("warmup_steps search_steps weight_decay auxiliary_skip whole_space", lambda value: value >= 0, "0 or more"),
    ("seed", lambda value: 0 <= value <= LARGEST_SEED, f"from 0 to {LARGEST_SEED}"),
    (
        "weight_lr gradient_clip alpha_lr bandwidth temperature_start temperature_end",
        lambda value: value > 0,
        "above 0",
    ),
    ("exploration device_share", lambda value: 0 <= value <= 1, "a share from 0 to 1"),
    ("weight_momentum exploration_floor", lambda value: 0 <= value < 1, "from 0 to below 1"),
    ("confidence", lambda value: 0.5 <= value < 1, "from 0.5 to below 1"),
)

SETTINGS = list_settings(Config)

PRESETS: Mapping[str, Mapping[str, int]] = {
    "smoke": {"warmup_steps": 40, "search_steps": 60, "alpha_every": 3, "checkpoint_every": 20, "whole_space": 0},
    "quick": {"warmup_steps": 1500, "search_steps": 2700, "whole_space": 0},
    "standard": {"warmup_steps": 20_000, "search_steps": 30_000, "checkpoint_every": 500},
}
"""`smoke` shows that all works; on two cores `quick` takes three minutes, `standard` an hour."""


def default_search_resolution(resolution: int) -> int:
    """Half the resolution from 32 pixels on (a quarter of the cost), if 8 divides it."""
    return resolution // 2 if resolution >= 32 and resolution % 8 == 0 else resolution
