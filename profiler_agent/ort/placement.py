"""Which provider runs the nodes of a graph: ONNX Runtime gives unsupported nodes to another
silently.

The profile of a session's first run shows it. (ONNX Runtime also records it when a session is made,
from 1.24 on, but leaves out what a provider converts to its own layout: on WebGPU nearly all.) A
part that the provider compiles counts as a node.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.errors import CorruptFile

_MOST_NAMED = 4


@dataclass(frozen=True)
class Placement:
    """Nodes of a graph with their providers.

    Attributes:
        asked: ONNX Runtime's name of the wanted provider.
        nodes: (provider, operator) of each node.
    """

    asked: str
    nodes: tuple[tuple[str, str], ...]

    @property
    def strays(self) -> tuple[tuple[str, str], ...]:
        return tuple(node for node in self.nodes if node[0] != self.asked)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the provider ran nothing of the graph."""
        return bool(self.nodes) and len(self.strays) == len(self.nodes)

    def describe(self) -> str:
        """Which nodes ran elsewhere, in words; empty if none."""
        strays = self.strays
        if not strays:
            return ""
        kinds = sorted({operator for _, operator in strays})
        named = ", ".join(kinds[:_MOST_NAMED]) + (", ..." if len(kinds) > _MOST_NAMED else "")
        others = " and ".join(sorted({provider for provider, _ in strays}))
        return f"{len(strays)} of {len(self.nodes)} nodes ran on {others} instead of {self.asked} ({named})"


def read_profile(profile: str | bytes, asked: str) -> Placement:
    """The placement from the profile of a run.

    Raises:
        CorruptFile: it is no profile of ONNX Runtime.
    """
    try:
        events = json.loads(profile)
        return Placement(asked, tuple(_nodes(events)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFile(f"not a profile of ONNX Runtime: {error}") from error


def _nodes(events: Iterable[dict[str, Any]]) -> Iterable[tuple[str, str]]:
    for event in events:
        details = event.get("args", {})
        if event.get("cat") == "Node" and details.get("provider"):
            yield str(details["provider"]), str(details["op_name"])
