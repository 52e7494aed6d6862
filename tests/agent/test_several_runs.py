"""One campaign for several spaces and resolutions: what they share is measured once, and each run
is whole.
"""

import json
import os
import random
import subprocess
import sys
import time

import pytest

from profiler_agent.cli import main
from profiler_agent.profile.run_group import RunGroup
from profiler_agent.spool.run_file import read_run_file
from profiler_agent.spool.run_spool import measurement_id
from profiler_agent.spool.spool import Spool
from profiler_agent.timing.stopping import NETWORK_TIMES, PRESETS
from shared.errors import LutnasError
from shared.measurements.measurement import Round, Run, Verdict
from shared.measurements.plan import Plan, make_plan
from shared.runtime import Runtime
from shared.spaces import make_space

SIZES = "--channels 4 --classes 3 --calibration 2 --held-out 1 --preset quick"
SPACES = [make_space(name, resolution=8, channels=4, depth=3, classes=3) for name in ("nas-bench-201", "darts")]
RESOLUTIONS = [make_space("nas-bench-201", resolution=side, channels=4, depth=1, classes=3) for side in (4, 8)]
PLANS = {str(space): make_plan(space, 2, 1, isolated=True) for space in (*SPACES, *RESOLUTIONS)}
SHARED = set(PLANS[str(SPACES[0])].tasks) & set(PLANS[str(SPACES[1])].tasks)


@pytest.fixture
def two_spaces(agent):
    """The command for the tables of two spaces that share op keys."""
    connection = [*agent.connection, "--device", "bench"]
    return [
        "profile",
        *connection,
        "--space",
        "nas-bench-201",
        "darts",
        "--resolution",
        "8",
        "--depth",
        "3",
        *SIZES.split(),
    ]


@pytest.fixture
def two_resolutions(agent):
    """The command for the tables of one space at two resolutions, which share nothing but the
    canary.
    """
    connection = [*agent.connection, "--device", "bench"]
    resolutions = ["--resolution", "4", "8", "--depth", "1"]
    return ["profile", *connection, "--space", "nas-bench-201", *resolutions, *SIZES.split()]


def everything_once(server, spaces):
    """Each run has its plan's measurements once, as a campaign of its own would have left them."""
    assert sorted(run.space for run in server.runs.values()) == sorted(map(str, spaces))
    for run in server.runs.values():
        plan = PLANS[run.space]
        assert run.plan_id == plan.id
        assert server.measurements[run.id].keys() == {measurement_id(run.id, task) for task in plan.tasks}


def rounds_by_task(server):
    """The rounds of each task in every run that has it."""
    found = {}
    for run in server.runs.values():
        for task in PLANS[run.space].tasks:
            found.setdefault(task, []).append(server.measurements[run.id][measurement_id(run.id, task)].rounds)
    return found


def test_the_spaces_of_these_tests_share_op_keys():
    assert len(SHARED) >= 6
    assert {task.role for task in SHARED} == {"marginal", "isolated"}


def start(command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "profiler_agent", *command], env=environment, stderr=subprocess.DEVNULL
    )


def wait_for_lines(folder, name, fewest, process):
    deadline_s = time.monotonic() + 60
    while sum(path.read_bytes().count(b"\n") for path in folder.glob(f"runs/*/{name}.jsonl")) < fewest:
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_what_two_spaces_share_is_measured_once_and_kills_lose_nothing_of_either(server, agent, two_spaces):
    rng = random.Random(3)
    for fewest in (rng.randrange(1, 150), rng.randrange(150, 250)):
        process = start(two_spaces)
        wait_for_lines(agent.spool, "rounds", fewest, process)
        process.kill()
        process.wait()
    assert main(two_spaces) == 0
    everything_once(server, SPACES)
    for task, rounds in rounds_by_task(server).items():
        assert len(rounds) == (2 if task in SHARED else 1)
        assert len(set(rounds)) == 1, "both runs hold the same rounds: they were timed once"
        assert len(rounds[0]) <= NETWORK_TIMES * PRESETS["quick"].max_rounds
    for run_id, measurements in server.measurements.items():
        lines = (agent.spool / "runs" / run_id / "rounds.jsonl").read_bytes().splitlines()
        assert sum(len(measurement.rounds) for measurement in measurements.values()) == len(lines) == len(set(lines))
    for spooled in Spool(agent.spool).runs():
        of_fits = [graph for task in spooled.plan.tasks if task.role != "isolated" for graph in task.graphs]
        assert set(spooled.read_kernels()) == {spooled.plan.canary, *of_fits}


def test_one_campaign_makes_a_table_for_each_resolution_though_the_server_goes_away_between_them(
    server, agent, two_resolutions, capsys
):
    posted = set()

    def go_away(method, path):
        if path.endswith("/measurements"):
            posted.add(path)
            if len(posted) > 1:
                raise agent.Refusal(503, "unavailable", "shutting down")

    server.before = go_away
    assert main(two_resolutions) == 1
    assert capsys.readouterr().err.count("profiler-agent upload --spool") == 1
    assert len(server.tables) == 1
    rounds = {path: path.read_bytes() for path in agent.spool.glob("runs/*/rounds.jsonl")}
    server.stop()
    assert main(two_resolutions) == 1, "nothing is measured again while it is away"
    server.before = lambda method, path: None
    server.start()
    capsys.readouterr()
    assert main(two_resolutions) == 0
    said = capsys.readouterr().out
    assert said.count("has this table already") == 1
    for space in RESOLUTIONS:
        assert f"space      {space}\n" in said
        assert f"/v1/devices/bench/table?space={space}\n" in said
    everything_once(server, RESOLUTIONS)
    assert len(server.tables) == 2
    assert {path: path.read_bytes() for path in agent.spool.glob("runs/*/rounds.jsonl")} == rounds


def test_neither_a_refusal_nor_a_broken_graph_holds_up_the_other_run(server, agent, two_resolutions, capsys):
    plan = PLANS[str(RESOLUTIONS[1])]
    server.models[plan.tasks[0].graph] = b"not a model"

    def refuse_tables(method, path):
        if path.endswith("/finish"):
            raise agent.Refusal(422, "invalid", "not today")

    server.before = refuse_tables
    assert main(two_resolutions) == 1
    said = capsys.readouterr().err
    assert "not today" in said
    assert f"1 graphs of {RESOLUTIONS[1]} could not be measured" in said
    assert said.count("could not be measured") == 1
    measured = {server.runs[run_id].space: len(ones) for run_id, ones in server.measurements.items()}
    assert measured[str(RESOLUTIONS[0])] == len(PLANS[str(RESOLUTIONS[0])].tasks)
    assert measured[str(RESOLUTIONS[1])] == len(plan.tasks) - 1


@pytest.mark.parametrize(
    ("spaces", "resolutions", "said"),
    [
        ("nas-bench-201 fbnet", "32 100", "resolution: 100 is not a multiple of 32, the total stride (space fbnet)"),
        ("nas-bench-201", "8 10", "resolution: 10 is not a multiple of 4, the total stride"),
        ("nas-bench-201 cells", "8", "unknown space 'cells'"),
    ],
)
def test_a_refused_resolution_is_named_before_anything_is_measured(
    server, agent, two_resolutions, spaces, resolutions, said, capsys
):
    flags = ["--space", *spaces.split(), "--resolution", *resolutions.split()]
    assert main([*two_resolutions, *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert server.requests == []
    assert not agent.spool.exists()


def offline(folder, *more):
    flags = ["--offline", "--out", str(folder / "runs"), "--spool", str(folder / "spool"), "--device", "bench"]
    sizes = f"--resolution 4 8 --depth 1 {SIZES}"
    return ["profile", *flags, "--space", "nas-bench-201", *sizes.split(), *more]


def test_without_a_server_each_run_ends_in_a_file_of_its_own_and_all_are_handed_in(server, tmp_path, capsys):
    assert main(offline(tmp_path)) == 0
    files = [tmp_path / "runs" / f"nas-bench-201-r{side}-c4-n1-k3-i3.json" for side in (4, 8)]
    assert f"profiler-agent upload {files[0]} {files[1]} --lut-url URL" in capsys.readouterr().out
    assert [read_run_file(file).missing_tasks() for file in files] == [[], []]
    assert main(offline(tmp_path)) == 0
    assert capsys.readouterr().out.count("holds this run already") == 2
    connection = ["--server", server.url, "--token", "secret-of-the-agent", "--spool", str(tmp_path / "empty")]
    assert main(["upload", *connection, *map(str, files)]) == 0
    assert len(server.tables) == 2


def test_several_runs_do_not_go_into_one_file_nor_one_into_a_folder(tmp_path, capsys):
    command = offline(tmp_path)
    command[command.index(str(tmp_path / "runs"))] = str(tmp_path / "run.json")
    assert main(command) == 2
    assert "2 runs need one each: name a folder" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    assert main([*offline(tmp_path), "--resolution", "8"]) == 2
    assert "is a folder" in capsys.readouterr().err


@pytest.fixture
def two_runs(tmp_path):
    """Runs of two small spaces in one spool, with a task that both have."""
    spool = Spool(tmp_path)
    plans = [PLANS[str(space)] for space in SPACES]
    runs = [
        spool.new_run(
            Run(
                f"run-{index}",
                "pi",
                Runtime("onnxruntime", "1.31.1"),
                plan.space,
                plan.id,
                plan.canary,
                "0.1.0",
                "2026-01-01T00:00:00+00:00",
                {},
            ),
            plan,
        )
        for index, plan in enumerate(plans)
    ]
    task = next(task for task in plans[0].tasks if task in plans[1].tasks)
    return *runs, task


def a_round(value):
    return Round((value,), (1.0,), (1.0,))


def kept(run, task):
    return run.read_rounds().get(measurement_id(run.run.id, task), [])


def test_a_round_that_a_kill_kept_from_the_second_run_is_given_to_it(two_runs):
    first, second, task = two_runs
    first.keep_round(task, a_round(2.0), False)
    second.keep_round(task, a_round(2.0), False)
    first.keep_round(task, a_round(3.0), True)
    group = RunGroup([first, second])
    assert kept(second, task) == kept(first, task) == [(a_round(2.0), False), (a_round(3.0), True)]
    subject = group.subject(task, None, None)
    assert [(timed, index == 1) for index, timed in enumerate(subject.rounds)] == kept(first, task)
    assert subject.disturbed == 1
    RunGroup([first, second])
    assert len(kept(second, task)) == 2, "once is enough"


def test_a_measurement_that_a_kill_kept_from_the_second_run_is_given_to_it_under_its_own_id(two_runs):
    first, second, task = two_runs
    first.keep_round(task, a_round(2.0), False)
    measured = first.keep_measurement(task, [a_round(2.0)], Verdict(False, ("hot",)))
    group = RunGroup([first, second])
    assert task not in group.missing_tasks()
    (given,) = second.read_measurements().values()
    assert given.id == measurement_id(second.run.id, task) != measured.id
    assert (given.rounds, given.verdict) == (measured.rounds, measured.verdict)


def test_rounds_that_a_run_measured_alone_are_not_lost_and_a_finished_measurement_stays_as_it_is(two_runs):
    first, second, task = two_runs
    first.keep_round(task, a_round(2.0), False)
    first.keep_measurement(task, [a_round(2.0)], Verdict(True))
    second.keep_round(task, a_round(5.0), False)
    group = RunGroup([first, second])
    subject = group.subject(task, None, None)
    assert subject.rounds == [a_round(2.0), a_round(5.0)]
    assert subject.runs == [second]
    assert len(kept(first, task)) == 1
    assert len(kept(second, task)) == 2
    assert len(first.read_measurements()) == 1


def test_plans_of_different_canaries_are_not_measured_together(two_runs, tmp_path):
    first, second, _ = two_runs
    plan = json.loads((second.folder / "plan.json").read_bytes())
    foreign = type(first)(tmp_path, second.run, Plan(plan["space"], (), canary="chain:1:skip_connect/4x8x8/4x8x8/s1"))
    with pytest.raises(LutnasError, match="different canaries"):
        RunGroup([first, foreign])
