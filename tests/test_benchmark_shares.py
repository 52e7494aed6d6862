"""The figures of both truths, and NAS-Bench-Macro's."""

import csv
import itertools
import math
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest

from benchmarks import DataMissing
from benchmarks.__main__ import main
from benchmarks.judging import nas_bench_macro, shares
from benchmarks.judging.families import DeviceResult, find, ranked_by
from benchmarks.judging.nas_bench_macro_search import Effort
from benchmarks.judging.nas_bench_macro_truth import FILE, load_truth
from benchmarks.report import Figure
from search.family.family import Member
from shared.errors import CorruptFile, InvalidValue
from shared.spaces import make_space

SPACE = make_space("nas-bench-macro", channels=4, depth=2)
DATA = Path(os.environ.get("LUTNAS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "nas_bench_macro"
GENOTYPES = tuple(SPACE.parse("".join(digits)) for digits in itertools.product("012", repeat=len(SPACE.slots)))
PRICES_MS = {"identity": 0.0, "k3_e3": 1.0, "k5_e6": 2.5}


def everything(values, latencies_ms=None):
    """All networks of the space with these scores; the highest is best."""
    members = []
    for index, genotype in enumerate(GENOTYPES):
        ms = sum(PRICES_MS[choice] for choice in genotype.choices) + 0.001 * index
        members.append(Member(genotype, ms, 1.1 * ms, 10, 10, nll=1.0, expressivity=1.0, rank=1.0, accuracy=1.0))
    return ranked_by(members, -np.asarray(values, dtype=float))


def accuracies(seed=0):
    """An additive truth with some noise, 60 to 90 %."""
    gain, noise = {"identity": 0.0, "k3_e3": 4.0, "k5_e6": 5.0}, np.random.default_rng(seed).normal(size=len(GENOTYPES))
    return np.array([60 + sum(map(gain.__getitem__, g.choices)) for g in GENOTYPES]) + noise


@pytest.fixture
def volume():
    latency_ms = np.array([member.predicted_ms for member in everything(accuracies())])
    plane = shares.Plane(latency_ms, 100 - accuracies())
    return lambda networks: plane.relative_hypervolume(np.array([GENOTYPES.index(network) for network in networks]))


def by_brute_force(points):
    """Cell by cell of the grid that the points themselves draw."""
    xs, ys = (sorted({*(p[axis] for p in points if p[axis] < 1), 1.0}) for axis in (0, 1))
    return sum(
        (x1 - x0) * (y1 - y0)
        for (x0, x1), (y0, y1) in itertools.product(itertools.pairwise(xs), itertools.pairwise(ys))
        if any(px <= x0 and py <= y0 for px, py in points)
    )


@pytest.mark.parametrize("seed", range(5))
def test_hypervolume_is_the_area_that_points_dominate(seed):
    points = np.random.default_rng(seed).uniform(0, 1.3, (12, 2))
    assert shares.hypervolume(points) == pytest.approx(by_brute_force(points.tolist()))


def test_hypervolume_of_nothing_inside_is_nothing():
    assert shares.hypervolume(np.array([[1.0, 0.2], [0.3, 1.0], [2.0, 2.0]])) == 0


def result_of(scores):
    """A device on which every strategy found the family of these scores."""
    members = everything(scores)
    found = find(members, len(members))
    names = ("whole", "dartscc", "random", "nsga2", "parameters")
    return DeviceResult(tuple(members), dict.fromkeys(names, found), {"dartscc": {30: found}})


def test_true_scores_have_share_1_random_scores_0_and_worse_than_luck_is_below(volume):
    scale = shares.make_scale(everything(accuracies()), -accuracies(), volume, seed=0)
    judged = {name: shares.judge(result_of(scores), scale, volume) for name, scores in (
        ("truth", accuracies()), ("opposite", -accuracies())
    )}  # fmt: skip
    assert judged["truth"]["share"] == judged["truth"]["curve.dartscc.30"] == pytest.approx(1, abs=0.05)
    assert judged["truth"]["true_accuracy.hv_mean"] == scale.best > scale.luck
    assert judged["opposite"]["share"] < 0
    draws = np.random.default_rng(9)
    lucky = [shares.judge(result_of(draws.random(len(GENOTYPES))), scale, volume)["dartscc.share"] for _ in range(30)]
    assert fmean(lucky) == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize("seed", range(5))
def test_the_top_of_the_scale_is_above_a_family_of_true_ranks(seed):
    """Ranks of a long front are thinned in equal steps, whatever each step is worth in accuracy."""
    ms = np.random.default_rng(seed).uniform(1, 30, len(GENOTYPES))
    members = [replace(member, predicted_ms=at, upper_ms=at) for member, at in zip(everything(ms), ms, strict=True)]
    error = 40 / np.sqrt(ms) + np.random.default_rng(seed).exponential(0.5, len(ms))
    plane = shares.Plane(ms, error)

    def volume(networks):
        return plane.relative_hypervolume(np.array([GENOTYPES.index(network) for network in networks]))

    best = shares.make_scale(members, error, volume, seed=0).best
    by_ranks = volume([member.genotype for member in find(ranked_by(members, error), 0).members])
    assert by_ranks < best <= 1


def test_a_share_grows_with_what_the_scores_know(volume):
    scale = shares.make_scale(everything(accuracies()), -accuracies(), volume, seed=0)
    noise = np.random.default_rng(1).normal(size=len(GENOTYPES))
    found = [shares.judge(result_of(accuracies() + much * noise), scale, volume)["share"] for much in (0.5, 5, 50)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.8


def test_agreement_is_1_with_itself_and_over_the_better_half_alone_where_only_that_is_known():
    truth = accuracies()
    told = shares.agree(SPACE, everything(truth), truth)
    assert told["tau.ranking"] == told["tau_half.ranking"] == told["tau.likelihood"] == 1
    assert told["tau.expressivity"] == 0  # the same for all networks
    assert told["tau.additive_fit"] > told["tau.depth"] > 0.5
    assert "tau.another_training" not in told
    better = truth >= np.median(truth)
    told = shares.agree(SPACE, everything(np.where(better, truth, -truth)), truth)
    assert told["tau_half.ranking"] == 1
    assert told["tau.ranking"] < 0.6


def test_one_training_agrees_with_another_as_far_as_noise_lets_it():
    trainings = np.array([accuracies(seed) for seed in range(3)])
    told = shares.agree(SPACE, everything(trainings[0]), trainings.mean(axis=0), trainings)
    assert 0.5 < told["tau_half.another_training"] < told["tau.another_training"] < 1
    same = shares.agree(SPACE, everything(trainings[0]), trainings[0], trainings[[0, 0]])
    assert same["tau.another_training"] == 1


def test_a_ranking_without_a_score_is_said_with_its_network():
    members = everything(accuracies())
    members[5] = Member(**{**vars(members[5]), "rank": math.nan})
    with pytest.raises(InvalidValue, match="ranking: has no score for 00012: score it anew"):
        shares.agree(SPACE, members, accuracies())


def test_a_network_that_diverged_has_the_last_likelihood():
    members = [
        Member(**{**vars(m), "nll": 100 - a}) for m, a in zip(everything(accuracies()), accuracies(), strict=True)
    ]
    whole = shares.agree(SPACE, members, accuracies())["tau.likelihood"]
    best = int(accuracies().argmax())
    members[best] = Member(**{**vars(members[best]), "nll": math.nan})
    assert 0.95 < shares.agree(SPACE, members, accuracies())["tau.likelihood"] < whole == 1


def test_a_single_network_has_nothing_to_judge():
    with pytest.raises(InvalidValue, match="1 network of the same latency"):
        shares.Plane(np.array([2.0]), np.array([20.0]))
    with pytest.raises(InvalidValue, match="1 network of nas-bench-macro has no order"):
        shares.agree(SPACE, everything(accuracies())[:1], accuracies()[:1])
    few = everything(accuracies())[:2]
    with pytest.raises(InvalidValue, match="no better than luck"):
        shares.make_scale(few, [1.0, 2.0], lambda networks: 1.0, seed=0)


def test_figures_are_means_over_seeds_and_each_seed_is_kept(tmp_path):
    seeds = {0: {"share": 0.5, "tau.ranking": 0.7}, 3: {"share": 0.7, "tau.ranking": 0.7}}
    found = shares.figures("search.x", list(seeds.values()), {"share": ">= .8"})
    assert found["search.x.share"] == Figure(value=fmean([0.5, 0.7]), n=2, spread=stdev([0.5, 0.7]), bar=">= .8")
    assert found["search.x.tau.ranking"].spread == 0
    shares.record(tmp_path / "seeds.json", seeds)
    assert '"3": {\n  "share": 0.7' in (tmp_path / "seeds.json").read_text()
    assert shares.over_devices([{"share": 0.5}, {"share": 0.7}]) == {"share": pytest.approx(0.6)}


def test_a_search_is_ahead_of_chance_by_more_than_its_seeds_differ():
    few, many = {"curve.dartscc.100": 0.7, "curve.random.100": 0.4}, {"curve.dartscc.300": 0.9, "curve.random.300": 0.8}
    found = shares.figures("x", [few | many, few | many | {"curve.dartscc.100": 0.8}], {})
    assert found["x.ahead.100"].value == pytest.approx(0.35)
    assert found["x.ahead.100"].bar == ">= 0.07071"
    assert found["x.ahead.300"].value == pytest.approx(0.1)
    assert (found["x.ahead.100_of_300"].value, found["x.ahead.100_of_300"].bar) == (pytest.approx(-0.05), ">= 0")


def write_truth(folder, values=None):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["architecture", *(f"test_accuracy_{n}" for n in (1, 2, 3)), "parameters"])
        for index, genotype in enumerate(GENOTYPES):
            rows.writerow([SPACE.format(genotype), *(f"{accuracies(seed)[index]:.2f}" for seed in range(3)), 7])
    return folder


def test_a_truth_gives_each_networks_trainings_in_any_order(tmp_path):
    truth = load_truth(write_truth(tmp_path), SPACE)
    some = random.Random(0).sample(GENOTYPES, 5)
    expected = [[round(accuracies(seed)[GENOTYPES.index(g)], 2) for g in some] for seed in range(3)]
    assert truth.of(some).tolist() == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("test_accuracy_2", "accuracy", "no column test_accuracy_2"),
        ("\n00001,", "\n00003,", r"line 3: genotype: '00003' is not 5 digits"),
        ("\n00001,", "\n00000,", r"line 3: 00000 is there twice"),
        ("\n00001,", "\n00001,x", r"line 3: accuracy: 'x[0-9.]+' is not a percentage"),
        ("\n00001,", "\n00001,nan,", r"line 3: accuracy: 'nan' is not a percentage"),
        ("\n00001,", "\n00001,1", r"is not a percentage"),
        ("\n00001,", f'\n"{200_000 * "1"}', r"line [0-9]+: field larger than field limit"),
    ],
)
def test_a_damaged_truth_is_said_with_its_line(tmp_path, before, after, words):
    path = write_truth(tmp_path) / FILE
    path.write_text(path.read_text().replace("\r\n", "\n").replace(before, after, 1))
    with pytest.raises(CorruptFile, match=words):
        load_truth(tmp_path, SPACE)


def test_a_truth_that_was_cut_short_says_how_much_is_there(tmp_path):
    path = write_truth(tmp_path) / FILE
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:100]))
    with pytest.raises(CorruptFile, match="has 99 of the 243 networks"):
        load_truth(tmp_path, SPACE)
    path.unlink()
    with pytest.raises(DataMissing, match="LUTNAS_DATA"):
        load_truth(tmp_path, SPACE)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nas_bench_macro"], 1, "nas_bench_macro: "),
        (["foreign", "--seeds", "2"], 2, "foreign has no seeds: leave --seeds out"),
    ],
)
def test_a_benchmark_that_cannot_run_says_so_in_a_line(arguments, code, words, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(nas_bench_macro, "Effort", lambda: Effort(data=tmp_path))
    assert main(arguments) == code
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not there (LUTNAS_DATA names its folder)")
def test_the_published_accuracies_agree_with_depth_and_one_another_as_was_found_elsewhere():
    space = make_space("nas-bench-macro")
    truth = load_truth(DATA)
    genotypes = list(truth.place)
    members = [
        Member(g, 1.0, 1.0, space.parameter_count(g), space.multiply_adds(g), 1.0, 1.0, 1.0, 1.0) for g in genotypes
    ]
    trainings = truth.of(genotypes)
    told = shares.agree(space, members, trainings.mean(axis=0), trainings)
    for name, both in {
        "parameters": (0.22, 0.12),
        "multiply_adds": (0.56, 0.38),
        "depth": (0.69, 0.45),
        "additive_fit": (0.89, 0.79),
        "another_training": (0.88, 0.70),
    }.items():
        assert (told[f"tau.{name}"], told[f"tau_half.{name}"]) == pytest.approx(both, abs=0.006)


def test_a_search_imports_no_truth():
    code = "import sys, benchmarks.judging.nas_bench_macro_search; print(*(n for n in sys.modules if 'truth' in n))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.slow
def test_the_benchmark_runs_to_its_end_on_a_small_space_with_the_real_agent(tmp_path, write_images):
    write_truth(tmp_path / "nas_bench_macro")
    write_images(tmp_path / "runs" / "cifar10_jpeg" / "cifar-10-batches-bin")
    few = {"warmup_steps": 3, "search_steps": 3, "alpha_every": 2, "batch_size": 8, "alpha_batch_size": 8, "threads": 1}
    effort = Effort(
        data=tmp_path,
        folder=tmp_path / "runs",
        space=SPACE,
        profile=("--preset", "quick", "--calibration", "8", "--held-out", "6"),
        settings={"search_resolution": 8, **few},
        counts=(30, 60),
    )
    parts = tmp_path / "seeds.json"
    found = nas_bench_macro.run(lambda line: None, seeds=2, effort=effort, parts=parts)
    again = nas_bench_macro.run(lambda line: None, seeds=2, effort=effort, parts=parts)
    assert {name: figure for name, figure in again.items() if not name.endswith("minutes")} == {
        name: figure for name, figure in found.items() if not name.endswith("minutes")
    }
    assert found["search.nbmacro.share"].n == 2
    assert found["search.nbmacro.table.mape_percent"].n == 6
    assert {f"search.nbmacro.curve.{s}.{n}" for s in ("dartscc", "random", "nsga2") for n in (30, 60)} <= found.keys()
    assert all(-2 < found[f"search.nbmacro.{name}"].value <= 1.2 for name in ("share", "dartscc.share", "random.share"))
