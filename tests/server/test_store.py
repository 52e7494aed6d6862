"""The contract of `lut_server.store.values`, held over SQLite and over a real PostgreSQL, with two
servers on one database.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from lut_server.auth import create_token, make_token
from lut_server.calibration.table_builder import build_table
from lut_server.clock import stamp
from lut_server.runs.finish_run import finish_run
from lut_server.store.sql import open_store
from lut_server.store.values import Pairing
from shared.errors import Conflict, NotFound
from shared.jobs import JobResult, NewJob
from shared.wire import to_wire

NETWORK = "network:nas-bench-201/r8/c4/n1/k10/i3:|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"


@pytest.fixture
def twins(any_url, clock):
    """Two servers on one database."""
    stores = [open_store(any_url, clock) for _ in range(2)]
    yield stores
    for store in stores:
        store.close()


@pytest.fixture
def count_job(lab):
    return NewJob("pi", "count", lab.runtime, lab.plan.canary, str(lab.space), genotypes=("|a|",))


def at_once(calls, workers=8):
    with ThreadPoolExecutor(workers) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def begin(store, lab, *run_ids):
    store.devices.register("pi", {})
    for run_id in run_ids:
        store.runs.put(lab.run(run_id))


# --- devices --------------------------------------------------------------------------------------


def test_device_is_registered_once_and_renewed_after_that(any_store, clock):
    first, is_new = any_store.devices.register("pi", {"cpu": "old"})
    assert is_new
    clock.advance(60)
    second, is_new = any_store.devices.register("pi", {"cpu": "new"})
    assert not is_new
    assert (second.probe, second.created_at) == ({"cpu": "new"}, first.created_at)
    assert second.last_seen_at > first.last_seen_at
    assert any_store.devices.get("pi") == second
    assert any_store.devices.list() == (second,)


def test_device_that_many_register_at_once_is_new_to_one_of_them(twins):
    found = at_once([lambda n=n: twins[n % 2].devices.register("pi", {"n": str(n)})[1] for n in range(16)])
    assert sum(found) == 1


def test_what_is_unknown_is_not_found_by_its_code(any_store):
    devices, runs, tables, models, jobs = (
        getattr(any_store, name) for name in ("devices", "runs", "tables", "models", "jobs")
    )
    for code, call in (
        ("unknown_device", lambda: devices.get("pear")),
        ("unknown_run", lambda: runs.get("run-1")),
        ("unknown_run", lambda: runs.measurements("run\0-1")),
        ("unknown_run", lambda: runs.add_measurements("run-1", [])),
        ("no_table", lambda: tables.get_bytes("0" * 64)),
        ("unknown_model", lambda: models.get("0" * 64)),
        ("unknown_job", lambda: jobs.get("a\0b")),
        ("unknown_device", lambda: jobs.lease("pear", "a", 1.0)),
        ("not_found", lambda: any_store.tokens.revoke("none")),
    ):
        with pytest.raises(NotFound) as caught:
            call()
        assert caught.value.code == code
    assert any_store.tables.find("pear") is None
    assert any_store.tokens.find("none") is None


# --- runs -----------------------------------------------------------------------------------------


def test_uploaded_values_come_back_equal_and_in_order(any_store, lab):
    begin(any_store, lab)
    assert any_store.runs.put(lab.run())
    assert not any_store.runs.put(lab.run())
    any_store.runs.add_measurements("run-1", lab.measure_all())
    assert any_store.runs.get("run-1").run == lab.run()
    assert any_store.runs.measurements("run-1") == tuple(lab.measure_all())


def test_same_run_with_other_content_is_a_conflict(any_store, lab):
    begin(any_store, lab, "run-1")
    with pytest.raises(Conflict):
        any_store.runs.put(replace(lab.run(), agent_version="9"))
    assert any_store.runs.get("run-1").run == lab.run()


def test_failed_batch_leaves_nothing(any_store, lab):
    begin(any_store, lab, "run-1")
    first, second = lab.measure_all()[:2]
    any_store.runs.add_measurements("run-1", [first])
    clash = lab.measure(lab.plan.tasks[0], ms=9.0)
    with pytest.raises(Conflict, match="was uploaded before with other content"):
        any_store.runs.add_measurements("run-1", [second, clash])
    with pytest.raises(Conflict):
        any_store.runs.add_measurements("run-1", [second, replace(second, divisor=7)])
    assert any_store.runs.measurements("run-1") == (first,)


def test_uploads_of_the_same_batch_that_race_store_each_measurement_once(twins, lab):
    begin(twins[0], lab, "run-1")
    measurements = lab.measure_all()
    halves = [measurements[: len(measurements) // 2], measurements[len(measurements) // 4 :], measurements]
    batches = [(twins[n % 2], halves[n % 3]) for n in range(18)]
    stored = at_once([lambda s=store, b=batch: s.runs.add_measurements("run-1", b) for store, batch in batches])
    assert sum(batch.stored for batch in stored) == len(measurements)
    assert sum(batch.known for batch in stored) == sum(len(batch) for _, batch in batches) - len(measurements)
    found = twins[1].runs.measurements("run-1")
    assert sorted(found, key=lambda measurement: measurement.id) == sorted(
        measurements, key=lambda measurement: measurement.id
    )


def test_finished_run_takes_no_new_measurement_and_knows_the_old_ones(any_store, lab):
    begin(any_store, lab, "run-1")
    any_store.runs.add_measurements("run-1", lab.measure_all())
    finish_run(any_store, lab.run(), lab.plan)
    assert any_store.runs.add_measurements("run-1", lab.measure_all()).stored == 0
    with pytest.raises(Conflict, match="finished"):
        any_store.runs.add_measurements("run-1", [replace(lab.measure_all()[0], id="another")])


def test_runs_of_a_device_that_finish_at_once_agree_on_one_canary_time(twins, lab):
    names = [f"run-{n}" for n in range(4)]
    begin(twins[0], lab, *names)
    for n, name in enumerate(names):
        twins[0].runs.add_measurements(name, lab.measure_all(canary_ms=2.0 + n / 10))
    made = at_once([lambda n=n: finish_run(twins[n % 2], lab.run(names[n]), lab.plan) for n in range(4)], 4)
    assert len({table.canary_nominal_ms for table in made}) == 1
    assert {table.canary_nominal_ms for table in twins[0].tables.list("pi")} == {made[0].canary_nominal_ms}
    assert finish_run(twins[1], lab.run(names[0]), lab.plan) == made[0]


def test_table_in_another_unit_than_the_devices_is_refused(any_store, lab):
    begin(any_store, lab, "run-1", "run-2")
    for run_id, canary_ms in (("run-1", 2.0), ("run-2", 2.5)):
        any_store.runs.add_measurements(run_id, lab.measure_all(canary_ms=canary_ms))
    stale = build_table(lab.run("run-2"), lab.plan, any_store.runs.measurements("run-2"), 2.5)
    finish_run(any_store, lab.run("run-1"), lab.plan)
    with pytest.raises(Conflict, match="another run of pi has set the canary's nominal time"):
        any_store.runs.finish("run-2", stale)
    assert not any_store.runs.get("run-2").finished
    assert finish_run(any_store, lab.run("run-2"), lab.plan).canary_nominal_ms == 2.0


# --- kernels, tables, models, tokens --------------------------------------------------------------


def test_newest_kernel_counts_of_a_graph_hold(any_store, lab, clock):
    begin(any_store, lab)
    runtime = str(lab.runtime)
    other = f"chain:8:{next(iter(lab.space.op_keys()))}"
    assert to_wire(any_store.kernels.put("pi", runtime, {NETWORK: {"a": 1}, other: {"b": 2}})) == {
        "stored": 2,
        "known": 0,
    }
    assert any_store.kernels.put("pi", runtime, {NETWORK: {"a": 3}, other: {"b": 2}}).stored == 1
    assert any_store.kernels.put("pi", runtime, {}).stored == 0
    assert any_store.kernels.of_graphs("pi", runtime, [NETWORK, other]) == {NETWORK: {"a": 3}, other: {"b": 2}}
    space, _, genotype = NETWORK.removeprefix("network:").partition(":")
    assert any_store.kernels.of_space("pi", runtime, space) == {genotype: {"a": 3}}


def test_counts_that_race_are_all_kept(twins, lab):
    begin(twins[0], lab)
    graphs = [f"chain:{n}:{next(iter(lab.space.op_keys()))}" for n in range(2, 30)]
    batches = [{graph: {"k": n} for graph in (graphs if n % 2 else graphs[::-1])} for n in range(12)]
    at_once([lambda n=n: twins[n % 2].kernels.put("pi", str(lab.runtime), batches[n]) for n in range(12)])
    assert set(twins[0].kernels.of_graphs("pi", str(lab.runtime), graphs)) == set(graphs)


def test_table_is_found_by_the_first_parts_of_its_space(any_store, lab):
    begin(any_store, lab, "run-1")
    any_store.runs.add_measurements("run-1", lab.measure_all())
    summary = finish_run(any_store, lab.run(), lab.plan)
    for space in ("", "nas-bench-201", "nas-bench-201/r8", str(lab.space)):
        assert any_store.tables.find("pi", space) == summary
    assert any_store.tables.find("pi", "nas-bench-201/r") is None
    assert any_store.tables.find("pi", runtime="other") is None


def test_model_is_stored_once(twins):
    stored = at_once([lambda n=n: twins[n % 2].models.put("0" * 64, b"\0onnx") for n in range(8)])
    assert sum(stored) == 1
    assert twins[0].models.get("0" * 64) == b"\0onnx"
    assert twins[0].models.has("0" * 64)


def test_token_comes_back_as_it_was_and_is_revoked_once(any_store, clock):
    token_id = create_token(any_store.tokens, "agent", "for the \0 pi", "pi", clock).split("_")[1]
    found = any_store.tokens.find(token_id)
    assert (found.summary.role, found.summary.device, len(found.digest)) == ("agent", "pi", 32)
    first = any_store.tokens.revoke(token_id)
    clock.advance(5)
    assert any_store.tokens.revoke(token_id) == first == any_store.tokens.list()[0]


# --- pairings -------------------------------------------------------------------------------------


def pair(store, clock, device="phone", digest=b"right", minutes=10):
    ends = stamp(clock() + timedelta(minutes=minutes))
    store.pairings.put(Pairing(device, stamp(clock()), ends, 30.0), digest)


def test_a_code_is_redeemed_once_with_its_token_or_not_at_all(any_store, clock):
    pair(any_store, clock)
    found = any_store.pairings.find("phone")
    assert (found.digest, found.pairing.token, found.pairing.token_days) == (b"right", None, 30.0)
    token = make_token("agent", device="phone", clock=clock).record
    assert not any_store.pairings.redeem("phone", b"wrong", token)
    assert not any_store.pairings.redeem("tablet", b"right", token)
    assert any_store.tokens.list() == ()
    assert any_store.pairings.redeem("phone", b"right", token)
    assert any_store.tokens.find(token.summary.id) == token
    assert any_store.pairings.find("phone").pairing.token == token.summary.id
    assert not any_store.pairings.redeem("phone", b"right", make_token("agent").record)
    assert not any_store.pairings.end("phone")
    assert len(any_store.tokens.list()) == 1


def test_a_new_code_ends_the_one_before_it_and_old_ones_are_cleared(any_store, clock):
    pair(any_store, clock, digest=b"first")
    pair(any_store, clock, digest=b"second")
    token = make_token("agent", clock=clock).record
    assert not any_store.pairings.redeem("phone", b"first", token)
    clock.advance(599)
    assert any_store.pairings.redeem("phone", b"second", token)
    pair(any_store, clock, digest=b"third")
    assert any_store.pairings.find("phone").pairing.token is None
    clock.advance(600)
    assert not any_store.pairings.redeem("phone", b"third", make_token("agent").record)
    pair(any_store, clock, "tablet", minutes=3000)
    clock.advance(86_400)
    assert [pairing.device for pairing in any_store.pairings.list()] == ["phone", "tablet"]
    clock.advance(1)
    pair(any_store, clock, "watch")
    assert any_store.pairings.find("phone") is None
    assert [pairing.device for pairing in any_store.pairings.list()] == ["tablet", "watch"]
    assert any_store.pairings.end("tablet")
    assert any_store.pairings.find("tablet") is None


def test_of_many_who_redeem_a_code_at_once_one_has_a_token(twins, clock):
    pair(twins[0], clock)
    made = [make_token("agent", clock=clock).record for _ in range(8)]
    won = at_once([lambda n=n: twins[n % 2].pairings.redeem("phone", b"right", made[n]) for n in range(8)])
    assert sum(won) == 1
    (token,) = twins[0].tokens.list()
    assert token == made[won.index(True)].summary
    at_once([lambda n=n: pair(twins[n % 2], clock, digest=bytes([n])) for n in range(8)])
    assert len(twins[1].pairings.list()) == 1


# --- jobs -----------------------------------------------------------------------------------------


def test_job_goes_round_by_priority_then_by_age(any_store, lab, count_job):
    begin(any_store, lab)
    made = {n: any_store.jobs.add(replace(count_job, priority=p)).id for n, p in enumerate((0, 5, -5, 5))}
    leased = [any_store.jobs.lease("pi", f"agent-{n}", 60.0).id for n in range(4)]
    assert leased == [made[1], made[3], made[0], made[2]]
    assert any_store.jobs.lease("pi", "agent-9", 60.0) is None


def test_job_after_its_last_attempt_is_dead_says_why_and_a_late_result_counts(any_store, lab, count_job, clock):
    begin(any_store, lab)
    job = any_store.jobs.add(count_job)
    for attempt in range(3):
        assert any_store.jobs.lease("pi", f"agent-{attempt}", 60.0).attempts == attempt + 1
        clock.advance(61)
    dead = any_store.jobs.get(job.id)
    assert (dead.state, dead.lease_owner) == ("dead", None)
    assert "given up after 3 attempts" in dead.reason
    assert "'agent-2'" in dead.reason
    assert any_store.jobs.list(state="dead") == (dead,)
    done = any_store.jobs.complete(job.id, JobResult(kernels={"|a|": {"k": 1}}), None)
    assert (done.state, done.reason) == ("done", None)
    assert any_store.jobs.find_result(job.id).kernels == {"|a|": {"k": 1}}


def test_dead_failed_and_cancelled_jobs_are_queued_again_with_all_their_attempts(any_store, lab, count_job, clock):
    begin(any_store, lab)
    job = any_store.jobs.add(count_job)
    with pytest.raises(Conflict, match="is queued"):
        any_store.jobs.requeue(job.id)
    any_store.jobs.lease("pi", "a", 60.0)
    any_store.jobs.complete(job.id, JobResult(error="out of \0 memory"), None)
    again = any_store.jobs.requeue(job.id)
    assert (again.state, again.attempts, again.reason) == ("queued", 0, None)
    assert any_store.jobs.find_result(job.id) is None
    any_store.jobs.cancel(job.id)
    assert any_store.jobs.lease("pi", "a", 60.0) is None
    any_store.jobs.requeue(job.id)
    assert any_store.jobs.lease("pi", "a", 60.0).id == job.id
    any_store.jobs.complete(job.id, JobResult(kernels={"|a|": {"k": 1}}), None)
    with pytest.raises(Conflict, match="is done"):
        any_store.jobs.requeue(job.id)


def test_queued_job_says_when_no_agent_asks_for_the_devices_work(any_store, lab, count_job, clock):
    begin(any_store, lab)
    job = any_store.jobs.add(count_job)
    assert "no agent has asked for work of 'pi' yet" in job.notice
    assert "profiler-agent work" in job.notice
    any_store.jobs.lease("pi", "a", 600.0)
    second = any_store.jobs.add(count_job)
    assert second.notice is None
    clock.advance(59)
    assert any_store.jobs.get(second.id).notice is None
    clock.advance(2)
    assert "no agent has asked for work of 'pi' since 2026-01-01T00:00:00" in any_store.jobs.get(second.id).notice
    any_store.jobs.heartbeat(job.id, "a", 600.0)
    assert any_store.jobs.get(second.id).notice is None
    assert any_store.devices.get("pi").last_asked_at is not None


def test_job_is_held_by_one_of_many_that_ask_two_servers_at_once(twins, lab, count_job):
    begin(twins[0], lab)
    jobs = [twins[0].jobs.add(count_job).id for _ in range(10)]
    leased = at_once([lambda n=n: twins[n % 2].jobs.lease("pi", f"agent-{n}", 60.0) for n in range(24)], 12)
    assert sorted(job.id for job in leased if job is not None) == sorted(jobs)
    assert all(job.attempts == 1 for job in twins[1].jobs.list())


def test_lost_leases_that_many_find_at_once_are_freed_once(twins, lab, count_job, clock):
    begin(twins[0], lab)
    jobs = {twins[0].jobs.add(count_job).id for _ in range(6)}
    for n in range(6):
        twins[0].jobs.lease("pi", f"agent-{n}", 60.0)
    clock.advance(61)
    leased = at_once([lambda n=n: twins[n % 2].jobs.lease("pi", f"other-{n}", 60.0) for n in range(12)], 12)
    assert {job.id for job in leased if job is not None} <= jobs
    while more := twins[0].jobs.lease("pi", f"last-{len(leased)}", 60.0):
        leased.append(more)
    assert sorted(job.id for job in leased if job is not None) == sorted(jobs)
    assert all(job.attempts == 2 for job in twins[0].jobs.list())


def test_one_result_of_two_that_race_counts(twins, lab, count_job):
    begin(twins[0], lab)
    job = twins[0].jobs.add(count_job).id
    twins[0].jobs.lease("pi", "a", 60.0)

    def complete(n):
        try:
            return twins[n % 2].jobs.complete(job, JobResult(kernels={"|a|": {"k": n}}), None)
        except Conflict:
            return None

    assert len([job for job in at_once([lambda n=n: complete(n) for n in range(8)]) if job is not None]) == 1
