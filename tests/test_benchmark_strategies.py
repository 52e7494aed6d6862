"""The comparison of strategies by a truth, with a made-up truth."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from benchmarks.judging import from_random_weights, nas_bench_macro_truth
from benchmarks.judging.this_machine import get_table, measure_ms, with_cells
from benchmarks.search.nas_bench_201_truth import Truth
from benchmarks.search.speed import nominal_table
from benchmarks.strategies import dca_ablation, retrained, searches
from benchmarks.strategies import ground as grounds
from benchmarks.strategies.ground import GROUNDS, Ground, Landscape
from benchmarks.strategies.published import NAS_BENCH_201
from benchmarks.strategies.searches import Plan, Searched, hand_over, on_every_device, search_device
from benchmarks.strategies.strategies import (
    CHANCE,
    Handed,
    costs,
    figures,
    get_latencies_ms,
    judge,
    relative_hypervolume,
)
from profiler_agent.timing.stopping import PRESETS
from search.ranking.scoring import ScoringSettings
from search.strategies import STRATEGIES, Proposal, parse_strategy
from shared.errors import InvalidValue
from shared.spaces import Genotype, make_space

SPACE = make_space("nas-bench-201", resolution=8, channels=4, depth=1)
WHOLE = make_space("nas-bench-201", resolution=8, channels=4, depth=2)
SETTINGS = {
    "search_resolution": 8,
    "warmup_steps": 2,
    "search_steps": 3,
    "alpha_every": 2,
    "batch_size": 8,
    "alpha_batch_size": 8,
    "threads": 1,
    "whole_space": 0,
}
FEW = {
    "fbnet": "fbnet:rounds=1",
    "proxylessnas": "proxylessnas:rounds=1",
    "dca-nas": "dca-nas:runs=1,graph_points=2",
    "nsga2": "nsga2:population=4",
}
FIVE = Landscape(np.arange(5.0), np.array([0.0, 85.0, 90.0, 95.0, 100.0]), (1.0, 2.0, 3.0))
"""Five networks, a millisecond apart."""


def board_table(space):
    return replace(nominal_table(space), device="board")


@cache
def made_up_ground() -> Ground:
    """A board that is as fast as its table says, and networks that are better the slower they are."""
    names = SPACE.slots[0].primitives
    genotypes = [Genotype(choices) for choices in itertools.product(names, repeat=len(SPACE.slots))]
    table = board_table(WHOLE)
    latency_ms = np.array([table.predict(g).mean_ms if WHOLE.is_connected(g) else table.base_ms for g in genotypes])
    connected = np.array([WHOLE.is_connected(genotype) for genotype in genotypes])
    error = np.where(connected, 50 / (1 + latency_ms), 90.0)
    truth = Truth(
        {SPACE.format(genotype): place for place, genotype in enumerate(genotypes)},
        {"cifar10": error, "cifar100": np.minimum(error + 20, 99)},
        {"board": latency_ms},
    )
    return Ground(
        name="made_up",
        space=SPACE,
        dataset="digits",
        make_data_dir=lambda: None,
        look=ScoringSettings(untrained_depth=2),
        whole_space=WHOLE,
        truth=truth,
        make_tables=lambda seed: [with_cells(table, SPACE)],
        published=NAS_BENCH_201,
    )


@pytest.fixture(scope="module")
def ground():
    return made_up_ground()


def test_a_table_of_whole_networks_prices_networks_of_fewer_cells_alike():
    table = with_cells(board_table(WHOLE), SPACE)
    assert table.parsed_space == SPACE
    for choices in (("nor_conv_3x3",) * 6, ("none", "skip_connect", "avg_pool_3x3", *["nor_conv_1x1"] * 3)):
        for confidence in (0.5, 0.99):
            few, whole = (t.predict(Genotype(choices)) for t in (table, board_table(WHOLE)))
            assert few.upper_ms(confidence) == pytest.approx(whole.upper_ms(confidence))


def test_budgets_are_quartiles_of_the_truth_and_the_front_rises(ground):
    board = ground.landscape("board", None)
    low, middle, high = board.budgets_ms
    share = np.mean(ground.truth.latency_ms["board"][ground.truth.learns("cifar10")] <= middle)
    assert low < middle < high
    assert share == pytest.approx(0.5, abs=0.05)
    assert ground.landscape("here", board_table(WHOLE)).budgets_ms == pytest.approx((low, middle, high))
    front = board.front
    assert front == sorted(front)
    assert [accuracy for _, accuracy in front] == sorted({accuracy for _, accuracy in front})


def test_the_hypervolume_is_one_for_the_front_and_less_for_a_part_of_it(ground):
    board = ground.landscape("board", None)
    best = list(map(board.best_within, board.budgets_ms))
    volumes = [board.relative_hypervolume(networks) for networks in (board.front, best, best[:2])]
    assert volumes == sorted(volumes, reverse=True)
    assert volumes[0] == pytest.approx(1)
    assert board.relative_hypervolume([(ms, accuracy - 1) for ms, accuracy in best]) < volumes[1]
    with pytest.raises(InvalidValue, match="1 network of the same latency"):
        Landscape(np.ones(1), np.ones(1), (1.0,)).relative_hypervolume([(1.0, 1.0)])
    slowest_and_worst = (board.latency_ms.max(), board.accuracy.min())
    assert board.relative_hypervolume([slowest_and_worst]) == board.relative_hypervolume([]) == 0


def test_macro_has_the_mean_of_its_trainings_and_budgets_of_this_machine_alone(monkeypatch, tmp_path):
    space = nas_bench_macro_truth.SPACE
    folder = tmp_path / "nas_bench_macro"
    folder.mkdir()
    genotypes = [Genotype(choices) for choices in itertools.product(*(slot.primitives for slot in space.slots))]
    rows = [f"{space.format(genotype)},{number / 100},{number / 100 + 1},{number / 100 + 2}"
            for number, genotype in enumerate(genotypes)]  # fmt: skip
    (folder / nas_bench_macro_truth.FILE).write_text("\n".join([",".join(nas_bench_macro_truth.COLUMNS), *rows]))
    monkeypatch.setattr(grounds, "DATA", tmp_path)
    ground = GROUNDS["nbmacro"]()
    assert ground.accuracies(space.format(genotypes[700])) == {"cifar10": pytest.approx(8.0)}
    low, middle, high = ground.landscape(grounds.HERE, board_table(space)).budgets_ms
    assert low < middle < high
    assert list(ground.make_tables(0)) == []


@pytest.fixture
def comparison(ground, tmp_path):
    plan = Plan(devices=("board",), settings=SETTINGS, evaluations=6, runs=tmp_path)
    (table,) = ground.make_tables(0)
    return searches.begin(ground, plan, "board", table, ground.landscape("board", None).budgets_ms, 0)


def test_each_kind_of_strategy_hands_over_by_its_own_rule(ground, comparison):
    fast, slow = SPACE.fastest(), Genotype(("nor_conv_3x3",) * 6)
    names = {genotype: SPACE.format(genotype) for genotype in (fast, slow)}
    low, middle, high = comparison.budgets_ms
    ranked = [Proposal(fast, derived=False, rank=2.0), Proposal(slow, derived=False, rank=1.0)]
    assert hand_over("random", ranked, comparison) == {"random": (names[fast],) * 3}  # the slow net breaks them all
    assert hand_over("darts", [Proposal(slow)], comparison) == {"darts": (names[slow],) * 3}
    assert hand_over("gdas", [], comparison) == {"gdas": (None,) * 3}
    two = [Proposal(slow, low), *(Proposal(fast, budget_ms, derived=False) for budget_ms in (low, middle, high))]
    assert hand_over("fbnet", two, comparison) == {
        "fbnet": (names[slow], None, None),
        "fbnet.decoded": (names[fast],) * 3,
    }


def test_figures_say_accuracy_latency_budgets_kept_and_what_papers_publish(ground):
    landscapes = {"board": FIVE}
    name = next(iter(ground.truth.place))

    def handed(strategy, seed, budget_ms, latency_ms, accuracy):
        genotype = None if accuracy == CHANCE["cifar10"] else name
        return Handed("board", strategy, seed, budget_ms, genotype, latency_ms, {"cifar10": accuracy, "cifar100": 50.0})

    networks = [
        *(handed("gdas", seed, ms, 1.5, 90.0 + seed) for seed in (0, 1) for ms in (1.0, 2.0, 3.0)),
        *(handed("darts", 0, ms, 0.0, CHANCE["cifar10"]) for ms in (1.0, 2.0, 3.0)),
    ]
    searched = [Searched("board", "gdas", seed, 10.0, 640, 1.0) for seed in (0, 1)]
    searched.append(Searched("board", "nsga2", 0, failure="pymoo is away"))
    found = {key.removeprefix("strategies.made_up."): figure for key, figure in
             figures(ground, searched, networks, landscapes).items()}  # fmt: skip
    assert found["board.gdas.budget_1"].value == 90.5
    assert found["board.gdas.budget_1"].spread == "0.71; 1.5 of 1 ms, 0 of 2 kept"
    assert found["gdas.budgets_kept"].value == pytest.approx(200 / 3)
    assert found["board.possible.budget_2"].value == 90
    assert found["gdas.hypervolume"].value == pytest.approx(2.5 * 90.5 / (3 * 85 + 2 * 5 + 1 * 5))
    assert found["gdas.hypervolume_80"].value == pytest.approx(2.5 * 10.5 / (3 * 5 + 2 * 5 + 1 * 5))
    assert found["darts.hypervolume"].value == 0
    assert found["gdas.cifar10"].spread == "0.71; published 93.61"
    assert found["gdas.seconds"].value == 10
    assert found["board.darts.budget_3"].value == found["darts.cifar10"].value == 10
    assert found["board.darts.budget_3"].spread == "0 of 3 ms, 0 of 1 kept, 1 not connected"
    # Seed 0 has 90 for two of the budgets, seed 1 has 91. At 1.5 ms both break the first, and have 10.
    assert found["gdas.shortfall"].value == pytest.approx((85 - 10 + 90 - 90.5 + 95 - 90.5) / 3)
    assert found["published.dca-nas"].value == 94.32
    assert found["failures"].spread == "nsga2 on board, seed 0"


def test_a_device_whose_search_failed_is_in_no_mean():
    own = [Handed("board", "gdas", 0, 2.0, "x", 1.0, {"cifar10": 85.0})]
    assert relative_hypervolume({"board": FIVE, "phone": FIVE}, None, own) == [pytest.approx(3 * 85 / 270)]


def test_a_strategy_that_fails_is_a_line_and_the_others_go_on(comparison, capsys):
    failed = searches.search(comparison, "board", "dca-nas", "dca-nas:bottleneck=0", 0)
    assert failed.failure == "dca-nas:bottleneck: 0 is not 1 or more"
    assert failed.networks == {}
    assert capsys.readouterr().err.splitlines()[-1] == f"seed 0: board, dca-nas:bottleneck=0: {failed.failure}"


def test_every_strategy_comes_to_its_end_and_is_judged(monkeypatch, tmp_path, write_images):
    write_images(tmp_path / "images" / "cifar-10-batches-bin")  # as they are in no place where a search looks
    ground = replace(made_up_ground(), dataset="cifar-10", make_data_dir=lambda: tmp_path / "images")
    monkeypatch.setitem(GROUNDS, "made_up", lambda: ground)
    plan = Plan(
        {name: FEW.get(name, name) for name in STRATEGIES}, ("board",), 1, SETTINGS, evaluations=6, runs=tmp_path
    )
    searched = list(search_device("made_up", plan, (0, "board")).values())
    assert [search.failure for search in searched] == [None] * len(STRATEGIES)
    landscapes = searches.get_landscapes(ground, plan)
    handed = judge(ground, searched, landscapes, get_latencies_ms(ground, plan, searched, lambda line: None))
    for network in handed:
        if network.genotype is not None:
            assert network.latency_ms == pytest.approx(
                board_table(WHOLE).predict(SPACE.parse(network.genotype)).mean_ms
            )
            if network.strategy.endswith(".decoded") or network.strategy in ("dartscc", "random"):
                assert network.kept  # the truth is the table, without any error
    found = figures(ground, searched, handed, landscapes)
    assert all(found[f"strategies.made_up.{name}.seconds"].value > 0 for name in STRATEGIES)
    assert list(search_device("made_up", plan, (0, "board")).values()) == searched  # read, not searched again


def test_a_strategy_that_knows_no_device_is_searched_once_for_all():
    plan = Plan({"darts": "darts", "random": "random"}, ("board", "phone"), 1)
    searched = {
        (0, "board"): {name: Searched("board", name, 0, 9.0) for name in plan.strategies},
        (0, "phone"): {"random": Searched("phone", "random", 0, 5.0)},
    }
    every = on_every_device(plan, searched)
    assert [costs(every, name)["seconds"].n for name in plan.strategies] == [1, 2]
    assert [costs(every, name)["seconds"].value for name in plan.strategies] == [9, 7]
    found = [(each.device, each.strategy, each.seconds) for each in every]
    assert found == [
        ("board", "darts", 9.0), ("board", "random", 9.0), ("phone", "darts", 9.0), ("phone", "random", 5.0),
    ]  # fmt: skip


def test_without_a_truth_networks_are_trained_and_judged_among_each_other(monkeypatch, tmp_path):
    space = make_space("darts", resolution=8, channels=4, depth=3, image_channels=1)
    table = replace(nominal_table(space), device="here")
    measured = []

    def measure(table, names, folder, preset):
        measured.extend(names)
        return {name: table.predict(space.parse(name)).mean_ms for name in names}

    monkeypatch.setattr(retrained, "get_table", lambda space, folder, options: table)
    monkeypatch.setattr(retrained, "measure_ms", measure)
    labels = ("darts", "random", "nsga2")
    monkeypatch.setattr(retrained, "TOGETHER", (labels[:1], labels[1:]))
    monkeypatch.setattr(retrained, "in_parallel", lambda search, jobs: list(map(search, jobs)))
    known = replace(retrained.KNOWN, space=space, dataset="digits")
    plan = Plan({name: FEW.get(name, name) for name in labels}, ("here",), 2, SETTINGS, evaluations=6, runs=tmp_path)
    kept = tmp_path / "networks.json", tmp_path / "trained.json"
    found = retrained.compare(known, plan, lambda line: None, *kept, epochs=0.2)
    assert found["strategies.darts.failures"].value == 0
    names = {name.removeprefix("strategies.darts.") for name in found}
    assert {f"here.{label}.budget_{number}" for label in labels for number in (1, 2, 3)} < names
    assert found["strategies.darts.random.budgets_kept"].value == 100  # the truth is the table, without any error
    networks = json.loads(kept[0].read_text())["networks"]
    assert set(measured) == {network["genotype"] for network in networks}
    accuracies = {network["genotype"]: network["accuracy"] for network in networks}
    assert len(json.loads(kept[1].read_text())["numbers"]) == len(accuracies)  # each was trained once
    assert all(0 < accuracy["fashion_mnist"] <= 100 for accuracy in accuracies.values())
    best = max(n["accuracy"]["fashion_mnist"] for n in networks if n["latency_ms"] <= networks[0]["budget_ms"])
    assert found["strategies.darts.here.possible.budget_1"].value == best
    monkeypatch.setattr(from_random_weights, "tune", None)
    assert retrained.compare(known, plan, lambda line: None, *kept, epochs=0.2) == found  # read, not trained again


def test_every_strategy_has_a_process():
    assert sorted(label for labels in retrained.TOGETHER for label in labels) == sorted(STRATEGIES)


def test_variants_of_dca_nas_differ_in_a_component_and_cost_less_with_it():
    names = ("shares_sources", "derives_cells", "bottleneck", "constrains")
    options = {name: parse_strategy(text).strategy for name, text in dca_ablation.VARIANTS.items()}
    values = {name: [getattr(settings, field) for field in names] for name, settings in options.items()}
    assert [sum(a != b for a, b in zip(values["full"], own, strict=True)) for own in values.values()] == [
        0,
        1,
        1,
        1,
        1,
        4,
    ]
    space = make_space("darts", resolution=32, channels=16, depth=3)
    seconds = {name: min(dca_ablation.time_gradients(dca_ablation.VARIANTS[name], space)) for name in ("full", "darts")}
    assert seconds["full"] < 0.7 * seconds["darts"]


@pytest.mark.parametrize(
    ("name", "truth", "damage"),
    [
        ("strategies", "nas_bench_201", "missing"),
        ("strategies", "nas_bench_201", "damaged"),
        ("strategies_macro", "nas_bench_macro", "missing"),
    ],
)
def test_a_truth_that_is_missing_or_damaged_is_one_line(name, truth, damage, tmp_path):
    folder = tmp_path / truth
    folder.mkdir()
    if damage == "damaged":
        (folder / "latency_ms.csv").write_text("architecture,raspi4\nx,1\n")
        (folder / "accuracy_200_epochs.csv").write_text("architecture,cifar10_test_accuracy\ny,90\n")
    command = [sys.executable, "-m", "benchmarks", name]
    ran = subprocess.run(
        command, env={**os.environ, "LUTNAS_DATA": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    assert str(folder) in line
    assert line.startswith(f"{name}: ")


@pytest.mark.slow
def test_this_machine_is_profiled_once_and_measures_networks_near_its_table(tmp_path):
    table = get_table(WHOLE, tmp_path, ("--preset", "quick", "--calibration", "12", "--held-out", "4"))
    assert get_table(WHOLE, tmp_path) == table
    names = [WHOLE.format(Genotype((primitive,) * 6)) for primitive in ("skip_connect", "nor_conv_3x3")]
    measured = measure_ms(table, names, tmp_path, PRESETS["quick"])
    assert measured == measure_ms(table, names, tmp_path)
    for name, ms in measured.items():
        assert ms == pytest.approx(table.predict(WHOLE.parse(name)).mean_ms, rel=0.4)
