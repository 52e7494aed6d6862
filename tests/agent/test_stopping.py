import argparse
import dataclasses

import pytest

from profiler_agent.commands.options import add_plan, wanted_profile
from profiler_agent.timing.stopping import PRESETS, Preset, StoppingRule, precision_reached
from shared.measurements.measurement import Round

QUICK = Preset("quick", precision=0.02, min_rounds=6, max_rounds=10, seconds_per_task=5.0)


class FakeClock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def rounds_with(values, canary=1.0):
    return [Round((value,), (canary,)) for value in values]


def test_a_steady_task_is_done_at_the_fewest_rounds_and_not_before():
    rule = StoppingRule(QUICK, tasks=1, clock_s=FakeClock())
    assert rule.find_reason(rounds_with([2.0] * 5), 1) is None
    assert rule.find_reason(rounds_with([2.0] * 6), 1) == "precise"


def test_a_noisy_task_goes_on_to_the_most_rounds():
    rule = StoppingRule(QUICK, tasks=1, clock_s=FakeClock())
    noisy = [1.0, 1.5, 1.1, 1.4, 1.2, 1.3, 1.05, 1.45, 1.15]
    assert rule.find_reason(rounds_with(noisy), 1) is None
    assert rule.find_reason(rounds_with([*noisy, 1.35]), 1) == "rounds"


def test_networks_stop_together_once_half_of_them_are_precise() -> None:
    rule = StoppingRule(QUICK, tasks=4, clock_s=FakeClock())
    steady, noisy = rounds_with([2.0] * 6), rounds_with([1.0, 1.5, 1.1, 1.4, 1.2, 1.3])
    assert not rule.have_enough([steady, noisy, noisy])
    assert rule.have_enough([steady, steady, noisy])
    assert not rule.have_enough([noisy * 3, noisy * 3])
    assert rule.have_enough([noisy * 4, noisy * 4])  # twice the rounds that an op may have


def test_no_network_is_left_with_fewer_rounds_than_every_task_gets() -> None:
    rule = StoppingRule(QUICK, tasks=3, clock_s=FakeClock())
    steady = rounds_with([2.0] * 7)
    assert not rule.have_enough([steady, steady, steady[:5]])
    assert rule.have_enough([steady, steady, steady[:6]])


def test_when_the_time_is_up_every_task_still_gets_its_fewest_rounds():
    clock = FakeClock()
    rule = StoppingRule(QUICK, tasks=2, clock_s=clock)
    noisy = rounds_with([1.0, 1.5, 1.1, 1.4, 1.2, 1.3])
    clock.now_s += 9.0
    rule.tick()
    assert rule.find_reason(noisy, 1) is None
    clock.now_s += 2.0
    rule.tick()
    assert rule.find_reason(noisy[:5], 1) is None
    assert rule.find_reason(noisy, 1) == "time"


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_jumps_takes_at_most_one_minute_from_the_time(jump_s):
    clock = FakeClock()
    rule = StoppingRule(QUICK, 1, clock)
    clock.now_s += jump_s
    rule.tick()
    clock.now_s += 1.0
    rule.tick()
    assert 1.0 <= rule.spent_s <= 61.0


def test_precision_of_a_difference_is_held_against_the_whole_graph():
    # Graph 8 canaries, minus 7.4 to 7.6: the op is worth 0.05 +- 0.01, but the graph is known to
    # 1.25 %.
    rounds = [Round((8.0,), (1.0,), (minus,)) for minus in (7.4, 7.6, 7.4, 7.6, 7.4)]
    assert precision_reached(rounds, 6) == pytest.approx(0.1 / 8)


def test_presets_are_ordered_by_how_precise_they_are():
    quick, standard, thorough = (PRESETS[name] for name in ("quick", "standard", "thorough"))
    assert quick.precision > standard.precision > thorough.precision
    assert quick.max_rounds < standard.max_rounds < thorough.max_rounds


def test_time_for_a_campaign_can_be_asked_for():
    parser = argparse.ArgumentParser()
    add_plan(parser)
    asked = ["--device", "pi", "--space", "nas-bench-201"]
    plain = wanted_profile(parser.parse_args(asked)).preset
    shorter = wanted_profile(parser.parse_args([*asked, "--seconds-per-task", "0.4"])).preset
    assert plain == PRESETS["standard"]
    assert shorter == dataclasses.replace(plain, seconds_per_task=0.4, min_rounds=PRESETS["quick"].min_rounds)
    smoke = wanted_profile(parser.parse_args([*asked, "--preset", "smoke", "--seconds-per-task", "0.4"])).preset
    assert smoke.min_rounds == PRESETS["smoke"].min_rounds


def test_an_op_alone_is_done_after_a_few_rounds_however_imprecise() -> None:
    rule = StoppingRule(PRESETS["standard"], 1, lambda: 0.0)
    noisy = rounds_with([1.0, 1.3, 1.0, 1.4, 1.1, 1.5])
    assert rule.find_reason(noisy[:5], 1, "isolated") is None
    assert rule.find_reason(noisy, 1, "isolated") == "isolated"
    assert rule.find_reason(noisy, 1, "marginal") is None


def test_a_smoke_run_takes_the_fewest_rounds_of_everything_and_throws_none_away():
    rule = StoppingRule(PRESETS["smoke"], 10, lambda: 0.0)
    assert rule.most_redos == 0
    noisy = rounds_with([1.0, 1.5])
    assert rule.find_reason(noisy[:1], 1) is None
    assert rule.find_reason(noisy, 1) == "rounds"
    assert rule.find_reason(noisy, 1, "isolated") == "isolated"
    assert precision_reached(noisy, 1) > PRESETS["smoke"].precision  # so that a verdict says what it is worth
