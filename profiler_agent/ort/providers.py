"""Execution providers: names, packages, session options, and the import of ONNX Runtime.

Only an ONNX Runtime build knows which providers it offers. The table says the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType, ModuleType

from shared.command_line import Interrupted
from shared.errors import UnknownName, WrongUse
from shared.runtime import silence_onnxruntime

CPU = "CPUExecutionProvider"

PROVIDERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "cpu": (CPU, "onnxruntime"),
        "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
        "webgpu": ("WebGpuExecutionProvider", "onnxruntime-webgpu"),
        "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
        "tensorrt": ("TensorrtExecutionProvider", "onnxruntime-gpu"),
        "migraphx": ("MIGraphXExecutionProvider", "onnxruntime-migraphx"),
        "directml": ("DmlExecutionProvider", "onnxruntime-directml"),
        "cann": ("CANNExecutionProvider", "onnxruntime-cann"),
        "qnn": ("QNNExecutionProvider", "onnxruntime-qnn<2"),
        "coreml": ("CoreMLExecutionProvider", ""),
        "xnnpack": ("XnnpackExecutionProvider", ""),
        "nnapi": ("NnapiExecutionProvider", ""),
        "dnnl": ("DnnlExecutionProvider", ""),
        "acl": ("ACLExecutionProvider", ""),
        "vitisai": ("VitisAIExecutionProvider", ""),
        "rknpu": ("RknpuExecutionProvider", ""),
    }
)
"""ONNX Runtime's name of a provider and the package that has it ("": other builds), by short name."""
_SHORT = {name: short for short, (name, _) in PROVIDERS.items()}


def provider_name(text: str) -> str:
    """ONNX Runtime's name of a provider, from that or its short name, in any case.

    Raises:
        UnknownName: it is no short name, and does not end as ONNX Runtime's names do.
    """
    known = {key.lower(): name for short, (name, _) in PROVIDERS.items() for key in (short, name)}
    if text.lower() in known:
        return known[text.lower()]
    if re.fullmatch(r"[A-Za-z0-9]{1,44}ExecutionProvider", text):
        return text
    raise UnknownName("execution provider", text, PROVIDERS, "ONNX Runtime's full names are taken as well")


def require_offered(name: str, available: Sequence[str], version: str) -> None:
    """Raise WrongUse, with what installs the provider, unless this ONNX Runtime offers it."""
    if name in available:
        return
    _, package = PROVIDERS.get(_SHORT.get(name, ""), (name, ""))
    install = f"pip uninstall onnxruntime, pip install '{package}'" if package else "take a build that has it"
    raise WrongUse(f"ONNX Runtime {version} here has no {name}: {install} (here: {short_names(available)})")


def require_started(name: str, started: Sequence[str]) -> None:
    """Raise WrongUse unless the provider is a session's first: ONNX Runtime may take the CPU."""
    if not started or started[0] != name:
        raise WrongUse(
            f"{name} is in this ONNX Runtime but does not start here ({', '.join(started)} would have run everything):"
            " ONNX Runtime's page on it says which drivers and libraries it needs"
        )


def session_options(name: str, threads: int) -> dict[str, str]:
    """Options of a session on the provider. OpenVINO alone has a pool of threads of its own."""
    return {"device_type": "CPU", "num_of_threads": str(threads)} if name == PROVIDERS["openvino"][0] else {}


def short_names(names: Iterable[str]) -> str:
    """Providers for people, by short name if there is one."""
    return ", ".join(_SHORT.get(name, name) for name in names)


def import_onnxruntime() -> ModuleType:
    """Import ONNX Runtime, which is slow, and keep it silent.

    Raises:
        ImportError: it is not here, or does not fit this machine.
    """
    silence_onnxruntime(os.environ)
    try:
        import onnxruntime
    except ImportError as error:
        # A signal while the library starts comes out of it as a failed import.
        if isinstance(error.__cause__, Interrupted):
            raise error.__cause__ from None
        raise
    module: ModuleType = onnxruntime
    return module
