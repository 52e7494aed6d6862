import random
from dataclasses import replace

import pytest

from benchmarks.foreign_networks import NETWORKS
from benchmarks.own_model import predicted
from benchmarks.own_model.macro_beside import BUILT_IN, compare, measure_rates
from benchmarks.own_model.own_model import BARS, MODELS, budget_figures, table_figures
from benchmarks.search.speed import nominal_table
from search.own_model.examine import examine
from search.own_model.model_file import load_model
from shared.spaces import Genotype
from shared.spaces.op_key import Shape
from shared.spaces.primitives import parameter_count

COUNTS = {
    "mobilenet_v3": (5, 4, 5, 4, 5, 4, 5, 4, 5),
    "resnet": (3, 5, 5, 3, 5, 5, 3, 5),
    "vgg": (4, 4, 4, 4, 4, 4, 4),
    "macro": (3,) * 8,
}


def test_every_model_of_the_benchmark_is_in_order_and_has_its_choices():
    found = {name: examine(load_model(f"{MODELS / name}.py:make_model"), Shape(3, 32, 32)) for name in COUNTS}
    assert {name: own.space.candidates for name, own in found.items()} == COUNTS
    assert all(own.classes == 10 for own in found.values())
    draw = random.Random(0)
    for _ in range(5):
        genotype = BUILT_IN.sample(draw)
        columns = Genotype(tuple(str(BUILT_IN.candidates.index(choice)) for choice in genotype.choices))
        steps = BUILT_IN.wiring(genotype)
        assert found["macro"].parameter_count(columns) == sum(parameter_count(step.key) for step in steps if step.key)


def test_the_built_in_supernet_and_the_model_train_in_every_round():
    rates = measure_rates(lambda line: None, rounds=2, steps=1)
    assert {name: len(listed) for name, listed in rates.items()} == {"own": 2, "built_in": 2}
    assert min(map(min, rates.values())) > 0


def test_tables_of_the_same_networks_are_apart_by_what_their_base_times_are():
    own = examine(load_model(f"{MODELS / 'macro'}.py:make_model"), Shape(3, 32, 32)).space
    built_in = nominal_table(BUILT_IN)
    places = {key: index for index, key in enumerate(own.op_keys())}
    prices = [0.0] * len(places)
    for slot, choices in enumerate(BUILT_IN.slots):
        for column, primitive in enumerate(choices.primitives):
            for key in own.slot_ops(slot, str(column)):
                prices[places[key]] = sum(
                    built_in.prices[built_in.price_index[op]].price_ms for op in BUILT_IN.slot_ops(slot, primitive)
                )
    nominal = nominal_table(own)
    priced = tuple(replace(price, price_ms=ms) for price, ms in zip(nominal.prices, prices, strict=True))
    same = replace(nominal, prices=priced, base_ms=built_in.base_ms)
    assert compare(built_in, same)["own.macro.apart_worst_percent"].value == pytest.approx(0.0, abs=1e-9)
    slower = replace(same, base_ms=built_in.base_ms + 1.0)
    assert compare(built_in, slower)["own.macro.apart_percent"].value > 0.1


def test_kernel_prices_have_the_bars_and_candidates_prices_stand_beside():
    error = dict.fromkeys([*BARS, "within_10_percent"], 1.0) | {"networks": 20}
    table = {"kernels": {"held_out": error}, "held_out": {**error, "mape_percent": 3.0}, "networks": [{}] * 60}
    found = table_figures("own.vgg", table, 93.0, {"seconds": "<= 90"})
    assert found["own.vgg.mape_percent"].reached
    assert found["own.vgg.networks"].reached
    assert found["own.vgg.seconds"].reached is False
    assert (found["own.vgg.ops.mape_percent"].value, found["own.vgg.ops.mape_percent"].bar) == (3.0, None)


def test_a_budget_that_was_not_met_is_a_result():
    rungs = [{"met": met, "target_ms": 2.0, "measured_ms": ms} for met, ms in ((True, 1.0), (False, 2.2))]
    found = budget_figures("own.vgg", rungs)
    assert (found["own.vgg.met"].value, found["own.vgg.met"].n, found["own.vgg.met"].reached) == (1, 2, False)
    assert found["own.vgg.use"].value == pytest.approx(0.8)


def test_errors_of_predictions_are_relative_to_what_was_measured():
    assert set(predicted.NAMES) <= set(NETWORKS)
    found = predicted.figures({"a": (1.02, 1.1), "b": (1.9, 1.95)}, {"a": 1.0, "b": 2.0}, seconds=3.0)
    values = {name.removeprefix("own.predict_latency."): figure.value for name, figure in found.items()}
    assert values == pytest.approx({"mape_percent": 3.5, "worst_percent": 5.0, "bounds_broken": 1, "seconds": 3.0})
