"""Everything that decides what a search does: one frozen value, written to `config.json` and never changed after.

| field | default | what it is |
| --- | --- | --- |
| device, lut_url, space, table_hash | | whose table, from where, of which space, and exactly which bytes |
| dataset, data_dir, data_fingerprint | fashion-mnist | which images, from which folder, and exactly which bytes |
| seed | 0 | of weights, splits, data order, sampled paths, conditions and gates |
| warmup_steps | 1500 | updates of the weights by fairly sampled paths, before alpha moves |
| search_steps | 2000 | updates of the weights after that; every `alpha_every`-th is followed by one of alpha |
| alpha_every | 4 | |
| paths_per_step | 2 | paths per update of the weights, each with a batch of its own; gradients are averaged |
| conditions_per_step | 2 | conditions per update of alpha, likewise |
| batch_size, alpha_batch_size | 64, 32 | images per path and per condition |
| weight_lr, weight_momentum, weight_decay | 0.05, 0.9, 3e-4 | SGD, Nesterov momentum; the rate falls to 0 as a cosine |
| gradient_clip | 5 | largest norm of an update's gradient |
| alpha_lr | 0.05 | Adam |
| exploration | 0.5 | share of fairly sampled paths among those that train the weights once alpha moves |
| hypernetwork | rbf | rbf, piecewise-linear or mlp |
| bandwidth | 0.35 | of the rbf hypernetwork |
| temperature_start, temperature_end | 5, 0.5 | of the Gumbel-Softmax gates; falls geometrically |
| device_share | 0.5 | share of conditions whose prices are exactly the device's; the others are sampled around it |
| search_resolution | half the space's from 32 pixels on | side that images are pooled to for the supernet |
| precision | auto | fp32, bf16 (autocast); auto measures once and becomes one of the two |
| threads | 2 | paths computed at the same time; changes no number |
| confidence | 0.99 | of the latency bound |
| checkpoint_every | 200 | steps |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from shared.errors import InvalidValue, SchemaTooNew, UnknownName
from shared.spaces import parse_space
from shared.table import CONFIDENCE

CONFIG_SCHEMA = 1
HYPERNETWORKS = ("rbf", "piecewise-linear", "mlp")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Config:
    """See the table above."""

    device: str
    lut_url: str
    space: str
    table_hash: str
    dataset: str
    data_fingerprint: str
    search_resolution: int
    data_dir: str | None = None
    seed: int = 0
    warmup_steps: int = 1500
    search_steps: int = 2000
    alpha_every: int = 4
    paths_per_step: int = 2
    conditions_per_step: int = 2
    batch_size: int = 64
    alpha_batch_size: int = 32
    weight_lr: float = 0.05
    weight_momentum: float = 0.9
    weight_decay: float = 3e-4
    gradient_clip: float = 5.0
    alpha_lr: float = 0.05
    exploration: float = 0.5
    hypernetwork: str = "rbf"
    bandwidth: float = 0.35
    temperature_start: float = 5.0
    temperature_end: float = 0.5
    device_share: float = 0.5
    precision: str = "fp32"
    threads: int = 2
    confidence: float = CONFIDENCE
    checkpoint_every: int = 200
    schema: int = CONFIG_SCHEMA

    def __post_init__(self) -> None:
        if self.schema > CONFIG_SCHEMA:
            raise SchemaTooNew("the run's config", self.schema, CONFIG_SCHEMA)
        if self.hypernetwork not in HYPERNETWORKS:
            raise UnknownName("hypernetwork", self.hypernetwork, HYPERNETWORKS)
        if self.precision not in PRECISIONS:
            raise UnknownName("precision", self.precision, PRECISIONS)
        for field in _COUNTS:
            if getattr(self, field) < 1:
                raise InvalidValue(field, f"{getattr(self, field)} is below 1")
        for field in ("warmup_steps", "search_steps"):
            if getattr(self, field) < 0:
                raise InvalidValue(field, f"{getattr(self, field)} is negative")
        for field in _POSITIVE:
            if not (math.isfinite(getattr(self, field)) and getattr(self, field) > 0):
                raise InvalidValue(field, f"{getattr(self, field)} is not a positive number")
        for field in ("exploration", "device_share"):
            if not 0 <= getattr(self, field) <= 1:
                raise InvalidValue(field, f"{getattr(self, field)} is not a share from 0 to 1")
        if not 0.5 <= self.confidence < 1:
            raise InvalidValue("confidence", f"{self.confidence} is not within 0.5 and 1")
        resolution = parse_space(self.space).resolution
        if self.search_resolution < 4 or self.search_resolution % 4 or resolution % self.search_resolution:
            raise InvalidValue(
                "search_resolution", f"{self.search_resolution} is not a multiple of 4 that divides {resolution}"
            )

    @property
    def total_steps(self) -> int:
        """Updates of the weights."""
        return self.warmup_steps + self.search_steps


_COUNTS = (
    "alpha_every",
    "paths_per_step",
    "conditions_per_step",
    "batch_size",
    "alpha_batch_size",
    "threads",
    "checkpoint_every",
)
_POSITIVE = ("weight_lr", "gradient_clip", "alpha_lr", "bandwidth", "temperature_start", "temperature_end")

PRESETS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "quick": MappingProxyType({"warmup_steps": 24, "search_steps": 24, "checkpoint_every": 12}),
        "demo": MappingProxyType({"warmup_steps": 900, "search_steps": 900}),
        "standard": MappingProxyType({"warmup_steps": 12_000, "search_steps": 16_000, "checkpoint_every": 500}),
    }
)
"""Steps by name: quick shows that all works, demo takes three minutes on two cores, standard an hour."""


def default_search_resolution(resolution: int) -> int:
    """Half the resolution from 32 pixels on (a quarter of the cost), if two more halvings still leave whole pixels."""
    return resolution // 2 if resolution >= 32 and resolution % 8 == 0 else resolution
