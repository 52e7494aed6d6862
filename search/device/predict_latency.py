"""Tables and predictions for a user's own code. Token and certificates come from the environment."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from search.device.kernel_counts import DONE_S, have_counted
from search.device.lut_client import LutClient
from search.device.verification import TIMEOUT_S
from search.own_model.onnx_export import to_onnx
from shared.command_line import find_access
from shared.errors import InvalidValue, MissingKernel, NotFound, ServerRefused
from shared.jobs import NewJob
from shared.measurements.graph_spec import UploadedModel
from shared.tables.table import LatencyTable, measure_command


@dataclass(frozen=True)
class NetworkLatency:
    """Predicted latency of a network on a device.

    Attributes:
        mean_ms: what it takes.
        upper_ms: its bound; it stays below with a probability of `confidence`.
        missing: kernels that were never measured on the device. Similar kernels give their price,
            and the bound is wide.
        table: hash of the table.
    """

    mean_ms: float
    upper_ms: float
    confidence: float
    missing: tuple[str, ...]
    table: str


def load_table(device: str, lut_url: str, space: str | None = None, runtime: str | None = None) -> LatencyTable:
    """The newest latency table of a device.

    Args:
        device: its name on the server.
        lut_url: of the server, as `http://server:8700`. Where it asks for a token: LUTNAS_TOKEN.
        space: of the table, or its first parts (`nas-bench-201/r32`).
        runtime: of the table, or some of its parts (`CUDAExecutionProvider`, `int8`).

    Raises:
        NotFound: unknown device, or no such table; the message names those that exist.
        ServerAway: no server answers.
    """
    with _connect(lut_url) as client:
        return client.get_table(device, space, runtime)


def predict_latency(
    model: nn.Module | str | Path,
    example: Tensor | tuple[Tensor, ...] | None = None,
    *,
    device: str,
    lut_url: str,
    space: str | None = None,
    runtime: str | None = None,
    measure: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> NetworkLatency:
    """How long a network takes on a device, by the prices of its kernels. It is never timed itself.

    The device's agent (`profiler-agent work`) says which kernels its runtime makes of the network.
    The server keeps that: the same network asked about again needs no agent.

    Args:
        model: a module, in any mode; or the path of an ONNX file.
        example: the module's input, or a tuple of its inputs, with the batch of the table (1): for
            images (1, channels, height, width). An ONNX file needs none.
        device: name of the device whose table is read; as in `load_table`.
        lut_url: address of the server. The token has the role `search`.
        space: of the table, where the device has tables of several.
        runtime: of the table, where the space has tables of several.
        measure: have the device measure kernels that its table lacks, seconds for each; they are
            then in the table for every later network.
        timeout_s: longest wait for that.

    Raises:
        InvalidValue: there is no example, or torch.onnx does not export the module.
        MissingKernel: it has kernels of kinds that were never measured on the device; `missing`
            lists them, and the message names the command that measures them.
        NotFound: unknown device, or no such table.
        LutnasError: no agent of the device answered within seconds, or its runtime does not load
            the network.
        ServerAway: no server answers.
    """
    content = _read_model(model, example)
    with _connect(lut_url) as client:
        table = client.get_table(device, space, runtime)
        graph = str(UploadedModel(client.upload_model(content)))
        try:
            found = _ask(client, table, graph)
            if not (measure and found.missing):
                return found
        except NotFound as error:
            if error.code != "unknown_model":
                raise
        except MissingKernel:
            if not measure:
                raise
        job = NewJob(device, "count", table.runtime, table.canary, table.space, graph=graph, measure=measure)
        have_counted(client, job, done_s=timeout_s if measure else DONE_S)
        return _ask(client, table, graph)


def _ask(client: LutClient, table: LatencyTable, graph: str) -> NetworkLatency:
    try:
        answer = client.predict(table.device, {"graph": graph}, table.space, str(table.runtime))
    except ServerRefused as error:
        kernels = error.detail.get("kernels")
        if not isinstance(kernels, list):
            raise
        raise MissingKernel(map(str, kernels), table.device, measure_command(table.device, table.space)) from error
    return NetworkLatency(
        answer["mean_ms"],
        answer["upper_ms"],
        answer["confidence"],
        tuple(answer.get("guessed") or ()),
        str(answer.get("table")),
    )


def _read_model(model: nn.Module | str | Path, example: Tensor | tuple[Tensor, ...] | None) -> bytes:
    if isinstance(model, nn.Module):
        if example is None:
            raise InvalidValue("example", "is missing: a module is exported with an input of the shape that it gets")
        return to_onnx(model, example)
    try:
        return Path(model).read_bytes()
    except OSError as error:
        raise InvalidValue("model", f"cannot read {model}: {error.strerror}") from error


def _connect(lut_url: str) -> LutClient:
    token, ca_file = find_access(argparse.Namespace(environment=os.environ))
    return LutClient(lut_url, token, ca_file=ca_file)
