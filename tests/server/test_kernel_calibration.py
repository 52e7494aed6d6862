"""Kernel prices recovered from made-up devices whose true prices are known."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from lut_server.calibration import kernel_calibration
from lut_server.calibration.kernel_calibration import CONFORMAL_SHARE, EXTREME_SHARE, fit_kernel_prices
from lut_server.calibration.kernel_model import MeasuredGraph
from shared.errors import InvalidValue, MissingKernel
from shared.kernels.kernel import parse_kernel
from shared.tables.kernel_prices import KernelPrices
from shared.tables.table import Prediction
from shared.wire import canonical_json, from_wire

SIDES = (8, 16, 32)
CHANNELS = (16, 32, 64)


def kernels():
    found = []
    for side in SIDES:
        for c in CHANNELS:
            shape = f"1x{c}x{side}x{side}"
            for k in (1, 3):
                read = f"nchwc.Conv/{shape},w{c}x{c}x{k}x{k},w{c}"
                found.append(f"{read}/{shape}")
                found.append(f"{read}/{shape}/activation=Relu")
                found.append(f"{read},{shape}/{shape}/activation=Relu")
            found.append(f"nchwc.AveragePool/{shape}/{shape}/kernel_shape=3x3")
            found.append(f"Add/{shape},{shape}/{shape}")
    return found


def true_prices(rng, spread=0.15):
    """An overhead, so much per multiply-add, so much per element; each kernel strays from that."""
    return {
        text: (0.004 + 2e-8 * parse_kernel(text).multiply_adds() + 1e-7 * parse_kernel(text).elements())
        * rng.lognormvariate(0, spread)
        for text in kernels()
    }


def draw_graph(rng, prices, noise, is_network=True):
    chosen = rng.sample(sorted(prices), 12 if is_network else 2)
    counts = {kernel: rng.randint(1, 5) for kernel in chosen}
    true_ms = 0.05 + sum(prices[kernel] * n for kernel, n in counts.items())
    return MeasuredGraph(counts, true_ms * rng.lognormvariate(0, noise), is_network), true_ms


def device(seed, networks=60, chains=40, noise=0.005):
    rng = random.Random(seed)
    prices = true_prices(rng)
    graphs = [draw_graph(rng, prices, noise)[0] for _ in range(networks)]
    graphs += [draw_graph(rng, prices, 0.05, False)[0] for _ in range(chains)]
    return rng, prices, graphs


def test_networks_that_no_fit_saw_are_predicted_and_the_bound_covers_them() -> None:
    errors, covered, half_widths = [], [], []
    for seed in range(4):
        rng, prices, graphs = device(seed)
        fitted = fit_kernel_prices(graphs)
        for _ in range(60):
            graph, _ = draw_graph(rng, prices, 0.005)
            prediction = Prediction(*fitted.predict(graph.counts))
            errors.append(abs(prediction.mean_ms / graph.measured_ms - 1))
            covered.append(graph.measured_ms <= prediction.upper_ms(0.95))
            half_widths.append(prediction.upper_ms(0.95) / prediction.mean_ms - 1)
    assert np.mean(errors) < 0.03
    assert np.mean(covered) >= 0.93
    assert np.median(half_widths) < 0.10


def test_weights_that_chains_have_in_the_cache_and_networks_read_from_afar_are_priced_as_in_networks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of a network's time goes into reading weights; chains show none of it."""

    def errors() -> float:
        found = []
        for seed in range(3):
            rng, prices = random.Random(seed), true_prices(random.Random(seed))
            weights = {text: parse_kernel(text).weights() for text in prices}
            per_weight = sum(prices.values()) / sum(weights.values())
            in_networks = {text: price + per_weight * weights[text] for text, price in prices.items()}
            graphs = [draw_graph(rng, in_networks, 0.01)[0] for _ in range(30)]
            graphs += [draw_graph(rng, prices, 0.02, False)[0] for _ in range(150)]
            fitted = fit_kernel_prices(graphs)
            for _ in range(40):
                graph, true_ms = draw_graph(rng, in_networks, 0.01)
                found.append(abs(fitted.predict(graph.counts, guess=True)[0] / true_ms - 1))
        return float(np.mean(found))

    told = errors()
    monkeypatch.setattr(kernel_calibration, "COLD_GRID", (0.0,))
    assert told < 0.8 * errors()


@pytest.mark.parametrize(("networks", "share"), [(40, EXTREME_SHARE), (60, CONFORMAL_SHARE)])
def test_a_single_network_that_strays_does_not_widen_the_bound_of_all_but_a_second_does(
    networks: int, share: float
) -> None:
    _, _, graphs = device(6, networks)
    spreads = []
    for count in (1, 2):
        strays = [replace(graph, measured_ms=1.15 * graph.measured_ms) for graph in graphs[:count]]
        spreads.append(fit_kernel_prices([*strays, *graphs[count:]], share).relative_spread)
    assert spreads[0] < 0.045
    assert spreads[1] > 0.06


def test_more_networks_make_it_better() -> None:
    means = []
    for networks in (10, 120):
        rng, prices, graphs = device(5, networks)
        fitted = fit_kernel_prices(graphs)
        drawn = [draw_graph(rng, prices, 0.0)[0] for _ in range(60)]
        means.append(
            np.mean([abs(fitted.predict(network.counts, guess=True)[0] / network.measured_ms - 1) for network in drawn])
        )
    assert means[1] < 0.8 * means[0]


def test_the_variance_is_that_of_the_posterior_written_out() -> None:
    """Against the covariance of theta by inverting the normal equations, in the same units."""
    _, _, graphs = device(1, networks=12, chains=6)
    fitted = fit_kernel_prices(graphs)
    sd, known = np.array(fitted.prior_sd_ms), np.array(fitted.known)
    covariance = np.diag(sd) @ (np.eye(len(sd)) - known @ known.T) @ np.diag(sd)
    assert np.linalg.eigvalsh(covariance).min() > -1e-6 * np.diag(covariance).max()
    counts = graphs[0].counts
    prediction = Prediction(*fitted.predict(counts))
    x = np.zeros(len(sd))
    x[0] = 1
    for text, n in counts.items():
        kernel = parse_kernel(text)
        place = 1 + 3 * fitted.family_index[kernel.family]
        x[place : place + 3] += n * np.array([1, kernel.multiply_adds() / 1e6, kernel.elements() / 1e6])
        x[1 + 3 * len(fitted.families) + fitted.index[text]] = n
    expected = x @ covariance @ x + (fitted.relative_spread * prediction.mean_ms) ** 2
    assert prediction.sd_ms**2 == pytest.approx(expected, rel=1e-3)


def test_no_price_is_negative_even_where_noise_asks_for_it() -> None:
    rng = random.Random(3)
    prices = true_prices(rng)
    for cheap in [price for price in prices if price.startswith("Add")]:
        prices[cheap] = 0.0
    graphs = [draw_graph(rng, prices, 0.05)[0] for _ in range(40)]
    fitted = fit_kernel_prices(graphs)
    assert min(price.price_ms for price in fitted.prices) >= 0
    assert min(cost.overhead_ms for cost in fitted.families) >= 0
    assert fitted.base_ms >= 0


def test_a_kernel_that_was_never_measured_is_guessed_from_its_family_flagged_and_wide() -> None:
    _, _, graphs = device(2)
    fitted = fit_kernel_prices(graphs)
    new = "nchwc.Conv/1x48x24x24,w48x48x3x3,w48/1x48x24x24/activation=Relu"
    true_ms = 0.004 + 2e-8 * parse_kernel(new).multiply_adds() + 1e-7 * parse_kernel(new).elements()
    guess = Prediction(*fitted.predict({new: 1}, guess=True))
    assert guess.guessed == (new,)
    assert guess.mean_ms - fitted.predict({})[0] == pytest.approx(true_ms, rel=0.5)
    assert guess.sd_ms > 0.3 * true_ms
    with pytest.raises(MissingKernel, match="1x48x24x24"):
        fitted.predict({new: 1})
    with pytest.raises(MissingKernel, match="Softmax"):
        fitted.predict({"Softmax/1x10/1x10": 1}, guess=True)


def test_prices_survive_the_wire_and_the_same_graphs_give_the_same_bytes() -> None:
    _, _, graphs = device(4, networks=15, chains=4)
    first, second = fit_kernel_prices(graphs), fit_kernel_prices(list(graphs))
    assert canonical_json(first) == canonical_json(second)
    assert from_wire(KernelPrices, json.loads(canonical_json(first))) == first


def test_too_few_networks_make_no_prices() -> None:
    _, _, graphs = device(4, networks=4, chains=20)
    assert fit_kernel_prices(graphs) is None


def test_a_latency_that_is_no_time_is_refused() -> None:
    _, _, graphs = device(4, networks=10)
    with pytest.raises(InvalidValue, match="positive"):
        fit_kernel_prices([*graphs, MeasuredGraph(graphs[0].counts, 0.0, True)])
