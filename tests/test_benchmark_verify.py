from itertools import pairwise

import pytest

from benchmarks.search.verify import BUDGETS, figures, series_ms


def rung(target_ms, measured_ms, attempts=(True,), genotype="a"):
    return {
        "target_ms": target_ms,
        "measured_ms": measured_ms,
        "upper_ms": target_ms,
        "met": measured_ms <= target_ms,
        "genotype": genotype,
        "attempts": [{"met": met} for met in attempts],
    }


def test_budgets_run_from_the_fastest_members_bound_to_that_of_the_best_ranked() -> None:
    bounds_ms = {2.0: 5.0, 1.0: 9.0, 4.0: 1.0, 7.0: 3.0}
    budgets_ms = series_ms([{"upper_ms": bound_ms, "rank": rank} for bound_ms, rank in bounds_ms.items()])
    assert len(budgets_ms) == BUDGETS
    assert 1.0 < budgets_ms[0] < 1.001
    assert budgets_ms[-1] == pytest.approx(4.0)
    ratios = [after / before for before, after in pairwise(budgets_ms)]
    assert ratios == pytest.approx([ratios[0]] * (BUDGETS - 1))


def test_a_budget_kept_by_the_second_network_counts_as_met_but_not_at_first() -> None:
    found = figures([rung(1.0, 0.9), rung(2.0, 1.9, (False, True), "b"), rung(4.0, 4.1, (False,), "b")])
    values = {name.removeprefix("search.verify."): figure.value for name, figure in found.items()}
    assert values == {
        "met": 2,
        "met_at_first": 1,
        "use": pytest.approx((0.9 + 0.95 + 1.025) / 3),
        "distinct": 2,
        "bound_share": 1,
        "measured_of_bound": values["use"],
    }
