"""The demo's parts share ten minutes; the benchmark `demo` runs them."""

from types import SimpleNamespace

import pytest

from benchmarks import demo
from benchmarks.demo import LEAST_CANDIDATES, REPORT_S, SEARCH_S, SEARCH_SHARE, START_S, TOTAL_S, Watch, _fitting


class Clock:
    now_s = 1000.0

    def __call__(self):
        return self.now_s


def test_later_part_gets_what_earlier_parts_left_and_the_report_keeps_its_time():
    clock = Clock()
    watch = Watch(clock)
    assert watch.search_s() == SEARCH_S
    clock.now_s += 300
    watch.end("profile")
    assert watch.search_s() == SEARCH_SHARE * (TOTAL_S - 300 - START_S - REPORT_S) < SEARCH_S
    clock.now_s += 150
    watch.end("search")
    assert watch.ladder_s() + START_S + REPORT_S == TOTAL_S - 450
    assert watch.parts_s == {"profile": 300, "search": 150}
    clock.now_s += 400
    assert watch.search_s() == watch.ladder_s() == 0


def test_search_on_a_slow_machine_is_told_when_to_end_and_ranks_fewer_networks():
    fast, slow = (dict(zip(found[::2], found[1::2], strict=True)) for found in (_fitting(90, 1e3), _fitting(50.04, 2)))
    assert (fast["--warmup-steps"], fast["--search-steps"], fast["--candidates"]) == ("1500", "2700", "120")
    assert slow["--seconds"] == "50.0"
    assert int(slow["--warmup-steps"]) + 1.4 * int(slow["--search-steps"]) <= 2 * 50 + 2
    assert slow["--candidates"] == str(LEAST_CANDIDATES)


@pytest.mark.parametrize(("fastest_ms", "first_ms"), [(0.5, 1.0), (2.0, 2.2)])
def test_budgets_rise_to_the_middle_and_the_first_is_one_that_a_member_meets(monkeypatch, fastest_ms, first_ms):
    networks = [SimpleNamespace(upper_ms=value) for value in (1.0, 4.0, 9.0)]
    members = [SimpleNamespace(upper_ms=value) for value in (fastest_ms, 8.0)]
    monkeypatch.setattr(demo, "RunDirectory", lambda path: path)
    monkeypatch.setattr(demo, "on_device", lambda run: SimpleNamespace(table=SimpleNamespace(networks=networks)))
    monkeypatch.setattr(demo, "load_family", lambda view: SimpleNamespace(members=members))
    found = demo.budgets("run")
    assert (found[0], found[-1], len(found)) == (pytest.approx(first_ms), 4.0, demo.BUDGETS)
    assert found == sorted(found)
