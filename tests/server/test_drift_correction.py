"""What networks that were timed together have in common is told from what each of them takes."""

import math
import random
from statistics import fmean, stdev

import pytest

from lut_server.calibration.drift_correction import levels
from shared.measurements.measurement import Measurement, Round, Verdict

NETWORKS, ROUNDS = 30, 24


def campaign(seed, common, own=0.03, told=True):
    """(measurements, true ratios): a machine whose state wanders and comes back; each network
    varies by itself too."""
    rng, state, clock_s = random.Random(seed), 0.0, 1_000_000.0
    true = [rng.uniform(5, 20) for _ in range(NETWORKS)]
    rounds = [[] for _ in true]
    for _ in range(ROUNDS):
        for i in rng.sample(range(NETWORKS), NETWORKS):
            state = 0.95 * state + common * math.sqrt(1 - 0.95**2) * rng.gauss(0, 1)
            clock_s += 0.04
            ratio = true[i] * math.exp(state + own * rng.gauss(0, 1))
            rounds[i].append(Round((ratio,), (1.0,), at_s=round(clock_s, 2) if told else None))
    return [
        Measurement(f"m{i}", f"n{i}", "calibration", f"g{i}", None, 1, tuple(each), Verdict(True))
        for i, each in enumerate(rounds)
    ], true


def spread(found, measurements, true):
    """Standard deviation of the networks around their true ratios, all of them a factor apart."""
    return stdev(math.log(found[measurement.id] / ratio) for measurement, ratio in zip(measurements, true, strict=True))


def by_themselves(measurements):
    return {measurement.id: measurement.estimate().ratio for measurement in measurements}


def test_networks_that_share_the_machines_state_come_out_nearer_to_one_another_than_by_themselves():
    gains = []
    for seed in range(5):
        measurements, true = campaign(seed, common=0.06)
        alone = spread(by_themselves(measurements), measurements, true)
        gains.append(spread(levels(measurements), measurements, true) / alone)
    assert fmean(gains) < 0.75


def test_networks_that_share_nothing_are_left_as_they_are():
    for seed in range(5):
        measurements, true = campaign(seed, common=0.0)
        alone = by_themselves(measurements)
        assert spread(levels(measurements), measurements, true) < 1.1 * spread(alone, measurements, true)
        assert all(levels(measurements)[id_] == pytest.approx(ratio, rel=0.02) for id_, ratio in alone.items())


def test_levels_lie_where_the_quieter_half_of_the_rounds_does():
    measurements, _ = campaign(1, common=0.06)
    alone, together = by_themselves(measurements), levels(measurements)
    assert fmean(math.log(together[id_] / alone[id_]) for id_ in alone) == pytest.approx(0, abs=0.03)


def test_rounds_of_agents_that_do_not_say_when_count_by_themselves():
    measurements, _ = campaign(2, common=0.06, told=False)
    assert levels(measurements) == by_themselves(measurements)


def test_a_few_networks_count_by_themselves():
    measurements, _ = campaign(3, common=0.06)
    assert levels(measurements[:5]) == by_themselves(measurements[:5])
    assert levels([]) == {}
