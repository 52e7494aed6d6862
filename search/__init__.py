"""The search: a run gives a family of networks for each device, and a budget picks a member.

The names below are for a user's own code. The first that is asked for imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.alphas.expected_cost import LatencyTerm
    from search.device.predict_latency import load_table, predict_latency
    from search.own_model.layer_choice import LayerChoice, freeze

__all__ = ["LatencyTerm", "LayerChoice", "freeze", "load_table", "predict_latency"]

_MODULES = {
    "LatencyTerm": "search.alphas.expected_cost",
    "LayerChoice": "search.own_model.layer_choice",
    "freeze": "search.own_model.layer_choice",
    "load_table": "search.device.predict_latency",
    "predict_latency": "search.device.predict_latency",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
