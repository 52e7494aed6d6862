"""Opens the graphs of a campaign, counts the kernels of each once, and names those that the runtime refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from profiler_agent.graph_store import GraphStore
from profiler_agent.kernels import UnknownOperator, count_kernels
from profiler_agent.progress import Progress
from profiler_agent.residence import Residence
from profiler_agent.round_timer import TimedGraph
from profiler_agent.run_group import RunGroup
from profiler_agent.sessions import ModelRefused, load_graph, optimise
from profiler_agent.spool import Spool
from shared.errors import CorruptFile, InvalidValue
from shared.runtime import Runtime


class GraphLoader:
    """Loads graphs for one group of runs.

    Attributes:
        loaded: graphs by their reference.
        refused: why graphs are not among them.
    """

    def __init__(
        self,
        store: GraphStore,
        spool: Spool,
        group: RunGroup,
        residence: Residence,
        progress: Progress,
        check: Callable[[], None],
    ) -> None:
        self.loaded: dict[str, TimedGraph] = {}
        self.refused: dict[str, str] = {}
        self._store = store
        self._group = group
        self._runtime: Runtime = group.runs[0].run.runtime
        self._on_disk = GraphStore(None, spool, self._runtime.batch)
        self._residence = residence
        self._progress = progress
        self._check = check

    def load(self, wanted: Sequence[str]) -> None:
        """Open these graphs."""
        with self._progress.bar("graphs"):
            for index, spec in enumerate(wanted):
                self._check()
                try:
                    model = self._store.read(spec)
                    self.loaded[spec] = self._settle(spec, model)
                    if self._group.needs_kernels(spec):
                        self._count(spec, model)
                except ModelRefused as error:
                    self._progress.say(f"left out: {error}")
                    self.refused[spec] = str(error)
                self._progress.counted(index + 1, len(wanted))

    def _count(self, spec: str, model: bytes) -> None:
        try:
            self._group.keep_kernels(spec, count_kernels(optimise(spec, model, self._runtime)))
        except (CorruptFile, InvalidValue, ModelRefused, UnknownOperator) as error:
            self._progress.say(f"kernels of {spec} are not counted: {error}")

    def _settle(self, spec: str, model: bytes) -> TimedGraph:
        """Load a graph now, and again from the disk whenever memory was short meanwhile."""
        if spec.startswith("canary:"):  # in every round: never closed
            return load_graph(spec, model, self._runtime)
        at_hand = [model]

        def load() -> tuple[TimedGraph, int]:
            if at_hand:
                content, sessions = at_hand.pop(), None
            else:  # each loading is another session: taking turns within one is no longer worth the time
                content, sessions = self._on_disk.read(spec), 1
            return load_graph(spec, content, self._runtime, sessions), len(content)

        return self._residence.add(load)
