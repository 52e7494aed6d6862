import random
from statistics import mean, median, stdev

import pytest

from shared.errors import InvalidValue
from shared.measurements.measurement import (
    Round,
    estimate_median,
    estimate_quiet_mean,
    estimate_rounds,
    quantile,
    quiet_mean,
)
from shared.measurements.plan import make_plan
from shared.spaces import NasBench201
from shared.wire import from_wire, to_wire

SPACE = NasBench201(resolution=32, channels=16, depth=1)


def test_a_plan_prices_every_op_key_and_keeps_held_out_networks_out_of_the_fit() -> None:
    plan = make_plan(SPACE, calibration=30, held_out=40)
    by_role = {
        role: [t.subject for t in plan.tasks if t.role == role] for role in ("marginal", "calibration", "held_out")
    }
    assert by_role["marginal"] == [str(key) for key in SPACE.op_keys()]
    assert (len(by_role["calibration"]), len(by_role["held_out"])) == (30, 40)
    assert not set(by_role["calibration"]) & set(by_role["held_out"])
    assert by_role["calibration"][0] == SPACE.format(SPACE.fastest())


def test_a_space_with_fewer_networks_than_asked_for_says_so() -> None:
    with pytest.raises(InvalidValue, match="calibration"):
        make_plan(SPACE, calibration=3000)


def test_a_ratio_cancels_what_slows_graph_and_canary_alike() -> None:
    calm = Round((2.0, 2.1), (1.0, 1.05), (0.5, 0.6))
    throttled = Round(*(tuple(3 * v for v in values) for values in (calm.graph_ms, calm.canary_ms, calm.minus_ms)))
    assert throttled.ratio(6) == pytest.approx(calm.ratio(6))


def test_the_quantile_leaves_slow_repeats_alone() -> None:
    assert quantile((1.0,) * 8 + (50.0, 90.0)) == 1.0
    assert quantile((1.0, 2.0), 0.2) == pytest.approx(1.2)


@pytest.mark.parametrize("n", [6, 9, 15, 30])
def test_the_interval_of_a_median_covers_at_least_what_it_says(n: int) -> None:
    rng, covered = random.Random(n), 0
    for _ in range(1500):
        estimate = estimate_median([rng.gauss(0, 1) for _ in range(n)])
        covered += estimate.low <= 0 <= estimate.high
    assert covered / 1500 >= 0.93


@pytest.mark.parametrize(("n", "skewed"), [(6, False), (16, False), (16, True), (30, True), (60, False), (60, True)])
def test_the_interval_of_the_mean_of_quiet_rounds_covers_nearly_what_it_says(n: int, skewed: bool) -> None:
    rng = random.Random(n)

    def draw() -> float:
        return rng.lognormvariate(0, 0.5) if skewed else rng.gauss(5, 1)

    true = quiet_mean([draw() for _ in range(100_000)])
    estimates = [estimate_quiet_mean([draw() for _ in range(n)]) for _ in range(1500)]
    assert 0.90 <= mean(estimate.low <= true <= estimate.high for estimate in estimates) <= 0.99


def test_the_interval_is_no_wider_than_it_has_to_be() -> None:
    hundred = estimate_median([float(i) for i in range(101)])
    assert (hundred.low, hundred.ratio, hundred.high) == (40.0, 50.0, 60.0)


def test_the_quiet_half_repeats_better_than_the_lower_quartile() -> None:
    rng = random.Random(4)
    samples = [tuple(rng.gauss(100, 5) for _ in range(60)) for _ in range(400)]
    assert stdev(map(quiet_mean, samples)) < 0.95 * stdev(quantile(sample, 0.25) for sample in samples)


def test_a_round_says_when_it_was_timed_and_one_that_does_not_is_written_as_before() -> None:
    assert to_wire(Round((1.0,), (1.0,)))["at_s"] is None
    told = Round((1.0, 2.0), (1.0,), at_s=1769853600.25)
    assert from_wire(Round, to_wire(told)) == told
    assert told.without_raw().at_s == told.at_s
    with pytest.raises(InvalidValue, match="since 1970"):
        Round((1.0,), (1.0,), at_s=float("nan"))


def test_rounds_that_met_others_in_the_caches_do_not_make_a_graph_slower() -> None:
    calm = [Round((10.0,), (1.0,))] * 10
    crowded = [Round((10.0 + 0.2 * i,), (1.0,)) for i in range(20)]
    estimate = estimate_rounds([*calm, *crowded], 1)
    assert 10.0 <= estimate.ratio < 10.3
    assert estimate_quiet_mean([1.0, 1.0, 50.0]).ratio == 1.0


def test_a_difference_of_two_graphs_is_the_median_of_its_rounds() -> None:
    noisy = [Round((8.0 + noise,), (1.0,), (2.0,)) for noise in (-0.6, -0.3, 0.0, 0.3, 0.6)]
    assert estimate_rounds(noisy, 6).ratio == pytest.approx(1.0)


def test_a_few_wild_rounds_do_not_move_the_estimate() -> None:
    calm = [1.0 + 0.001 * i for i in range(9)]
    assert estimate_median([*calm, 9.0, 12.0]).ratio == pytest.approx(median(calm), rel=0.005)


def test_a_plan_with_isolated_timings_differs_from_one_without_by_one_task_per_op() -> None:
    plain, more = make_plan(SPACE, 5, 5), make_plan(SPACE, 5, 5, isolated=True)
    alone = [task for task in more.tasks if task.role == "isolated"]
    assert [task.subject for task in alone] == [str(key) for key in SPACE.op_keys()]
    assert all(task.minus is None and ":1:" in task.graph for task in alone)
    assert [task for task in more.tasks if task.role != "isolated"] == list(plain.tasks)
