"""ONNX graphs of single ops and of whole networks: what is measured is what is shipped.

The same emitters build an op's chain, a network with random weights for profiling, and a network with trained weights
for deployment. Ops that do not reach the output are left out: ONNX Runtime executes nodes whose result nobody uses.
"""

from shared.graphs.build import build_graph, build_network
from shared.graphs.fp16 import halve
from shared.graphs.int8 import activation_names, quantise
from shared.graphs.networks import network_parameter_shapes

__all__ = ["activation_names", "build_graph", "build_network", "halve", "network_parameter_shapes", "quantise"]
