"""Tables made in one state of the machine and asked in another.

The states: quiet, a neighbour that computes, a neighbour that streams memory, both. In each of them
the agent makes a table. Each table then predicts its 40 held-out networks, and the campaigns of the
other three states are their verification: 12 crossings. A verification is the server's own
(`lut_server.runs.verification`), with the references that the server would name.

error, bound:   of the prediction against the measurement without the state. `as_timed.*` is the
                same measurement in milliseconds of the canary alone.
campaign_longer: the campaign with its settle check, beside the campaign without.
verdicts:       of the quiet table's promises in the three busy states, against the quiet campaign.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from statistics import fmean, median

import numpy as np

from benchmarks import Progress
from benchmarks.report import Figure
from benchmarks.stack import Stack, running_stack
from lut_server.runs.verification import choose_references, compare_with_promise
from lut_server.store.sql import open_store
from shared.jobs import JobResult, NewJob, Promise, Verification
from shared.measurements.measurement import Measurement
from shared.tables.table import LatencyTable, Prediction, read_table

SPACES = {
    "nb201": ("--space", "nas-bench-201", "--resolution", "32", "--channels", "16", "--cells-per-stage", "2"),
    "fbnet_96": ("--space", "fbnet", "--resolution", "96"),
}
STREAMED_FLOATS = 32_000_000
"""128 MB an array: beyond every cache."""
COMPUTED_FLOATS = 16_000
"""64 KB: in the cache of a core."""


def compute() -> None:
    values = np.ones(COMPUTED_FLOATS, np.float32)
    while True:
        np.sqrt(values + 1.0, out=values)


def stream() -> None:
    source, target = (np.ones(STREAMED_FLOATS, np.float32) for _ in range(2))
    while True:
        np.copyto(target, source)


STATES = {"quiet": (), "computing": (compute,), "streaming": (stream,), "both": (compute, stream)}


@dataclass(frozen=True)
class Recorded:
    """A campaign in a state: its table, its networks by graph, and their kernels by graph.

    Attributes:
        before_check_s: what it took without its settle check.
    """

    table: LatencyTable
    networks: Mapping[str, Measurement]
    counts: Mapping[str, Mapping[str, int]]
    seconds: float
    before_check_s: float

    def held_out(self) -> list[Measurement]:
        return [each for each in self.networks.values() if each.role == "held_out"]

    def predict(self, graph: str) -> Prediction:
        return self.table.predict_kernels(self.counts[graph], guess=True)


def run(progress: Progress) -> dict[str, Figure]:
    """Figures `states.SPACE.*`; takes half an hour."""
    figures: dict[str, Figure] = {}
    for name, options in SPACES.items():
        with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
            recorded = {state: record(stack, state, options, progress) for state in STATES}
        figures |= compare(f"states.{name}", recorded)
    return figures


def record(stack: Stack, state: str, options: Sequence[str], progress: Progress) -> Recorded:
    """Profile this machine in a state, as a device of its own."""
    progress(f"{options[1]}, {state}")
    started_at_s = time.time()
    with neighbours(state):
        stack.profile(state, *options)
    seconds = time.time() - started_at_s
    store = open_store(f"sqlite:///{(stack.folder / 'lutnas.db').resolve()}")
    try:
        (run,) = [run.run for run in store.runs.list() if run.run.device == state]
        (summary,) = store.tables.list(state)
        everything = store.runs.measurements(run.id)
        measured = [each for each in everything if each.role in ("calibration", "held_out")]
        last_at_s = max(round_.at_s or 0 for each in everything if each.role != "settle" for round_ in each.rounds)
        networks = {each.graph: dataclasses.replace(each) for each in measured}
        counts = store.kernels.of_graphs(state, str(run.runtime), list(networks))
        table = read_table(json.loads(store.tables.get_bytes(summary.hash)))
        return Recorded(table, networks, counts, seconds, last_at_s - started_at_s)
    finally:
        store.close()


@contextmanager
def neighbours(state: str) -> Iterator[None]:
    """The state's neighbours, as processes of their own."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, daemon=True) for target in STATES[state]]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def compare(prefix: str, recorded: Mapping[str, Recorded]) -> dict[str, Figure]:
    """Figures of all crossings of different states."""
    errors: dict[str, list[float]] = {"": [], "as_timed.": []}
    holds: dict[str, list[float]] = {"": [], "as_timed.": []}
    for made, asked in permutations(recorded, 2):
        found = [verify(recorded[made], recorded[asked], each) for each in recorded[made].held_out()]
        for way, times_ms in (
            ("", [each.measured_ms for _, each in found]),
            ("as_timed.", [each.as_timed_ms for _, each in found]),
        ):
            pairs = [(promise, ms) for (promise, _), ms in zip(found, times_ms, strict=True)]
            errors[way].append(fmean(100 * abs(promise.predicted_ms / ms - 1) for promise, ms in pairs))
            holds[way].append(100 * fmean(ms <= promise.upper_ms for promise, ms in pairs))
    figures: dict[str, Figure] = {}
    for way, bars in (("", ("<= 3", "<= 5", ">= 97")), ("as_timed.", (None, None, None))):
        n, spread = len(errors[way]), f"{min(errors[way]):.1f} to {max(errors[way]):.1f}"
        figures[f"{prefix}.{way}mape_percent"] = Figure(
            value=fmean(errors[way]), unit="%", n=n, spread=spread, bar=bars[0]
        )
        figures[f"{prefix}.{way}worst_mape_percent"] = Figure(value=max(errors[way]), unit="%", n=n, bar=bars[1])
        figures[f"{prefix}.{way}bound_99_least_coverage"] = Figure(value=min(holds[way]), unit="%", n=n, bar=bars[2])
    widths = {state: half_width_percent(each) for state, each in recorded.items()}
    busy = [width for state, width in widths.items() if state != "quiet"]
    seconds = [each.seconds for each in recorded.values()]
    longer = [each.seconds / each.before_check_s for each in recorded.values()]
    wrong = verdicts(recorded)
    return figures | {
        f"{prefix}.half_width_quiet_percent": Figure(value=widths["quiet"], unit="%", bar="<= 3"),
        f"{prefix}.half_width_busy_percent": Figure(value=max(busy), unit="%", n=len(busy), bar="<= 6"),
        f"{prefix}.wrongly_met": Figure(value=max(met for met, _ in wrong), n=len(wrong), bar="<= 0"),
        f"{prefix}.wrongly_missed": Figure(value=max(missed for _, missed in wrong), n=len(wrong), bar="<= 1"),
        f"{prefix}.campaign_longer": Figure(value=max(longer), n=len(longer), bar="<= 1.3"),
        f"{prefix}.campaign_seconds": Figure(value=median(seconds), unit="s", n=len(seconds)),
    }


def half_width_percent(recorded: Recorded) -> float:
    """Median half-width of the one-sided 95 % bound, over held-out networks."""
    predictions = [recorded.predict(each.graph) for each in recorded.held_out()]
    return 100 * median(prediction.upper_ms(0.95) / prediction.mean_ms - 1 for prediction in predictions)


def verdicts(recorded: Mapping[str, Recorded]) -> list[tuple[int, int]]:
    """Per busy state: promises of the quiet table met there and not in the quiet, and the reverse."""
    quiet, wrong = recorded["quiet"], []
    for state in recorded.keys() - {"quiet"}:
        met = [
            (verify(quiet, recorded[state], each)[1].met, verify(quiet, quiet, each)[1].met)
            for each in quiet.held_out()
        ]
        wrong.append((sum(there and not here for there, here in met), sum(here and not there for there, here in met)))
    return wrong


def verify(made: Recorded, asked: Recorded, network: Measurement) -> tuple[Promise, Verification]:
    """What the server says of a network of the state `asked`, by the promise of the table `made`."""
    table, prediction = made.table, made.predict(network.graph)
    bound_ms = prediction.upper_ms(0.99)
    promise = Promise(table.hash, network.subject, prediction.mean_ms, bound_ms, bound_ms)
    references = choose_references(table, promise)
    job = NewJob(
        table.device, "verify", table.runtime, table.canary, table.space, network.graph, promise, references=references
    )
    measured = [_again(asked, graph) for graph in (network.graph, *(each.graph for each in references))]
    result = JobResult(measurement=measured[0], references=tuple(measured[1:]))
    found = compare_with_promise(job, result, table.canary_nominal_ms)
    assert found is not None, "the result has a measurement"
    return promise, found


def _again(recorded: Recorded, graph: str) -> Measurement:
    return dataclasses.replace(recorded.networks[graph], role="verification")
