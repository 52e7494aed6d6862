"""What this device is, for people: every field is text, and "unknown" where it cannot be read."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable

from profiler_agent.machine import UNKNOWN, Machine, steal_percent
from shared import __version__

STEAL_WINDOW_S = 0.2


def probe(machine: Machine | None = None, sleep: Callable[[float], None] = time.sleep) -> dict[str, str]:
    """Describe the device and its software."""
    machine = machine or Machine()
    before = machine.cpu_times()
    sleep(STEAL_WINDOW_S)
    steal = steal_percent(before, machine.cpu_times())
    temperature_c = machine.temperature_c()
    throttling = machine.throttling()
    return {
        "cpu": machine.cpu_model(),
        "architecture": platform.machine() or UNKNOWN,
        "cores": machine.cores(),
        "governor": ", ".join(machine.governors()) or UNKNOWN,
        "frequency_mhz": machine.frequencies_mhz(),
        "temperature_c": UNKNOWN if temperature_c is None else f"{temperature_c:.1f}",
        "throttling": UNKNOWN if throttling is None else ", ".join(throttling) or "none",
        "memory_mb": machine.memory_mb(),
        "load": machine.load(),
        "steal_percent": UNKNOWN if steal is None else f"{steal:.1f}",
        "os": _operating_system(),
        "python": platform.python_version(),
        "onnxruntime": _onnxruntime_version(),
        "providers": _providers(),
        "agent": __version__,
    }


def _operating_system() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release()}" if name else UNKNOWN


def _onnxruntime_version() -> str:
    try:
        return importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN


def _providers() -> str:
    try:
        import onnxruntime
    except ImportError as error:
        return f"{UNKNOWN} ({' '.join(str(error).split())[:120]})"
    return ", ".join(onnxruntime.get_available_providers())
