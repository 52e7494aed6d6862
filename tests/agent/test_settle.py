"""The settle check after a campaign: which networks, and more rounds while they disagree."""

from types import SimpleNamespace

import pytest

from profiler_agent.profile.settle import PAUSE_S, ROUNDS, settle, settle_tasks
from profiler_agent.timing.stopping import PRESETS
from shared.measurements.measurement import STABLE, Measurement, Round
from shared.measurements.plan import Task


def measured(number, ms, role="calibration"):
    task = Task(f"net-{number}", role, f"network:{number}")
    return Measurement.of_task(f"m-{number}", task, [Round((ms,), (1.0,))] * 4, STABLE)


def test_networks_lie_evenly_from_the_fastest_to_the_slowest():
    networks = [measured(number, 1.0 + number, "held_out" if number % 2 else "calibration") for number in range(29)]
    tasks = settle_tasks([measured(99, 0.1, "isolated"), *networks])
    assert [task.graph for task in tasks] == [f"network:{number}" for number in (0, 4, 8, 12, 16, 20, 24, 28)]
    assert {task.role for task in tasks} == {"settle"}


def test_few_networks_or_an_earlier_check_make_none():
    networks = [measured(number, 1.0 + number) for number in range(6)]
    assert settle_tasks(networks[:3]) == []
    assert settle_tasks([*networks, measured(0, 1.0, "settle")]) == []


@pytest.mark.parametrize(("slower", "tries"), [((1.0,), 1), ((1.1, 1.1, 1.1), 3), ((1.1, 1.0), 2)])
def test_rounds_are_added_while_the_networks_disagree(slower, tries):
    subjects = [SimpleNamespace(task=Task("n", "settle", f"network:{n}"), rounds=[]) for n in range(4)]
    given, pauses = iter(slower), []

    def measure(all_subjects, rounds):
        assert rounds == ROUNDS
        factor = next(given)
        for subject in all_subjects:
            subject.rounds += [Round((2.0 * factor,), (1.0,))] * rounds

    before = {subject.task.graph: 2.0 for subject in subjects}
    settle(subjects, before, PRESETS["standard"], measure, pauses.append)
    assert len(subjects[0].rounds) == tries * ROUNDS
    assert pauses == [PAUSE_S] * (tries - 1)
