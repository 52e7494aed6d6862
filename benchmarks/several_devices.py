"""What further devices cost a search: ten in one run against one, same settings, on Fashion-MNIST.

Tables are fitted to published latencies (HELP and HW-NAS-Bench, through `lut-server import`), so the search is in
NAS-Bench-201 with five cells per stage. The preset is the shortest: what devices cost does not grow with the training,
so a longer search has a smaller ratio.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from benchmarks import DataMissing, Progress
from benchmarks.imported import DATA
from benchmarks.report import Figure
from benchmarks.stack import Stack, running_stack
from lut_server.transfer.architectures import latency_columns

DEVICES = 10
REPEATS = 2
PRESET, DATASET = "quick", "fashion-mnist"
FIT = 60


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `search.devices.*`; takes some minutes."""
    path = DATA / "nas_bench_201" / "latency_ms.csv"
    if not path.is_file():
        raise DataMissing(f"{path} is not there: LUTNAS_DATA names the folder with the published latencies")
    devices = latency_columns(path.read_bytes(), path.name)[:DEVICES]
    ones, tens = [], []
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        for device in devices:
            stack.serve("import", str(path), "--device", device, "--fit", str(FIT))
        for repeat in range(REPEATS):
            progress(f"{repeat + 1} of {REPEATS}: one device, then {DEVICES}")
            ones.append(searched(stack, devices[repeat : repeat + 1], "one"))
            tens.append(searched(stack, devices, "ten"))
        families = [read_family(stack, "ten", device) for device in devices]
        alone = json.loads((stack.folder / "one" / "family.json").read_text())
    ratios = [ten / one for one, ten in zip(ones, tens, strict=True)]
    members = [tuple(member["genotype"] for member in family["members"]) for family in families]
    return {
        "search.devices.cost_ratio": Figure(value=fmean(ratios), n=REPEATS, spread=stdev(ratios), bar="<= 1.15"),
        "search.devices.seconds_one": Figure(value=fmean(ones), unit="s", n=REPEATS, spread=stdev(ones)),
        "search.devices.seconds_ten": Figure(value=fmean(tens), unit="s", n=REPEATS, spread=stdev(tens)),
        "search.devices.scored_one": Figure(value=len(alone["candidates"]), n=1),
        "search.devices.scored_ten": Figure(value=len(families[0]["candidates"]), n=1),
        "search.devices.fewest_members": Figure(value=min(map(len, members)), n=DEVICES),
        "search.devices.different_families": Figure(value=len(set(members)), n=DEVICES),
    }


def searched(stack: Stack, devices: Sequence[str], name: str) -> float:
    """Seconds of a whole `search`, the start of its process included."""
    out = stack.folder / name
    shutil.rmtree(out, ignore_errors=True)
    named = [word for device in devices for word in ("--device", device)]
    started_s = time.monotonic()
    stack.search(
        *named, "--lut-url", stack.url, "--dataset", DATASET, "--preset", PRESET, "--precision", "fp32",
        "--out", str(out),
    )  # fmt: skip
    return time.monotonic() - started_s


def read_family(stack: Stack, name: str, device: str) -> dict[str, list[dict[str, str]]]:
    """What a run of several devices found for one of them."""
    found: dict[str, list[dict[str, str]]] = json.loads(
        (stack.folder / name / "devices" / device / "family.json").read_text()
    )
    return found
