"""The benchmarks of docs/results.md: `python -m benchmarks NAME`, or `make bench` for all.

A benchmark is a function `run(progress: Progress) -> dict[str, Figure]` that `REGISTRY` names. The
rooms are `latency`, `foreign`, `own_model`, `search`, `by_hand`, `judging`, `strategies`, `server`
and `devices`.
"""

from collections.abc import Callable

Progress = Callable[[str], None]
"""Takes a line about the current step. A long benchmark calls it often."""


class DataMissing(Exception):
    """A benchmark needs published data that is not on this machine. It is left out."""


# Text, not modules, so that a benchmark does not import what only another needs. `all` keeps the
# order.
REGISTRY: dict[str, str] = {
    "demo": "benchmarks.demo:run",
    "demo_busy": "benchmarks.demo:run_beside_load",
    "tables": "benchmarks.latency.tables:run",
    "fbnet": "benchmarks.latency.tables:run_fbnet",
    "repeat": "benchmarks.latency.repeat:run",
    "states": "benchmarks.latency.states:run",
    "foreign": "benchmarks.foreign.foreign:run",
    "own_mobilenet_v3": "benchmarks.own_model.own_model:run_mobilenet_v3",
    "own_resnet": "benchmarks.own_model.own_model:run_resnet",
    "own_vgg": "benchmarks.own_model.own_model:run_vgg",
    "own_at_96": "benchmarks.own_model.own_model:run_at_96",
    "own_macro": "benchmarks.own_model.macro_beside:run",
    "own_macro_latency": "benchmarks.own_model.macro_beside:run_latency",
    "own_macro_share": "benchmarks.own_model.macro_share:run",
    "own_predicted": "benchmarks.own_model.predicted:run",
    "memory": "benchmarks.latency.memory:run",
    "fixed_runs": "benchmarks.latency.fixed_runs:run",
    "carriers": "benchmarks.latency.carriers:run",
    "active": "benchmarks.latency.calibration:run",
    "family": "benchmarks.search.family:run",
    "family_darts": "benchmarks.search.family:run_darts",
    "family_fbnet": "benchmarks.search.family:run_fbnet",
    "verify": "benchmarks.search.verify:run",
    "mobile": "benchmarks.search.mobile:run",
    "speed": "benchmarks.search.speed:run",
    "several_devices": "benchmarks.search.several_devices:run",
    "fmnist": "benchmarks.search.fmnist:run",
    "darts_retrained": "benchmarks.search.darts_retrained:run",
    "ablations": "benchmarks.search.ablations:run",
    "inherit": "benchmarks.search.inherit:run",
    "by_hand": "benchmarks.by_hand.by_hand:run",
    "by_hand_cifar_10": "benchmarks.by_hand.by_hand:run_cifar_10",
    "own_images": "benchmarks.by_hand.own_images:run",
    "nas_bench_201": "benchmarks.search.nas_bench_201:run",
    "nas_bench_macro": "benchmarks.judging.nas_bench_macro:run",
    "strategies": "benchmarks.strategies.strategies:run",
    "strategies_macro": "benchmarks.strategies.strategies:run_macro",
    "strategies_darts": "benchmarks.strategies.retrained:run",
    "dca_ablation": "benchmarks.strategies.dca_ablation:run",
    "imported": "benchmarks.latency.imported:run",
    "server": "benchmarks.server.server:run",
    "hostile": "benchmarks.server.hostile:run",
    "devices_install": "benchmarks.devices.install:run",
    "devices_web": "benchmarks.devices.web:run",
    "openvino": "benchmarks.devices.providers:run_openvino",
    "webgpu": "benchmarks.devices.providers:run_webgpu",
}

COMPOSED: dict[str, tuple[str, ...]] = {
    "profiling": ("tables", "fbnet", "repeat", "states", "foreign", "memory", "fixed_runs", "carriers", "active"),
    "search": (
        *("family", "family_darts", "family_fbnet", "verify", "speed"),
        *("several_devices", "fmnist", "ablations", "inherit"),
    ),
    "own_model": (
        "own_mobilenet_v3",
        "own_resnet",
        "own_vgg",
        "own_at_96",
        "own_macro",
        "own_macro_latency",
        "own_macro_share",
        "own_predicted",
    ),
    "devices": ("devices_install", "devices_web"),
    "providers": ("openvino", "webgpu"),
}
"""Several benchmarks under a name, with a single file of figures."""
