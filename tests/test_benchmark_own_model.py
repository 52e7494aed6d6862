import random
from dataclasses import replace

import pytest

from benchmarks.foreign.networks import NETWORKS
from benchmarks.own_model import predicted
from benchmarks.own_model.macro_beside import BUILT_IN, compare, measure_rates, to_built_in, to_own
from benchmarks.own_model.macro_share import as_table_of, share_figures
from benchmarks.own_model.own_model import MODELS, budget_figures, draw_further, error_figures, judge
from benchmarks.search.speed import nominal_table
from profiler_agent.kernels.kernels import count_kernels
from profiler_agent.ort.sessions import local_runtime
from search.own_model.examine import examine
from search.own_model.model_file import load_model
from shared.kernels.kernel import parse_kernel
from shared.spaces import Genotype
from shared.spaces.op_key import Shape
from shared.spaces.primitives import parameter_count
from shared.tables.held_out_error import HeldOutError
from shared.tables.kernel_prices import FamilyCost, KernelPrice, KernelPrices
from shared.tables.table import NetworkCheck

ERROR = HeldOutError(20, 1.0, 100.0, 100.0, 0.98, 95.0, 2.0)

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
    same = as_table_of(own, built_in)
    assert compare(built_in, same)["own.macro.apart_worst_percent"].value == pytest.approx(0.0, abs=1e-9)
    genotype = BUILT_IN.sample(random.Random(1))
    assert to_built_in(to_own(genotype)) == genotype
    assert same.predict(to_own(genotype)).upper_ms() == pytest.approx(built_in.predict(genotype).upper_ms())
    slower = replace(same, base_ms=built_in.base_ms + 1.0)
    assert compare(built_in, slower)["own.macro.apart_percent"].value > 0.1


def test_further_networks_are_judged_by_kernels_and_by_candidates_and_none_of_the_campaign_is_among_them():
    own = examine(load_model(f"{MODELS / 'vgg'}.py:make_model"), Shape(3, 32, 32))
    drawn = draw_further(own, nominal_table(own.space))
    checks = [NetworkCheck(own.space.format(genotype), "held_out", 1.0, 1.0, 1.0) for genotype in drawn]
    base = KernelPrices(0.1, (), (), (1.0,), ((0.0,),), 0.01, 0.3, replace(ERROR, mape_percent=1.5))
    table = replace(nominal_table(own.space), kernels=base, networks=tuple(checks))
    further = draw_further(own, table)
    assert len(set(further)) == len(further) == len(drawn)
    assert not set(further) & set(drawn)

    models = {genotype: own.export(genotype) for genotype in further[:2]}
    counts = [count_kernels("network", model, local_runtime()) for model in models.values()]
    kernels = sorted(set().union(*counts))
    families = tuple(FamilyCost(name, 0, 0, 0) for name in sorted({parse_kernel(each).family for each in kernels}))
    size = 1 + 3 * len(families) + len(kernels)
    prices = tuple(KernelPrice(kernel, 0.01) for kernel in kernels)
    priced = replace(base, families=families, prices=prices, prior_sd_ms=(0.0,) * size, known=((0.0,),) * size)
    table = replace(table, kernels=priced)
    measured_ms = [0.1 + 0.01 * sum(each.values()) for each in counts]
    by_kernels, by_candidates = judge(table, models, measured_ms)
    assert by_kernels.mape_percent == pytest.approx(0.0, abs=1e-9)
    assert by_candidates.mape_percent > 1

    found = error_figures("own.vgg", table, replace(ERROR, kendall_tau=0.9), replace(ERROR, mape_percent=3.0))
    assert found["own.vgg.mape_percent"].reached
    assert found["own.vgg.kendall_tau"].reached is False
    assert (found["own.vgg.ops.mape_percent"].value, found["own.vgg.ops.mape_percent"].bar) == (3.0, None)
    assert found["own.vgg.published.mape_percent"].value == 1.5


def test_a_share_of_the_model_is_behind_by_what_seeds_differ():
    level = share_figures([0.5, 0.6, 0.7], [0.4, 0.5, 0.9])
    assert level["own.macro.share_behind"].value == pytest.approx(0.0, abs=1e-9)
    behind = share_figures([0.5, 0.5, 0.6], [0.8, 0.8, 0.8])["own.macro.share_behind"]
    assert (behind.reached, behind.value) == (False, pytest.approx(4.62, abs=0.01))
    assert share_figures([0.9, 0.8], [0.1, 0.1])["own.macro.share_behind"].reached
    assert "own.macro.share_behind" not in share_figures([0.1], [0.9])


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
