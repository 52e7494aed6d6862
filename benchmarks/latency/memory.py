"""The memory of the agent beyond that of ONNX Runtime.

peak:      largest resident set of `profiler-agent profile` over a whole run, with the upload.
baseline:  the same of a bare process that imports numpy and ONNX Runtime, opens the canary, and
           opens, runs and closes the graphs of the same plan in turn. It keeps no result.
import:    the same of `import numpy, onnxruntime` alone.

The figure is peak - baseline. A run without `--memory-mb` has all graphs of a round open, the bare
process a single graph.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Figure
from benchmarks.stack import SCRIPTS, Stack, StackError, running_stack, this_device

BAR = "<= 60"
LOOK_EVERY_S = 0.01


@dataclass(frozen=True)
class Case:
    """A plan."""

    name: str
    space: str
    sizes: str
    calibration: int
    held_out: int


CASES = (
    Case("nb201_n5", "nas-bench-201", "--resolution 32 --channels 16 --cells-per-stage 5", 60, 60),
    Case("fbnet_128", "fbnet", "--resolution 128", 60, 30),
)

IMPORTS = "import numpy, onnxruntime as ort"
BARE = f"""
import sys
{IMPORTS}

def load(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {{input_.name: numpy.zeros(input_.shape, numpy.float32) for input_ in session.get_inputs()}}
    session.run(None, feeds)
    return session

canary = load(sys.argv[1])
for line in sys.stdin:
    load(line.strip())
"""


def run(progress: Callable[[str], None]) -> dict[str, Figure]:
    """Figures `profiling.memory.CASE.*`; takes a whole run of each case, about five minutes."""
    figures = {"import_mb": _figure(peak_mb([sys.executable, "-c", IMPORTS]))}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
            progress(f"memory of {case.name}")
            agent_mb = profile_peak_mb(stack, case)
            bare_mb = bare_peak_mb(Path(folder) / "spool" / "graphs")
        figures[f"{case.name}.peak_mb"] = _figure(agent_mb)
        figures[f"{case.name}.baseline_mb"] = _figure(bare_mb)
        figures[f"{case.name}.beyond_mb"] = _figure(agent_mb - bare_mb, BAR)
    return {f"profiling.memory.{name}": figure for name, figure in figures.items()}


def profile_peak_mb(stack: Stack, case: Case) -> float:
    """Peak of a run of the agent, in 10^6 bytes."""
    agent = [str(SCRIPTS / "profiler-agent"), "profile", "--lut-url", stack.url, "--device", this_device()]
    counts = ["--calibration", str(case.calibration), "--held-out", str(case.held_out)]
    command = [*agent, "--space", case.space, *case.sizes.split(), *counts]
    return peak_mb(command, environment=stack.environment(stack.agent_token))


def bare_peak_mb(graphs: Path) -> float:
    """Peak of the bare process over the spooled graphs; the smallest of them is the canary."""
    paths = sorted(graphs.glob("*.onnx"))
    canary = min(paths, key=lambda path: path.stat().st_size)
    return peak_mb([sys.executable, "-c", BARE, str(canary)], "".join(f"{path}\n" for path in paths))


def peak_mb(command: list[str], words: str = "", environment: dict[str, str] | None = None) -> float:
    """Largest resident set of a command, in 10^6 bytes, by the system's own high-water mark.

    It is read while the command runs: after its end the system's number includes the starting
    process.

    Raises:
        StackError: it failed.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, text=True
    )
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(words)
    most_kb = 0
    while process.poll() is None:
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text(encoding="ascii"))
        most_kb = max(most_kb, int(found[1]) if found else 0)
        time.sleep(LOOK_EVERY_S)
    if process.returncode:
        raise StackError(f"`{' '.join(command[:2])}` failed with exit code {process.returncode}")
    return most_kb * 1024 / 1e6


def _figure(value: float, bar: str | None = None) -> Figure:
    return Figure(value=value, unit="MB", n=1, bar=bar)
