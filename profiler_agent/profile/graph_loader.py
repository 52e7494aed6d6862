"""Opens the graphs of a campaign, counts the kernels of each once, and notes refused graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from profiler_agent.kernels.kernels import UnknownOperator, count_kernels
from profiler_agent.ort.providers import CPU
from profiler_agent.ort.session_cache import MOST_SESSIONS, SessionCache, give_back_memory
from profiler_agent.ort.sessions import GraphHidden, ModelRefused, TimedGraph, load_graph, optimise
from profiler_agent.profile.run_group import RunGroup
from profiler_agent.progress import Progress
from profiler_agent.server.graph_store import GraphStore
from shared.errors import CorruptFile, InvalidValue
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
            self.group.keep_kernels(spec, count_kernels(optimise(spec, path, self.runtime)))
        except GraphHidden as error:
            self._hidden = True  # the next graph would be hidden too
            self.progress.say(f"{error}: the table will have op prices alone")
        except (CorruptFile, InvalidValue, ModelRefused, UnknownOperator) as error:
            self.progress.say(f"kernels of {spec} are not counted: {error}")

    def _settle(self, spec: str, path: Path) -> TimedGraph:
        """Load a graph now, and let the cache load it again for its rounds."""

        def load(sessions: int) -> TimedGraph:
            return load_graph(spec, path, self.runtime, sessions if self.runtime.provider == CPU else 1)

        if spec.startswith("canary:"):  # in every round: never closed
            return load(MOST_SESSIONS)
        return self.cache.add(load, path.stat().st_size)
