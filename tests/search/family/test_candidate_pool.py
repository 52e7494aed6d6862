"""One pool of candidates for several devices."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from search.config import references
from search.decoding.decoding import decode_queues, in_turn, make_decoder, representative
from search.family.build import build_families, build_unseen_family, spread
from search.family.candidate_pool import DeviceQueues, bands_between, draw_pool, draw_pool_of_all, fill_evenly
from search.family.family import FamilySettings, load_family
from search.family.pareto import select_members
from search.latency.latency_model import LatencyModel
from search.process.progress import SilentProgress
from search.runs.run_directory import DeviceRun, RunDirectory, on_every_device
from search.training.training import Trainer

CONFIDENCE = 0.99
BUDGETS = 10


def priced(table, device, seed):
    """The table of another device: every op costs up to three times as much or as little."""
    rng = np.random.default_rng(seed)
    prices = tuple(replace(price, price_ms=price.price_ms * float(3 ** rng.uniform(-1, 1))) for price in table.prices)
    return replace(table, device=device, prices=prices)


def queues_of(table, seed):
    model = LatencyModel(table)
    decoder = make_decoder(model, CONFIDENCE)
    budgets_ms = spread(decoder.smallest_ms, decoder.largest_ms, BUDGETS)
    alphas = [np.log(np.random.default_rng(seed + i).dirichlet(np.ones(5), size=6)) for i in range(4)]
    queues = decode_queues(decoder, alphas, bands_between(budgets_ms), 5)
    return DeviceQueues(model, CONFIDENCE, budgets_ms, queues)


@pytest.fixture(scope="module")
def devices(table):
    return [queues_of(priced(table, f"device-{seed}", seed), 10 * seed) for seed in range(6)]


def test_the_pool_of_one_device_takes_from_its_budgets_in_turn(devices):
    for device in devices:
        assert fill_evenly([device], 25) == in_turn(device.queues, 25)


def test_every_network_lies_in_the_band_of_its_own_bound(devices):
    for device in devices:
        for band, queue in enumerate(device.queues):
            for network in queue:
                assert device.band_of(network) == band
        for other in devices:
            for network in other.queues[BUDGETS // 2]:
                upper_ms = float(device._model.upper_ms([network], CONFIDENCE)[0])
                band = device.band_of(network)
                assert upper_ms <= device._budgets_ms[band] * (1 + 1e-12)
                assert band == 0 or upper_ms > device._budgets_ms[band - 1]


def test_a_pool_of_the_size_for_one_device_serves_the_budgets_of_six(devices):
    pool = fill_evenly(devices, 40)
    assert len(set(pool)) == 40
    for device in devices:
        assert sum(network in device._band_of_own for network in pool) >= 4
    for device in devices:
        served = {device.band_of(network) for network in pool}
        assert served >= {band for band, queue in enumerate(device.queues) if queue}


def test_random_networks_for_several_devices_are_as_many_as_for_one(devices, table):
    decoders = [(make_decoder(device._model, CONFIDENCE), device._budgets_ms) for device in devices]
    alone = draw_pool_of_all(decoders[:1], 30, random.Random(0))
    assert alone == draw_pool(*decoders[0], 30, random.Random(0))
    drawn = draw_pool_of_all(decoders, 30, random.Random(0))
    assert len(set(drawn)) == len(drawn) == 30
    assert drawn == draw_pool_of_all(decoders, 30, random.Random(0))


@pytest.fixture(scope="module")
def several(reading, digits, tmp_path_factory):
    """A finished run of three devices."""
    tables = [priced(reading.table, f"device-{seed}", seed) for seed in range(3)]
    config = replace(reading.config, tables=references(tables))
    run = RunDirectory.create(tmp_path_factory.mktemp("several") / "run", config, *tables)
    Trainer(run, digits).train(SilentProgress())
    build_families(run, SilentProgress(), FamilySettings(2, 8, 5, 24, 12, per_further_device=3))
    return run


def test_networks_are_scored_once_and_each_device_chooses_by_its_own_bounds(several):
    families = [load_family(view) for view in on_every_device(several)]
    pools = [{candidate.genotype for candidate in family.candidates} for family in families]
    assert pools[0] == pools[1] == pools[2]
    assert len(pools[0]) == 24 + 2 * 3
    drawn = {candidate.genotype for candidate in families[0].random_candidates}
    assert len(drawn) == len(pools[0])
    forms = {representative(several.space, network) for network in pools[0] | drawn}
    assert len(json.loads((several.path / "scores.json").read_text())["scores"]) == len(forms)
    for view, family in zip(on_every_device(several), families, strict=True):
        bounds_ms = LatencyModel(view.table).upper_ms(
            [member.genotype for member in family.members], several.config.confidence
        )
        assert [member.upper_ms for member in family.members] == pytest.approx(bounds_ms.tolist())
        assert list(family.members) == select_members(family.candidates, family.settings.members)
        assert family.members[0].upper_ms == pytest.approx(family.budgets_ms[0])
    assert len({tuple(member.genotype for member in family.members) for family in families}) > 1


def test_a_known_table_under_another_name_gives_the_same_candidates(run):
    known = load_family(run)
    view = DeviceRun(run, replace(run.table, device="elsewhere"))
    unseen = build_unseen_family(view, SilentProgress())
    before, after = (
        {candidate.genotype: candidate.upper_ms for candidate in family.candidates} for family in (known, unseen)
    )
    assert unseen.device == "elsewhere"
    assert before.keys() < after.keys()
    assert [after[name] for name in before] == pytest.approx(list(before.values()))
    assert len(after) <= len(before) + known.settings.refined * known.settings.candidates
    assert load_family(view) == unseen
    assert load_family(run) == known


def test_an_unseen_device_has_candidates_of_its_own_beside_those_of_the_run(several):
    view = DeviceRun(several, priced(several.tables[0], "unseen", 99))
    known = {candidate.genotype for candidate in load_family(on_every_device(several)[0]).candidates}
    unseen = build_unseen_family(view, SilentProgress())
    found = {candidate.genotype for candidate in unseen.candidates}
    assert found > known
    assert unseen.members[0].upper_ms == pytest.approx(unseen.budgets_ms[0])
    assert all(member.upper_ms <= unseen.budgets_ms[-1] * (1 + 1e-9) for member in unseen.members)
