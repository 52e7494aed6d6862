"""The fleet: health, activity and gaps of its devices, and the command that fills the gaps."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lut_server.auth import create_token
from lut_server.calibration.table_builder import build_table
from lut_server.cli import main
from lut_server.fleet.queue_profiles import Wanted, ask_for_missing
from lut_server.fleet.rows import Fleet
from lut_server.store.sql import open_store
from lut_server.tables.table_facts import FactsReader
from shared.device_status import CampaignProgress, DeviceStatus, TableCheck
from shared.errors import InvalidValue, NotFound, WrongUse
from shared.jobs import NewJob
from shared.runtime import Runtime
from shared.wire import to_wire

FAR = CampaignProgress(("run-9",), ("nas-bench-201/r8/c4/n1/k10/i3",), 12, 40)
HOT = DeviceStatus(83.4, ("throttled",), FAR)


def row(store, clock, name="pi"):
    fleet = Fleet(store, FactsReader(store.tables), clock())
    return fleet.row(store.devices.get(name))


def profile_job(lab, device="pi"):
    return NewJob(device, "profile", lab.runtime, lab.plan.canary, str(lab.space))


def add_table(store, lab, device, run_id, measurements=None, runtime=None):
    """A device whose finished run made a table."""
    store.devices.register(device, {})
    run = lab.run(run_id, device, **({"runtime": runtime} if runtime else {}))
    store.runs.put(run)
    store.runs.add_measurements(run_id, measurements or lab.measure_all())
    table = build_table(run, lab.plan, measurements or lab.measure_all(), 2.0)
    store.runs.finish(run_id, table)
    return table


# --- what agents say ------------------------------------------------------------------------------


def test_status_comes_with_questions_for_work_and_heartbeats_and_stays_until_the_next(any_store, clock, lab):
    any_store.devices.register("pi", {})
    assert any_store.devices.get("pi").status is None
    job = any_store.jobs.add(profile_job(lab))
    any_store.jobs.lease("pi", "a", 60.0, DeviceStatus(50.0))
    device = any_store.devices.get("pi")
    assert (device.status, device.status_at) == (DeviceStatus(50.0), device.last_asked_at)
    clock.advance(20)
    any_store.jobs.heartbeat(job.id, "a", 60.0, HOT)
    clock.advance(20)
    any_store.jobs.heartbeat(job.id, "a", 60.0)  # an older agent says nothing
    device = any_store.devices.get("pi")
    assert device.status == HOT
    assert device.status_at < device.last_asked_at
    assert any_store.devices.list() == (device,)
    with pytest.raises(NotFound):
        any_store.devices.report("pear", HOT)
    assert any_store.devices.report("pi", DeviceStatus()).status == DeviceStatus()
    checked = DeviceStatus(check=TableCheck("t" * 64, "2026-01-01T00:00:00+00:00", 8, 0.2, 0.01))
    any_store.devices.report("pi", checked)
    assert any_store.devices.report("pi", DeviceStatus(50.0)).status == replace(checked, temperature_c=50.0)


def test_agents_of_a_device_that_report_at_once_all_get_through(any_url, clock):
    stores = [open_store(any_url, clock) for _ in range(2)]
    stores[0].devices.register("pi", {})
    with ThreadPoolExecutor(8) as pool:
        calls = [
            pool.submit(stores[n % 2].devices.report, "pi", DeviceStatus(float(n)))
            if n % 4 < 2
            else pool.submit(stores[n % 2].jobs.lease, "pi", f"a{n}", 60.0, DeviceStatus(float(n)))
            for n in range(24)
        ]
        for call in calls:
            call.result()
    assert stores[0].devices.get("pi").status.temperature_c in range(24)
    for store in stores:
        store.close()


def test_routes_take_a_status_and_show_it_and_bind_it_to_the_tokens_device(api):
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    lease = {"device": "pi", "owner": "a", "lease_s": 60.0}
    assert api.post("/v1/jobs/lease", lease, role="agent").status_code == 200
    assert api.get("/v1/devices/pi").json()["device"]["status"] is None
    assert api.post("/v1/jobs/lease", {**lease, "status": to_wire(HOT)}, role="agent").status_code == 200
    shown = api.get("/v1/devices/pi").json()["device"]
    assert shown["status"] == to_wire(HOT)
    assert shown["status_at"] == shown["last_asked_at"]
    answer = api.put("/v1/devices/pi/status", {"temperature_c": 41.5, "new field": 1}, role="agent")
    assert answer.json()["device"]["status"] == {
        "temperature_c": 41.5, "throttling": None, "campaign": None, "check": None,
    }  # fmt: skip
    assert api.put("/v1/devices/pear/status", {}, role="agent").status_code == 404
    bound = create_token(api.store.tokens, "agent", device="phone")
    assert api.put("/v1/devices/pi/status", {}, token=bound).status_code == 403
    for wrong in ({"temperature_c": 1e6}, {"throttling": ["x" * 300]}, {"campaign": {**to_wire(FAR), "measured": 41}}):
        assert api.put("/v1/devices/pi/status", wrong, role="agent").status_code == 422


def test_status_that_cannot_be_is_refused():
    for change in ({"shift": 1000.0}, {"spread": 1e308}, {"spread": -0.1}, {"shift": float("nan")}):
        with pytest.raises(InvalidValue, match="no machine changes by"):
            TableCheck("a", "b", 8, **{"shift": 0.0, "spread": 0.0} | change)
    for wrong in ({"temperature_c": float("nan")}, {"throttling": ("",)}, {"throttling": ("a",) * 21}):
        with pytest.raises(InvalidValue, match="status"):
            DeviceStatus(**wrong)
    assert HOT.problems() == ("held back (throttled)", "83 degrees Celsius")
    assert DeviceStatus(79.0, ()).problems() == ()


# --- the view -------------------------------------------------------------------------------------


def test_device_is_alive_for_a_minute_after_it_was_heard_of(any_store, clock):
    any_store.devices.register("pi", {})
    assert (row(any_store, clock).health, row(any_store, clock).activity.says) == ("alive", "idle")
    clock.advance(61)
    assert (row(any_store, clock).health, row(any_store, clock).activity.says) == ("seen", "unknown")
    clock.advance(86_400)
    assert row(any_store, clock).health == "silent"


def test_device_that_holds_a_job_says_which_in_what_attempt_and_how_far_it_is(any_store, clock, lab):
    any_store.devices.register("pi", {})
    job, _ = any_store.jobs.add(profile_job(lab)), any_store.jobs.add(replace(profile_job(lab), priority=-1))
    any_store.jobs.lease("pi", "a", 600.0, HOT)
    found = row(any_store, clock)
    assert found.activity.says == f"job {job.id[:8]}, profile of {lab.space}, attempt 1 of 3: 12 of 40 measured"
    assert (found.activity.job, found.activity.measured, found.activity.tasks) == (job.id, 12, 40)
    assert (found.queued, found.problems) == (1, ("held back (throttled)", "83 degrees Celsius"))
    clock.advance(61)  # its status is too old
    stale = row(any_store, clock)
    assert stale.activity.says == f"job {job.id[:8]}, profile of {lab.space}, attempt 1 of 3"
    assert (stale.problems, stale.activity.measured) == (None, None)


def test_table_that_no_longer_holds_is_a_problem_until_it_is_measured_anew(any_store, clock, lab):
    table = add_table(any_store, lab, "pi", "run-1")
    check = TableCheck(table.hash, "2026-01-01T00:00:00+00:00", 8, 0.2, 0.01)
    any_store.devices.report("pi", DeviceStatus(check=replace(check, shift=0.02)))
    assert row(any_store, clock).problems == ()
    any_store.devices.report("pi", DeviceStatus(check=check))
    clock.advance(86_400)
    (problem,) = row(any_store, clock).problems
    assert f"table {table.hash[:12]} no longer holds" in problem
    assert "+22.1 % beside the canary" in problem
    add_table(any_store, lab, "pi", "run-2")
    assert row(any_store, clock).problems is None


def test_run_under_way_is_shown_by_what_its_agent_says_or_by_what_it_uploaded(any_store, clock, lab):
    any_store.devices.register("pi", {})
    any_store.runs.put(lab.run("run-9"))
    any_store.runs.add_measurements("run-9", lab.measure_all()[:3])
    assert row(any_store, clock).activity.says == "run run-9: 3 measurements so far"
    any_store.devices.report("pi", HOT)
    assert row(any_store, clock).activity.says == f"profile of {lab.space}: 12 of 40 measured"
    any_store.runs.add_measurements("run-9", lab.measure_all()[3:])
    any_store.runs.finish("run-9", build_table(lab.run("run-9"), lab.plan, lab.measure_all(), 2.0))
    assert row(any_store, clock).activity.says == "idle"


def test_gaps_say_what_is_missing_from_which_table(any_store, clock, lab):
    table = add_table(any_store, lab, "pi", "run-1")
    any_store.devices.register("phone", {})
    (gap,) = row(any_store, clock).gaps
    networks = len({network.genotype for network in table.networks})
    assert (gap.space, gap.runtime, gap.table) == (str(lab.space), str(lab.runtime), table.hash)
    assert (gap.ops, gap.networks, gap.kernel_prices, gap.kernels) == (0, False, True, networks)
    assert f"the kernels of {networks} networks are not counted" in gap.says
    (absent,) = row(any_store, clock, "phone").gaps
    assert absent.says == f"no table of {lab.space}, which pi has"
    assert (absent.table, absent.ops) == (None, len(lab.space.op_keys()))
    marginal = [measurement for measurement in lab.measure_all() if measurement.role == "marginal"]
    any_store.runs.put(lab.run("run-2", "phone"))
    any_store.runs.add_measurements("run-2", marginal[:5])
    (begun,) = row(any_store, clock, "phone").gaps
    assert (begun.run, begun.ops) == ("run-2", len(lab.space.op_keys()) - 5)
    assert "has 5 measurements and lacks" in begun.says
    assert "networks of the fit, held-out networks" in begun.says
    assert any_store.runs.count_roles("run-2") == {
        **dict.fromkeys(any_store.runs.count_roles("run-1"), 0),
        "marginal": 5,
    }


def test_browsers_table_lacks_no_kernels_that_its_runtime_does_not_show(store, clock, lab):
    add_table(store, lab, "phone", "run-1", runtime=Runtime("onnxruntime-web", "1.31.0", "wasm/simd"))
    assert row(store, clock, "phone").gaps == ()


def test_pages_and_their_twins_show_what_a_device_does_and_how_it_is(api, lab):
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    api.post("/v1/jobs", to_wire(profile_job(lab)))
    api.post("/v1/jobs/lease", {"device": "pi", "owner": "a", "lease_s": 60.0, "status": to_wire(HOT)})
    for path in ("/", "/devices/pi"):
        page = api.get(path, role=None).text
        assert "attempt 1 of 3: 12 of 40 measured" in page
        assert '<progress max="40" value="12">' in page
        assert "83 °C" in page
        assert "held back (throttled)" in page
    (twin,) = api.get("/?format=json").json()["devices"]
    assert twin["activity"]["tasks"] == 40
    assert twin == api.get("/devices/pi?format=json").json()["row"]


# --- asking ---------------------------------------------------------------------------------------


def test_every_device_that_lacks_a_table_is_asked_once(any_store, clock, lab):
    add_table(any_store, lab, "pi", "run-1")
    clock.advance(3600)
    any_store.devices.register("phone", {})
    clock.advance(50)
    any_store.devices.register("tablet", {})
    clock.advance(20)

    def ask():
        asked = ask_for_missing(any_store, Wanted(), clock())
        return [(wish.device, wish.outcome, wish.alive) for wish in asked]

    assert ask() == [("phone", "queued", False), ("pi", "has it", False), ("tablet", "queued", True)]
    assert ask() == [
        ("phone", "was queued already", False),
        ("pi", "has it", False),
        ("tablet", "was queued already", True),
    ]
    leased = any_store.jobs.lease("tablet", "a", 60.0)
    assert (leased.job.kind, leased.job.space, leased.job.runtime.threads) == ("profile", str(lab.space), 1)
    assert ask()[2][1] == "was queued already"
    asked = {wish.device: wish for wish in ask_for_missing(any_store, Wanted(), clock())}
    assert "profiler-agent work --lut-url URL --device phone" in asked["phone"].notice
    assert asked["tablet"].notice is None
    assert len(any_store.jobs.list()) == 2


def test_commands_that_ask_at_once_queue_one_job(any_url, clock, lab):
    stores = [open_store(any_url, clock) for _ in range(2)]
    stores[0].devices.register("pi", {})
    wanted = Wanted((str(lab.space),))
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda n: ask_for_missing(stores[n % 2], wanted, clock())[0], range(12)))
    assert sorted(wish.outcome for wish in asked) == ["queued"] + ["was queued already"] * 11
    (job,) = stores[0].jobs.list()
    assert {wish.job for wish in asked} == {job.id}
    for store in stores:
        store.close()


def test_spaces_are_those_of_the_fleet_or_what_their_first_parts_mean(store, clock, lab):
    store.devices.register("phone", {})
    with pytest.raises(WrongUse, match="--space"):
        ask_for_missing(store, Wanted(), clock())
    with pytest.raises(WrongUse):
        ask_for_missing(store, Wanted(("kettle",)), clock())
    with pytest.raises(NotFound):
        ask_for_missing(store, Wanted(("darts",), ("pear",)), clock())
    add_table(store, lab, "pi", "run-1")

    def spaces(*asked):
        return [wish.space for wish in ask_for_missing(store, Wanted(asked, ("phone",)), clock())]

    assert spaces("nas-bench-201") == [str(lab.space)]
    assert spaces() == [str(lab.space)]
    assert spaces("nas-bench-201/r32")[0].startswith("nas-bench-201/r32/c16/")
    assert spaces("darts", "fbnet/r96")[1].startswith("fbnet/r96/")


def test_device_is_asked_for_what_its_newest_table_was_measured_with_unless_told_otherwise(store, clock, lab):
    web = Runtime("onnxruntime-web", "1.31.0", "wasm/simd", threads=4)
    add_table(store, lab, "phone", "run-1", runtime=web)
    (asked,) = ask_for_missing(store, Wanted(("darts",)), clock())
    assert asked.runtime == str(replace(web, version="any"))
    newer = replace(web, version="1.32.0")
    add_table(store, lab, "phone", "run-2", runtime=newer)
    assert ask_for_missing(store, Wanted(("darts",)), clock())[0].outcome == "was queued already"
    (same,) = ask_for_missing(store, Wanted((str(lab.space),)), clock())
    assert same.outcome == "has it"
    (other,) = ask_for_missing(store, Wanted((str(lab.space),), threads=2, precision="int8"), clock())
    assert (other.outcome, "int8/threads=2" in other.runtime) == ("queued", True)


@pytest.fixture
def run(capsys, tmp_path):
    url = f"sqlite:///{tmp_path}/cli.db"

    def call(*arguments):
        code = main([*arguments, "--database-url", url], environment={})
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    call.url = url
    return call


def test_commands_show_the_fleet_and_ask_it_as_text_and_as_json(run, lab):
    store = open_store(run.url)
    add_table(store, lab, "pi", "run-1")
    store.devices.register("phone", {})
    store.devices.report("phone", replace(HOT, campaign=None))
    store.close()
    code, out, _ = run("devices")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0
    assert "alive" in lines["phone"]
    assert "83 C" in lines["phone"]
    assert "held back (throttled)" in lines["phone"]
    assert "12 of 12 ops stable" in lines["pi"]
    rows = json.loads(run("devices", "--json")[1])["devices"]
    assert [row["device"]["name"] for row in rows] == ["phone", "pi"]
    asked = json.loads(run("profile", "--all-missing", "--json")[1])["asked"]
    assert [(wish["device"], wish["outcome"]) for wish in asked] == [("phone", "queued"), ("pi", "has it")]
    code, out, _ = run("profile", "--device", "phone", "--space", "nas-bench-201")
    assert (code, "was queued already" in out) == (0, True)
    assert "(and 1 queued)" in run("devices")[1]
    assert run("profile", "--device", "pear")[0] == 1
    assert run("profile", "--all-missing", "--space", "kettle")[0] == 2
    assert run("profile", "--all-missing", "--space", "darts", "--threads", "0")[0] == 2
