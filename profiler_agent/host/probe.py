"""Describes this device for people. Every field is text, and "unknown" if it cannot be read."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

from profiler_agent.host.machine import UNKNOWN, Machine, steal_percent
from profiler_agent.ort.providers import import_onnxruntime, short_names
from shared import __version__
from shared.errors import in_one_line

STEAL_WINDOW_S = 0.2


def probe(machine: Machine | None = None, sleep: Callable[[float], None] = time.sleep) -> dict[str, str]:
    """Describe the device and its software."""
    machine = machine or Machine()
    before = machine.cpu_times()
    sleep(STEAL_WINDOW_S)
    steal = steal_percent(before, machine.cpu_times())
    temperature_c = machine.temperature_c()
    throttling = machine.throttling()
    version, providers = _onnxruntime()
    return {
        "host": platform.node() or UNKNOWN,
        "cpu": machine.cpu_model(),
        "architecture": platform.machine() or UNKNOWN,
        "emulated": machine.emulator or "no",
        "cores": machine.cores(),
        "clusters": ", ".join(map(str, machine.clusters())) or UNKNOWN,
        "governor": ", ".join(machine.governors()) or UNKNOWN,
        "frequency_mhz": machine.frequencies_mhz(),
        "temperature_c": UNKNOWN if temperature_c is None else f"{temperature_c:.1f}",
        "throttling": UNKNOWN if throttling is None else ", ".join(throttling) or "none",
        "memory_mb": machine.memory_mb(),
        "load": machine.load(),
        "steal_percent": UNKNOWN if steal is None else f"{steal:.1f}",
        "os": _operating_system(machine),
        "python": platform.python_version(),
        "onnxruntime": version,
        "providers": providers,
        "agent": __version__,
        **({} if machine.phone is None else {"phone": machine.phone.model}),
        **machine.sensor_facts(),
    }


def _operating_system(machine: Machine) -> str:
    if machine.phone is not None:
        return f"Android {machine.phone.version}, Linux {platform.release()}"
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release()}" if name else UNKNOWN


def _onnxruntime() -> tuple[str, str]:
    try:
        onnxruntime = import_onnxruntime()
    except ImportError as error:
        return UNKNOWN, f"{UNKNOWN} ({in_one_line(error)})"
    return str(onnxruntime.__version__), short_names(onnxruntime.get_available_providers())
