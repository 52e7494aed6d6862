"""`search.predict_latency` for ten networks of ten families, against the networks measured whole.

The device has a table of `nas-bench-201`. Half of the networks are given as torch modules, the
others as ONNX files. The device measures the kernels that its table lacks, and later each network
whole, in a verification. No fit sees that.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from benchmarks import Progress
from benchmarks.foreign.foreign import PROFILE, measure_whole
from benchmarks.report import Figure
from benchmarks.stack import Stack, running_stack, script, this_device

NAMES: tuple[str, ...] = ("resnet", "resnext", "vgg", "mobilenet_v2", "mobilenet_v3")
NAMES += ("efficientnet", "densenet", "shufflenet_v2", "squeezenet", "convnext")


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `own.predict_latency.*`; takes a quarter of an hour."""
    with tempfile.TemporaryDirectory() as name, running_stack(Path(name) / "stack") as stack:
        folder = Path(name)
        progress("a table of nas-bench-201 first")
        stack.profile(this_device(), *PROFILE.split())
        progress(f"{len(NAMES)} networks predicted, lacking kernels measured")
        started_s = time.monotonic()
        with stack.working_agent(this_device()):
            predicted = _ask(stack, folder)
        seconds = time.monotonic() - started_s
        progress("each network whole, never seen by any fit")
        measured = measure_whole(stack, {name: folder / f"{name}.onnx" for name in NAMES})
        for name, (mean_ms, upper_ms) in predicted.items():
            progress(f"{name}: measured {measured[name]:.3f} ms, predicted {mean_ms:.3f}, bound {upper_ms:.3f}")
        return figures(predicted, measured, seconds)


def figures(
    predicted: Mapping[str, tuple[float, float]], measured: Mapping[str, float], seconds: float
) -> dict[str, Figure]:
    """Errors of predictions (mean, bound) in ms, by network."""
    errors = [100 * (mean_ms / measured[name] - 1) for name, (mean_ms, _) in predicted.items()]
    sizes, spread = list(map(abs, errors)), f"{min(errors):+.1f} to {max(errors):+.1f}"
    broken = sum(measured[name] > upper_ms for name, (_, upper_ms) in predicted.items())
    prefix = "own.predict_latency"
    return {
        f"{prefix}.mape_percent": Figure(value=fmean(sizes), unit="%", n=len(sizes), spread=spread, bar="<= 3"),
        f"{prefix}.worst_percent": Figure(value=max(sizes), unit="%", n=len(sizes)),
        f"{prefix}.bounds_broken": Figure(value=broken, n=len(sizes)),
        f"{prefix}.seconds": Figure(value=seconds, unit="s", n=1),
    }


def _ask(stack: Stack, folder: Path) -> dict[str, tuple[float, float]]:
    """In a process of its own: torch need not stay in memory while networks are measured whole."""
    command = [*script(["python"]), "-m", __name__, this_device(), stack.url, str(folder)]
    environment = stack.environment(stack.search_token)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return {name: (mean_ms, upper_ms) for name, (mean_ms, upper_ms) in json.loads(done.stdout).items()}


def _predict(device: str, lut_url: str, folder: Path) -> dict[str, tuple[float, float]]:
    import torch

    from benchmarks.foreign.networks import NETWORKS, write
    from search import predict_latency

    found = {}
    for number, name in enumerate(NAMES):
        torch.manual_seed(0)
        build, shape = NETWORKS[name]
        model, example, path = build().eval(), torch.randn(shape), folder / f"{name}.onnx"
        write(model, example, path, "dynamo")
        given = (path, None) if number % 2 else (model, example)
        answer = predict_latency(*given, device=device, lut_url=lut_url, measure=True)
        found[name] = answer.mean_ms, answer.upper_ms
    return found


if __name__ == "__main__":
    print(json.dumps(_predict(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
