"""The install line on a clean Debian: the time until it is a device, and its size on the disk.

install_seconds:  from the start of the line to the first output of its profile, with a warm cache.
install_mb:       growth of the disk's content by line and profile, with the spool.
first_seconds:    the same time with an empty cache: the packages come over the network.
table_seconds:    until the table of the device is there, of a small space.
again_seconds:    the same line again, without an installation, until it has found the table.

The line is the documented line, with curl and a server on loopback. After each time the agent is
uninstalled by its own script, and the disk must be as before.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks import Progress
from benchmarks.devices.clean_debian import CleanDebian, clean_debian
from benchmarks.report import Figure
from benchmarks.stack import Stack, StackError, running_stack

STARTING = "starting the profile"
PROFILE = "--resolution 8 --channels 4 --depth 1 --calibration 8 --held-out 4 --preset quick"
TIMES = 3
SECONDS_BAR, MB_BAR = "<= 120", "<= 250"
MOST_LEFT_MB = 1.0
"""Directories keep their largest size."""


@dataclass(frozen=True)
class Installation:
    """An installation."""

    install_seconds: float
    table_seconds: float
    install_mb: float
    again_seconds: float


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `devices.install_*`; takes about four minutes."""
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        progress("making a clean Debian")
        with clean_debian() as system:
            progress(f"{system.name}: installing with empty caches")
            first, _ = install(stack, system, "first")
            warm = []
            for number in range(1, TIMES + 1):
                progress(f"{system.name}: installing with warm caches, {number} of {TIMES}")
                found, left_mb = install(stack, system, f"warm-{number}")
                if left_mb > MOST_LEFT_MB:
                    raise StackError(f"{left_mb:.1f} MB are left after the agent was uninstalled")
                warm.append(found)
    cold = Figure(value=first.install_seconds, unit="s", n=1)
    return {**figures(warm), "devices.install_first_seconds": cold}


def figures(found: list[Installation]) -> dict[str, Figure]:
    """Medians, with the range as their spread."""
    units = {"install_seconds": "s", "install_mb": "MB", "table_seconds": "s", "again_seconds": "s"}
    bars = {"install_seconds": SECONDS_BAR, "install_mb": MB_BAR}
    made = {}
    for name, unit in units.items():
        values = [float(getattr(installation, name)) for installation in found]
        spread = f"{min(values):.1f} to {max(values):.1f}"
        figure = Figure(value=statistics.median(values), unit=unit, n=len(values), spread=spread, bar=bars.get(name))
        made["devices." + (name if name.startswith("install") else f"install_{name}")] = figure
    return made


def install(stack: Stack, system: CleanDebian, device: str) -> tuple[Installation, float]:
    """Install by the line, check, and uninstall; also returns the MB that remain.

    Raises:
        StackError: the line failed, or made no table.
    """
    before_mb = system.used_mb()
    line = install_line(stack, f"--device {device} --token {stack.agent_token} {PROFILE}")
    install_seconds, table_seconds = follow(system, line)
    if not httpx.get(f"{stack.url}/v1/devices/{device}").json()["device"]["tables"]:
        raise StackError("the line ended without a table")
    install_mb = system.used_mb() - before_mb
    _, again_seconds = follow(system, line)
    system.run(install_line(stack, "--uninstall --purge"))
    left_mb = system.used_mb() - before_mb
    return Installation(install_seconds, table_seconds, install_mb, again_seconds), left_mb


def install_line(stack: Stack, arguments: str) -> str:
    """The line of the documentation."""
    return f"curl -fsS {stack.url}/agent/install.sh | sh -s -- {arguments}"


def follow(system: CleanDebian, line: str) -> tuple[float, float]:
    """Seconds until the first output of the profile, and until the end of the line.

    Raises:
        StackError: it failed, or started no profile.
    """
    began_s, words_s, words, is_next = time.perf_counter(), None, [], False
    with subprocess.Popen(
        system.command(line), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for said in process.stdout:
            words.append(said)
            if is_next and words_s is None:
                words_s = time.perf_counter() - began_s
            is_next = is_next or STARTING in said
    if process.returncode or words_s is None:
        raise StackError(f"the line ended with exit code {process.returncode}: {''.join(words)[-2000:]}")
    return words_s, time.perf_counter() - began_s
