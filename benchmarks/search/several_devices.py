"""The cost of further devices in a search: ten devices against a single device, on Fashion-MNIST.

Tables are fitted to published latencies (HELP and HW-NAS-Bench, through `lut-server import`), so
the space is NAS-Bench-201 with five cells per stage. The preset is the shortest. The cost of
devices does not grow with the training, so a longer search has a smaller ratio.

cost_ratio:  of processor seconds of whole `search` commands, all threads together, because other
             programs change wall clocks. `seconds_one` and `seconds_ten` are wall clock.
"""

from __future__ import annotations

import json
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from benchmarks import DataMissing, Progress
from benchmarks.latency.imported import DATA
from benchmarks.report import Figure
from benchmarks.stack import Stack, running_stack
from lut_server.transfer.architectures import latency_columns

DEVICES = 10
REPEATS = 2
PRESET, DATASET = "smoke", "fashion-mnist"
FIT = 60


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `search.devices.*`; takes some minutes."""
    path = DATA / "nas_bench_201" / "latency_ms.csv"
    if not path.is_file():
        raise DataMissing(f"{path} is not there: LUTNAS_DATA names the folder with the published latencies")
    devices = latency_columns(path.read_bytes(), path.name)[:DEVICES]
    ones: list[Cost] = []
    tens: list[Cost] = []
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        for device in devices:
            stack.serve("import", str(path), "--device", device, "--fit", str(FIT))
        for repeat in range(REPEATS):
            progress(f"{repeat + 1} of {REPEATS}: one device, then {DEVICES}")
            ones.append(searched(stack, devices[repeat : repeat + 1], "one"))
            tens.append(searched(stack, devices, "ten"))
        families = [read_family(stack, "ten", device) for device in devices]
        alone = json.loads((stack.folder / "one" / "family.json").read_text())
    ratios = [many.processor_s / few.processor_s for few, many in zip(ones, tens, strict=True)]
    figures = {
        f"search.devices.{what}seconds_{name}": _seconds([getattr(cost, field) for cost in costs])
        for what, field in (("", "wall_s"), ("processor_", "processor_s"))
        for name, costs in (("one", ones), ("ten", tens))
    }
    members = [tuple(member["genotype"] for member in family["members"]) for family in families]
    return {
        "search.devices.cost_ratio": Figure(value=fmean(ratios), n=REPEATS, spread=stdev(ratios), bar="<= 1.15"),
        **figures,
        "search.devices.scored_one": Figure(value=len(alone["candidates"]), n=1),
        "search.devices.scored_ten": Figure(value=len(families[0]["candidates"]), n=1),
        "search.devices.fewest_members": Figure(value=min(map(len, members)), n=DEVICES),
        "search.devices.different_families": Figure(value=len(set(members)), n=DEVICES),
    }


@dataclass(frozen=True)
class Cost:
    """Wall-clock and processor seconds of a `search`."""

    wall_s: float
    processor_s: float


def searched(stack: Stack, devices: Sequence[str], name: str) -> Cost:
    """The cost of a whole `search`, with the start of its process."""
    out = stack.folder / name
    shutil.rmtree(out, ignore_errors=True)
    named = [word for device in devices for word in ("--device", device)]
    started_s, used_s = time.monotonic(), _processor_s()
    stack.search(
        *named, "--lut-url", stack.url, "--dataset", DATASET, "--preset", PRESET, "--precision", "fp32",
        "--out", str(out),
    )  # fmt: skip
    return Cost(time.monotonic() - started_s, _processor_s() - used_s)


def _processor_s() -> float:
    """Of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _seconds(values: list[float]) -> Figure:
    return Figure(value=fmean(values), unit="s", n=len(values), spread=stdev(values))


def read_family(stack: Stack, name: str, device: str) -> dict[str, list[dict[str, str]]]:
    """The family that a run of several devices found for a device."""
    found: dict[str, list[dict[str, str]]] = json.loads(
        (stack.folder / name / "devices" / device / "family.json").read_text()
    )
    return found
