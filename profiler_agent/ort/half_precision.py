"""Whether a runtime computes in half precision, or only takes graphs that ask for it.

ONNX Runtime loads an fp16 graph on any provider. Where a provider lacks the kernels, it puts casts around each operator
and executes it in fp32; casts that meet cancel, so that in the end nothing but the weights was ever rounded.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from profiler_agent.ort.onnx_reader import read_graph
from profiler_agent.ort.sessions import GraphHidden, optimise
from shared.errors import InvalidValue
from shared.runtime import Runtime

_INSERTED = "InsertedPrecisionFreeCast_"
"""Begins the names of tensors that ONNX Runtime casts to fp32 for want of a kernel."""


def check_half_precision(name: str, model: bytes | Path, runtime: Runtime) -> None:
    """Raise InvalidValue if the runtime would execute an fp16 graph in fp32.

    Raises:
        ModelRefused: ONNX Runtime does not load the graph.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            content = optimise(name, model, runtime, Path(folder)).read_bytes()
    except GraphHidden:  # compiled as a whole, by a provider that took it
        return
    nodes = [node for node in read_graph(content).nodes if node.op_type != "Cast"]
    in_fp32 = [node for node in nodes if any(tensor.startswith(_INSERTED) for tensor in (*node.inputs, *node.outputs))]
    if in_fp32:
        raise InvalidValue(
            "--precision fp16",
            f"{runtime.provider} of ONNX Runtime {runtime.version} has no half-precision kernels on this machine: it"
            f" casts {len(in_fp32)} of the {len(nodes)} operators of {name[:80]} to fp32, which is what would be"
            " measured; take fp32 or int8, or a provider with such kernels (CUDA, CoreML, QNN)",
        )
