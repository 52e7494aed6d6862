"""Execution providers: short names, installation, session options, and the import of ONNX Runtime.

Only an ONNX Runtime build knows which providers it offers. The table says the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

from shared.command_line import Interrupted
from shared.errors import UnknownName, WrongUse
from shared.runtime import silence_onnxruntime

CPU = "CPUExecutionProvider"
_GPU_PACKAGE = "pip install onnxruntime-gpu instead of onnxruntime (Linux and Windows on x86-64)"
_FROM_SOURCE = "no package has it: build ONNX Runtime from source with"


@dataclass(frozen=True)
class Provider:
    """An execution provider.

    Attributes:
        short: name on the command line.
        name: ONNX Runtime's own.
        install: what installs it, and where that works.
        needs: what else the machine needs for it to start.
        memory: where inputs and outputs are bound. None: `run` copies them in and out.
        options: of the session; "{threads}" is the runtime's. With options it has its own threads,
            and ONNX Runtime's pool needs a single thread.
    """

    short: str
    name: str
    install: str
    needs: str = ""
    memory: str | None = None
    options: tuple[tuple[str, str], ...] = ()


PROVIDERS = (
    Provider("cpu", CPU, "pip install onnxruntime"),
    Provider(
        "cuda",
        "CUDAExecutionProvider",
        _GPU_PACKAGE,
        "an NVIDIA GPU with its driver, and the CUDA and cuDNN that its release names"
        " (pip install 'onnxruntime-gpu[cuda,cudnn]' brings both)",
        memory="cuda",
    ),
    Provider(
        "tensorrt",
        "TensorrtExecutionProvider",
        _GPU_PACKAGE,
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
        options=(("device_type", "CPU"), ("num_of_threads", "{threads}")),
    ),
    Provider(
        "xnnpack",
        "XnnpackExecutionProvider",
        "pkg install python-onnxruntime in Termux (Android); elsewhere no package with Python has it: build"
        " ONNX Runtime from source with --use_xnnpack (Linux, Windows)",
        options=(("intra_op_num_threads", "{threads}"),),
    ),
    Provider("coreml", "CoreMLExecutionProvider", "pip install onnxruntime on macOS: its package there has it"),
    Provider("nnapi", "NnapiExecutionProvider", "pkg install python-onnxruntime in Termux (Android 8.1 or newer)"),
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
"""Providers with a short name. Any other goes by ONNX Runtime's name.

A table's identity holds the provider's name and the threads, not `options`. A changed option changes
latencies, but only a new agent version keeps the tables of before and after apart.
"""

_BY_NAME = {provider.name: provider for provider in PROVIDERS}
_KNOWN = {text.lower(): provider.name for provider in PROVIDERS for text in (provider.short, provider.name)}


def provider_name(text: str) -> str:
    """ONNX Runtime's name of a provider, from that or its short name, in any case.

    Raises:
        UnknownName: it is no short name, and does not end as ONNX Runtime's names do.
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
    """A provider by ONNX Runtime's name. An unknown provider has no more than its name."""
    return _BY_NAME.get(name) or Provider(name, name, "no package that this agent knows has it")


def require_offered(name: str, available: Sequence[str], version: str) -> None:
    """Raise WrongUse, with what installs the provider, unless this ONNX Runtime offers it."""
    if name in available:
        return
    wanted = describe_provider(name)
    needs = f"; it needs {wanted.needs}" if wanted.needs else ""
    raise WrongUse(
        f"ONNX Runtime {version} here has no {name}: {wanted.install}{needs} (here: {short_names(available)})"
    )


def require_started(name: str, started: Sequence[str]) -> None:
    """Raise WrongUse unless the provider is a session's first: ONNX Runtime may take the CPU."""
    if started and started[0] == name:
        return
    needs = describe_provider(name).needs or "see ONNX Runtime's page on it"
    raise WrongUse(
        f"{name} is in this ONNX Runtime but does not start here ({', '.join(started)} would have run everything):"
        f" it needs {needs}"
    )


def session_options(name: str, threads: int) -> dict[str, str]:
    """Options of a session on the provider."""
    return {key: value.format(threads=threads) for key, value in describe_provider(name).options}


def short_names(names: Iterable[str]) -> str:
    """Providers for people, by short name if there is one."""
    return ", ".join(describe_provider(name).short for name in names)


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
