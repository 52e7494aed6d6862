"""What a device's table says of a network: by its kernels where these are known, by its ops otherwise."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lut_server.error_codes import refused
from lut_server.store.sql import Store
from lut_server.tables.table_lookup import get_table
from shared.errors import InvalidValue, LutnasError, MissingKernel, WrongUse
from shared.kernels.kernel import MOST_KERNELS, check_counts
from shared.measurements.graph_spec import NetworkGraph
from shared.spaces.op_key import parse_op_key
from shared.tables.table import CONFIDENCE, LatencyTable, Prediction
from shared.wire import from_wire


@dataclass(frozen=True)
class PredictionRequest:
    """One network: a genotype of the table's space, a graph, its kernels, or its ops by op key.

    Attributes:
        kernels: of the optimised graph.
        graph: reference of a graph whose kernels were counted on the device.
        space: of the table, or its first parts; "" takes the device's newest table.
        runtime: of the table; None takes any.
    """

    genotype: str | None = None
    kernels: dict[str, int] | None = None
    ops: dict[str, int] | None = None
    graph: str | None = None
    space: str = ""
    runtime: str | None = None
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        if [self.genotype, self.kernels, self.ops, self.graph].count(None) != 3:
            raise InvalidValue("body", "give one of genotype, graph, kernels and ops")
        if self.ops is not None and not all(0 < n <= MOST_KERNELS for n in self.ops.values()):
            raise InvalidValue("ops", f"a count is not within 1 to {MOST_KERNELS}")
        if self.kernels is not None:
            check_counts("kernels", {"the network": self.kernels})


@dataclass(frozen=True)
class PredictionAnswer:
    """A network's latency: mean, standard deviation and upper bound, and what they were made from."""

    mean_ms: float
    sd_ms: float
    upper_ms: float
    confidence: float
    by: str
    guessed: tuple[str, ...]
    table: str


def predict(store: Store, device: str, request: PredictionRequest) -> PredictionAnswer:
    """Predict one network.

    Raises:
        NotFound: unknown_device or no_table; or unknown_model, whose kernels nobody counted there.
        InvalidValue: the genotype is none of the table's space.
        MissingPrice: ops that the table has no price for.
        MissingKernel: kernels of a kind that was never measured on the device.
    """
    summary = get_table(store, device, request.space, request.runtime)
    table = store.tables.get(summary.hash)
    prediction, by = _predict(store, table, request)
    upper_ms = prediction.upper_ms(request.confidence)
    return PredictionAnswer(
        prediction.mean_ms, prediction.sd_ms, upper_ms, request.confidence, by, prediction.guessed, summary.hash
    )


def prediction_lines(
    store: Store, device: str, space: str, runtime: str | None, genotypes: Sequence[str], kernels: Path | None
) -> Iterator[str]:
    """Predictions for people: a line for each genotype, and one for counted kernels in a JSON file.

    Raises:
        WrongUse: nothing is asked for.
        InvalidValue: the file holds no counts, or a genotype is none of the table's space.
        LutnasError: as `predict` says.
    """
    wanted = [(one, PredictionRequest(genotype=one, space=space, runtime=runtime)) for one in genotypes]
    if kernels is not None:
        wanted.append((str(kernels), PredictionRequest(kernels=_read_counts(kernels), space=space, runtime=runtime)))
    if not wanted:
        raise WrongUse("predict: give a genotype of the table's space, or --kernels FILE")
    for name, request in wanted:
        found = predict(store, device, request)
        bound = f"{100 * found.confidence:g} % bound {found.upper_ms:.4g}"
        yield f"{name}: {found.mean_ms:.4g} ms (standard deviation {found.sd_ms:.2g}, {bound}; by {found.by})"
        for kernel in found.guessed:
            yield f"  guessed, never measured: {kernel}"


def _read_counts(path: Path) -> dict[str, int]:
    try:
        return from_wire(dict[str, int], json.loads(path.read_bytes()), str(path))
    except OSError as error:
        raise LutnasError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidValue(str(path), f"is not JSON of kernel counts: {error}") from error
    except RecursionError as error:
        raise InvalidValue(str(path), "is not JSON of kernel counts: nested too deeply") from error


def _predict(store: Store, table: LatencyTable, request: PredictionRequest) -> tuple[Prediction, str]:
    if request.kernels is not None:
        return table.predict_kernels(request.kernels, guess=True), "kernels"
    if request.graph is not None:
        counted = store.kernels.of_graphs(table.device, str(table.runtime), [request.graph])
        if not counted:
            problem = f"the kernels of {request.graph[:120]} were not counted on {table.device} with {table.runtime}"
            raise refused("unknown_model", f"{problem}: queue a count job for it")
        return table.predict_kernels(counted[request.graph], guess=True), "kernels"
    if request.ops is not None:
        return table.predict_counts(Counter({parse_op_key(key): n for key, n in request.ops.items()})), "ops"
    space = table.parsed_space
    genotype = space.parse(request.genotype or "")
    if table.kernels is not None and space.is_connected(genotype):
        names = [str(NetworkGraph(space, one)) for one in (genotype, space.canonical(genotype))]
        counted = store.kernels.of_graphs(table.device, str(table.runtime), names)
        for counts in counted.values():
            try:
                return table.predict_kernels(counts, guess=True), "kernels"
            except MissingKernel:
                continue
    return table.predict(genotype), "ops"
