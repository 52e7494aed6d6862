"""The benchmark that replays a campaign, on a simulated device with known latencies."""

import random

from benchmarks.latency.calibration import Recorded, baseline_figures, plain_median_ms, replay
from shared.measurements.graph_spec import NetworkGraph, parse_graph_spec
from shared.measurements.measurement import Measurement, Round, Verdict
from shared.measurements.plan import make_plan
from shared.spaces import make_space

SPACE = make_space("nas-bench-201", resolution=8, channels=4, depth=1)
PRICES_MS = {"nor_conv_3x3": 1.5, "nor_conv_1x1": 0.4, "avg_pool_3x3": 0.5, "skip_connect": 0.05}
WINDOWS = {"nor_conv_3x3": "3x3", "nor_conv_1x1": "1x1"}
CALL_MS, BASE_MS, CANARY_MS = 0.3, 3.0, 2.0


def kernel(key):
    shape = f"1x{key.input.channels}x{key.input.height}x{key.input.height}"
    operator = "Conv" if "conv" in key.primitive else key.primitive
    channels, window = key.input.channels, WINDOWS.get(key.primitive)
    return f"{operator}/{shape}{f',w{channels}x{channels}x{window}' if window else ''}/{shape}"


def recorded():
    """Times are sums of the prices with 0.3 % of noise; an op alone takes a call more."""
    rng, counts, measurements = random.Random(1), {}, []
    for number, task in enumerate(make_plan(SPACE, 24, 12, isolated=True).tasks):
        spec = parse_graph_spec(task.graph)
        ops = SPACE.op_counts(spec.genotype) if isinstance(spec, NetworkGraph) else {spec.key: spec.copies}
        counts[task.graph] = {kernel(key): n for key, n in ops.items()}
        ms = sum(PRICES_MS[key.primitive] * n for key, n in ops.items())
        ms += BASE_MS if isinstance(spec, NetworkGraph) else CALL_MS
        minus_ms = ()
        if task.minus is not None:
            key = parse_graph_spec(task.minus).key
            minus_ms = (PRICES_MS[key.primitive] * 2 + CALL_MS,)
            counts[task.minus] = {kernel(key): 2}
        rounds = tuple(Round((ms * rng.lognormvariate(0, 0.003),), (CANARY_MS,), minus_ms) for _ in range(6))
        measurements.append(
            Measurement(
                f"m-{number}", task.subject, task.role, task.graph, task.minus, task.divisor, rounds, Verdict(True)
            )
        )
    return Recorded(str(SPACE), tuple(measurements), counts, CANARY_MS)


def test_isolated_sums_are_further_off_than_marginal_ones_and_no_network_is_fitted() -> None:
    figures = baseline_figures(recorded(), "lab")
    off = {name: figures[f"profiling.lab.{name}.mape_percent"].value for name in ("isolated", "plain_medians")}
    assert off["plain_medians"] < 2 < 5 < off["isolated"]
    assert figures["profiling.lab.marginal_without_canary.kendall_tau"].n == 12


def test_a_plain_median_knows_no_canary_and_no_quantile() -> None:
    rounds = (Round((9.0, 8.0), (1.0,), (2.0,)), Round((7.0,), (3.0,), (4.0, 2.0)))
    measurement = Measurement("m", "op", "marginal", "long", "short", 6, rounds, Verdict(True))
    assert plain_median_ms(measurement) == 1.0


def test_chosen_and_drawn_networks_are_scored_on_the_same_held_out_ones() -> None:
    figures = replay(recorded(), "lab", lambda line: None, seeds=1, sizes=(12, 14))
    for way in ("chosen", "random"):
        assert figures[f"profiling.active.lab.{way}_14.mape_percent"].value < 5
    assert len(figures) == 2 * 2 * 4
