"""What the operating system says of this machine. Unreadable facts are unknown, never an error."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from profiler_agent.host.emulation import find_emulator
from profiler_agent.host.throttle_sensor import ThrottleSensor, find_throttle_sensor

UNKNOWN = "unknown"
ANDROID_PROGRAMS = "/system/bin"
"""Termux and a proot have other folders in their PATH."""
THROTTLED_NOW = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "temperature limit"}
"""Bits of `vcgencmd get_throttled` for this moment. The bits from 16 on are since boot."""


@dataclass(frozen=True)
class CpuTimes:
    """Ticks of all cores since boot."""

    total: int
    steal: int


@dataclass(frozen=True)
class Phone:
    """An Android device.

    Attributes:
        model: maker and model.
        soc: the processor's maker and name; may be empty.
        version: of Android.
        emulator: whether it is Android's emulator.
    """

    model: str
    soc: str
    version: str
    emulator: bool


@dataclass(frozen=True)
class Cluster:
    """Cores with the same highest frequency. Phones and many boards have slow and fast cores."""

    mhz: int
    cores: tuple[int, ...]

    def __str__(self) -> str:
        return f"{len(self.cores)} x {self.mhz} MHz (cores {join_numbers(self.cores)})"


class Machine:
    """Reads /proc and /sys below `root`, and a sensor of another program."""

    def __init__(
        self,
        root: Path = Path("/"),
        run: Callable[[list[str]], str | None] | None = None,
        watch: ThrottleSensor | None = None,
    ) -> None:
        self._root = root
        self._run = run or run_quietly
        self._watch = watch or find_throttle_sensor()

    @cached_property
    def phone(self) -> Phone | None:
        """The phone; None on everything but Android."""
        return find_phone(read_properties(self._run(["getprop"]) or ""))

    @cached_property
    def emulator(self) -> str | None:
        """What imitates the processor (`profiler_agent.host.emulation`); None if nothing is known to."""
        if self.phone is not None and self.phone.emulator:
            return "Android's emulator"
        return find_emulator(self._root, platform.machine())

    def cpu_model(self) -> str:
        """The name that the processor, or the board, gives itself."""
        if self.phone is not None and self.phone.soc:
            return self.phone.soc
        text = self._read("proc/cpuinfo") or ""
        for field in ("model name", "Model", "Hardware", "cpu model"):
            match = re.search(rf"^{field}\s*:\s*(.+)$", text, re.MULTILINE)
            if match:
                return match.group(1).strip()
        board = self._read("proc/device-tree/model")
        return (board or "").strip("\0\n ") or platform.processor() or UNKNOWN

    def cores(self) -> str:
        """Cores that this process may use, and all cores."""
        everything = os.cpu_count() or 0
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else everything
        return f"{usable} of {everything}" if everything else UNKNOWN

    def governors(self) -> list[str]:
        """The frequency governors in use."""
        paths = self._glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
        return sorted({text.strip() for path in paths if (text := _read_file(path))})

    def frequencies_mhz(self) -> str:
        """Lowest, current and highest frequency of the first core."""
        folder = "sys/devices/system/cpu/cpu0/cpufreq"
        names = ("scaling_min_freq", "scaling_cur_freq", "scaling_max_freq")
        values = [(self._read(f"{folder}/{name}") or "").strip() for name in names]
        if not all(value.isdigit() for value in values):
            return UNKNOWN
        low, now, high = (int(value) // 1000 for value in values)
        return f"{now} ({low} to {high})"

    def clusters(self) -> tuple[Cluster, ...]:
        """Cores by their highest frequency."""
        highest_khz = {}
        for path in self._glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq"):
            text, core = (_read_file(path) or "").strip(), path.parts[-3].removeprefix("cpu")
            if core.isdecimal() and re.fullmatch(r"\d{4,9}", text):
                highest_khz[int(core)] = int(text)
        return find_clusters(highest_khz)

    def temperature_c(self) -> float | None:
        """Of the hottest thermal zone."""
        found = []
        for path in self._glob("sys/class/thermal/thermal_zone*/temp"):
            text = (_read_file(path) or "").strip()
            if re.fullmatch(r"-?\d+", text) and 0 < int(text) < 200_000:
                found.append(int(text) / 1000)
        return max(found, default=None)

    def throttling(self) -> list[str] | None:
        """What throttles a Raspberry Pi, or a machine with a sensor, now; None on other machines."""
        if self._watch is not None:
            return list(self._watch.read().held_back)
        answer = self._run(["vcgencmd", "get_throttled"]) or self._read(
            "sys/devices/platform/soc/soc:firmware/get_throttled"
        )
        match = re.search(r"(?:throttled=0x|^)([0-9a-fA-F]+)\s*$", answer or "")
        if match is None:
            return None
        flags = int(match.group(1), 16)
        return [text for bit, text in THROTTLED_NOW.items() if flags >> bit & 1]

    def sensor_facts(self) -> dict[str, str]:
        """What another program adds to the probe."""
        return {} if self._watch is None else dict(self._watch.read().facts)

    def memory_mb(self) -> str:
        text = self._read("proc/meminfo") or ""
        values = dict(re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE))
        if "MemTotal" not in values:
            return UNKNOWN
        return f"{int(values.get('MemAvailable', 0)) // 1024} free of {int(values['MemTotal']) // 1024}"

    def available_bytes(self) -> int | None:
        """Memory without swapping, or what a control group leaves of it."""
        match = re.search(r"^MemAvailable:\s+(\d+) kB$", self._read("proc/meminfo") or "", re.MULTILINE)
        found = [int(match.group(1)) * 1024] if match else []
        limit, used = ((self._read(f"sys/fs/cgroup/{name}") or "").strip() for name in ("memory.max", "memory.current"))
        if limit.isdigit() and used.isdigit():
            found.append(max(int(limit) - int(used), 0))
        return min(found, default=None)

    def load(self) -> str:
        """Load averages over 1, 5 and 15 minutes."""
        words = (self._read("proc/loadavg") or "").split()
        return " ".join(words[:3]) if len(words) >= 3 else UNKNOWN

    def cpu_times(self) -> CpuTimes | None:
        """Ticks since boot, for `steal_percent`."""
        match = re.match(r"cpu\s+([\d ]+)", self._read("proc/stat") or "")
        ticks = [int(word) for word in match.group(1).split()] if match else []
        # guest and guest_nice, the last two, are counted in user and nice already
        return CpuTimes(sum(ticks[:8]), ticks[7]) if len(ticks) >= 8 else None

    def stopped_s(self) -> float | None:
        """How long the CPU quota of its control group has kept this process from running, ever."""
        groups = re.findall(r"^\d+:([^:\n]*):(.*)$", self._read("proc/self/cgroup") or "", re.MULTILINE)
        for controllers, path in groups:
            if controllers and "cpu" not in controllers.split(","):
                continue
            above = f"sys/fs/cgroup/{'cpu' if controllers else ''}"
            # In a container its own group lies at the top, whatever its path is outside.
            text = self._read(f"{above}/{path}/cpu.stat") or self._read(f"{above}/cpu.stat") or ""
            match = re.search(r"^throttled_(usec|time) (\d+)$", text, re.MULTILINE)
            if match:
                return int(match.group(2)) / (1e6 if match.group(1) == "usec" else 1e9)
        return None

    def _read(self, path: str) -> str | None:
        return _read_file(self._root / path)

    def _glob(self, pattern: str) -> list[Path]:
        try:
            return sorted(self._root.glob(pattern))
        except OSError:
            return []


def steal_percent(before: CpuTimes | None, after: CpuTimes | None) -> float | None:
    """Share of the time between two readings that a hypervisor gave to other machines."""
    if before is None or after is None or after.total <= before.total:
        return None
    return 100.0 * (after.steal - before.steal) / (after.total - before.total)


def run_quietly(command: list[str]) -> str | None:
    """Output of a command; None if it is missing or fails."""
    program = shutil.which(command[0]) or shutil.which(command[0], path=ANDROID_PROGRAMS)
    if program is None:
        return None
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _read_file(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def read_properties(text: str) -> dict[str, str]:
    """Android's properties from `getprop`: [name]: [value] in each line."""
    return dict(re.findall(r"^\[([^\]\n]+)\]: \[(.*)\]$", text.replace("\r\n", "\n"), re.MULTILINE))


def find_phone(properties: Mapping[str, str]) -> Phone | None:
    """The phone with these properties; None if they are not Android's."""
    version = properties.get("ro.build.version.release", "")
    if not version:
        return None
    model = _join(properties.get("ro.product.manufacturer", ""), properties.get("ro.product.model", ""))
    soc = _join(properties.get("ro.soc.manufacturer", ""), properties.get("ro.soc.model", ""))  # from Android 12 on
    older = properties.get("ro.board.platform") or properties.get("ro.hardware", "")
    emulator = "1" in (properties.get("ro.kernel.qemu"), properties.get("ro.boot.qemu"))
    return Phone(model or "unknown", soc or older, version, emulator)


def _join(maker: str, name: str) -> str:
    return name if name.lower().startswith(maker.lower()) else f"{maker} {name}".strip()


def find_clusters(highest_khz: Mapping[int, int]) -> tuple[Cluster, ...]:
    """Clusters by the highest frequency of each core, the slowest first."""
    cores: dict[int, list[int]] = {}
    for core, khz in sorted(highest_khz.items()):
        cores.setdefault(khz // 1000, []).append(core)
    return tuple(Cluster(mhz, tuple(cores[mhz])) for mhz in sorted(cores))


def fastest_cores(clusters: Sequence[Cluster], threads: int) -> tuple[int, ...]:
    """Cores of the fastest cluster, and of the next ones while threads outnumber them."""
    found: list[int] = []
    for cluster in reversed(clusters):
        if found and len(found) >= threads:
            break
        found += cluster.cores
    return tuple(sorted(found))


def affinity_mask(cores: Sequence[int]) -> str:
    """Cores for `taskset`: hexadecimal, a bit for each core."""
    return f"{sum(1 << core for core in cores):x}"


def join_numbers(numbers: Sequence[int]) -> str:
    """Rising numbers, with runs as first-last: 0-3,7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
