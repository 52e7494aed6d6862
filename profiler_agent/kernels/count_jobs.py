"""Kernels of networks that are not measured: each is loaded, optimised, read, and run once for its shapes."""

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

KernelCounts = dict[str, dict[str, int]]


def count_networks(
    client: ServerClient, space: Space, genotypes: Sequence[str], runtime: Runtime, check: Callable[[], None]
) -> KernelCounts:
    """Kernel counts by genotype; see `count_graphs`."""
    specs = {genotype: str(NetworkGraph(space, space.parse(genotype))) for genotype in genotypes}
    counts = count_graphs(client, [*specs.values()], runtime, check)
    return {genotype: counts[spec] for genotype, spec in specs.items() if spec in counts}


def count_graphs(
    client: ServerClient, graphs: Sequence[str], runtime: Runtime, check: Callable[[], None] = lambda: None
) -> KernelCounts:
    """Kernel counts by graph reference; networks that the runtime does not load are left out.

    Raises:
        GraphHidden: the provider never shows what it executes.
        LutnasError: no network could be counted, or the runtime would not execute them in their precision.
    """
    counts: KernelCounts = {}
    problem = "the list is empty"
    for spec in graphs:
        check()
        model = client.fetch_graph(spec, runtime.batch, runtime.precision)
        if runtime.precision == "fp16" and not counts:
            check_half_precision(spec, model, runtime)
        try:
            counts[spec] = dict(count_kernels(spec, model, runtime))
        except (CorruptFile, InvalidValue, ModelRefused) as error:
            problem = str(error)
    if not counts:
        raise LutnasError(f"no network could be counted: {problem}")
    return counts
