import csv
import io
import itertools
import os
import random
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import DataMissing
from benchmarks.judging.code_identity import identify
from benchmarks.judging.families import CURVES, SCORING, STRATEGIES, TRAINING, Found, forget_scores_of
from benchmarks.search.cifar10_jpeg import write_cifar10
from benchmarks.search.nas_bench_201 import figures, judge_family, picked, unseen_gap
from benchmarks.search.nas_bench_201_search import SPACE
from benchmarks.search.nas_bench_201_truth import (
    budgets_ms,
    has_whole_milliseconds,
    judge,
    load_truth,
    relative_hypervolume,
)
from benchmarks.search.stopwatch import Stopwatch, read_minutes, write_minutes
from search.data import load_images
from search.family.family import Member
from shared.errors import CorruptFile

NAMES = tuple(
    f"|{op}~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    for op in ("skip_connect", "nor_conv_1x1", "avg_pool_3x3", "nor_conv_3x3", "none")
)
_, SMALL, MIDDLE, LARGE, _ = NAMES
ACCURACY = (10.0, 70.0, 85.0, 95.0, 60.0)
LATENCY_MS = (0.5, 1.0, 2.0, 5.0, 5.5)


@pytest.fixture
def folder(tmp_path):
    write(
        tmp_path / "accuracy_200_epochs.csv", *[f"{d}_test_accuracy" for d in ("cifar10", "cifar100", "imagenet16_120")]
    )
    write(tmp_path / "latency_ms.csv", "board", "phone")
    return tmp_path


def write(path, *columns):
    values = {"board": LATENCY_MS, "phone": [round(ms + 0.6) for ms in LATENCY_MS]}
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["architecture", *columns])
        rows.writerows([name, *(values.get(c, ACCURACY)[i] for c in columns)] for i, name in enumerate(NAMES))


@pytest.fixture
def truth(folder):
    return load_truth(folder)


def test_all_architectures_together_reach_one_and_chance_takes_no_part(truth):
    assert relative_hypervolume(truth, "board", "cifar10", NAMES) == 1
    assert not truth.learns("cifar10")[0]
    assert relative_hypervolume(truth, "board", "cifar10", NAMES[1:]) == 1


def test_axes_run_over_the_architectures_that_learn(truth):
    # Error 5 to 40 %, latency 1 to 5.5 ms; the front is small, middle, large.
    small = (1 - 0) * (1 - 25 / 35)
    middle = (1 - 1 / 4.5) * (1 - 10 / 35)
    both = small + (1 - 1 / 4.5) * (15 / 35)
    everything = both + (1 - 4 / 4.5) * (10 / 35)
    assert relative_hypervolume(truth, "board", "cifar10", [SMALL]) == pytest.approx(small / everything)
    assert relative_hypervolume(truth, "board", "cifar10", [MIDDLE]) == pytest.approx(middle / everything)
    assert relative_hypervolume(truth, "board", "cifar10", [MIDDLE, SMALL]) == pytest.approx(both / everything)


def test_cut_axis_gives_nothing_for_what_lies_beyond(truth):
    assert relative_hypervolume(truth, "board", "cifar10", [SMALL], worst_error=20.0) == 0
    assert relative_hypervolume(truth, "board", "cifar10", [MIDDLE, LARGE], worst_error=20.0) == pytest.approx(1)


def test_rung_says_how_far_from_the_best_possible_and_whether_the_budget_was_kept(truth):
    assert judge(truth, "board", 2.5, SMALL).gap == pytest.approx(15)
    assert judge(truth, "board", 2.5, MIDDLE).gap == pytest.approx(0)
    assert judge(truth, "board", 2.5, MIDDLE).met
    broken = judge(truth, "board", 2.5, LARGE)
    assert not broken.met
    assert broken.gap == pytest.approx(-10)


def test_budgets_lie_within_the_latencies_of_what_learns(truth):
    lowest, *_, highest = budgets_ms(truth, "board", 6)
    assert 1.0 < lowest < highest < 5.5


def test_rounded_devices_are_known(truth):
    assert [has_whole_milliseconds(truth, device) for device in truth.devices] == [False, True]


def test_files_of_different_architectures_are_refused(folder):
    path = folder / "latency_ms.csv"
    path.write_text(path.read_text().replace(MIDDLE, "other"))
    with pytest.raises(CorruptFile, match="not of the same architectures"):
        load_truth(folder)


@pytest.mark.parametrize("name", ["accuracy_200_epochs.csv", "latency_ms.csv"])
def test_a_missing_or_damaged_file_of_the_truth_is_a_line(folder, name):
    path = folder / name
    content = path.read_text()
    for damaged in (
        "",
        content.replace("architecture", "name"),
        content.replace(",", ",x"),
        content[:-9],
        content + '"' + 200_000 * "1",
    ):
        path.write_text(damaged)
        with pytest.raises(CorruptFile, match=f"{folder} is damaged"):
            load_truth(folder)
    path.unlink()
    with pytest.raises(DataMissing, match=f"{name} cannot be read"):
        load_truth(folder)


def member(name, upper_ms, rank):
    return Member(
        SPACE.parse(name), 0.9 * upper_ms, upper_ms, 10, 10, nll=1.0, expressivity=1.0, rank=rank, accuracy=50.0
    )


BOTH = (member(SMALL, 1.2, 9.0), member(LARGE, 5.4, 1.0))
FOUND = Found(7, BOTH, BOTH)


def test_pick_is_the_best_ranked_whose_bound_keeps_the_budget():
    assert [picked(FOUND, ms) for ms in (1.0, 1.3, 5.0, 6.0)] == [[], [SMALL], [SMALL], [LARGE]]


def test_family_is_judged_by_members_and_budgets_by_picks(truth):
    judged = judge_family(truth, "board", FOUND)
    assert (judged.members, judged.connected, judged.evaluations) == (2, 2, 7)
    assert judged.hypervolume == pytest.approx(relative_hypervolume(truth, "board", "cifar10", [SMALL, LARGE]))
    assert judged.refused + len(judged.ladder_gaps) == 6
    assert judged.budgets_met == 1
    assert max(judged.ladder_gaps) == pytest.approx(25)  # `small` where `large` would have kept the budget


def test_bar_of_a_margin_is_its_spread_over_seeds(truth):
    other = Found(7, BOTH[:1], BOTH[:1])
    better, worse = judge_family(truth, "board", FOUND), judge_family(truth, "board", other)

    def seed(margin_is_positive):
        random_one, found = (worse, better) if margin_is_positive else (better, worse)
        names = ("whole", "nsga2", "parameters", "random_score")
        return {"dartscc": {"board": found}, "random": {"board": random_one}, **{n: {"board": better} for n in names}}

    steady = figures([seed(True)] * 3, ["board"], [1.0] * 3)["search.nb201.margin_random"]
    assert steady.value > 0
    assert steady.reached
    mixed = figures([seed(True), seed(False), seed(False)], ["board"], [1.0] * 3)["search.nb201.margin_random"]
    assert mixed.value < 0
    assert not mixed.reached


def test_unseen_devices_lose_what_the_same_devices_have_in_the_run(truth):
    better, worse = (judge_family(truth, "board", Found(7, members, members)) for members in (BOTH, BOTH[:1]))
    gap = unseen_gap({"board": worse}, {"board": better, "phone": better})
    assert gap.value == pytest.approx(better.hypervolume - worse.hypervolume)
    assert gap.n == 1
    assert not gap.reached
    assert unseen_gap({"board": better}, {"board": better}).reached


def test_a_run_is_known_by_what_trains_it_and_scores_by_what_scores_them():
    trained, scored = identify(TRAINING), identify(SCORING)
    assert trained == identify(TRAINING)
    assert len({trained, scored, identify(TRAINING, b"other latencies"), identify(SCORING, b"")}) == 4


def test_scores_of_other_code_are_forgotten_and_what_was_trained_stays(tmp_path):
    run = SimpleNamespace(path=tmp_path)
    (tmp_path / "scores.json").write_text("{}")
    (tmp_path / "checkpoint.pt").write_text("trained")
    write_minutes(tmp_path, {"training": 8.0, "scoring": 6.0})
    forget_scores_of(run, "this code")
    assert not (tmp_path / "scores.json").exists()
    assert (tmp_path / "checkpoint.pt").exists()
    assert read_minutes(tmp_path) == {"training": 8.0}
    (tmp_path / "scores.json").write_text("{}")
    forget_scores_of(run, "this code")
    assert (tmp_path / "scores.json").exists()


WATCHED_SEARCH = """
import sys
opened = []
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
from pathlib import Path
import benchmarks.search.nas_bench_201_search as searching
from benchmarks.judging import families
from search.process.progress import SilentProgress
from shared.spaces import make_space

folder, space = Path(sys.argv[1]), make_space("nas-bench-201", resolution=32, channels=4, depth=1)
tables = searching.fit_tables(folder / "latency_ms.csv", 0, fitted=40, space=space)
few = {"warmup_steps": 3, "search_steps": 3, "alpha_every": 2, "batch_size": 8, "alpha_batch_size": 8, "whole_space": 0}
settings = {**families.SETTINGS, "search_resolution": 8, "precision": "fp32", **few}
run = families.train(tables, folder, folder / "run", 0, SilentProgress(), settings)
result = families.find_families(run, searching.LOOK, SilentProgress(), (26, 40))
for device, of_device in result.devices.items():
    for strategy, found in of_device.families.items():
        print("found", device, strategy, found.evaluations, len(found.members), len(found.front))
    for strategy, curve in of_device.curves.items():
        print("curve", device, strategy, *(found.evaluations for found in curve.values()))
assert any(name.endswith("latency_ms.csv") for name in opened)
print("accuracies", *(name for name in opened if "accuracy" in name))
print("judges", *(name for name in sys.modules if "truth" in name))
"""


def write_latencies(path, space):
    draws, price_ms = random.Random(0), {"nor_conv_3x3": 5.0, "nor_conv_1x1": 1.0, "avg_pool_3x3": 2.0}
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["architecture", "board", "phone"])
        for genotype in sorted({space.sample(draws) for _ in range(300)}):
            live = [genotype.choices[slot] for slot in space.live_slots(genotype)]
            rows.writerow([space.format(genotype), 3 + sum(price_ms.get(op, 0.1) for op in live), 1 + len(live)])


def test_searches_open_no_file_of_accuracies_and_import_nothing_that_does(tmp_path, write_images):
    write_latencies(tmp_path / "latency_ms.csv", SPACE)
    write_images(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "accuracy_200_epochs.csv").write_text("not to be read")
    watched = [sys.executable, "-c", WATCHED_SEARCH, str(tmp_path)]
    fresh = subprocess.run(
        watched, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert fresh.returncode == 0, fresh.stderr
    lines = [line.split() for line in fresh.stdout.splitlines()]
    assert lines[-2:] == [["accuracies"], ["judges"]]
    found, curves = (
        {
            (device, strategy): tuple(map(int, counts))
            for kind, device, strategy, *counts in lines[:-2]
            if kind == wanted
        }
        for wanted in ("found", "curve")
    )
    assert found.keys() == set(itertools.product(("board", "phone"), STRATEGIES))
    assert curves == dict.fromkeys(itertools.product(("board", "phone"), CURVES), (26, 40))
    for device in ("board", "phone"):
        asked = [found[device, strategy][0] for strategy in ("dartscc", "random", "nsga2")]
        assert max(asked) == min(asked) > 24
        assert found[device, "parameters"][0] == found[device, "random_score"][0] == 0


def test_jpeg_copy_becomes_a_data_set_that_search_reads(tmp_path):
    shades = {"train": range(0, 200, 2), "test": range(1, 40, 2)}
    for split, levels in shades.items():
        files = [io.BytesIO() for _ in levels]
        for file, level in zip(files, levels, strict=True):
            Image.new("RGB", (32, 32), (level, level, level)).save(file, "JPEG", quality=100)
        content = [file.getvalue() for file in files]
        np.savez(
            tmp_path / f"cifar10_{split}_jpeg.npz",
            blob=np.frombuffer(b"".join(content), np.uint8),
            offsets=np.cumsum([0, *map(len, content)]),
            labels=np.array([level % 10 for level in levels], np.uint8),
            classes=np.array([f"class {number}" for number in range(10)]),
        )
    folder = write_cifar10(tmp_path, tmp_path / "out")
    images = load_images("cifar-10", 32, 3, folder)
    assert images.train_images.shape == (100, 3, 32, 32)
    assert images.test_images.shape == (20, 3, 32, 32)
    levels = images.train_images[:, 0, 0, 0].int()
    assert sorted(levels.tolist()) == list(shades["train"])
    assert levels.tolist() != list(shades["train"])
    assert torch.equal(levels % 10, images.train_labels.int())
    before = (folder / "cifar-10-batches-bin" / "test_batch.bin").stat().st_mtime_ns
    assert write_cifar10(tmp_path, tmp_path / "out") == folder
    assert (folder / "cifar-10-batches-bin" / "test_batch.bin").stat().st_mtime_ns == before


def test_missing_copy_is_said_with_its_path(tmp_path):
    with pytest.raises(DataMissing, match="cifar10_train_jpeg"):
        write_cifar10(tmp_path, tmp_path / "out")


def test_minutes_add_up_over_starts_and_parts(tmp_path):
    for part, minutes in (("training", 3.0), ("scoring", 2.0), ("training", 4.0)):
        watch = Stopwatch(tmp_path, part)
        watch._started_s -= 60 * minutes
        watch._written_s -= 60 * minutes
        assert not watch.tick()
    assert read_minutes(tmp_path) == {"training": pytest.approx(7, abs=0.01), "scoring": pytest.approx(2, abs=0.01)}
