import pytest

from benchmarks.judging import families, from_random_weights
from benchmarks.search import darts_retrained
from benchmarks.search.speed import nominal_table
from search.family.build import build_families
from search.family.family import FamilySettings, load_family
from search.latency.latency_model import LatencyModel
from search.process.progress import SilentProgress
from search.runs.run_directory import on_device
from shared.spaces import make_space
from tests.test_benchmark_strategies import SETTINGS

SPACE = make_space("darts", resolution=8, channels=4, depth=3, image_channels=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "search"
    run = families.train([nominal_table(SPACE)], None, folder, 0, SilentProgress(), SETTINGS, "digits")
    build_families(run, SilentProgress(), FamilySettings(candidates=24))
    return run


def test_every_kind_keeps_the_budgets_and_each_network_is_trained_once(run, monkeypatch, tmp_path):
    monkeypatch.setattr(darts_retrained, "get_run", lambda progress: run)
    monkeypatch.setattr(darts_retrained, "KEPT", tmp_path / "retrained.json")
    view, trained = on_device(run), []
    handed = darts_retrained.hand_over(view, load_family(view))
    budgets_ms = [row.budget_ms for row in handed]
    assert budgets_ms == sorted(set(budgets_ms))
    assert len(handed) == darts_retrained.BUDGETS
    for kind in darts_retrained.KINDS:
        bounds_ms = LatencyModel(view.table).upper_ms([row.networks[kind] for row in handed], view.config.confidence)
        assert (bounds_ms <= budgets_ms).all()
    found = darts_retrained.run(trained.append, seeds=2, epochs=0.05)
    networks = {row.networks[kind] for row in handed for kind in darts_retrained.KINDS}
    assert len(trained) == 2 * len(networks)
    monkeypatch.setattr(from_random_weights, "tune", None)
    assert darts_retrained.run(trained.append, seeds=2, epochs=0.05) == found


def test_gains_are_means_over_budgets():
    rows = [
        {"dartscc": (90.0, 92.0), "random": (90.0, 90.0), "drawn": (80.0, 82.0)},
        {"dartscc": (94.0, 94.0), "random": (94.5, 94.5), "drawn": (84.0, 84.0)},
    ]
    found = {name.rpartition("retrained.")[2]: figure for name, figure in darts_retrained.figures(rows).items()}
    assert (found["gain_over_random"].value, found["gain_over_drawn"].value) == (0.25, 10)
    assert found["gain_over_random"].spread == "1.06; -0.50 to +1.00"
    assert (found["dartscc.accuracy"].value, found["seeds"].value) == (92.5, 2)
