"""Opens the graphs of a campaign, counts the kernels of each once, and notes refused graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from profiler_agent.kernels.kernels import count_kernels
from profiler_agent.ort.session_cache import MOST_SESSIONS, SessionCache, give_back_memory
from profiler_agent.ort.sessions import GraphHidden, ModelRefused, TimedGraph, load_graph
from profiler_agent.profile.run_group import RunGroup
from profiler_agent.progress import Progress
from profiler_agent.server.graph_store import GraphStore
from shared.errors import CorruptFile, InvalidValue
from shared.measurements.graph_spec import KernelGraph, parse_graph_spec
from shared.runtime import Runtime


@dataclass
class GraphLoader:
    """Loads graphs for a group of runs.

    Attributes:
        loaded: graphs by reference.
        refused: reasons why graphs could not be loaded.
    """

    store: GraphStore
    group: RunGroup
    cache: SessionCache
    progress: Progress
    check: Callable[[], None]
    loaded: dict[str, TimedGraph] = field(default_factory=dict, init=False)
    refused: dict[str, str] = field(default_factory=dict, init=False)
    _hidden: bool = field(default=False, init=False)

    @property
    def runtime(self) -> Runtime:
        """The runtime of all runs."""
        return self.group.runs[0].run.runtime

    def _runtime_of(self, spec: str) -> Runtime:
        """A kernel is part of a graph that is optimised already."""
        return replace(self.runtime, optimisation="disabled") if _is_cut(spec) else self.runtime

    def load(self, wanted: Sequence[str]) -> None:
        for index, spec in enumerate(wanted):
            self.check()
            try:
                path = self.store.locate(spec)
                give_back_memory()
                self.loaded[spec] = self._settle(spec, path)
                give_back_memory()
                if not self._hidden and self.group.needs_kernels(spec):
                    self._count(spec, path)
            except ModelRefused as error:
                self.progress.say(f"left out: {error}")
                self.refused[spec] = str(error)
            give_back_memory()
            self.progress.counted(index + 1, len(wanted))

    def keep_at_hand(self, wanted: Sequence[str]) -> None:
        """Have these graphs on the disk, in case the server goes away, and count their kernels."""
        for spec in wanted:
            self.check()
            path = self.store.locate(spec)
            if not self._hidden and self.group.needs_kernels(spec) and spec not in self.refused:
                self._count(spec, path)
                give_back_memory()

    def _count(self, spec: str, path: Path) -> None:
        try:
            counts = count_kernels(spec, path, self._runtime_of(spec))
            _check_cut(spec, counts)
            self.group.keep_kernels(spec, counts)
        except GraphHidden as error:
            self._hidden = True  # the next graph would be hidden too
            self.progress.say(f"{error}: the table will have op prices alone")
        except (CorruptFile, InvalidValue, ModelRefused) as error:
            if _is_cut(spec):
                raise ModelRefused(str(error)) from error
            self.progress.say(f"kernels of {spec} are not counted: {error}")

    def _settle(self, spec: str, path: Path) -> TimedGraph:
        """Load a graph now, and let the cache load it again for its rounds."""

        def load(sessions: int) -> TimedGraph:
            return load_graph(spec, path, self._runtime_of(spec), sessions)

        if spec.startswith("canary:"):  # in every round: never closed
            return load(MOST_SESSIONS)
        return self.cache.add(load, path.stat().st_size)


def _is_cut(spec: str) -> bool:
    return spec.startswith("kernel:")


def _check_cut(spec: str, counts: Mapping[str, int]) -> None:
    """Raise ModelRefused if the graph of a kernel executes anything else."""
    parsed = parse_graph_spec(spec) if _is_cut(spec) else None
    if not isinstance(parsed, KernelGraph):
        return
    wanted = str(parsed.kernel)
    # Sequences that it reads are made once; they are no part of the difference of two graphs.
    found = {
        kernel: n for kernel, n in counts.items() if kernel == wanted or not kernel.startswith("SequenceConstruct/")
    }
    if found != {wanted: parsed.copies}:
        executed = ", ".join(f"{n} x {kernel}" for kernel, n in counts.items())
        raise ModelRefused(f"{spec}: its timing graph executes something else: {executed}")
