import json
from dataclasses import replace

import pytest

from search.cli import main
from search.compare.diagnosis import (
    FILE_NAME,
    RetrainedMember,
    agreement_rows,
    diagnose,
    find_diagnosis,
    spread_members,
)
from search.family.family import Member, load_family
from search.runs.run_directory import RunDirectory
from shared.errors import CorruptFile, InvalidValue
from shared.spaces import Genotype


def member(place: int) -> Member:
    """Rank and likelihood say 0, 1, 2, ...; expressivity says the reverse; the inherited accuracy says nothing."""
    return Member(
        genotype=Genotype((f"g{place}",)),
        predicted_ms=1.0 + place,
        upper_ms=1.1 + place,
        parameters=100 * (place + 1),
        multiply_adds=1000,
        nll=1.0 - 0.1 * place,
        expressivity=100.0 - place,
        rank=9.0 - place,
        accuracy=50.0,
    )


def test_tau_is_1_where_the_search_was_right_for_each_seed_and_minus_1_where_it_was_the_wrong_way_round():
    rising = [RetrainedMember(member(i), (80.0 + i, 70.0 + 2 * i)) for i in range(5)]
    found = diagnose(rising, "trained for 1 epoch").agreement
    expected = {"rank": 1.0, "nll": 1.0, "parameters": 1.0, "expressivity": -1.0, "accuracy": 0.0}
    assert {name: figure.mean for name, figure in found.items()} == pytest.approx(expected)


def test_tau_between_two_seeds_says_what_a_perfect_rank_could_reach():
    # Of the three pairs of members the second seed orders one the other way round: (2 - 1) / 3.
    members = [RetrainedMember(member(i), seeds) for i, seeds in enumerate([(80.0, 80.0), (81.0, 82.0), (82.0, 81.0)])]
    found = diagnose(members, "")
    assert found.between_seeds == pytest.approx(1 / 3)
    assert found.agreement["rank"].by_seed == pytest.approx((1.0, 1 / 3))
    assert found.agreement["rank"].mean == pytest.approx(2 / 3)
    one_seed = [replace(member, test_accuracies=member.test_accuracies[:1]) for member in members]
    alone = diagnose(one_seed, "")
    assert alone.between_seeds is None
    assert alone.agreement["rank"].spread is None
    assert dict(agreement_rows(alone))["rank of the search"] == "+1.00 (one seed)"


def test_a_member_that_diverged_is_the_worst_of_all():
    members = [RetrainedMember(member(i), (80.0 + i,)) for i in range(4)]
    members[0] = replace(members[0], member=replace(members[0].member, nll=float("nan")))
    assert diagnose(members, "").agreement["nll"].mean == 1


def test_members_are_taken_evenly_with_both_ends():
    family = [member(i) for i in range(9)]
    assert spread_members(family, 3) == [family[0], family[4], family[8]]
    with pytest.raises(InvalidValue, match="members: 10 were asked for, the family has 9"):
        spread_members(family, 10)
    with pytest.raises(InvalidValue, match="members: 2 is not 3 or more"):
        spread_members(family, 2)


def test_diagnose_trains_members_with_each_seed_once_and_tells_in_file_page_and_words(run, capfd):
    asked = ["diagnose", "--run", str(run.path), "--members", "3", "--seeds", "2", "--epochs", "1"]
    assert main([*asked, "--batch-size", "256"]) == 0
    said = capfd.readouterr().out
    assert "Kendall's tau with the test accuracy of 3 members, trained for 1 epoch" in said
    assert "two seeds of the retraining with each other" in said
    found = find_diagnosis(run.path, run.space)
    assert found is not None
    assert [len(member.test_accuracies) for member in found.members] == [2, 2, 2]
    assert [member.member for member in found.members] == spread_members(load_family(run).members, 3)
    assert "Rank against retrained accuracy" in (run.path / "report.html").read_text()
    trained = sorted(path.stat().st_mtime_ns for path in run.path.glob("trained/*/*/weights.pt"))
    assert len(trained) == 6
    assert main([*asked, "--batch-size", "256"]) == 0
    assert sorted(path.stat().st_mtime_ns for path in run.path.glob("trained/*/*/weights.pt")) == trained


def test_a_damaged_diagnosis_is_named(run: RunDirectory):
    assert find_diagnosis(run.path, run.space) is None
    (run.path / FILE_NAME).write_text(json.dumps({"members": 3}))
    with pytest.raises(CorruptFile, match=r"diagnosis\.json is damaged"):
        find_diagnosis(run.path, run.space)
