"""Execution providers: their short names, what installs them, and what a session on them needs.

Which of them an ONNX Runtime build offers, only that build knows (`find_available`). The table says the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from shared.errors import UnknownName, WrongUse

CPU = "CPUExecutionProvider"
_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
_FROM_SOURCE = "no package has it: build ONNX Runtime from source with"


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Attributes:
        short: name on the command line.
        name: ONNX Runtime's own.
        install: what would install it, and where that works.
        needs: what else has to be on the machine for it to start.
        memory: where inputs and outputs are bound; None leaves them to `run`, which copies them in and out.
        options: of the session, by name; "{threads}" is the runtime's.
        own_threads: whether it computes in a pool of its own, so that ONNX Runtime's needs one thread.
    """

    short: str
    name: str
    install: str
    needs: str = ""
    memory: str | None = None
    options: Mapping[str, str] = field(default_factory=lambda: _NO_OPTIONS)
    own_threads: bool = False


PROVIDERS: tuple[Provider, ...] = (
    Provider("cpu", CPU, "pip install onnxruntime"),
    Provider(
        "cuda",
        "CUDAExecutionProvider",
        "pip install onnxruntime-gpu instead of onnxruntime (Linux and Windows on x86-64)",
        "an NVIDIA GPU with its driver, and the CUDA and cuDNN that its release names"
        " (pip install 'onnxruntime-gpu[cuda,cudnn]' brings both)",
        memory="cuda",
    ),
    Provider(
        "tensorrt",
        "TensorrtExecutionProvider",
        "pip install onnxruntime-gpu instead of onnxruntime (Linux and Windows on x86-64)",
        "an NVIDIA GPU with its driver, CUDA, cuDNN and the TensorRT that its release names, in the library path",
        memory="cuda",
    ),
    Provider(
        "migraphx",
        "MIGraphXExecutionProvider",
        "pip install onnxruntime-migraphx instead of onnxruntime (Linux on x86-64)",
        "an AMD GPU and ROCm with MIGraphX",
    ),
    Provider(
        "openvino",
        "OpenVINOExecutionProvider",
        "pip install onnxruntime-openvino instead of onnxruntime (Linux and Windows on x86-64)",
        "an Intel CPU, GPU or NPU",
        options={"device_type": "CPU", "num_of_threads": "{threads}"},
        own_threads=True,
    ),
    Provider(
        "xnnpack",
        "XnnpackExecutionProvider",
        "pkg install python-onnxruntime in Termux (Android); elsewhere no package with Python has it: build"
        " ONNX Runtime from source with --use_xnnpack (Linux, Windows)",
        options={"intra_op_num_threads": "{threads}"},
        own_threads=True,
    ),
    Provider("coreml", "CoreMLExecutionProvider", "pip install onnxruntime on macOS: its package there has it"),
    Provider(
        "nnapi",
        "NnapiExecutionProvider",
        "pkg install python-onnxruntime in Termux (Android 8.1 or newer)",
    ),
    Provider(
        "qnn",
        "QNNExecutionProvider",
        "pip install 'onnxruntime-qnn<2' instead of onnxruntime (Windows on ARM64; from 2 on it is a plugin, which the"
        " agent does not load), or build ONNX Runtime from source with --use_qnn",
        "a Qualcomm Snapdragon with an NPU",
    ),
    Provider(
        "directml",
        "DmlExecutionProvider",
        "pip install onnxruntime-directml instead of onnxruntime (Windows 10 or newer)",
        "a GPU with DirectX 12",
    ),
    Provider(
        "cann",
        "CANNExecutionProvider",
        "pip install onnxruntime-cann instead of onnxruntime (Linux)",
        "a Huawei Ascend NPU with its CANN toolkit",
    ),
    Provider("dnnl", "DnnlExecutionProvider", f"{_FROM_SOURCE} --use_dnnl (Linux and Windows on x86-64)"),
    Provider("acl", "ACLExecutionProvider", f"{_FROM_SOURCE} --use_acl (Linux on ARM64, with the Arm Compute Library)"),
    Provider("vitisai", "VitisAIExecutionProvider", f"{_FROM_SOURCE} --use_vitisai (AMD Ryzen AI and Versal)"),
    Provider("rknpu", "RknpuExecutionProvider", f"{_FROM_SOURCE} --use_rknpu (Rockchip RK1808)"),
)
"""All that the command line knows by a short name; any other is taken by ONNX Runtime's own name for it."""

_BY_NAME = {provider.name: provider for provider in PROVIDERS}
_KNOWN = {text.lower(): provider.name for provider in PROVIDERS for text in (provider.short, provider.name)}


def provider_name(text: str) -> str:
    """ONNX Runtime's name of a provider, from that or from its short name, in any case.

    Raises:
        UnknownName: neither a short name nor one that ends as ONNX Runtime's names do.
    """
    known = _KNOWN.get(text.lower())
    if known is not None:
        return known
    if re.fullmatch(r"[A-Za-z0-9]{1,44}ExecutionProvider", text):
        return text
    raise UnknownName(
        "execution provider",
        text,
        (provider.short for provider in PROVIDERS),
        "ONNX Runtime's full names are taken as well",
    )


def describe_provider(name: str) -> Provider:
    """What is known of a provider by ONNX Runtime's name; a stranger gets no more than its name."""
    return _BY_NAME.get(name) or Provider(name, name, "no package that this agent knows has it")


def find_available(ort: Any) -> tuple[str, ...]:
    """ONNX Runtime's names of the providers that its build offers."""
    return tuple(ort.get_available_providers())


def require_offered(name: str, available: Sequence[str], version: str) -> None:
    """Raise WrongUse unless this ONNX Runtime offers the provider; the line says what would install it."""
    if name in available:
        return
    wanted = describe_provider(name)
    needs = f"; it needs {wanted.needs}" if wanted.needs else ""
    raise WrongUse(
        f"ONNX Runtime {version} here has no {name}: {wanted.install}{needs} (here: {short_names(available)})"
    )


def require_started(name: str, started: Sequence[str]) -> None:
    """Raise WrongUse unless a session came up with the provider first: ONNX Runtime takes the CPU where one fails."""
    if started and started[0] == name:
        return
    needs = describe_provider(name).needs or "see ONNX Runtime's page on it"
    raise WrongUse(
        f"{name} is in this ONNX Runtime but does not start here ({', '.join(started)} would have run everything):"
        f" it needs {needs}"
    )


def session_options(name: str, threads: int) -> dict[str, str]:
    """What a session on the provider is told. ONNX Runtime itself adds the CPU for nodes that the provider lacks."""
    return {key: value.format(threads=threads) for key, value in describe_provider(name).options.items()}


def short_names(names: Iterable[str]) -> str:
    """Providers for people: by their short names where they have one."""
    return ", ".join(describe_provider(name).short for name in names)
