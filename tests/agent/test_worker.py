"""The command `work`: jobs are done, results get there, whatever the server does in between."""

import random
import threading
import time

import pytest

from profiler_agent.cli import main
from profiler_agent.ort.sessions import find_version
from profiler_agent.profile import verify_job
from profiler_agent.progress import Progress
from profiler_agent.server.server_client import ServerClient
from profiler_agent.spool.spool import Spool
from profiler_agent.timing.stopping import PRESETS
from profiler_agent.worker import Worker
from shared.errors import AccessDenied
from shared.jobs import JobResult, NewJob, Promise, Reference
from shared.measurements.graph_spec import CanaryGraph, NetworkGraph
from shared.measurements.measurement import Measurement
from shared.runtime import Runtime
from shared.wire import from_wire

PROMISE = {"table_hash": "0" * 64, "predicted_ms": 1.0, "upper_ms": 1.1, "target_ms": 1.2}


@pytest.fixture
def work(agent):
    return ["work", *agent.connection, "--device", "bench", "--preset", "quick", "--once"]


def verification(space, **changes):
    network = NetworkGraph(space, space.fastest())
    promise = Promise(genotype=space.format(network.genotype), **PROMISE)
    about = {
        "device": "bench", "kind": "verify", "runtime": Runtime("onnxruntime", "1.0.0"), "canary": str(CanaryGraph()),
        "space": str(space), "graph": str(network), "promise": promise,
    }  # fmt: skip
    return NewJob(**about | changes)


@pytest.fixture
def client(server):
    with ServerClient(server.url, "secret-of-the-agent") as open_client:
        yield open_client


def worker_of(client, agent, said, **settings):
    return Worker(client, Spool(agent.spool), Progress(said.append), "bench", PRESETS["quick"], poll_s=0.02, **settings)


def test_a_verification_is_measured_with_this_machines_runtime(server, work, small_space):
    job_id = server.queue(verification(small_space))
    assert main(work) == 0
    result = from_wire(JobResult, server.results[job_id])
    assert result.error is None
    assert result.runtime.version == find_version()
    assert result.measurement.role == "verification"
    assert result.measurement.subject == small_space.format(small_space.fastest())
    assert len(result.measurement.rounds) >= 24
    assert result.measurement.estimate().ratio > 0


@pytest.mark.parametrize("is_slow", [False, True])
def test_references_are_timed_in_the_same_rounds_unless_the_network_is_slow(
    server, work, small_space, monkeypatch, is_slow
):
    if is_slow:
        monkeypatch.setattr(verify_job, "LONGEST_BESIDE_OTHERS_S", 0.0)
    others = [small_space.sample(random.Random(seed)) for seed in range(3)]
    references = tuple(
        Reference(str(NetworkGraph(small_space, other)), small_space.format(other), 1.0) for other in others
    )
    job_id = server.queue(verification(small_space, references=references))
    assert main(work) == 0
    result = from_wire(JobResult, server.results[job_id])
    assert result.error is None
    assert [each.graph for each in result.references] == ([] if is_slow else [each.graph for each in references])
    assert all(len(each.rounds) >= 24 for each in (result.measurement, *result.references))


def test_a_verification_goes_on_without_references_that_the_server_no_longer_has(
    server, work, small_space, agent, capsys
):
    other = small_space.sample(random.Random(1))
    reference = Reference(str(NetworkGraph(small_space, other)), small_space.format(other), 1.0)
    job_id = server.queue(verification(small_space, references=(reference,)))
    asked = []

    def refuse_the_third(method, path):
        asked.append(path)
        if path == "/v1/graph" and asked.count(path) > 2:
            raise agent.Refusal(404, "unknown_model", "it is gone")

    server.before = refuse_the_third
    assert main(work) == 0
    result = from_wire(JobResult, server.results[job_id])
    assert (result.error, result.references) == (None, ())
    assert len(result.measurement.rounds) >= 24
    said = f"job {job_id}: no network of its table is timed beside it: {server.url} refuses (404): it is gone"
    assert said in capsys.readouterr().err


def test_a_profile_job_makes_the_table(server, agent, small_space, work):
    server.queue(verification(small_space, kind="profile", graph=None, promise=None))
    plan_sizes = server.route
    server.route = lambda method, path, query, *rest: plan_sizes(
        method, path, query | {"calibration": "3", "held_out": "2"}, *rest
    )
    assert main(work) == 0
    (result,) = server.results.values()
    ((run_id, measurements),) = server.measurements.items()
    assert result["run"] == run_id
    assert len(measurements) == agent.tasks


def test_a_job_that_cannot_be_done_fails_with_its_reason(server, work, small_space):
    server.models[verification(small_space).graph] = b"broken"
    broken = server.queue(verification(small_space))
    elsewhere = server.queue(
        verification(
            small_space,
            runtime=Runtime("onnxruntime", "1.0.0", provider="CUDAExecutionProvider"),
            canary="canary:conv-v1",
        )
    )
    assert main(work) == 0
    assert "refuses it" in server.results[broken]["error"]
    assert "here has no CUDAExecutionProvider" in server.results[elsewhere]["error"]


@pytest.mark.parametrize("status", [500, 503])
def test_a_result_is_handed_in_late_when_the_server_cannot_take_it(server, agent, work, small_space, status):
    job_id = server.queue(verification(small_space))

    def refuse_results(method, path):
        if path.endswith("/result"):
            raise agent.Refusal(status, "unavailable", "later")

    server.before = refuse_results
    assert main(work) == 1
    assert server.results == {}
    kept = Spool(agent.spool).results()
    assert list(kept) == [job_id]
    server.before = lambda method, path: None
    assert main(work) == 0
    assert from_wire(Measurement, server.results[job_id]["measurement"]) == kept[job_id].measurement
    assert Spool(agent.spool).results() == {}


@pytest.mark.parametrize("command", ["work", "upload"])
def test_a_result_that_is_never_taken_fails_its_job_and_holds_up_no_other(
    server, agent, work, small_space, capsys, command
):
    spool, refused = Spool(agent.spool), []
    first, second = server.queue(verification(small_space)), server.queue(verification(small_space))
    spool.keep_result(first, JobResult(error="too long"))
    spool.keep_result(second, JobResult(error="short"))

    def refuse_the_first(method, path):
        if path.endswith("/result") and not refused:
            refused.append(path)
            raise agent.Refusal(413, "too_large", "not through this proxy")

    server.before = refuse_the_first
    assert main(work if command == "work" else ["upload", *agent.connection]) == (0 if command == "work" else 1)
    assert server.results[first]["error"].startswith("its result is refused: ")
    assert server.results[second]["error"] == "short"
    assert spool.results() == {}
    (kept,) = (agent.spool / "results").glob("*.refused")
    assert "too long" in kept.read_text()
    said = capsys.readouterr()
    assert str(kept) in said.err + said.out


def test_one_look_for_work_at_a_server_that_is_away_fails(server, work, capsys):
    server.stop()
    assert main(work) == 1
    assert f"no answer from {server.url}" in capsys.readouterr().err


def test_spooled_results_go_with_upload_too(server, agent, small_space, capsys):
    job_id = server.queue(verification(small_space))
    Spool(agent.spool).keep_result(job_id, JobResult(error="measured elsewhere"))
    assert main(["upload", *agent.connection]) == 0
    assert server.results[job_id]["error"] == "measured elsewhere"


def test_a_worker_outlives_its_server(server, client, agent, small_space):
    said = []
    worker = worker_of(client, agent, said, sleep=lambda seconds: time.sleep(min(seconds, 0.05)))
    server.stop()
    thread = threading.Thread(target=worker.run, kwargs={"idle_exit_s": 3.0})
    thread.start()
    time.sleep(0.3)
    server.start()
    server.queue(verification(small_space))
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert len(server.results) == 1
    assert any("asking again in" in line for line in said)


def test_a_worker_without_the_right_token_ends(server, agent):
    with ServerClient(server.url, "wrong") as client:
        worker = Worker(client, Spool(agent.spool), Progress(lambda line: None), "bench")
        with pytest.raises(AccessDenied):
            worker.run(once=True)


def test_the_lease_is_kept_while_measuring(server, client, agent, small_space):
    worker = worker_of(client, agent, [], lease_s=0.3)
    server.queue(verification(small_space))
    worker.run(once=True)
    assert sum("heartbeat" in request for request in server.requests) >= 2
    assert len(server.results) == 1


def test_a_cancelled_job_is_left(server, client, agent, small_space):
    said = []
    worker = worker_of(client, agent, said, lease_s=0.15)
    server.queue(verification(small_space))

    def cancel(method, path):
        if path.endswith("/heartbeat"):
            server.jobs[0]["state"] = "cancelled"

    server.before = cancel
    worker.run(once=True)
    assert server.results == {}
    assert any("is over" in line for line in said)


def test_a_lost_lease_is_no_reason_to_stop(server, client, agent, small_space):
    worker = worker_of(client, agent, [], lease_s=0.15)
    server.queue(verification(small_space))

    def lose(method, path):
        if path.endswith("/heartbeat"):
            server.jobs[0]["lease_owner"] = "another"

    server.before = lose
    worker.run(once=True)
    assert len(server.results) == 1


def test_an_idle_worker_exits_when_told_to(server, client, agent):
    started_s = time.monotonic()
    worker_of(client, agent, []).run(idle_exit_s=0.2)
    assert 0.2 <= time.monotonic() - started_s < 5
