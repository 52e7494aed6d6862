import random
from statistics import NormalDist, median

import pytest

from shared.errors import InvalidValue
from shared.measurement import Round, estimate_quantile, estimate_rounds, quantile
from shared.plan import make_plan
from shared.spaces import NasBench201

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


@pytest.mark.parametrize(("n", "share"), [(6, 0.5), (9, 0.5), (15, 0.5), (30, 0.5), (16, 0.25), (30, 0.25), (60, 0.25)])
def test_the_interval_of_a_quantile_covers_at_least_what_it_says(n: int, share: float) -> None:
    rng, true = random.Random(n), NormalDist().inv_cdf(share)
    covered = 0
    for _ in range(1500):
        estimate = estimate_quantile([rng.gauss(0, 1) for _ in range(n)], share)
        covered += estimate.low <= true <= estimate.high
    assert covered / 1500 >= 0.93


def test_the_interval_is_no_wider_than_it_has_to_be() -> None:
    hundred = estimate_quantile([float(i) for i in range(101)], 0.5)
    assert (hundred.low, hundred.ratio, hundred.high) == (40.0, 50.0, 60.0)


def test_rounds_that_met_others_in_the_caches_do_not_make_a_graph_slower() -> None:
    calm = [Round((10.0,), (1.0,))] * 10
    crowded = [Round((10.0 + 0.2 * i,), (1.0,)) for i in range(20)]
    assert estimate_rounds([*calm, *crowded], 1).ratio == 10.0


def test_a_difference_of_two_graphs_is_the_median_of_its_rounds() -> None:
    noisy = [Round((8.0 + noise,), (1.0,), (2.0,)) for noise in (-0.6, -0.3, 0.0, 0.3, 0.6)]
    assert estimate_rounds(noisy, 6).ratio == pytest.approx(1.0)


def test_a_few_wild_rounds_do_not_move_the_estimate() -> None:
    calm = [1.0 + 0.001 * i for i in range(9)]
    assert estimate_quantile([*calm, 9.0, 12.0]).ratio == pytest.approx(median(calm), rel=0.005)


def test_a_plan_with_isolated_timings_differs_from_one_without_by_one_task_per_op() -> None:
    plain, more = make_plan(SPACE, 5, 5), make_plan(SPACE, 5, 5, isolated=True)
    alone = [task for task in more.tasks if task.role == "isolated"]
    assert [task.subject for task in alone] == [str(key) for key in SPACE.op_keys()]
    assert all(task.minus is None and ":1:" in task.graph for task in alone)
    assert [task for task in more.tasks if task.role != "isolated"] == list(plain.tasks)
