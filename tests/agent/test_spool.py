"""What is on disk survives kills, torn lines and full disks."""

import hashlib
import json
from pathlib import Path

import pytest

from profiler_agent.cli import main
from profiler_agent.spool.run_spool import LineLog, measurement_id
from profiler_agent.spool.spool import Spool, default_spool
from shared.atomic_files import write_atomically
from shared.errors import CorruptFile, LutnasError, OtherSchema, ServerAway
from shared.jobs import JobResult
from shared.measurements.measurement import Round, Run, Verdict
from shared.measurements.plan import make_plan
from shared.runtime import Runtime


@pytest.fixture
def plan(small_space):
    return make_plan(small_space, 2, 1)


def new_run(spool, plan, run_id="run-1", started_at="2026-01-01T00:00:00+00:00", **changes):
    about = {
        "id": run_id, "device": "pi", "runtime": Runtime("onnxruntime", "1.31.1"), "space": plan.space,
        "plan_id": plan.id, "canary": plan.canary, "agent_version": "0.1.0", "started_at": started_at, "probe": {},
    }  # fmt: skip
    return spool.new_run(Run(**about | changes), plan)


def a_round(task, value=2.0):
    return Round((value,), (1.0,), (1.0,) if task.minus else ())


def test_rounds_and_measurements_come_back_as_they_were(tmp_path, plan):
    spooled = new_run(Spool(tmp_path), plan)
    task = plan.tasks[0]
    spooled.keep_round(task, a_round(task), False)
    spooled.keep_round(task, a_round(task, 3.0), True)
    measurement = spooled.keep_measurement(task, [a_round(task)], Verdict(True))
    (again,) = Spool(tmp_path).runs()
    assert again.read_rounds() == {measurement.id: [(a_round(task), False), (a_round(task, 3.0), True)]}
    assert again.read_measurements() == {measurement.id: measurement}
    assert again.missing_tasks() == list(plan.tasks[1:])


def test_ids_are_the_same_for_the_same_task_of_the_same_run_and_differ_otherwise(plan):
    ids = {measurement_id(run, task) for run in ("a", "b") for task in plan.tasks}
    assert len(ids) == 2 * len(plan.tasks)
    assert measurement_id("a", plan.tasks[0]) == measurement_id("a", plan.tasks[0])


@pytest.mark.parametrize("lost", range(1, 60, 7))
def test_a_line_torn_by_a_kill_is_dropped_and_the_next_one_is_whole(tmp_path, plan, lost):
    spooled = new_run(Spool(tmp_path), plan)
    first, second = plan.tasks[:2]
    spooled.keep_measurement(first, [a_round(first)], Verdict(True))
    spooled.keep_measurement(second, [a_round(second)], Verdict(True))
    path = spooled.folder / "measurements.jsonl"
    path.write_bytes(path.read_bytes()[:-lost])
    assert spooled.missing_tasks() == list(plan.tasks[1:])
    again = spooled.keep_measurement(second, [a_round(second, 4.0)], Verdict(True))
    assert list(spooled.read_measurements().values())[1] == again
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_what_one_server_has_another_still_gets(tmp_path, plan):
    spooled = new_run(Spool(tmp_path), plan)
    ids = [spooled.keep_measurement(task, [a_round(task)], Verdict(True)).id for task in plan.tasks[:3]]
    spooled.acknowledge("http://one", ids[:2])
    assert [measurement["id"] for measurement in spooled.unsent("http://one")] == ids[2:]
    assert [measurement["id"] for measurement in spooled.unsent("http://two")] == ids


def test_only_an_unfinished_run_of_the_same_identity_is_resumed(tmp_path, plan):
    spool = Spool(tmp_path)
    older = new_run(spool, plan, "older", "2026-01-01T00:00:00+00:00")
    newer = new_run(spool, plan, "newer", "2026-01-02T00:00:00+00:00")
    new_run(spool, plan, "other-device", "2026-01-03T00:00:00+00:00", device="phone")
    new_run(spool, plan, "other-runtime", "2026-01-03T00:00:00+00:00", runtime=Runtime("onnxruntime", "1.30.0"))
    new_run(spool, plan, "other-agent", "2026-01-03T00:00:00+00:00", agent_version="0.0.9")
    assert spool.find_run(older.run, finished=False).run.id == "newer"
    newer.finish({"hash": "h"})
    assert spool.find_run(older.run, finished=False).run.id == "older"
    older.finish({"hash": "h"})
    assert spool.find_run(older.run, finished=False) is None


def test_a_full_disk_is_one_clear_line_and_what_was_written_stays(tmp_path, plan):
    spooled = new_run(Spool(tmp_path), plan)
    task = plan.tasks[0]
    kept = spooled.keep_measurement(task, [a_round(task)], Verdict(True))
    (spooled.folder / "rounds.jsonl").symlink_to("/dev/full")
    with pytest.raises(LutnasError, match=r"no space left for .*rounds\.jsonl") as caught:
        spooled.keep_round(task, a_round(task), False)
    assert caught.value.exit_code == 1
    assert spooled.read_measurements() == {kept.id: kept}


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "kept.json"
    write_atomically(path, b"old")
    path.with_name("blocked").write_bytes(b"")
    with pytest.raises(LutnasError, match="cannot use"):
        write_atomically(path.with_name("blocked") / "below", b"new")
    assert path.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blocked", "kept.json"]


def test_a_log_without_a_file_is_empty(tmp_path):
    assert list(LineLog(tmp_path / "none.jsonl").lines()) == []


def test_an_unreadable_run_names_its_file_and_what_to_do(tmp_path, plan):
    spooled = new_run(Spool(tmp_path), plan)
    (spooled.folder / "run.json").write_text("{")
    with pytest.raises(CorruptFile, match=r"run\.json cannot be read"):
        Spool(tmp_path).runs()


@pytest.mark.parametrize("folder", ["graphs", "known", "results", "runs"])
def test_a_spool_without_a_schema_number_is_refused(tmp_path, folder):
    (tmp_path / folder).mkdir()
    with pytest.raises(OtherSchema, match=f"the spool {tmp_path} has no schema number, this lutnas reads schema 12"):
        Spool(tmp_path)


def test_a_spool_of_another_lutnas_ends_every_command_in_a_line(tmp_path, plan, capsys):
    new_run(Spool(tmp_path), plan)
    (tmp_path / "schema").write_text("99\n")
    where = ("--server", "http://127.0.0.1:1", "--spool", str(tmp_path))
    profile = ("profile", *where, "--device", "d", "--space", "darts")
    for command in (("upload", *where), ("work", *where, "--device", "d"), profile):
        assert main([*command]) == 1
        assert capsys.readouterr().err == (
            f"profiler-agent: the spool {tmp_path} has schema 99, this lutnas reads schema 12: "
            "make it anew, or use the lutnas that wrote it\n"
        )


def saving(content):
    def save(file):
        file.write(content)
        return hashlib.sha256(content).hexdigest()

    return save


def test_a_graph_whose_download_breaks_off_leaves_nothing_behind(tmp_path):
    def save(file):
        file.write(b"mod")
        raise ServerAway("gone")

    spool = Spool(tmp_path)
    with pytest.raises(ServerAway):
        spool.keep_graph("canary:conv-v1", 1, save)
    assert spool.find_graph("canary:conv-v1", 1) is None
    assert list((tmp_path / "graphs").iterdir()) == []


def test_a_graph_that_rotted_on_disk_is_not_used(tmp_path):
    spool = Spool(tmp_path)
    spool.keep_graph("canary:conv-v1", 1, saving(b"model"))
    assert spool.find_graph("canary:conv-v1", 1)[1].read_bytes() == b"model"
    assert spool.find_graph("canary:conv-v1", 2) is None
    (path,) = (tmp_path / "graphs").iterdir()
    path.write_bytes(b"rotten")
    assert spool.find_graph("canary:conv-v1", 1) is None


def test_results_wait_until_they_are_dropped(tmp_path):
    spool = Spool(tmp_path)
    spool.keep_result("job/../1", JobResult(error="no"))
    assert Spool(tmp_path).results() == {"job/../1": JobResult(error="no")}
    spool.drop_result("job/../1")
    assert spool.results() == {}


def test_two_agents_do_not_measure_at_once(tmp_path):
    with Spool(tmp_path).measuring_lock(), pytest.raises(LutnasError, match="another profiler-agent is measuring"):
        Spool(tmp_path).measuring_lock().__enter__()
    with Spool(tmp_path).measuring_lock():
        pass


def test_the_spool_is_where_the_environment_says():
    assert default_spool({"LUTNAS_SPOOL": "/var/spool/x", "XDG_STATE_HOME": "/s"}) == Path("/var/spool/x")
    assert default_spool({"XDG_STATE_HOME": "/s"}) == Path("/s/lutnas")
    assert default_spool({}) == Path.home() / ".local" / "state" / "lutnas"
