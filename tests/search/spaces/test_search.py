"""Whole searches in `darts`, `fbnet` and `nas-bench-macro`, a few steps long, on real images."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from search.deploy.export import export, onnx_accuracy
from search.family.build import build_family
from search.family.family import FamilySettings, Picker
from search.family.pareto import find_front
from search.process.progress import SilentProgress
from search.report import build_report
from search.retraining.finetune import TuningImages, TuningSettings, accuracy_on_test_images, tune
from search.runs.run_directory import RunDirectory, on_device
from search.training.training import Trainer
from shared.errors import BudgetTooSmall
from shared.spaces import IndependentSlots


def state(trainer):
    tensors = {f"w.{name}": value for name, value in trainer.supernet.state_dict().items()}
    tensors |= {f"a.{name}": value for name, value in trainer.hypernetwork.state_dict().items()}
    for kind, optimizer in (("w", trainer.weight_optimizer), ("a", trainer.alpha_optimizer)):
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"{kind}.{index}.{k}": v for k, v in values.items() if isinstance(v, torch.Tensor)}
    return tensors


def test_a_stopped_search_resumes_bit_equal_and_threads_change_nothing(tmp_path, space, table_of, config_of, digits):
    table, stop = table_of(space), 5
    config = config_of(table, digits)
    whole = Trainer(RunDirectory.create(tmp_path / "whole", config, table), digits)
    assert whole.train(SilentProgress())
    first = Trainer(RunDirectory.create(tmp_path / "parts", config, table), digits)
    assert not first.train(SilentProgress(), lambda: first.step >= stop)
    second = Trainer(RunDirectory.open(tmp_path / "parts"), digits)
    assert second.step == stop
    assert second.train(SilentProgress())
    expected, other = state(whole), state(second)
    assert expected.keys() == other.keys()
    assert [name for name, value in expected.items() if not torch.equal(value, other[name])] == []
    threaded = Trainer(RunDirectory.create(tmp_path / "two", replace(config, threads=2), table), digits)
    threaded.train(SilentProgress())
    assert all(torch.equal(value, expected[name]) for name, value in state(threaded).items())


def test_a_search_ends_in_a_family_a_pick_and_a_file_that_does_what_torch_does(
    tmp_path, space, table_of, config_of, digits
):
    table = table_of(space)
    run = on_device(RunDirectory.create(tmp_path / "run", config_of(table, digits), table))
    trainer = Trainer(run, digits)
    trainer.train(SilentProgress())
    family = build_family(run, SilentProgress(), FamilySettings(trade_offs=2, budgets=16, candidates=48))
    smallest = min(family.members, key=lambda member: member.upper_ms)
    fastest = smallest.genotype
    assert smallest.upper_ms == pytest.approx(min(candidate.upper_ms for candidate in family.candidates))
    assert len({candidate.genotype for candidate in family.candidates}) == 48
    assert len(family.random_candidates) == 48
    assert len({member.genotype for member in family.members}) >= 10
    in_cells = not isinstance(space, IndependentSlots)
    assert all((candidate.expressivity > 0) == in_cells for candidate in family.candidates)
    assert all(a.predicted_ms <= b.predicted_ms for a, b in pairwise(family.members))
    front = find_front(family.members)
    assert all(a.predicted_ms < b.predicted_ms and a.rank > b.rank for a, b in pairwise(front))
    picker = Picker(run)
    for share in (0.1, 0.6):
        budget_ms = (1 - share) * family.budgets_ms[0] + share * family.budgets_ms[-1]
        assert picker.pick(budget_ms).best.upper_ms <= budget_ms
    with pytest.raises(BudgetTooSmall):
        picker.pick(0.9 * family.budgets_ms[0])
    member = picker.pick(budget_ms).best
    network = run.supernet().derive(member.genotype)
    settings = TuningSettings(0.1)
    tune(network, TuningImages(digits, settings), settings, 3)
    accuracy = accuracy_on_test_images(network, digits)
    model = export(network, member, table, digits, settings.accuracy_kind)
    assert onnx_accuracy(model.content, digits) == pytest.approx(accuracy, abs=0.1)
    page = build_report(run)
    assert "The choice of each slot" in page
    assert (", expressivity" in page) == in_cells
    assert space.format(fastest)[:40] in page.replace("&#x27;", "'")
