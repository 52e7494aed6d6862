import dataclasses
import json
import random
from itertools import pairwise

import numpy as np
import pytest

from search.decoding.decoding import Band, EnumerationDecoder, decode_pool, make_decoder
from search.family.candidate_pool import draw_pool, merge_distinct
from search.family.candidates import Member
from search.family.family import build_family, load_family, spread
from search.family.pareto import WIDEST_GAP, find_front, select_members
from search.family.picking import Picker
from search.latency.latency_model import LatencyModel
from search.process.progress import SilentProgress
from search.ranking.scoring import open_scorer
from search.runs.run_directory import DeviceRun, RunDirectory, on_device
from shared.errors import BudgetTooSmall, CorruptFile, InvalidValue, WrongUse
from shared.tables.kernel_prices import FamilyCost, KernelPrice, KernelPrices

ADD = "Add/1x4x8x8/1x4x8x8"


@pytest.fixture(scope="module")
def family(reading):
    return load_family(reading)


def member(upper_ms, rank, name="x"):
    return Member(name, upper_ms * 0.9, upper_ms, 10, 10, 1.0, 1.0, rank, 50.0)


def test_latency_rises_through_the_family_and_rank_improves_along_its_front(family):
    members, front = family.members, find_front(family.candidates)
    assert len(members) == family.settings.members
    assert all(a.predicted_ms <= b.predicted_ms for a, b in pairwise(members))
    assert len(front) >= 8
    assert all(a.predicted_ms < b.predicted_ms and a.rank > b.rank for a, b in pairwise(front))


def test_fastest_network_belongs_to_the_family_and_to_the_baseline(family, reading):
    space = reading.table.parsed_space
    assert family.members[0].genotype == space.fastest()
    assert family.random[0].genotype == space.fastest()


def test_every_candidate_on_the_front_belongs_to_the_family(family):
    unbeaten = {
        candidate.genotype
        for candidate in family.candidates
        if not any(
            other.predicted_ms <= candidate.predicted_ms and other.rank <= candidate.rank and other != candidate
            for other in family.candidates
        )
    }
    assert unbeaten <= {member.genotype for member in family.members}


def test_baseline_has_as_many_evaluations_and_is_chosen_in_the_same_way(family):
    assert len(family.candidates) == len(family.random_candidates) == family.settings.candidates
    assert list(family.random) == select_members(family.random_candidates, family.settings.members)


def test_members_have_latency_and_size_of_table_and_space(family, reading):
    table = reading.table
    for member in (*family.members, *family.random):
        genotype = member.genotype
        prediction = table.predict(genotype)
        assert member.predicted_ms == pytest.approx(prediction.mean_ms)
        assert member.upper_ms == pytest.approx(prediction.upper_ms(reading.config.confidence))
        assert member.parameters == table.parsed_space.parameter_count(genotype)
        assert member.multiply_adds == table.parsed_space.multiply_adds(genotype)


def test_file_of_the_family_names_table_budgets_and_kind_of_accuracy(family, reading):
    written = json.loads(reading.family_path.read_bytes())
    assert written["table_hash"] == reading.table.hash
    assert written["budgets_ms"] == sorted(written["budgets_ms"])
    assert "inherited" in written["accuracy_kind"]
    assert {"genotype", "predicted_ms", "upper_ms", "nll", "expressivity", "rank", "accuracy"} <= set(
        written["members"][0]
    )
    assert len(written["trade_offs"]) == 9
    assert all(trade_off["expected_ms"] > reading.table.base_ms for trade_off in written["trade_offs"])


def test_building_again_gives_the_same_family(run):
    first = run.family_path.read_bytes()
    (run.path / "scores.json").unlink()
    again = build_family(run, SilentProgress(), load_family(run).settings)
    before = json.loads(first)
    after = json.loads(run.family_path.read_bytes())
    assert {**before, "seconds": 0} == {**after, "seconds": 0}
    assert again == load_family(run)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda text: text[:100], CorruptFile),
        (lambda text: "[]", CorruptFile),
        (lambda text: text.replace('"table_hash": "', '"table_hash": "0'), CorruptFile),
    ],
    ids=["cut off", "a list", "other table"],
)
def test_damaged_or_foreign_family_is_refused(run, change, kind):
    run.family_path.write_text(change(run.family_path.read_text()))
    with pytest.raises(kind):
        load_family(run)


def test_run_without_a_family_says_that_the_search_has_to_finish(run):
    run.family_path.unlink()
    with pytest.raises(WrongUse, match="no family yet"):
        load_family(run)


def test_beaten_candidates_are_members_only_where_the_front_leaves_room():
    fast, worse, better, slow = (
        member(1.0, 9.0, "a"),
        member(2.0, 9.5, "b"),
        member(2.0, 4.0, "c"),
        member(3.0, 4.0, "d"),
    )
    everyone = [slow, worse, better, fast]
    assert find_front(everyone) == [fast, better]
    assert select_members(everyone, most=2) == [fast, better]
    assert select_members(everyone, most=3) == [fast, better, worse]
    assert select_members(everyone, most=9) == [fast, better, worse, slow]


def test_a_wide_gap_in_latency_gets_the_best_ranked_candidate_in_its_middle_even_if_it_is_beaten():
    front = [member(1.0 + 0.1 * i, 100.0 - i, f"front {i}") for i in range(20)]  # 1.0 to 2.9 ms, then 6 ms
    slowest = member(6.0, 10.0, "slowest")
    better, worse, beside = member(4.4, 95.0, "better"), member(4.5, 99.0, "worse"), member(5.9, 90.0, "beside")
    chosen = select_members([*front, slowest, better, worse, beside], most=16)
    assert len(chosen) == 16
    assert better in chosen
    assert worse not in chosen
    assert chosen[0] == front[0]
    assert chosen[-1] == slowest


@pytest.mark.parametrize("seed", range(50, 60))
def test_closing_one_gap_opens_no_other(seed):
    """With seed 56 a leaving member once opened the next gap, again and again."""
    drawn = np.random.default_rng(seed)
    latencies = np.sort(np.geomspace(1, drawn.uniform(2, 6), 120) * drawn.uniform(0.97, 1.03, 120))
    errors = -np.log(latencies) * drawn.uniform(1, 3) + drawn.normal(0, drawn.uniform(0.05, 0.8), 120)
    ranks = 1 + errors.argsort().argsort()
    members = select_members([member(ms, rank, f"{ms}") for ms, rank in zip(latencies, ranks, strict=True)], most=24)
    gaps = np.diff([member.predicted_ms for member in members])
    assert len(members) == 24
    assert gaps.max() <= WIDEST_GAP * gaps.sum()


def test_network_with_the_smallest_bound_is_a_member_even_if_another_is_predicted_faster():
    bold, sure = dataclasses.replace(member(1.0, 3.0, "bold"), predicted_ms=0.8), member(0.95, 5.0, "sure")
    slow = member(2.0, 1.0, "slow")
    assert find_front([bold, sure, slow]) == [bold, slow]
    assert select_members([bold, sure, slow], most=2) == [bold, sure]


def test_pool_takes_from_every_budget(table):
    decoder = make_decoder(LatencyModel(table))
    budgets_ms = spread(decoder.smallest_ms, decoder.largest_ms, 10)
    bands = [Band(high, low) for low, high in pairwise([0.0, *budgets_ms])]
    alphas = [np.log(np.random.default_rng(seed).dirichlet(np.ones(5), size=6)) for seed in range(4)]
    pool = decode_pool(decoder, alphas, bands, per_band=5, most=20)
    assert len(pool) == len(set(pool)) == 20
    upper_ms = LatencyModel(table).upper_ms(pool)
    inhabited = sum(((upper_ms > low) & (upper_ms <= high)).any() for low, high in pairwise(budgets_ms))
    assert inhabited >= 8


def test_random_networks_lie_under_the_budgets_and_are_distinct(table):
    decoder = make_decoder(LatencyModel(table))
    budgets_ms = spread(decoder.smallest_ms, decoder.largest_ms, 6)
    drawn = draw_pool(decoder, budgets_ms, 30, random.Random(0))
    assert len(set(drawn)) == len(drawn) == 30
    assert drawn == draw_pool(decoder, budgets_ms, 30, random.Random(0))
    assert drawn != draw_pool(decoder, budgets_ms, 30, random.Random(1))
    upper_ms = sorted(LatencyModel(table).upper_ms(drawn))
    assert upper_ms[0] == pytest.approx(budgets_ms[0])
    assert upper_ms[5] <= budgets_ms[2]


def test_fastest_network_leads_the_pool_once(space):
    other = space.parse("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
    assert merge_distinct([space.fastest()], [other, space.fastest()]) == [space.fastest(), other]


def test_pick_is_the_best_ranked_network_within_the_budget(reading, family):
    budget_ms = family.members[len(family.members) // 2].upper_ms
    pick = Picker(reading).pick(budget_ms)
    assert pick.best.upper_ms <= budget_ms
    assert all(member.upper_ms <= budget_ms for member in pick.runners_up)
    ranks = [pick.best.rank, *(member.rank for member in pick.runners_up)]
    assert ranks == sorted(ranks)
    names = [pick.best.genotype, *(member.genotype for member in pick.runners_up)]
    assert len(names) == len(set(names))


def test_pick_for_a_larger_budget_is_never_ranked_worse(reading, family):
    picker = Picker(reading)
    names = [picker.pick(member.upper_ms).best.genotype for member in family.members]
    space = reading.table.parsed_space
    counts = [space.parameter_count(name) for name in names]
    assert counts[-1] > counts[0]
    assert names[0] == family.members[0].genotype


def test_higher_confidence_promises_less(reading, family):
    budget_ms = family.members[-1].upper_ms
    sure, bold = Picker(reading, 0.999).pick(budget_ms), Picker(reading, 0.5).pick(budget_ms)
    assert sure.best.predicted_ms <= bold.best.predicted_ms
    assert bold.best.upper_ms == pytest.approx(bold.best.predicted_ms)


def test_pick_below_the_fastest_network_names_the_smallest_bound(reading, family):
    with pytest.raises(BudgetTooSmall, match="ask for that or more"):
        Picker(reading).pick(0.9 * family.members[0].upper_ms)


def test_confidence_outside_its_domain_is_refused(reading):
    with pytest.raises(InvalidValue, match="confidence"):
        Picker(reading, 1.0)


def test_second_pick_scores_no_network_again(run, family):
    budget_ms = family.members[-2].upper_ms
    first = Picker(run).pick(budget_ms)
    written = (run.path / "scores.json").stat().st_mtime_ns
    assert Picker(on_device(RunDirectory.open(run.path))).pick(budget_ms) == first
    assert (run.path / "scores.json").stat().st_mtime_ns == written
    assert open_scorer(run)


def test_small_space_is_scored_whole(table):
    decoder = make_decoder(LatencyModel(table))
    everything = decoder.find_all(5415)
    assert set(everything) == set(decoder.feasible(decoder.largest_ms))
    assert len(everything) == len(set(everything)) == 5415
    assert decoder.find_all(5414) is None


def test_family_of_a_space_scored_whole_is_chosen_from_every_network(run, family, monkeypatch):
    everything = make_decoder(LatencyModel(run.table)).find_all(10_000)[:40]
    monkeypatch.setattr(EnumerationDecoder, "find_all", lambda self, most: everything if most else None)
    whole = build_family(run, SilentProgress(), dataclasses.replace(family.settings, whole_space=10_000))
    assert {candidate.genotype for candidate in whole.candidates} == set(everything)
    assert list(whole.members) == select_members(whole.candidates, whole.settings.members)
    assert len(whole.random_candidates) == len(family.random_candidates)
    assert load_family(run) == whole


def test_a_pick_of_a_whole_space_counts_kernels_of_likely_networks_only(run, family, monkeypatch):
    everything = make_decoder(LatencyModel(run.table)).find_all(10_000)[:40]
    monkeypatch.setattr(EnumerationDecoder, "find_all", lambda self, most: everything if most else None)
    monkeypatch.setattr("search.family.picking.MOST_COUNTED", 10)
    prices = (FamilyCost("Add", 1e-6, 0.0, 0.0),), (KernelPrice(ADD, 1e-6),)
    kernels = KernelPrices(1e-4, *prices, (1e-9,) * 5, ((0.0,),) * 5, 0.001, 0.5)
    view = DeviceRun(run, dataclasses.replace(run.table, device="elsewhere", kernels=kernels))
    whole = build_family(view, SilentProgress(), dataclasses.replace(family.settings, whole_space=10_000))
    asked = []

    def count_kernels(genotypes):
        asked.extend(genotypes)
        return {genotype: {ADD: 1} for genotype in genotypes}

    budget_ms = sorted(candidate.upper_ms for candidate in whole.candidates)[20]
    pick = Picker(view, count_kernels=count_kernels).pick(budget_ms)
    likely = sorted(
        (candidate for candidate in whole.candidates if candidate.upper_ms <= 1.04 * budget_ms),
        key=lambda candidate: candidate.rank,
    )
    assert [member.rank for member in likely[:10]] == sorted(
        candidate.rank for candidate in whole.candidates if candidate.genotype in asked
    )
    assert len(asked) == 10
    assert (pick.best.rank, pick.best.by) == (likely[0].rank, "kernels")
