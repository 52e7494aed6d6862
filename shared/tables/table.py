"""A device's latency table: op prices with their covariance, and the error on held-out networks.

    latency(network) = base + sum over op keys of count x price     (live op keys)

Base and prices are the mean of a posterior. `covariance` is that of the posterior in ms squared:
the base first, then the prices. The variance of a prediction is that of the mean plus the spread of
single networks around it. The spread grows with the latency.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from shared.device_status import MOST_CHANGE
from shared.errors import InvalidValue, MissingKernel, MissingPrice, WrongUse
from shared.runtime import Runtime, check_device_name
from shared.spaces import Genotype, Own, Space, parse_space
from shared.spaces.op_key import OpKey, parse_op_key
from shared.tables.held_out_error import BaselineError, HeldOutError
from shared.tables.kernel_prices import KernelPrices
from shared.tables.single_kernel_prices import SingleKernels
from shared.tables.table_source import TableSource
from shared.wire import TABLE_SCHEMA, content_hash, from_wire

CONFIDENCE = 0.99
"""Default confidence of an upper bound: at most 1 % of networks lie above it.

The checks of a table have their own: `BOUND_CONFIDENCE` in lut_server.calibration.table_error.
"""
NORMAL_95 = 1.6448536269514722
"""Standard deviations from the mean to the 95 % bound, for which the spread of a fit is made."""
NORMAL_975 = 1.959963984540054


@dataclass(frozen=True)
class Prediction:
    """Mean and standard deviation of a network's latency.

    Attributes:
        guessed: kernels that were never measured and have the price of their family.
    """

    mean_ms: float
    sd_ms: float
    guessed: tuple[str, ...] = ()

    def upper_ms(self, confidence: float = CONFIDENCE) -> float:
        """The latency that the network stays below with that probability.

        Networks have wider tails than a normal distribution. Over 16 campaigns with 950 held-out
        networks the 99 % quantile was 1.74 times the 95 % quantile (normal: 1.41; Student's t with
        four degrees of freedom: 1.76).
        """
        if not 0.5 <= confidence < 1:
            raise InvalidValue("confidence", f"{confidence} is not within 0.5 and 1")
        return self.mean_ms + NORMAL_95 * student_4(confidence) / student_4(0.95) * self.sd_ms


@dataclass(frozen=True)
class OpPrice:
    """A row: posterior price, and measured marginal cost with its interval.

    Attributes:
        isolated_ms: time of the op alone, with the runtime's call and the graph's edges; no price.
    """

    op_key: str
    price_ms: float
    sd_ms: float
    marginal_ms: float
    marginal_low_ms: float
    marginal_high_ms: float
    stable: bool = True
    reasons: tuple[str, ...] = ()
    isolated_ms: float | None = None


@dataclass(frozen=True)
class NetworkCheck:
    """A network that was measured whole, beside the table's prediction."""

    genotype: str
    role: str
    measured_ms: float
    predicted_ms: float
    upper_ms: float


WORTH_A_WORD = 0.02
"""Change of the machine's state, as a share."""


@dataclass(frozen=True)
class SettleCheck:
    """Networks of the campaign, timed again after it: how far the machine's state has changed.

    Attributes:
        networks: how many.
        shift: mean change of their times beside the canary, as a share.
        spread: standard deviation of the change, as a share, beyond the noise of the rounds.
        beside_quietest: mean logarithm of the networks' times over those of the quietest earlier
            table of the device, space and runtime; None without one.
    """

    networks: int
    shift: float
    spread: float
    beside_quietest: float | None = None

    def __post_init__(self) -> None:
        changes = (self.shift, self.beside_quietest or 0.0)
        if not (max(map(abs, changes)) <= MOST_CHANGE and 0 <= self.spread <= MOST_CHANGE):
            raise InvalidValue("table.settled", f"no machine changes by {self.shift:g} or spreads by {self.spread:g}")

    @property
    def widening(self) -> float:
        """Standard deviation of a network's time between states, as a share.

        Campaign and check are two draws of the state; the standard error of their mean is half
        their distance.
        """
        return math.hypot(self.spread, self.shift / 2)

    @property
    def midway(self) -> float:
        """Factor from the campaign's state to the middle of campaign and check."""
        return math.exp(self.shift / 2)

    @property
    def doubt(self) -> str:
        """What speaks against the table, for people; "" where nothing does."""
        found = []
        if self.widening >= WORTH_A_WORD:
            found.append(f"bounds are {100 * self.widening:.0f} % of a latency wider")
        if (self.beside_quietest or 0.0) >= WORTH_A_WORD:
            found.append(
                f"networks take {100 * math.expm1(self.beside_quietest or 0.0):.0f} % longer than in a quieter table"
            )
        if not found:
            return ""
        return f"{', '.join(found)}: the machine was busy or changed while it was profiled; --new on a quiet machine"


@dataclass(frozen=True)
class LatencyTable:
    """Everything that a search needs to know of a device. `table.hash` names exactly this content.

    A table with a `source` was imported. No agent can verify its predictions.
    """

    device: str
    runtime: Runtime
    space: str
    canary: str
    canary_nominal_ms: float
    agent_version: str
    base_ms: float
    prices: tuple[OpPrice, ...]
    covariance: tuple[tuple[float, ...], ...]
    relative_spread: float
    held_out: HeldOutError | None
    networks: tuple[NetworkCheck, ...]
    runs: tuple[str, ...]
    schema: int = TABLE_SCHEMA
    kernels: KernelPrices | None = None
    baselines: tuple[BaselineError, ...] | None = None
    single_kernels: SingleKernels | None = None
    source: TableSource | None = None
    settled: SettleCheck | None = None

    def __post_init__(self) -> None:
        size = len(self.prices) + 1
        if len(self.covariance) != size or any(len(row) != size for row in self.covariance):
            raise InvalidValue("table.covariance", f"is not {size} x {size} for {len(self.prices)} prices and the base")
        check_device_name(self.device)
        numbers = [self.base_ms, self.canary_nominal_ms, *(price.price_ms for price in self.prices)]
        numbers += [value for row in self.covariance for value in row]
        spreads = [self.relative_spread, *(price.sd_ms for price in self.prices)]
        spreads += [row[index] for index, row in enumerate(self.covariance)]
        if not all(map(math.isfinite, numbers + spreads)) or min(spreads) < 0 or self.canary_nominal_ms <= 0:
            raise InvalidValue("table", "holds a number that is not finite, a negative variance, or a canary of 0 ms")
        if len(self.price_index) < len(self.prices):
            raise InvalidValue("table.prices", "names an op key twice")

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON."""
        return content_hash(self)

    @cached_property
    def parsed_space(self) -> Space:
        """The space that the table was measured for."""
        return parse_space(self.space)

    @cached_property
    def price_index(self) -> Mapping[OpKey, int]:
        """Position of each op key in `prices`."""
        return {parse_op_key(price.op_key): index for index, price in enumerate(self.prices)}

    def price_ms(self, key: OpKey) -> float:
        """Posterior price of an op key.

        Raises:
            MissingPrice: the table lacks it.
        """
        self.require_prices([key])
        return self.prices[self.price_index[key]].price_ms

    def predict(self, genotype: Genotype) -> Prediction:
        """Latency of a network of the table's space.

        Raises:
            InvalidValue: not a connected genotype of the space.
            MissingPrice: the table lacks an op key of the network.
        """
        self.parsed_space.check_network(genotype)
        return self.predict_counts(self.parsed_space.op_counts(genotype))

    def predict_counts(self, counts: Counter[OpKey]) -> Prediction:
        """Latency of a network by how often each op key occurs in it.

        Raises:
            MissingPrice: the table lacks an op key of the network.
        """
        self.require_prices(counts)
        features = {0: 1.0} | {self.price_index[key] + 1: float(n) for key, n in counts.items() if n}
        mean_ms = self.base_ms + sum(self.prices[i - 1].price_ms * n for i, n in features.items() if i)
        variance = sum(self.covariance[i][j] * m * n for i, m in features.items() for j, n in features.items())
        return Prediction(mean_ms, math.sqrt(max(variance, 0.0) + (self.relative_spread * mean_ms) ** 2))

    def predict_kernels(self, counts: Mapping[str, int], guess: bool = False) -> Prediction:
        """Latency of a network by how often each kernel occurs in its optimised graph.

        The fit of the space predicts if it has every kernel; else the kernels measured by
        themselves.

        Args:
            counts: by the kernel's string form.
            guess: price unmeasured kernels by their family, and name them in the prediction.

        Raises:
            MissingKernel: the table has no kernel prices, or none for some of these kernels.
        """
        single = self.single_kernels
        try:
            if single is not None and (self.kernels is None or self.kernels.unmeasured(counts)):
                return Prediction(*single.predict(counts, self.kernels, guess))
            if self.kernels is not None:
                return Prediction(*self.kernels.predict(counts, guess))
            raise MissingKernel(counts)
        except MissingKernel as error:
            priced = {*(self.kernels.index if self.kernels else ()), *(single.index if single else ())}
            missing = [kernel for kernel in counts if kernel not in priced] or error.missing
            raise MissingKernel(missing, self.device, self._measure_command()) from None

    def advise(self, **other: int | str) -> str:
        """How to come by a table of this device with other parameters of the space."""
        space, source = self.parsed_space, self.source
        if source is None:
            return f"a table that fits: {profile_command(self.device, space, other=other)}"
        imported = f"it was imported from {source}, and nobody here can measure {self.device} anew"
        if set(other) != {"classes"}:
            return imported
        again = str(dataclasses.replace(space, **other))  # type: ignore[arg-type]
        column = f" --column {shlex.quote(source.subject)}" if source.subject else ""
        return (
            f"{imported}. What is possible: import it for {other['classes']} classes, whose classifier then has the"
            f" time of {space.classes}: lut-server import {shlex.quote(source.file)} --device {self.device}{column}"
            f" --space {again}; or images of {space.classes} classes"
        )

    def require_prices(self, keys: Iterable[OpKey]) -> None:
        """Raise MissingPrice, with the command to measure, if the table lacks any of the op keys."""
        missing = [str(key) for key in keys if key not in self.price_index]
        if missing:
            raise MissingPrice(missing, self.device, self._command())

    def _measure_command(self) -> str:
        if self.kernels is None and self.single_kernels is None:
            return self._command()
        return measure_command(self.device, self.space)

    def _command(self) -> str:
        """The command that measures what the table lacks; "" of an imported table."""
        if self.source is not None:
            return ""
        try:
            return profile_command(self.device, self.parsed_space, self.runtime.precision)
        except WrongUse:
            return f"profiler-agent profile --lut-url URL --device {self.device} --space NAME"


def profile_command(
    device: str, space: Space, precision: str = "fp32", other: Mapping[str, int | str] | None = None
) -> str:
    """The command that measures a space on a device; `other` replaces parameters of the space."""
    if isinstance(space, Own):
        return f"profiler-agent profile --lut-url URL --device {device} --space {space}"
    names = ("name", "resolution", "channels", "depth", "classes", "image_channels")
    wanted = {name: getattr(space, name) for name in names} | dict(other or {})
    wanted = {"space": wanted.pop("name"), **wanted} | ({} if precision == "fp32" else {"precision": precision})
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in wanted.items())
    return f"profiler-agent profile --lut-url URL --device {device} {options}"


def measure_command(device: str, space: str, files: str = "FILE.onnx") -> str:
    """The command that measures the kernels of a user's own files on a device."""
    return f"profiler-agent measure-kernels --lut-url URL --device {device} --space {space} {files}"


def read_table(data: object, where: str = "the latency table") -> LatencyTable:
    """A table from parsed JSON; `where` names it in messages.

    Raises:
        OtherSchema: it bears another schema number.
        InvalidValue: it is not a table.
    """
    return from_wire(LatencyTable, data, where)


def student_4(confidence: float) -> float:
    """Quantile of Student's t with four degrees of freedom (Shaw, 2006), from 0.5 to below 1."""
    alpha = math.sqrt(4 * confidence * (1 - confidence))
    return 2 * math.sqrt(max(math.cos(math.acos(min(alpha, 1.0)) / 3) / alpha - 1, 0.0))
