"""The best of several searches for a budget, by a short training of each one's pick."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from search.cli import main
from search.data import splits
from search.deploy import choice
from search.family.build import build_family
from search.family.family import load_family
from search.process.progress import SilentProgress
from search.process.threads_and_memory import single_threaded_workers
from search.retraining.finetune import TuningSettings
from search.retraining.pilot import LEAST_JUDGED, hold_out, pilot
from search.runs.run_directory import DeviceRun, RunDirectory, on_device, write_value
from search.supernet import Network
from search.training.training import Trainer
from shared.errors import InvalidValue
from shared.spaces import Genotype, make_space
from tests.search.family.conftest import SETTINGS, make_table

CONV, NONE = "nor_conv_3x3", "none"
WIDE = make_space("nas-bench-201", resolution=16, channels=8, depth=1, image_channels=1)


@pytest.fixture(scope="module")
def wider(digits, config_of, tmp_path_factory):
    """The folder of a slower search in twice the channels, with another seed."""
    table = replace(make_table(WIDE), base_ms=0.3)
    config = config_of(table, digits, warmup_steps=25, search_steps=15, batch_size=32, alpha_batch_size=16, seed=1)
    run = RunDirectory.create(tmp_path_factory.mktemp("wider") / "wide run", config, table)
    assert Trainer(run, digits).train(SilentProgress())
    build_family(on_device(run), SilentProgress(), SETTINGS)
    return run.path


def test_the_most_accurate_of_each_search_are_named_the_best_first(finished, wider, capsys):
    asked = ["choose", "--run", str(finished), str(wider), "--max-latency-ms", "10", "--epochs", "3"]
    assert main([*asked, "--json"]) == 0
    best, other = json.loads(capsys.readouterr().out)
    assert {best["run"], other["run"]} == {str(finished), str(wider)}
    assert best["accuracy"] >= other["accuracy"] > 10
    assert (best["is_best"], other["is_best"]) == (True, False)
    assert main(asked) == 0
    printed = capsys.readouterr().out
    quoted = f"'{wider}'" if best["run"] == str(wider) else str(finished)
    assert f"10 ms: search train --run {quoted} --genotype '{best['network']}'\n" in printed


def test_a_network_for_a_smaller_budget_may_be_the_best_for_a_larger_one(finished, monkeypatch, capsys):
    def by_size(runs, places, epochs, progress):
        """The smaller the better, as if the ranking were wrong."""
        return [1e4 - runs[0].space.parameter_count(genotype) for _, genotype in places]

    monkeypatch.setattr(choice, "_judge", by_size)
    run = on_device(RunDirectory.open(finished))
    bounds = sorted(each.upper_ms for each in load_family(run).members)
    asked = ["choose", "--run", str(finished), "--max-latency-ms", str(bounds[-1]), str(bounds[3]), "--json"]
    assert main([*asked, "--networks", "2"]) == 0
    small, large = json.loads(capsys.readouterr().out)
    assert (small["target_ms"], large["target_ms"]) == (bounds[3], bounds[-1])
    assert small["network"] == large["network"]
    assert main([*asked, "--networks", "1"]) == 2
    assert "nothing to choose between" in capsys.readouterr().err
    assert main([*asked, "--networks", "0"]) == 2
    assert "networks: 0 is not 1 or more" in capsys.readouterr().err


def test_each_search_trains_its_picks_with_its_own_loss(finished, wider, monkeypatch):
    asked = []

    def recorded(networks, images, held_out, settings, pool, loss, advance):
        asked.append((len(networks), loss))
        return [len(asked)] * len(networks)

    monkeypatch.setattr(choice, "pilot", recorded)
    monkeypatch.setattr(DeviceRun, "loss", property(lambda run: run.config.seed))
    runs = [on_device(RunDirectory.open(path)) for path in (finished, wider)]
    assert [run.config.seed for run in runs] == [0, 1]
    first, second = (load_family(run).members for run in runs)
    places = [(1, second[0].genotype), (0, first[0].genotype), (1, second[1].genotype)]
    assert choice._judge(runs, places, 1.0, SilentProgress()) == [2, 1, 2]
    assert asked == [(1, 0), (2, 1)]


def test_a_budget_that_one_search_alone_meets_needs_no_training(finished, wider, capsys):
    smallest_ms = {
        path: min(candidate.upper_ms for candidate in load_family(on_device(RunDirectory.open(path))).candidates)
        for path in (finished, wider)
    }
    (fast, fast_ms), (_, slow_ms) = sorted(smallest_ms.items(), key=lambda item: item[1])
    assert fast_ms < slow_ms
    budget_ms = (fast_ms + slow_ms) / 2
    asked = ["--max-latency-ms", str(budget_ms), "--networks", "1", "--json"]
    assert main(["choose", "--run", str(finished), str(wider), *asked]) == 0
    (only,) = json.loads(capsys.readouterr().out)
    assert (only["run"], only["accuracy"], only["is_best"]) == (str(fast), None, True)
    assert main(["choose", "--run", str(finished), str(wider), "--max-latency-ms", "0.001"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the fastest needs" in error


def test_runs_that_cannot_be_compared_are_refused_in_one_line(finished, wider, tmp_path, capsys):
    def refused(*folders):
        assert main(["choose", "--run", *map(str, folders), "--max-latency-ms", "10"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "holds no run" in refused(finished, tmp_path)
    shutil.copytree(wider, tmp_path / "others")
    config = RunDirectory.open(tmp_path / "others").config
    write_value(tmp_path / "others" / "config.json", replace(config, data_fingerprint="0" * 64))
    assert "other images" in refused(finished, tmp_path / "others")


def test_images_that_judge_train_neither_the_searches_nor_the_picks(digits):
    held_out = hold_out(digits, seeds=(0, 1))
    both = torch.cat([held_out.tuning, held_out.judged])
    assert both.sort().values.equal(torch.arange(len(digits.train_labels)))
    for seed in (0, 1):
        assert not set(held_out.judged.tolist()) & set(splits(digits, seed).train.tolist())
    few = replace(
        digits, train_images=digits.train_images[:LEAST_JUDGED], train_labels=digits.train_labels[:LEAST_JUDGED]
    )
    with pytest.raises(InvalidValue, match="no search was trained on"):
        hold_out(few, seeds=range(9))


def test_a_pilot_judges_by_the_images_held_out(digits):
    """Their labels are shifted: what learns the others well then judges badly."""
    held_out = hold_out(digits, seeds=(0,))
    labels = digits.train_labels.clone()
    labels[held_out.judged] = (labels[held_out.judged] + 1) % 10
    torch.manual_seed(0)
    network = Network(WIDE, Genotype((CONV, NONE, CONV, NONE, NONE, CONV)))
    with single_threaded_workers(2) as pool:
        (right,) = pilot([network], digits, held_out, TuningSettings(4.0), pool)
        (wrong,) = pilot([network], replace(digits, train_labels=labels), held_out, TuningSettings(1.0), pool)
    assert right > 60
    assert wrong < 20
