"""A user's own model from the command to the table, and from the search to budgets met, on this machine.

Three models that were written as a user writes them, each with choices, at 32 x 32 and at 96 x 96.
`search space` has a working agent measure at most 60 networks of each, 20 of them held out. Then
30 further networks are measured whole, which the campaign never drew. The errors are those of
kernel prices on these; `ops` are those of candidates' prices, `published` what the table says of
itself. At 32 x 32 a search with `--preset smoke` follows: its members are of no use, their
latencies are as good as any.

seconds:   from the command `search space` to its end.
networks:  timed whole by then.
met:       budgets of the ladder that the shipped file kept.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from benchmarks import Progress
from benchmarks.latency.in_process import measure_models
from benchmarks.latency.tables import held_out_figures
from benchmarks.report import Figure
from benchmarks.stack import Stack, climb, running_stack, this_device
from lut_server.calibration.table_error import held_out_error
from profiler_agent.kernels.kernels import count_kernels
from profiler_agent.ort.sessions import local_runtime
from search.own_model.examine import OwnModel, examine
from search.own_model.model_file import load_model
from shared.spaces import Genotype
from shared.spaces.op_key import Shape
from shared.tables.held_out_error import HeldOutError
from shared.tables.table import LatencyTable, read_table

MODELS = Path(__file__).parent
BUDGETS = 6
FURTHER = 30
"""Networks measured whole after the campaign."""
SEARCH_SIDES = {"mobilenet_v3": 16, "resnet": 16, "vgg": 32}
"""Half where the model takes it: the VGG pools to 4 x 4, which torch.onnx exports of larger maps alone."""
BARS = {
    "mape_percent": "<= 2",
    "within_5_percent": ">= 95",
    "kendall_tau": ">= .95",
    "bound_coverage": ">= 93",
    "bound_half_width_percent": "<= 5",
}


def run_mobilenet_v3(progress: Progress) -> dict[str, Figure]:
    """Figures `own.mobilenet_v3.*`; takes five minutes."""
    return _run("mobilenet_v3", progress)


def run_resnet(progress: Progress) -> dict[str, Figure]:
    """Figures `own.resnet.*`; takes five minutes."""
    return _run("resnet", progress)


def run_vgg(progress: Progress) -> dict[str, Figure]:
    """Figures `own.vgg.*`; takes five minutes."""
    return _run("vgg", progress)


def run_at_96(progress: Progress) -> dict[str, Figure]:
    """Figures `own.NAME.at_96.*`; takes a quarter of an hour."""
    figures: dict[str, Figure] = {}
    with _stack_with_agent() as stack:
        for name in ("mobilenet_v3", "resnet", "vgg"):
            progress(f"{name}: a table at 96 x 96")
            figures |= table_figures(f"own.{name}.at_96", name, *make_table(stack, name, 96))
    return figures


def _run(name: str, progress: Progress) -> dict[str, Figure]:
    with _stack_with_agent() as stack:
        progress(f"{name}: a table at 32 x 32")
        figures = table_figures(f"own.{name}", name, *make_table(stack, name, 32), "<= 180")
        progress(f"{name}: a search, and a member for each of {BUDGETS} budgets, measured")
        return figures | budget_figures(f"own.{name}", search_and_climb(stack, name, 32))


@contextmanager
def _stack_with_agent() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        stack.agent("work", "--lut-url", stack.url, "--device", this_device(), "--once")  # the server knows it
        with stack.working_agent(this_device()):
            yield stack


def where(stack: Stack, name: str, side: int) -> tuple[str, ...]:
    """The model, its images, the device and the server, as both commands take them."""
    model = (f"{MODELS / name}.py:make_model", "--input", f"3x{side}x{side}")
    return *model, "--device", this_device(), "--lut-url", stack.url


def make_table(stack: Stack, name: str, side: int) -> tuple[LatencyTable, float]:
    """The table of a model, and the seconds that its command took."""
    started_s = time.monotonic()
    stack.search("space", *where(stack, name, side))
    return newest_table(stack), time.monotonic() - started_s


def newest_table(stack: Stack) -> LatencyTable:
    """Of this machine."""
    answer = httpx.get(f"{stack.url}/v1/devices/{this_device()}/table", timeout=60).raise_for_status()
    return read_table(answer.json())


def search_and_climb(stack: Stack, name: str, side: int) -> list[dict[str, Any]]:
    """The rungs of a ladder after a search."""
    out = stack.folder / name
    stack.search(
        "--model",
        *where(stack, name, side),
        *("--dataset", "digits", "--preset", "smoke", "--search-resolution", str(SEARCH_SIDES[name])),
        "--out",
        str(out),
    )
    return climb(stack, out, "--budgets", str(BUDGETS), "--tune-epochs", "0")


def table_figures(
    prefix: str, name: str, table: LatencyTable, seconds: float, seconds_bar: str | None = None
) -> dict[str, Figure]:
    """The errors of a model's table on further networks, which are measured for that."""
    side = table.parsed_space.resolution
    own = examine(load_model(f"{MODELS / name}.py:make_model"), Shape(3, side, side))
    further = draw_further(own, table)
    models = {genotype: own.export(genotype) for genotype in further}
    measured = measure_models({own.space.format(genotype): model for genotype, model in models.items()}, table)
    return {
        **error_figures(prefix, table, *judge(table, models, list(measured.values()))),
        f"{prefix}.seconds": Figure(value=seconds, unit="s", n=1, bar=seconds_bar),
        f"{prefix}.networks": Figure(value=len(table.networks), bar="<= 60"),
    }


def draw_further(own: OwnModel, table: LatencyTable) -> list[Genotype]:
    """`FURTHER` networks, all different, that the table's campaign did not measure."""
    seen = {own.space.parse(network.genotype) for network in table.networks}
    further: dict[Genotype, None] = {}
    draw = random.Random(FURTHER)
    while len(further) < FURTHER:
        genotype = own.space.sample(draw)
        if genotype not in seen:
            further[genotype] = None
    return list(further)


def judge(
    table: LatencyTable, models: Mapping[Genotype, bytes], measured_ms: list[float]
) -> tuple[HeldOutError, HeldOutError]:
    """The errors of kernel prices and of candidates' prices.

    Args:
        models: ONNX of each network.
        measured_ms: in the same order.
    """
    counts = [count_kernels("network", model, local_runtime()) for model in models.values()]
    by_kernels = [table.predict_kernels(each, guess=True) for each in counts]
    by_candidates = [table.predict(genotype) for genotype in models]
    return held_out_error(by_kernels, measured_ms), held_out_error(by_candidates, measured_ms)


def error_figures(
    prefix: str, table: LatencyTable, by_kernels: HeldOutError, by_candidates: HeldOutError
) -> dict[str, Figure]:
    """The errors on further networks, and the error that the table itself publishes."""
    assert table.kernels is not None
    assert table.kernels.held_out is not None
    published = table.kernels.held_out
    return {
        **held_out_figures(prefix, asdict(by_kernels), BARS),
        f"{prefix}.ops.mape_percent": Figure(value=by_candidates.mape_percent, unit="%", n=by_candidates.networks),
        f"{prefix}.ops.kendall_tau": Figure(value=by_candidates.kendall_tau, n=by_candidates.networks),
        f"{prefix}.published.mape_percent": Figure(value=published.mape_percent, unit="%", n=published.networks),
        f"{prefix}.published.kendall_tau": Figure(value=published.kendall_tau, n=published.networks),
    }


def budget_figures(prefix: str, rungs: list[dict[str, Any]]) -> dict[str, Figure]:
    """Budgets met, and how much of them the members use."""
    use = [rung["measured_ms"] / rung["target_ms"] for rung in rungs]
    spread = f"{min(use):.3f} to {max(use):.3f}"
    return {
        f"{prefix}.met": Figure(value=sum(rung["met"] for rung in rungs), n=len(rungs), bar=f">= {BUDGETS}"),
        f"{prefix}.use": Figure(value=sum(use) / len(use), n=len(use), spread=spread),
    }
