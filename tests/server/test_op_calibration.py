import csv
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lut_server.calibration.op_calibration import fit_prices
from lut_server.calibration.table_builder import MarginalCost, calibrate
from lut_server.calibration.table_error import MeasuredNetwork, kendall_tau
from shared.errors import InvalidValue
from shared.measurements.measurement import Run
from shared.runtime import Runtime
from shared.spaces import make_space

SPACE = make_space("nas-bench-201", depth=1)
KEYS = SPACE.op_keys()
RUN = Run("run", "pi", Runtime("onnxruntime", "1.31.0"), str(SPACE), "p", "canary:conv-v1", "0.1.0", "2026-01-01", {})
DATA = Path(os.environ.get("LUTNAS_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
LATENCIES = DATA / "nas_bench_201" / "latency_ms.csv"


def synthetic(seed, networks, noise=0.02, marginal_bias=0.15):
    """Counts and noisy latencies of random networks of the space, the true prices, and biased
    marginal costs."""
    numpy_rng, rng = np.random.default_rng(seed), random.Random(seed)
    primitive = {"skip_connect": 0.02, "avg_pool_3x3": 0.4, "nor_conv_1x1": 0.3, "nor_conv_3x3": 1.2}
    theta = np.array([2.0, *(primitive[key.primitive] * numpy_rng.uniform(0.7, 1.3) for key in KEYS)])
    marginal = theta[1:] * (1 + marginal_bias * numpy_rng.standard_normal(len(KEYS)))
    counts = np.array([[SPACE.op_counts(g)[key] for key in KEYS] for g in (SPACE.sample(rng) for _ in range(networks))])
    truth = theta[0] + counts @ theta[1:]
    return counts.astype(float), truth * (1 + noise * numpy_rng.standard_normal(networks)), theta, marginal


def fit(counts, latency, marginal):
    return fit_prices(counts, latency, marginal, 0.02 * np.abs(marginal))


def predict(found, counts):
    x = np.column_stack([np.ones(len(counts)), counts])
    mean = x @ found.mean
    sd = np.sqrt(np.einsum("ij,jk,ik->i", x, found.covariance, x) + (found.relative_spread * mean) ** 2)
    return mean, sd


def test_known_prices_are_recovered_where_the_data_can_tell_them_apart():
    counts, latency, theta, marginal = synthetic(seed=1, networks=60, noise=0.01)
    found = fit(counts, latency, marginal)
    assert found.mean[0] == pytest.approx(theta[0], rel=0.05)
    for primitive in ("avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3"):
        rows = [
            1 + i for i, key in enumerate(KEYS) if key.primitive == primitive
        ]  # three stages: only their sum is seen
        assert found.mean[rows].sum() == pytest.approx(theta[rows].sum(), rel=0.05), primitive


def test_bound_holds_for_about_95_percent_of_unseen_networks_over_many_seeds():
    shares = []
    for seed in range(40):
        counts, latency, _, marginal = synthetic(seed, networks=140)
        found = fit(counts[:40], latency[:40], marginal)
        mean, sd = predict(found, counts[40:])
        shares.append(np.mean(latency[40:] <= mean + 1.6449 * sd))
    assert 0.94 <= np.mean(shares) <= 0.985


def test_prediction_is_nearly_as_good_as_the_noise_allows():
    errors = []
    for seed in range(10):
        counts, latency, _, marginal = synthetic(seed, networks=140)
        mean, _ = predict(fit(counts[:40], latency[:40], marginal), counts[40:])
        errors.append(np.mean(np.abs(mean - latency[40:]) / latency[40:]))
    assert np.mean(errors) <= 0.02  # 2 % Gaussian noise alone gives 1.6 %


def test_more_networks_narrow_the_covariance():
    counts, latency, _, marginal = synthetic(seed=3, networks=160)
    x = np.column_stack([np.ones(20), counts[:20]])
    widths = []
    for networks in (5, 20, 160):
        found = fit(counts[:networks], latency[:networks], marginal)
        widths.append(np.mean(np.einsum("ij,jk,ik->i", x, found.covariance, x)))
    assert widths[0] > widths[1] > widths[2]


def test_with_one_network_the_marginal_costs_decide():
    counts, latency, _, marginal = synthetic(seed=4, networks=1)
    found = fit(counts, latency, marginal)
    assert found.mean[1:] == pytest.approx(marginal, rel=0.1)
    assert found.mean[0] + counts[0] @ found.mean[1:] == pytest.approx(latency[0], rel=0.05)
    assert found.relative_spread > 0.05


def test_wrong_marginal_costs_are_overruled_by_networks():
    counts, latency, theta, _ = synthetic(seed=5, networks=60, noise=0.01)
    found = fit(counts, latency, 2.5 * theta[1:])
    mean, _ = predict(found, counts)
    assert np.mean(np.abs(mean - latency) / latency) < 0.02


def test_no_price_is_negative_where_noise_makes_a_marginal_cost_negative():
    counts, latency, theta, marginal = synthetic(seed=6, networks=40)
    skips = np.array([key.primitive == "skip_connect" for key in KEYS])
    found = fit(counts, latency, np.where(skips, -0.05, marginal))
    assert (found.mean >= 0).all()
    assert found.mean[1:][skips].sum() == pytest.approx(theta[1:][skips].sum(), abs=0.15)


def test_spread_is_not_flattered_by_a_fit_with_as_many_prices_as_networks():
    shares = []
    for seed in range(20):
        counts, latency, _, marginal = synthetic(seed, networks=113, noise=0.05)
        mean, sd = predict(fit(counts[:13], latency[:13], marginal), counts[13:])
        shares.append(np.mean(latency[13:] <= mean + 1.6449 * sd))
    assert np.mean(shares) >= 0.93


finite = st.floats(-1e6, 1e6)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), networks=st.integers(1, 8), ops=st.integers(1, 5))
def test_any_finite_input_gives_prices_from_zero_and_a_positive_semidefinite_covariance(data, networks, ops):
    counts = data.draw(arrays(float, (networks, ops), elements=st.integers(0, 64).map(float)))
    latency = data.draw(arrays(float, networks, elements=st.floats(1e-6, 1e6)))
    marginal = data.draw(arrays(float, ops, elements=finite))
    sd = data.draw(arrays(float, ops, elements=st.floats(0, 1e6)))
    found = fit_prices(counts, latency, marginal, sd)
    assert np.isfinite(found.mean).all()
    assert (found.mean >= 0).all()
    assert np.isfinite(found.covariance).all()
    assert (found.covariance == found.covariance.T).all()
    values = np.linalg.eigvalsh(found.covariance)
    assert values.min() >= -1e-9 * values.max()
    assert np.isfinite(found.relative_spread)
    assert found.relative_spread > 0


@pytest.mark.parametrize("latency", [[], [0.0], [-1.0], [float("nan")], [float("inf")]])
def test_latency_that_is_no_positive_time_is_refused(latency):
    with pytest.raises(InvalidValue, match="calibration"):
        fit_prices(np.ones((len(latency), 2)), np.array(latency), np.ones(2), np.ones(2))


def test_kendall_tau_agrees_with_hand_counted_pairs():
    assert kendall_tau([1, 2, 3, 4], [1, 2, 3, 4]) == 1
    assert kendall_tau([1, 2, 3, 4], [4, 3, 2, 1]) == -1
    assert kendall_tau([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)
    assert kendall_tau([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / (2 * 3) ** 0.5)  # tau-b: one tie in the first
    assert kendall_tau([1, 1], [1, 2]) == 0
    assert kendall_tau([1], [2]) == 0


def make_table(networks=40, held_out=40, noise=0.02):
    rng, noise_rng = random.Random(0), np.random.default_rng(0)
    price = {"skip_connect": 0.02, "avg_pool_3x3": 0.4, "nor_conv_1x1": 0.3, "nor_conv_3x3": 1.2}
    marginals = [
        MarginalCost(str(key), price[key.primitive], 0.9 * price[key.primitive], 1.1 * price[key.primitive])
        for key in KEYS
    ]
    measured = []
    for index in range(networks + held_out):
        genotype = SPACE.sample(rng)
        latency = 2 + sum(price[key.primitive] * n for key, n in SPACE.op_counts(genotype).items())
        role = "calibration" if index < networks else "held_out"
        measured.append(MeasuredNetwork(genotype, role, latency * (1 + noise * noise_rng.standard_normal())))
    return calibrate(RUN, 2.0, SPACE, marginals, measured), measured


def test_table_scores_itself_on_held_out_networks_with_its_own_predictions():
    table, measured = make_table()
    assert table.held_out.networks == 40
    assert table.held_out.mape_percent < 3
    assert table.held_out.within_10_percent == 100
    assert table.held_out.kendall_tau > 0.9
    unseen = table.networks[40:]
    assert table.held_out.bound_coverage == 100 * np.mean(
        [network.measured_ms <= network.upper_ms for network in unseen]
    )
    assert 2 < table.held_out.bound_half_width_percent < 8
    assert len(table.networks) == 80
    for check, network in zip(table.networks, measured, strict=True):
        prediction = table.predict(network.genotype)
        assert (check.role, check.measured_ms) == (network.role, network.measured_ms)
        assert check.predicted_ms == prediction.mean_ms
        assert check.upper_ms == prediction.upper_ms(0.95)


def test_held_out_networks_do_not_touch_the_prices():
    with_them, _ = make_table(held_out=40)
    without, _ = make_table(held_out=0)
    assert without.held_out is None
    assert with_them.prices == without.prices
    assert with_them.covariance == without.covariance


def test_op_key_without_marginal_cost_is_named():
    _, measured = make_table()
    with pytest.raises(InvalidValue, match="no marginal cost of avg_pool_3x3/16x32x32/16x32x32/s1 and 11 more"):
        calibrate(RUN, 2.0, SPACE, [], measured)


@pytest.mark.skipif(not LATENCIES.exists(), reason=f"{LATENCIES} is not there (set LUTNAS_DATA)")
def test_sixty_raspberry_pi_latencies_predict_a_thousand_others():
    space = make_space("nas-bench-201")
    with LATENCIES.open() as lines:
        rows = [(space.parse(row["architecture"]), float(row["raspi4"])) for row in csv.DictReader(lines)]
    distinct = {space.canonical(genotype): latency for genotype, latency in rows if space.is_connected(genotype)}
    chosen = random.Random(0).sample(sorted(distinct), 1060)
    networks = [
        MeasuredNetwork(genotype, "calibration" if index < 60 else "held_out", distinct[genotype])
        for index, genotype in enumerate(chosen)
    ]
    # Marginal costs were not published: a rough guess, the same for all three stages, stands for
    # them.
    guess = {"skip_connect": 0.0, "avg_pool_3x3": 0.3, "nor_conv_1x1": 0.3, "nor_conv_3x3": 1.0}
    marginals = [
        MarginalCost(str(key), guess[key.primitive], 0.9 * guess[key.primitive], 1.1 * guess[key.primitive])
        for key in space.op_keys()
    ]
    table = calibrate(RUN, 1.0, space, marginals, networks)
    assert table.held_out.mape_percent < 10
    assert table.held_out.kendall_tau > 0.85
    assert table.held_out.bound_coverage > 90
    for primitive in guess:  # equal counts in all stages: the data cannot tell them apart, so the prior's ratio stays
        prices = [price.price_ms for price in table.prices if price.op_key.startswith(primitive)]
        assert prices == pytest.approx([prices[0]] * 3, rel=1e-6)
