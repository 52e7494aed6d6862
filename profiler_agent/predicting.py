"""Latency of ONNX files, from their kernels as this machine's runtime would execute them; nothing is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiler_agent.files import read_bytes
from profiler_agent.kernels import count_kernels
from profiler_agent.server_client import ServerClient
from profiler_agent.sessions import optimise
from shared.errors import LutnasError
from shared.runtime import Runtime


@dataclass(frozen=True)
class FilePrediction:
    """What the server says of one file, or why there is no prediction."""

    path: Path
    answer: dict[str, Any] | None
    problem: str | None = None


def predict_files(
    client: ServerClient, device: str, files: Sequence[Path], space: str, runtime: Runtime
) -> list[FilePrediction]:
    """Predict files one after the other; one that cannot be predicted does not hold up the others."""
    found = []
    for path in files:
        try:
            model = read_bytes(path)
            if model is None:
                raise LutnasError(f"{path} is not a file")
            counts = count_kernels(optimise(str(path), model, runtime))
            found.append(FilePrediction(path, client.predict(device, counts, space, str(runtime))))
        except LutnasError as error:
            found.append(FilePrediction(path, None, str(error)))
    return found
