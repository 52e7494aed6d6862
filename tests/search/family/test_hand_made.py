import json

import onnxruntime
import pytest
import torch
from rich.console import Console
from torch import nn

from search.commands.ladder import default_budgets, ladder_table
from search.deploy.export import onnx_accuracy
from search.deploy.hand_made import HandMade, best_within, find_hand_made, load_hand_made
from search.deploy.ladder import LADDER_FILE, LadderBuilder, find_ladder
from search.process.progress import SilentProgress
from search.report import build_report
from search.retraining.finetune import TuningSettings
from shared.errors import CorruptFile, InvalidValue
from shared.jobs import Verification

NETWORKS = """
from torch import nn

def network(width):
    layers = nn.Conv2d(1, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(16 * width, 10))

def make_networks():
    return {"narrow": network(8), "wide": network(64)}

def make_none():
    return {}

def make_list():
    return [network(8)]

def make_path():
    return {"../narrow": network(8)}

def make_number():
    return {"narrow": 3}

def make_colour():
    return {"narrow": nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten())}

def make_features():
    return {"narrow": nn.Flatten()}

def make_pair():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x
    return {"narrow": Pair()}

def make_nothing():
    raise RuntimeError("no weights here")
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("by_hand") / "networks_by_hand.py"
    path.write_text(NETWORKS)
    return str(path)


class Device:
    """Stands for the agent: members keep their promise, `wide` is beyond every budget, `narrow` below them."""

    def __init__(self):
        self.measured = []

    def __call__(self, content, promise):
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.measured.append(promise.genotype)
        factor = {"narrow": 0.01, "wide": 1.5}.get(promise.genotype, 1.0)
        measured_ms = factor * promise.predicted_ms
        return Verification(measured_ms, measured_ms, measured_ms, measured_ms, 1.0, factor <= 1, True, ())


def climb(run, file, budgets_ms, epochs=2.0):
    device, tuning = Device(), TuningSettings(epochs=epochs, recalibration_images=256)
    hand_made = load_hand_made(f"{file}:make_networks", run.space) if file else None
    builder = LadderBuilder(run, device, tuning, SilentProgress(), hand_made=hand_made)
    return builder.build(budgets_ms), builder.hand_made, device


def test_networks_made_by_hand_are_measured_and_those_within_a_budget_trained_like_the_members(run, digits, file):
    rungs, (narrow, wide), device = climb(run, file, default_budgets(run, 2))
    assert device.measured[:2] == ["narrow", "wide"], "once each: latency does not depend on weights"
    assert device.measured.count("narrow") == device.measured.count("wide") == 1
    assert (narrow.name, wide.name) == ("narrow", "wide")
    assert (wide.accuracy, wide.onnx) == (None, None), "no budget allows it"
    content = (run.path / narrow.onnx).read_bytes()
    assert onnx_accuracy(content, digits, batch=1) == narrow.accuracy
    assert narrow.accuracy > 50, "it has learnt, from random weights"
    assert narrow.parameters == sum(
        weight.numel() for weight in load_hand_made(f"{file}:make_networks", run.space)["narrow"].parameters()
    )
    assert find_hand_made(run.path) == [narrow, wide]
    assert find_ladder(run.path / LADDER_FILE, run.space) == rungs


def test_table_and_report_show_the_best_within_each_budget(run, file):
    rungs, hand_made, _ = climb(run, file, default_budgets(run, 2), epochs=0.5)
    console = Console(width=120, record=True)
    console.print(ladder_table(rungs, hand_made))
    printed, report = console.export_text(), build_report(run)
    narrow = hand_made[0]
    assert printed.count(f"{narrow.accuracy:.2f} %") >= 2
    assert report.count(f"{narrow.accuracy:.2f} %, narrow") == 2
    assert "made by hand" in report


def test_name_of_a_member_s_file_takes_no_member_s_place(run, file):
    budgets_ms, tuning = default_budgets(run, 1), TuningSettings(epochs=0.0, recalibration_images=256)
    narrow = load_hand_made(f"{file}:make_networks", run.space)["narrow"]

    def measure(content, promise):
        return Verification(promise.predicted_ms, 1.0, 1.0, 1.0, 1.0, True, True, ())

    builder = LadderBuilder(run, measure, tuning, SilentProgress(), hand_made={"member-01": narrow})
    (rung,) = builder.build(budgets_ms)
    assert rung.onnx == "models/member-01.onnx"
    assert (run.path / rung.onnx).read_bytes() != (run.path / builder.hand_made[0].onnx).read_bytes()


def test_no_network_made_by_hand_is_measured_once_time_is_up(run, file):
    device, tuning = Device(), TuningSettings(epochs=0.0, recalibration_images=256)
    hand_made = load_hand_made(f"{file}:make_networks", run.space)
    builder = LadderBuilder(run, device, tuning, SilentProgress(), seconds=0.0, hand_made=hand_made)
    assert builder.build(default_budgets(run, 1))[0].onnx is not None
    assert builder.hand_made == []
    assert not {"narrow", "wide"} & set(device.measured)


def test_ladder_without_them_forgets_those_of_an_earlier_ladder(run, file):
    budgets_ms = default_budgets(run, 1)
    climb(run, file, budgets_ms, epochs=0.0)
    rungs, hand_made, _ = climb(run, None, budgets_ms, epochs=0.0)
    assert hand_made == find_hand_made(run.path) == []
    assert "by hand" not in [column.header for column in ladder_table(rungs).columns]
    assert "made by hand" not in build_report(run)


def test_best_within_a_budget_is_the_most_accurate_and_not_the_slowest():
    few = [HandMade("a", 1.0, 5, 80.0), HandMade("b", 2.0, 5, 90.0), HandMade("c", 3.0, 5, 85.0), HandMade("d", 1.0, 5)]
    assert [best and best.name for best in (best_within(few, ms) for ms in (0.5, 1.0, 2.5, 9.0))] == [
        None,
        "a",
        "b",
        "b",
    ]


def test_weights_of_networks_made_by_hand_are_the_same_each_time_and_take_no_random_number(run, file):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    once, again = (load_hand_made(f"{file}:make_networks", run.space) for _ in range(2))
    assert torch.rand(1) == expected
    assert all(torch.equal(a, b) for a, b in zip(once["wide"].parameters(), again["wide"].parameters(), strict=True))
    assert all(isinstance(network, nn.Module) and network.training for network in once.values())


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("make_absent", "has no function make_absent"),
        ("make_none", "make_none of .* returns no dict of 1 to 100 networks"),
        ("make_list", "make_list of .* returns no dict"),
        ("make_path", "'../narrow' names no file"),
        ("make_number", "narrow is a int, no nn.Module"),
        ("make_colour", r"RuntimeError: .*expected input"),
        ("make_features", r"narrow gives \(2, 256\) for images \(2, 1, 16, 16\), not \(2, 10\)"),
        ("make_pair", "narrow gives tuple for images"),
        ("make_nothing", r"line \d+ \(raise RuntimeError.*no weights here"),
    ],
)
def test_file_that_makes_no_networks_for_the_space_is_refused_in_one_line(run, file, function, says):
    with pytest.raises(InvalidValue, match=says) as refused:
        load_hand_made(f"{file}:{function}", run.space)
    assert str(refused.value).startswith("beside")
    assert "\n" not in str(refused.value)


def test_damaged_file_of_hand_made_networks_is_named(run):
    (run.path / "hand_made.json").write_text(json.dumps([{"name": 3}]))
    with pytest.raises(CorruptFile, match=r"hand_made\.json is damaged"):
        find_hand_made(run.path)
