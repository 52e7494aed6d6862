"""ONNX graphs of single ops and of whole networks: the measured graph is the deployed graph.

The same primitives build an op's chain, a network with random weights for profiling, and a network
with trained weights for deployment. Ops that do not reach the output are left out, because ONNX
Runtime executes unused nodes, too.
"""

from shared.graphs.build import build_graph, build_network, network_parameter_shapes
from shared.graphs.fp16 import halve
from shared.graphs.int8 import activation_names, quantise

__all__ = ["activation_names", "build_graph", "build_network", "halve", "network_parameter_shapes", "quantise"]
