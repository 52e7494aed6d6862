"""Several devices in one run: the folder, the training, the command line."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search.alphas.condition import Condition
from search.alphas.expected_cost import make_objective
from search.cli import main
from search.config import references
from search.process.progress import SilentProgress
from search.runs.run_directory import RunDirectory, on_device
from search.training.training import Trainer
from shared.errors import InvalidValue, UnknownName, WrongUse
from shared.spaces import make_space
from shared.tables.table import LatencyTable

RECORDED = Path(__file__).parent / "one_device_run.json"
SHORT = ("--dataset", "digits", "--search-resolution", "8", "--threads", "1", "--precision", "fp32")
SHORT += ("--batch-size", "8", "--alpha-batch-size", "4", "--alpha-every", "2", "--whole-space", "0")
SHORT += ("--warmup-steps", "4", "--search-steps", "4")


def priced(table: LatencyTable, device: str, **factors: float) -> LatencyTable:
    """The table of another device, on which some primitives cost that many times as much."""
    prices = tuple(
        replace(one, price_ms=one.price_ms * factors.get(one.op_key.partition("/")[0], 1.0)) for one in table.prices
    )
    return replace(table, device=device, prices=prices)


@pytest.fixture(scope="module")
def slow_pools(table):
    return priced(table, "slow-pools", avg_pool_3x3=60.0)


@pytest.fixture(scope="module")
def slow_convolutions(table):
    return priced(table, "slow-convolutions", nor_conv_1x1=30.0, nor_conv_3x3=30.0)


def parameters(trainer: Trainer) -> list[torch.Tensor]:
    return [*trainer.supernet.state_dict().values(), *trainer.hypernetwork.state_dict().values()]


def test_a_run_of_one_device_trains_as_it_did_before_runs_had_several(tmp_path, config, table, digits):
    """The recorded run was made by the revision before; other processors round the last digits otherwise."""
    recorded = json.loads(RECORDED.read_text())
    run = RunDirectory.create(tmp_path / "run", config, table)
    trainer = Trainer(run, digits)
    trainer.train(SilentProgress())
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    for line, before in zip(lines, recorded["metrics"], strict=True):
        assert line["phase"] == before.pop("phase")
        assert {name: line[name] for name in before} == pytest.approx(before, rel=1e-4)
    for u, alpha in recorded["alphas"].items():
        condition = Condition(trainer.objectives[0].device, float(u), float(u))
        with torch.no_grad():
            torch.testing.assert_close(
                trainer.hypernetwork(condition.vector()), torch.tensor(alpha), rtol=1e-3, atol=1e-4
            )


def test_the_order_of_the_devices_changes_nothing(tmp_path, config, slow_pools, slow_convolutions, digits):
    trained = []
    for order in ([slow_pools, slow_convolutions], [slow_convolutions, slow_pools]):
        asked = replace(config, tables=references(order))
        ordered = sorted(order, key=lambda one: one.device)
        trainer = Trainer(RunDirectory.create(tmp_path / order[0].device, asked, *ordered), digits)
        trainer.train(SilentProgress())
        trained.append(trainer)
    assert trained[0].config == trained[1].config
    assert all(map(torch.equal, *map(parameters, trained)))


def test_several_devices_resume_bit_equal(tmp_path, config, slow_pools, slow_convolutions, digits):
    tables = (slow_convolutions, slow_pools)
    asked = replace(config, tables=references(tables))
    whole = Trainer(RunDirectory.create(tmp_path / "whole", asked, *tables), digits)
    whole.train(SilentProgress())
    first = Trainer(RunDirectory.create(tmp_path / "parts", asked, *tables), digits)
    first.train(SilentProgress(), lambda: first.step >= 9)
    second = Trainer(RunDirectory.open(tmp_path / "parts"), digits)
    assert second.train(SilentProgress())
    assert all(map(torch.equal, parameters(whole), parameters(second)))


def test_conditions_are_drawn_for_each_device_alike(tmp_path, config, table, slow_pools, slow_convolutions, digits):
    tables = (table, slow_convolutions, slow_pools)
    run = RunDirectory.create(tmp_path / "run", replace(config, tables=references(tables)), *tables)
    trainer = Trainer(run, digits)
    drawn = Counter(trainer.objectives.index(trainer._drawn_objective("condition", i)) for i in range(300))
    assert sorted(drawn) == [0, 1, 2]
    assert all(70 <= count <= 130 for count in drawn.values())


def test_alphas_at_a_devices_prices_are_fast_on_that_device(tmp_path, config, slow_pools, slow_convolutions, digits):
    """Two devices on which opposite ops are dear: with latency weighed most, each gets networks for itself."""
    tables = (slow_convolutions, slow_pools)
    asked = replace(config, tables=references(tables), warmup_steps=10, search_steps=90, alpha_every=1, alpha_lr=0.1)
    trainer = Trainer(RunDirectory.create(tmp_path / "run", asked, *tables), digits)
    trainer.train(SilentProgress())
    objectives = [make_objective(table) for table in tables]
    with torch.no_grad():
        alphas = [trainer.hypernetwork(Condition(one.device, 0.0, 1.0).vector()) for one in objectives]
    for own, other in ((0, 1), (1, 0)):
        here = objectives[own]
        assert here.expected_latency_ms(alphas[own]) < 0.9 * here.expected_latency_ms(alphas[other])


def test_a_run_of_several_devices_asks_which_one_is_meant(tmp_path, config, slow_pools, slow_convolutions):
    tables = (slow_convolutions, slow_pools)
    RunDirectory.create(tmp_path / "run", replace(config, tables=references(tables)), *tables)
    run = RunDirectory.open(tmp_path / "run")
    assert on_device(run, "slow-pools").table == slow_pools
    assert on_device(run, "slow-pools").family_path == run.path / "devices" / "slow-pools" / "family.json"
    with pytest.raises(WrongUse, match=r"--device slow-convolutions \| slow-pools"):
        on_device(run)
    with pytest.raises(UnknownName, match="known: slow-convolutions, slow-pools"):
        on_device(run, "rpi4")


def test_a_config_has_each_device_once(config, table):
    for tables in ((), references([table, table])):
        with pytest.raises(InvalidValue, match="one table per device"):
            replace(config, tables=tables)


def test_tables_of_several_spaces_are_refused_and_both_are_named(tmp_path, config, table):
    wider = replace(table, device="wide", space=str(make_space("nas-bench-201", resolution=16, channels=8, depth=1)))
    asked = replace(config, tables=references([table, wider]))
    with pytest.raises(InvalidValue, match=f"bench is of {table.space}, that of wide of {wider.space}"):
        RunDirectory.create(tmp_path / "run", asked, table, wider)
    assert not (tmp_path / "run").exists()


def search(server, out: Path, *more: str) -> int:
    return main(["--lut-url", server.url, "--out", str(out), *SHORT, *more])


def test_one_search_makes_a_family_for_each_device(serve, tmp_path, slow_pools, slow_convolutions, capfd):
    server, out = serve(slow_pools, slow_convolutions), tmp_path / "run"
    assert search(server, out, "--device", "slow-pools", "--device", "slow-convolutions") == 0
    said = capfd.readouterr().out
    for table in (slow_pools, slow_convolutions):
        folder = out / "devices" / table.device
        family = json.loads((folder / "family.json").read_text())
        assert (family["device"], family["table_hash"]) == (table.device, table.hash)
        assert table.device in (folder / "report.html").read_text()
        assert f"search pick --run {out} --device {table.device} --max-latency-ms X" in said
    budget = str(family["members"][-1]["upper_ms"])
    asked = ["pick", "--run", str(out), "--max-latency-ms", budget]
    assert main(asked) == 2
    assert "--device slow-convolutions | slow-pools" in (said := capfd.readouterr().err)
    assert said.count("\n") == 1
    assert main([*asked, "--device", "slow-convolutions", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["best"]["upper_ms"] <= float(budget)
    assert main(["--resume", "--out", str(out), "--device", "slow-pools"]) == 2
    assert "was begun with --device slow-convolutions --device slow-pools, not --device slow-pools" in (
        capfd.readouterr().err
    )


def test_what_cannot_be_one_run_is_said_in_one_line_and_writes_nothing(serve, tmp_path, table, slow_pools, capfd):
    wider = replace(table, device="wide", space=str(make_space("nas-bench-201", resolution=16, channels=8, depth=1)))
    lacking = replace(slow_pools, prices=table.prices[1:], covariance=tuple(row[1:] for row in table.covariance[1:]))
    server, out = serve(table, wider, lacking), tmp_path / "run"
    for devices, said in (
        (("bench", "wide"), f"bench is of {table.space}, that of wide of {wider.space}"),
        (("bench", "slow-pools"), table.prices[0].op_key),
        (("bench", "rpi4"), "known: bench, slow-pools, wide"),
        (("bench", "bench"), "--device bench was given twice"),
    ):
        assert search(server, out, *(word for device in devices for word in ("--device", device))) in (1, 2)
        errors = capfd.readouterr().err
        assert said in errors
        assert errors.count("\n") == 1
        assert not out.exists()


def test_a_checkpoint_of_other_tables_is_refused_in_one_line(tmp_path, config, table, slow_pools, digits, capfd):
    one, two = tmp_path / "one", tmp_path / "two"
    Trainer(RunDirectory.create(one, config, table), digits).save()
    RunDirectory.create(two, replace(config, tables=references([table, slow_pools])), table, slow_pools)
    (two / "checkpoint.pt").write_bytes((one / "checkpoint.pt").read_bytes())
    assert main(["--resume", "--out", str(two)]) == 1
    errors = capfd.readouterr().err
    assert f"was written with another table hash ({table.hash[:12]}…) than this run's" in errors
    assert errors.count("\n") == 1
