import json
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from torch import nn

from benchmarks.by_hand import by_hand, own_images, small_resnets
from benchmarks.by_hand.by_hand import Effort, Point, judge
from benchmarks.by_hand.networks import LADDERS, SIDE, SIZES, Rung
from benchmarks.demo import SPACE
from benchmarks.judging import from_random_weights
from profiler_agent.timing.stopping import Preset
from search.data import load_images
from search.deploy.choice import Contender
from search.deploy.hand_made import load_hand_made
from shared.spaces import make_space


@pytest.mark.parametrize(
    ("rung", "parameters"),
    [(Rung("resnet", 16, 3), 0.27e6), (Rung("mobilenet_v2", 1, 1), 2.24e6), (Rung("shufflenet_v2", 116, 1), 1.26e6)],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_network_of_the_papers_size_has_the_papers_number_of_parameters(rung, parameters):
    counted = sum(parameter.numel() for parameter in rung.build().parameters())
    assert counted == pytest.approx(parameters, rel=0.015)


@pytest.mark.parametrize("family", SIZES)
def test_a_ladder_rises_and_its_first_rung_is_exported(family):
    rungs = [rung for rung in LADDERS if rung.family == family]
    counts = [sum(parameter.numel() for parameter in rung.build().parameters()) for rung in rungs]
    assert counts == sorted(set(counts))
    session = onnxruntime.InferenceSession(rungs[0].export(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: np.ones((1, 3, SIDE, SIDE), np.float32)})
    assert logits.shape == (1, 10)
    assert np.isfinite(logits).all()


def test_a_member_is_compared_with_the_most_accurate_network_that_its_budget_allows():
    points = [
        Point("vgg-w8-d1", None, 0.2, (80.0, 82.0)),
        Point("resnet-w8-d1", None, 0.5, (90.0, 90.0)),
        Point("a", 0.3, 0.25, (84.0, 84.0)),
        Point("b", 0.6, 0.65, (89.5, 88.5)),
        Point("c", 0.9, 0.8, (89.0, 90.8)),
    ]
    found = {name.removeprefix("by_hand.digits."): figure for name, figure in judge("digits", points).items()}
    assert found["gain"].value == pytest.approx((3.0 - 1.0 - 0.1) / 3)
    assert found["gain"].spread == "-1.00 to +3.00"
    assert found["behind"].value == 1, "b by more than the spread; c within it"
    assert (found["met"].value, found["seeds"].value) == (2, 2)


def test_drawn_images_are_the_same_each_time_and_search_reads_them(tmp_path):
    for name in ("once", "again"):
        own_images.draw_images(tmp_path / name, training=8, test=2)
    once, again = (load_images(f"folder:{tmp_path / name}", own_images.SIDE, 3) for name in ("once", "again"))
    assert once.preprocessing.class_names == own_images.KINDS
    assert (len(once.train_labels), len(once.test_labels)) == (40, 10)
    assert once.fingerprint == again.fingerprint
    assert once.train_images.float().std(dim=(1, 2, 3)).min() > 20, "no image is empty"


def test_mobilenets_for_drawn_images_rise_and_are_exported():
    counts = [sum(weight.numel() for weight in network.build().parameters()) for network in own_images.LADDER[:3]]
    assert counts == sorted(set(counts))
    session = onnxruntime.InferenceSession(own_images.LADDER[0].export(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: np.ones((1, 3, 96, 96), np.float32)})
    assert logits.shape == (1, len(own_images.KINDS))


def test_small_resnets_of_the_demo_fit_its_space():
    networks = load_hand_made(f"{small_resnets.__file__}:make_networks", SPACE)
    counts = [sum(weight.numel() for weight in network.parameters()) for network in networks.values()]
    assert len(counts) == len(small_resnets.WIDTHS)
    assert counts == sorted(set(counts))


def test_an_accuracy_is_kept_for_its_layers_and_recipe_alone(tmp_path):
    images = load_images("digits", 8, 1, None)

    def lines_of(width, epochs=0.05):
        def build():
            return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

        lines = []
        from_random_weights.train(images, {"same name": build}, epochs, 1, tmp_path / "kept.json", lines.append)
        return lines

    assert [len(lines) for lines in (lines_of(8), lines_of(8), lines_of(12), lines_of(8, 0.1))] == [1, 0, 1, 1]
    assert not lines_of(8), "and what other layers and recipes found has not replaced it"


def test_a_choice_is_kept_also_where_a_run_has_no_network_within_any_budget(tmp_path, monkeypatch):
    spaces = [make_space("mobile", resolution=32, channels=channels, depth=2) for channels in (8, 12)]
    asked, network = [], spaces[0].format(spaces[0].fastest())

    def choose(runs, pickers, budgets_ms, epochs, told):
        asked.append(budgets_ms)
        return [Contender(budget_ms, str(runs[0].path), network, 1.0, 1.0, is_best=True) for budget_ms in budgets_ms]

    monkeypatch.setattr(by_hand, "choose", choose)
    monkeypatch.setattr(by_hand, "Picker", lambda run, count_kernels: None)
    monkeypatch.setattr(
        by_hand,
        "_search",
        lambda space, *others: SimpleNamespace(path=tmp_path / str(space.channels), space=space, load_images=list),
    )
    effort = Effort(folder=tmp_path, spaces=spaces)
    for budgets_ms in ([1.0, 2.0], [1.0, 2.0], [1.0, 3.0]):
        members, _ = by_hand.pick([None, None], budgets_ms, effort, lambda line: None)
        assert members == [(spaces[0], spaces[0].fastest())] * 2
    assert asked == [[1.0, 2.0], [1.0, 3.0]]


@pytest.mark.slow
def test_the_benchmark_runs_to_its_end_with_the_real_agent_and_is_not_measured_twice(tmp_path, monkeypatch):
    few = {"warmup_steps": 3, "search_steps": 3, "alpha_every": 2, "batch_size": 8, "alpha_batch_size": 8}
    effort = Effort(
        folder=tmp_path,
        spaces=[make_space("mobile", resolution=32, channels=channels, depth=2) for channels in (8, 12)],
        ladders=[Rung("resnet", 8, 1), Rung("vgg", 8, 1), Rung("mobilenet_v2", 0.25, 0.25), Rung("resnet", 64, 3)],
        data_set=("digits", "digits", None),
        points=tmp_path / "points.json",
        profile=("--preset", "quick", "--calibration", "8", "--held-out", "6"),
        settings={**few, "search_resolution": 8, "precision": "fp32"},
        pilot_epochs=0.2,
        epochs=0.2,
        preset=Preset("test", 1.0, 3, 3, 1.0),
    )
    found = by_hand.run(lambda line: None, seeds=2, effort=effort)
    assert found["by_hand.digits.gain"].n == by_hand.BUDGETS
    assert found["by_hand.digits.seeds"].value == 2
    points = json.loads((tmp_path / "points.json").read_text())["digits"]
    assert len(points) == 3 + by_hand.BUDGETS, "and not the network that no budget allows"
    assert all(point["measured_ms"] > 0 and len(point["accuracies"]) == 2 for point in points)
    for module, name in ((by_hand, "measure_models"), (by_hand, "choose"), (from_random_weights, "tune")):
        monkeypatch.setattr(module, name, None)
    assert by_hand.run(lambda line: None, seeds=2, effort=effort) == found
