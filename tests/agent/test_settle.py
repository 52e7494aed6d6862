"""The settle check after a campaign: which networks, and more rounds while they disagree."""

import random
from types import SimpleNamespace

import pytest

from profiler_agent.profile.settle import PAUSE_S, ROUNDS, settle, settle_tasks
from profiler_agent.timing.stopping import PRESETS
from shared.measurements.graph_spec import NetworkGraph
from shared.measurements.measurement import STABLE, Measurement, Round
from shared.measurements.plan import Task
from shared.spaces import make_space

SPACE = make_space("nas-bench-201", resolution=8, channels=4, depth=1)
GRAPHS = [str(NetworkGraph(SPACE, SPACE.sample(random.Random(number)))) for number in range(30)]
STANDARD = PRESETS["standard"]


def measured(number, ms, role="calibration"):
    task = Task(f"net-{number}", role, GRAPHS[number])
    return Measurement.of_task(f"m-{number}", task, [Round((ms,), (1.0,))] * 4, STABLE)


def test_networks_lie_evenly_from_the_fastest_to_the_slowest():
    networks = [measured(number, 1.0 + number, "held_out" if number % 2 else "calibration") for number in range(29)]
    tasks = settle_tasks([measured(29, 0.1, "isolated"), *networks], STANDARD)
    assert [task.graph for task in tasks] == [GRAPHS[number] for number in (0, 4, 8, 12, 16, 20, 24, 28)]
    assert {task.role for task in tasks} == {"settle"}


def test_few_networks_an_earlier_check_and_quick_presets_make_none():
    networks = [measured(number, 1.0 + number) for number in range(6)]
    assert settle_tasks(networks[:3], STANDARD) == []
    assert settle_tasks([*networks, measured(0, 1.0, "settle")], STANDARD) == []
    assert settle_tasks(networks, PRESETS["quick"]) == []
    assert len(settle_tasks(networks, STANDARD)) == 6


@pytest.mark.parametrize(("slower", "tries"), [((1.0,), 1), ((1.1, 1.1, 1.1), 3), ((1.1, 1.0), 2)])
def test_rounds_are_added_while_the_networks_disagree(slower, tries):
    subjects = [SimpleNamespace(task=Task("n", "settle", GRAPHS[n]), rounds=[]) for n in range(4)]
    given, pauses = iter(slower), []

    def measure(all_subjects, rounds):
        assert rounds == ROUNDS
        factor = next(given)
        for subject in all_subjects:
            subject.rounds += [Round((2.0 * factor,), (1.0,))] * rounds

    before = {subject.task.graph: 2.0 for subject in subjects}
    settle(subjects, before, measure, pauses.append)
    assert len(subjects[0].rounds) == tries * ROUNDS
    assert pauses == [PAUSE_S] * (tries - 1)
