"""Latency of ONNX files, from their kernels as this machine's runtime would execute them; nothing is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiler_agent.model_files import CountedFile, count_files
from profiler_agent.server_client import ServerClient
from shared.errors import LutnasError, NotFound, ServerRefused
from shared.runtime import Runtime


@dataclass(frozen=True)
class FilePrediction:
    """What the server says of one file, or why there is no prediction.

    Attributes:
        missing: kernels without which there is none.
    """

    path: Path
    answer: dict[str, Any] | None
    problem: str | None = None
    note: str | None = None
    missing: tuple[str, ...] = ()


def predict_files(
    client: ServerClient, device: str, files: Sequence[Path], space: str, runtime: Runtime
) -> list[FilePrediction]:
    """Predict files one after the other; one that cannot be predicted does not hold up the others.

    Raises:
        NotFound: the server knows no such device, or has no table of it for this runtime.
    """
    return [predict_counted(client, device, one, space, str(runtime)) for one in count_files(files, runtime)]


def predict_counted(client: ServerClient, device: str, one: CountedFile, space: str, runtime: str) -> FilePrediction:
    """Predict a file whose kernels are counted."""
    if one.counts is None:
        return FilePrediction(one.path, None, one.problem)
    try:
        return FilePrediction(one.path, client.predict(device, one.counts, space, runtime), note=one.note)
    except NotFound:
        raise  # no file could be predicted
    except ServerRefused as error:
        kernels = error.detail.get("kernels")
        missing = tuple(map(str, kernels)) if isinstance(kernels, list) else ()
        problem = f"{len(missing)} kernels of kinds that were never measured here" if missing else str(error)
        return FilePrediction(one.path, None, problem, missing=missing)
    except LutnasError as error:
        return FilePrediction(one.path, None, str(error))
