"""Latency of ONNX files and genotypes, from their kernels as this machine would execute them; nothing is timed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiler_agent.kernels.count_jobs import count_networks
from profiler_agent.kernels.model_files import CountedFile
from profiler_agent.server.server_client import ServerClient
from shared.errors import LutnasError, NotFound, ServerRefused
from shared.runtime import Runtime
from shared.spaces import parse_space


@dataclass(frozen=True)
class FilePrediction:
    """What the server says of one file or genotype, or why there is no prediction.

    Attributes:
        path: of the file, or the genotype.
        missing: kernels without which there is none.
    """

    path: Path | str
    answer: dict[str, Any] | None
    problem: str | None = None
    note: str | None = None
    missing: tuple[str, ...] = ()


def predict_genotype(client: ServerClient, device: str, genotype: str, space: str, runtime: Runtime) -> FilePrediction:
    """Predict a genotype of the table's space: by kernels, counted here where the server has not got them yet.

    Raises:
        NotFound: the server knows no such device, or has no table of it for this runtime.
    """
    try:
        answer = client.predict(device, {"genotype": genotype}, space, str(runtime))
    except NotFound:
        raise
    except LutnasError as error:
        return FilePrediction(genotype, None, str(error))
    if answer.get("by") != "kernels":
        try:
            table = client.fetch_table(str(answer.get("table")))
            counts = count_networks(client, parse_space(table.space), [genotype], runtime, lambda: None)
            answer = client.predict(device, {"kernels": counts[genotype]}, space, str(runtime))
        except LutnasError as error:
            return FilePrediction(genotype, answer, note=f"by op prices: {error}")
    return FilePrediction(genotype, answer)


def predict_counted(
    client: ServerClient, device: str, counted: CountedFile, space: str, runtime: str
) -> FilePrediction:
    """Predict a file whose kernels are counted. Raises NotFound as `predict_genotype` does."""
    if counted.counts is None:
        return FilePrediction(counted.path, None, counted.problem)
    try:
        return FilePrediction(
            counted.path, client.predict(device, {"kernels": counted.counts}, space, runtime), note=counted.note
        )
    except NotFound:
        raise  # no file could be predicted
    except ServerRefused as error:
        kernels = error.detail.get("kernels")
        missing = tuple(map(str, kernels)) if isinstance(kernels, list) else ()
        problem = f"{len(missing)} kernels of kinds that were never measured here" if missing else str(error)
        return FilePrediction(counted.path, None, problem, note=counted.note, missing=missing)
    except LutnasError as error:
        return FilePrediction(counted.path, None, str(error))
