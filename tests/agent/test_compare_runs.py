"""Two runs side by side: made-up rounds whose true change is known, and the command on files and on
a server.
"""

import json
import random

import pytest

from profiler_agent.cli import main
from profiler_agent.compare_runs import MeasuredRun, compare, comparison_lines, is_slower
from profiler_agent.spool.run_file import write_run_file
from profiler_agent.spool.run_spool import measurement_id
from shared.errors import LutnasError
from shared.measurements.measurement import Measurement, Round, Run, Verdict
from shared.measurements.plan import make_plan
from shared.runtime import Runtime
from shared.wire import canonical_json

TOKEN = "secret-of-the-agent"
ROUNDS = 16


@pytest.fixture
def plan(small_space):
    return make_plan(small_space, calibration=6, held_out=4)


@pytest.fixture
def made_up(plan):
    """A run whose every task takes 3 canaries, times `factor(task)`, with 1 % noise on every round."""

    def make(run_id, factor=lambda task: 1.0, machine=1.0, rounds=ROUNDS, tasks=plan.tasks, probe=None, **fields):
        rng = random.Random(run_id)
        runtime = Runtime("onnxruntime", fields.pop("version", "1.20.0"))
        run = Run(run_id, "pi", runtime, plan.space, plan.id, plan.canary, "0.1.0", "2026-01-01T00:00:00+00:00",
                  probe or {"governor": "performance"}, **fields)  # fmt: skip
        measurements = []
        for task in tasks:
            many = []
            for _ in range(rounds):
                slow = machine * rng.uniform(0.9, 1.3)  # hits graph and canary alike
                net = 3 * factor(task) * rng.gauss(1, 0.01) * task.divisor
                minus = () if task.minus is None else (slow * 2.0,)
                many.append(Round((slow * (net + (2.0 if minus else 0.0)),), (slow,), minus))
            measurements.append(
                Measurement(measurement_id(run_id, task), task.subject, task.role, task.graph, task.minus,
                            task.divisor, tuple(many), Verdict(True))
            )  # fmt: skip
        return MeasuredRun(run, tuple(measurements))

    return make


def pools(task):
    return task.role == "marginal" and "avg_pool" in task.subject


def test_an_op_that_got_slower_is_found_and_nothing_else(plan, made_up):
    after = made_up("new", lambda task: 1.2 if pools(task) else 1.0)
    found = compare(made_up("old"), after)
    changed = [change for change in found.changes if change.verdict != "same"]
    assert {change.subject for change in changed} == {task.subject for task in plan.tasks if pools(task)}
    for change in changed:
        assert change.verdict == "slower"
        assert change.ratio == pytest.approx(1.2, rel=0.02)
        assert change.low <= change.ratio <= change.high < change.low + 0.05
        assert change.p < 0.001


def test_changes_are_sorted_by_their_effect_in_either_direction(plan, made_up):
    subjects = [task.subject for task in plan.tasks[:3]]
    factors = dict(zip(subjects, (1.1, 0.6, 1.3), strict=True))
    found = compare(made_up("old"), made_up("new", lambda task: factors.get(task.subject, 1.0)))
    assert [change.subject for change in found.changes[:3]] == [subjects[1], subjects[2], subjects[0]]
    assert [change.verdict for change in found.changes[:3]] == ["faster", "slower", "slower"]


def test_a_busier_machine_is_no_change_and_shows_in_the_canary(made_up):
    found = compare(made_up("old"), made_up("new", machine=1.4))
    assert {change.verdict for change in found.changes} == {"same"}
    assert found.whole.ratio == pytest.approx(1.0, abs=0.01)
    assert found.canary_ratio == pytest.approx(1.4, rel=0.02)
    raw = compare(made_up("old"), made_up("new", machine=1.4), raw=True)
    assert raw.unit == "ms"
    assert raw.whole.ratio == pytest.approx(1.4, rel=0.05)


def test_a_significant_change_below_what_a_second_loading_changes_is_none(made_up):
    found = compare(made_up("old", rounds=400), made_up("new", lambda task: 1.006, rounds=400))
    assert max(change.p for change in found.changes) < 0.05
    assert {change.verdict for change in found.changes} == {"same"}


def test_whole_networks_have_one_figure_with_an_interval(made_up):
    after = made_up("new", lambda task: 1.08 if task.role != "marginal" else 1.0)
    whole = compare(made_up("old"), after).whole
    assert whole.networks == 10
    assert whole.low < 1.08 < whole.high
    assert whole.high - whole.low < 0.03


def test_only_significantly_slower_networks_exceed_a_threshold(made_up):
    slower = compare(made_up("old"), made_up("new", lambda task: 1.08))
    assert is_slower(slower, 1.05)
    assert not is_slower(slower, 1.10)
    faster = compare(made_up("old"), made_up("new", lambda task: 0.9))
    assert not is_slower(faster, 1.0)
    equal = compare(made_up("old"), made_up("new"))
    assert not is_slower(equal, 1.05)


def test_one_network_that_is_slower_by_chance_is_not_enough(plan, made_up):
    first = next(task for task in plan.tasks if task.role == "held_out")
    found = compare(made_up("old"), made_up("new", lambda task: 2.0 if task == first else 1.0))
    assert found.whole.ratio > 1.05
    assert not is_slower(found, 1.05)


def test_a_network_of_the_fit_in_one_run_and_held_out_in_the_other_is_common(small_space, plan, made_up):
    tasks = [task for task in plan.tasks if task.role == "calibration"]
    moved = [type(task)(task.subject, "held_out", task.graph) for task in tasks]
    found = compare(made_up("old", tasks=tasks), made_up("new", tasks=moved))
    assert found.whole.networks == 6
    assert (found.only_before, found.only_after) == (0, 0)


def test_subjects_of_one_run_alone_are_counted_and_left_out(plan, made_up):
    found = compare(made_up("old", tasks=plan.tasks[:10]), made_up("new", tasks=plan.tasks[4:]))
    assert len(found.changes) == 6
    assert (found.only_before, found.only_after) == (4, len(plan.tasks) - 10)


def test_costs_around_zero_are_tested_but_have_no_ratio(plan, made_up):
    first = plan.tasks[0]
    nothing = made_up("old", lambda task: 0.0 if task == first else 1.0, rounds=20)
    something = made_up("new", rounds=20)
    change = compare(nothing, something).changes[-1]
    assert (change.subject, change.ratio, change.verdict) == (first.subject, None, "changed")
    assert comparison_lines(compare(nothing, something))


def test_too_few_rounds_to_find_anything_are_said(made_up):
    found = compare(made_up("old", rounds=3), made_up("new", lambda task: 2.0, rounds=3))
    assert found.too_few_rounds == len(found.changes)
    assert "--preset standard" in "\n".join(comparison_lines(found))


def test_what_differs_between_the_devices_is_named(made_up):
    after = made_up("new", version="1.31.0", probe={"governor": "ondemand"})
    found = compare(made_up("old"), after)
    assert found.differences["governor"] == ("performance", "ondemand")
    assert "1.31.0" in found.differences["runtime"][1]
    assert "device" not in found.differences


def test_runs_with_nothing_in_common_are_refused(plan, made_up):
    with pytest.raises(LutnasError, match="nothing to compare"):
        compare(made_up("old", tasks=plan.tasks[:2]), made_up("new", tasks=plan.tasks[2:]))
    ops = [task for task in plan.tasks if task.role == "marginal"]
    with pytest.raises(LutnasError, match="no whole network in common"):
        is_slower(compare(made_up("old", tasks=ops), made_up("new", tasks=ops)), 1.05)


@pytest.fixture
def two_files(plan, made_up, tmp_path):
    for name, factor in (("old", 1.0), ("new", 1.1)):
        made = made_up(name, lambda task, factor=factor: factor)
        write_run_file(tmp_path / f"{name}.json", made.run, plan, made.measurements, {})
    return str(tmp_path / "old.json"), str(tmp_path / "new.json")


def test_the_command_compares_files_and_exits_with_3_beyond_the_threshold(two_files, capsys):
    old, new = two_files
    assert main(["compare", old, new]) == 0
    assert "1.10" in capsys.readouterr().out
    assert main(["compare", old, new, "--threshold", "1.05"]) == 3
    assert "threshold  1.05: exceeded" in capsys.readouterr().out
    assert main(["compare", old, new, "--threshold", "1.2"]) == 0
    assert main(["compare", new, old, "--threshold", "1.05"]) == 0


def test_the_command_gives_all_of_it_as_json(two_files, plan, capsys):
    assert main(["compare", *two_files, "--json", "--threshold", "1.05"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert len(found["changes"]) == len(plan.tasks)
    assert found["whole"]["networks"] == 10
    assert found["too_slow"] is True


def test_the_same_two_runs_always_compare_the_same(two_files, capsys):
    main(["compare", *two_files])
    first = capsys.readouterr().out
    main(["compare", *two_files])
    assert capsys.readouterr().out == first


def test_runs_are_read_from_a_server_by_their_ids(server, two_files, made_up, capsys):
    for name, factor in (("old", 1.0), ("new", 1.1)):
        made = made_up(name, lambda task, factor=factor: factor)
        server.runs[name], server.measurements[name] = (
            made.run,
            {measurement.id: measurement for measurement in made.measurements},
        )
    assert main(["compare", *two_files, "--json"]) == 0
    from_files = json.loads(capsys.readouterr().out)
    assert main(["compare", "old", "new", "--json", "--server", server.url]) == 0
    assert json.loads(capsys.readouterr().out) == from_files
    assert main(["compare", two_files[0], "new", "--server", server.url, "--threshold", "1.05"]) == 3


def test_a_run_that_is_nowhere_says_what_is_missing(two_files, capsys):
    assert main(["compare", two_files[0], "new"]) == 2
    assert "there is no file new" in capsys.readouterr().err


def test_a_file_that_is_no_run_is_refused_in_one_line(two_files, tmp_path, capsys):
    (tmp_path / "other.json").write_bytes(canonical_json({"format": "something"}))
    assert main(["compare", two_files[0], str(tmp_path / "other.json")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
