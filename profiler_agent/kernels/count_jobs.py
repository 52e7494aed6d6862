"""Kernels of a list of networks, for a job: a session without a run for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from profiler_agent.kernels.kernels import count_kernels
from profiler_agent.ort.half_precision import check_half_precision
from profiler_agent.ort.sessions import ModelRefused
from profiler_agent.server.server_client import ServerClient
from shared.errors import CorruptFile, InvalidValue, LutnasError
from shared.measurements.graph_spec import NetworkGraph
from shared.runtime import Runtime
from shared.spaces import Space


def count_networks(
    client: ServerClient, space: Space, genotypes: Sequence[str], runtime: Runtime, check: Callable[[], None]
) -> dict[str, dict[str, int]]:
    """Kernel counts by genotype; networks that the runtime does not load are left out.

    Raises:
        LutnasError: not one of them could be counted, or the runtime would not execute them in their precision.
    """
    counts: dict[str, dict[str, int]] = {}
    problem = "the list is empty"
    for genotype in genotypes:
        check()
        spec = str(NetworkGraph(space, space.parse(genotype)))
        model = client.fetch_graph(spec, runtime.batch, runtime.precision)
        if runtime.precision == "fp16" and not counts:
            check_half_precision(spec, model, runtime)
        try:
            counts[genotype] = dict(count_kernels(spec, model, runtime))
        except (CorruptFile, InvalidValue, ModelRefused) as error:
            problem = str(error)
    if not counts:
        raise LutnasError(f"no network could be counted: {problem}")
    return counts
