"""Networks of 22 families, by both exporters of torch.onnx, predicted from the kernels that ONNX Runtime makes of them.

`profiling.foreign.*`: the device has a table of `nas-bench-201`; the networks' kernels that it lacks are measured one
by one, and each network is predicted from those. Then each is measured whole, with the agent's own method, never in a
fit. Beside it: the error while the lacking kernels are guessed, and what measuring them took.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx

from benchmarks.report import Figure
from benchmarks.stack import Stack, running_stack, script, this_device

PROFILE = "--space nas-bench-201 --resolution 32 --channels 16 --cells-per-stage 1 --calibration 30 --held-out 20"
PRESET = "quick"
"""A network sums dozens of kernels: 2 % of each is enough, and a thousand kernels take their time."""
MEAN_BAR, WORST_BAR, BROKEN_BAR = "<= 4", "<= 10", "<= 1"


def run(progress: Callable[[str], None]) -> dict[str, Figure]:
    """Figures `profiling.foreign.*`, with a server and a table of their own; takes about an hour."""
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder) / "stack") as stack:
        progress("foreign: a table of nas-bench-201 first")
        stack.profile(this_device(), *PROFILE.split())
        return measure(stack, Path(folder), progress)


def measure(stack: Stack, folder: Path, progress: Callable[[str], None]) -> dict[str, Figure]:
    """The figures, given a stack whose device has a table."""
    paths = _export(folder)
    files = [str(path) for path in paths.values()]
    progress("foreign: predictions with the lacking kernels guessed")
    guessed, missing = _predict(stack, paths)
    progress(f"foreign: {len(missing)} kernels of {len(files)} networks are lacking and are measured")
    started_s = time.monotonic()
    connection = ("--lut-url", stack.url, "--device", this_device())
    stack.agent("measure-kernels", *connection, "--preset", PRESET, *files)
    seconds = time.monotonic() - started_s
    predicted, still_missing = _predict(stack, paths)
    progress("foreign: each network whole, never seen by any fit")
    measured = measure_whole(stack, paths)
    for name in paths:
        mean_ms, upper_ms = predicted.get(name, (float("nan"), float("nan")))
        error = f"predicted {mean_ms:.3f} ({100 * (mean_ms / measured[name] - 1):+.1f} %), bound {upper_ms:.3f}"
        progress(f"foreign: {name}: measured {measured[name]:.3f} ms, {error}")
    broken = sum(measured[name] > upper_ms for name, (_, upper_ms) in predicted.items())
    return {
        **_figures(_errors(predicted, measured), len(missing), len(still_missing), seconds),
        "profiling.foreign.bounds_broken": Figure(value=broken, n=len(predicted), bar=BROKEN_BAR),
        **_guess_figures(_errors(guessed, measured)),
    }


def _figures(errors: Mapping[str, float], missing: int, still_missing: int, seconds: float) -> dict[str, Figure]:
    n, sizes = len(errors), [abs(error) for error in errors.values()]
    spread = f"{min(errors.values()):+.1f} to {max(errors.values()):+.1f}"
    prefix = "profiling.foreign"
    return {
        f"{prefix}.mape_percent": Figure(value=fmean(sizes), unit="%", n=n, spread=spread, bar=MEAN_BAR),
        f"{prefix}.worst_percent": Figure(value=max(sizes), unit="%", n=n, bar=WORST_BAR),
        f"{prefix}.within_10_percent": Figure(value=_within_10(sizes), unit="%", n=n),
        f"{prefix}.networks": Figure(value=n, bar=">= 44"),
        f"{prefix}.missing_kernels": Figure(value=missing),
        f"{prefix}.missing_after": Figure(value=still_missing, bar="<= 0"),
        f"{prefix}.measure_seconds": Figure(value=seconds, unit="s", n=1),
    }


def _guess_figures(errors: Mapping[str, float]) -> dict[str, Figure]:
    """Without measuring: only networks of which every kernel has relatives in the table can be guessed at all."""
    sizes = [abs(error) for error in errors.values()]
    figures = {"profiling.foreign.guessed.networks": Figure(value=len(sizes))}
    if sizes:
        figures["profiling.foreign.guessed.mape_percent"] = Figure(value=fmean(sizes), unit="%", n=len(sizes))
    return figures


def _within_10(sizes: list[float]) -> float:
    return 100 * fmean(size <= 10 for size in sizes)


def _errors(predicted: Mapping[str, tuple[float, float]], measured: Mapping[str, float]) -> dict[str, float]:
    return {name: 100 * (ms / measured[name] - 1) for name, (ms, _) in predicted.items()}


def _export(folder: Path) -> dict[str, Path]:
    """In a process of its own: torch need not stay in memory while things are timed."""
    program = f"from benchmarks.foreign.networks import export; from pathlib import Path; export(Path({str(folder)!r}))"
    subprocess.run([script(["python"])[0], "-c", program], check=True)
    return {path.stem: path for path in sorted(folder.glob("*.onnx"))}


def _predict(stack: Stack, paths: Mapping[str, Path]) -> tuple[dict[str, tuple[float, float]], set[str]]:
    """`profiler-agent predict` as a user would run it: (mean, 99 % bound) in ms, and kernels named as not measured."""
    lacking: set[str] = set()
    found: dict[str, tuple[float, float]] = {}
    by_path = {str(path): name for name, path in paths.items()}
    for path, name in by_path.items():
        command = ["profiler-agent", "predict", "--lut-url", stack.url, "--device", this_device(), "--json", path]
        done = subprocess.run(
            script(command), env=stack.environment(stack.agent_token), capture_output=True, text=True, check=False
        )
        answer = json.loads(done.stdout)["files"][0]
        lacking.update(answer.get("missing", ()))
        if answer.get("mean_ms") is not None:
            found[name] = (answer["mean_ms"], answer["upper_ms"])
    return found, lacking


def measure_whole(stack: Stack, paths: Mapping[str, Path]) -> dict[str, float]:
    """Each network as the agent measures a network that somebody wants verified."""
    client = httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {stack.search_token}"}, timeout=60)
    jobs: dict[str, str] = {}
    with client:
        answer = client.get(f"/v1/devices/{this_device()}/table").raise_for_status()
        table = {**answer.json(), "hash": answer.headers["ETag"].removeprefix("W/").strip('"')}
        for name, path in paths.items():
            content = path.read_bytes()
            sha256 = hashlib.sha256(content).hexdigest()
            client.put(f"/v1/models/{sha256}", content=content).raise_for_status()
            jobs[name] = _queue(client, table, sha256)
        stack.agent("work", "--lut-url", stack.url, "--device", this_device(), "--once")
        return {name: _measured_ms(client, job) for name, job in jobs.items()}


def _queue(client: httpx.Client, table: Mapping[str, Any], sha256: str) -> str:
    """A verification; what it promises is of no interest here."""
    promise = {"table_hash": table["hash"], "genotype": "foreign", "predicted_ms": 1.0, "upper_ms": 1.0}
    job = {
        "device": this_device(),
        "kind": "verify",
        "runtime": table["runtime"],
        "canary": table["canary"],
        "space": table["space"],
        "graph": f"model:{sha256}",
        "promise": {**promise, "target_ms": 1.0},
    }
    answer = client.post("/v1/jobs", json=job).raise_for_status().json()
    return str(answer["job"]["id"])


def _measured_ms(client: httpx.Client, job: str) -> float:
    answer = client.get(f"/v1/jobs/{job}").raise_for_status().json()["job"]
    return float(answer["verification"]["measured_ms"])
