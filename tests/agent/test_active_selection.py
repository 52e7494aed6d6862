"""Networks chosen in the middle of a campaign: what is remembered, and what happens where no server
can choose.
"""

import pytest

from profiler_agent.cli import main
from profiler_agent.profile.active_selection import ActiveSelection, first_part
from profiler_agent.spool.spool import Spool
from shared.measurements.active_selection import Choice
from shared.measurements.measurement import Round, Run, Verdict
from shared.measurements.plan import Task, make_plan
from shared.runtime import Runtime


@pytest.fixture
def plan(small_space):
    return make_plan(small_space, 30, 4)


@pytest.fixture
def spooled(tmp_path, plan):
    run = Run(
        "run-1", "pi", Runtime("onnxruntime", "1.31.1"), plan.space, plan.id, plan.canary, "0.1.0",
        "2026-01-01T00:00:00+00:00", {},
    )  # fmt: skip
    return Spool(tmp_path).new_run(run, plan)


def calibration(tasks):
    return [task for task in tasks if task.role == "calibration"]


def chosen_tasks(space, plan):
    """Networks that the plan does not name."""
    known = {task.graph for task in plan.tasks}
    return [task for task in calibration(make_plan(space, 12, 1, seed=7).tasks) if task.graph not in known][:5]


def test_a_third_comes_first_but_twenty_at_least(small_space) -> None:
    assert first_part(make_plan(small_space, 20, 4)) is None
    assert first_part(make_plan(small_space, 30, 4)) == 20
    assert first_part(make_plan(small_space, 90, 4)) == 30


def test_what_was_chosen_is_remembered(spooled, plan, small_space, tmp_path) -> None:
    chosen = chosen_tasks(small_space, plan)
    assert spooled.settled
    assert spooled.tasks == list(plan.tasks)
    spooled.begin_choosing(20)
    spooled.keep_choice(chosen)
    (again,) = Spool(tmp_path).runs()
    assert not again.settled
    assert again.chosen
    assert calibration(again.tasks) == calibration(plan.tasks)[:20] + chosen
    assert [task for task in again.missing_tasks() if task.role == "held_out"]
    again.settle()
    assert Spool(tmp_path).runs()[0].settled
    assert spooled.chosen
    spooled.choose_all()
    assert not again.chosen
    assert set(again.tasks) == {*plan.tasks, *chosen}


class Oracle:
    """Stands in for the client and the uploader of a server that answers with these choices."""

    def __init__(self, *choices):
        self.choices = list(choices)
        self.requests = []

    def upload_run(self, spooled):
        return 0

    def choose(self, run_id, request):
        self.requests.append(request)
        return self.choices.pop(0)


def chooser(spooled, oracle, said):
    return ActiveSelection(oracle, oracle, spooled, 3.0, lambda spec: None, said.append)


def test_a_narrow_bound_ends_it_once_something_was_chosen(spooled, plan, small_space) -> None:
    tasks, said = tuple(chosen_tasks(small_space, plan)), []
    spooled.begin_choosing(20)
    narrow = Choice(tasks[:3], enough=True, half_width_percent=1.5)
    choosing = chooser(spooled, Oracle(narrow, Choice(tasks[3:], enough=True, half_width_percent=1.25)), said)
    assert choosing.next_tasks() == tasks[:3]
    assert choosing.next_tasks() == ()
    assert spooled.settled
    assert calibration(spooled.tasks) == [*calibration(plan.tasks)[:20], *tasks[:3]]
    assert said == ["3 more networks, the bound is 1.5 % wide", "23 calibration networks: the bound is 1.2 % wide"]
    assert choosing.next_tasks() == ()


def test_a_server_that_chooses_a_held_out_network_is_not_followed(spooled, plan) -> None:
    held_out = next(task for task in plan.tasks if task.role == "held_out")
    spooled.begin_choosing(20)
    said = []
    wrong = Choice((Task(held_out.subject, "calibration", held_out.graph),), half_width_percent=9.0)
    assert chooser(spooled, Oracle(wrong), said).next_tasks() == calibration(plan.tasks)[20:], "each of them once"
    assert "not for the fit" in said[0]
    assert calibration(spooled.tasks) == calibration(plan.tasks)


def test_the_server_is_told_what_is_measured_so_far_without_the_repeats(spooled, plan) -> None:
    task, finished = plan.tasks[0], plan.tasks[1]
    rounds = [Round((2.0, 3.0), (1.0, 1.5), (0.5, 0.25) if part.minus else ()) for part in (task, finished)]
    for part, timed in zip((task, finished), rounds, strict=True):
        spooled.keep_round(part, timed, False)
    spooled.keep_measurement(finished, rounds[1:], Verdict(True))
    spooled.begin_choosing(20)
    oracle = Oracle(Choice(enough=True))
    chooser(spooled, oracle, []).next_tasks()
    (told,) = oracle.requests[0].so_far
    assert (told.subject, told.graph) == (task.subject, task.graph)
    assert told.rounds == (rounds[0].without_raw(),)


def test_with_a_server_that_cannot_choose_the_whole_plan_is_measured(server, agent, capsys) -> None:
    assert main([*agent.profile, "--calibration", "24", "--bound-percent", "3"]) == 0
    ((_, measurements),) = server.measurements.items()
    assert sum(measurement.role == "calibration" for measurement in measurements.values()) == 24
    assert "measuring the plan's own calibration networks, all of them" in capsys.readouterr().err
    assert any("/next" in request for request in server.requests)


def test_a_server_that_goes_away_meanwhile_leaves_the_whole_plan_measured_on_the_disk(server, agent, capsys) -> None:
    def go_away(method, path):
        if path.endswith("/next"):
            server.stop()
            return b""
        return None

    server.before = go_away
    assert main([*agent.profile, "--calibration", "24", "--bound-percent", "3"]) == 1
    (spooled,) = Spool(agent.spool).runs()
    assert spooled.missing_tasks() == []
    assert spooled.settled
    server.before = lambda method, path: None
    server.start()
    assert main(["upload", *agent.connection]) == 0
    ((_, measurements),) = server.measurements.items()
    assert sum(measurement.role == "calibration" for measurement in measurements.values()) == 24
    assert len(server.tables) == 1


def test_a_width_of_zero_measures_the_plan_as_it_is(server, agent) -> None:
    assert main([*agent.profile, "--calibration", "24", "--bound-percent", "0"]) == 0
    ((_, measurements),) = server.measurements.items()
    assert sum(measurement.role == "calibration" for measurement in measurements.values()) == 24
    assert not any("/next" in request for request in server.requests)


def test_a_width_that_is_none_is_wrong_use(agent, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*agent.profile, "--bound-percent", "-1"])
    assert ended.value.code == 2
    assert "--bound-percent" in capsys.readouterr().err
