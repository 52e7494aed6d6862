from dataclasses import replace

import httpx
import pytest

from lut_server.pages import assets
from lut_server.pages.access import COOKIE, own_path
from lut_server.pages.history import version_order
from lut_server.pages.tables import make_heat_map
from lut_server.tables.table_facts import read_facts
from lut_server.web_agent import routes
from shared.measurements.plan import Task
from shared.tables.kernel_prices import KernelPrices
from shared.tables.table import LatencyTable, OpPrice
from shared.wire import canonical_json, from_wire, to_wire

BOTH = "/compare?before=run-1&after=run-2"


def pages(story):
    table = story.table["hash"]
    return [
        "/",
        "/devices/pi",
        f"/tables/{table}",
        f"/tables/{table}/networks",
        "/history?device=pi",
        "/jobs",
        "/compare",
        BOTH,
        "/searches",
        f"/searches/{'a' * 64}",
    ]


def test_every_page_has_a_json_twin_at_the_address_that_it_links_to(story):
    for path in pages(story):
        page = story.get(path, role=None)
        assert page.status_code == 200, page.text
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        twin = page.text.split('id="twin" href="')[1].split('"')[0].replace("&amp;", "&")
        answer = story.get(twin, role=None)
        assert answer.headers["content-type"] == "application/json"
        assert isinstance(answer.json(), dict)


def test_pages_allow_scripts_and_requests_of_this_server_alone(story):
    for path in pages(story):
        policy = story.get(path).headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self';" in policy
        assert "unsafe-inline" not in policy
        assert "unsafe-eval" not in policy
    assert story.get("/v1/devices").headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_an_error_on_a_page_is_a_page_and_on_its_twin_the_one_error_shape(story):
    page = story.get("/devices/pear")
    assert page.status_code == 404
    assert "unknown device &#39;pear&#39;" in page.text
    assert story.get("/devices/pear?format=json").json()["error"]["code"] == "unknown_device"
    assert story.get("/tables/<script>").status_code == 404
    assert story.get("/jobs?state=lost").status_code == 422
    assert story.get("/?page=one").status_code == 422
    assert story.get("/static/../app.py").status_code == 404


def test_device_says_what_is_missing_and_how_the_newest_run_went(story):
    rows = {row["device"]["name"]: row for row in story.get("/?format=json").json()["devices"]}
    assert rows["pi"]["health"] == "alive"
    assert rows["pi"]["verdict"] == {"ops": 12, "stable": 12, "reasons": []}
    assert rows["pi"]["newest_run"]["run"]["id"] == "run-2"
    assert "no kernel prices" in rows["pi"]["missing"][0]
    assert rows["phone"]["missing"][0].startswith("no latency table yet; to measure: profiler-agent profile")


def test_history_has_the_op_of_every_table_by_version(story):
    view = story.get("/history?device=pi&op=nor_conv_3x3/4x8x8/4x8x8/s1&format=json").json()
    assert [entry["version"] for entry in view["entries"]] == ["onnxruntime 1.31.0", "onnxruntime 1.32.0"]
    assert version_order("1.9.3") < version_order("1.10.0")


def test_jobs_say_who_holds_them_and_a_filter_keeps_one_state(story):
    view = story.get("/jobs?state=leased&format=json").json()
    assert [row["job"]["lease_owner"] for row in view["jobs"]] == ["agent-7"]
    assert (view["states"]["queued"], view["states"]["leased"]) == (1, 1)


@pytest.fixture
def closed(start, lab):
    with start(reads="closed") as api:
        api.register = api.post("/v1/devices", {"name": "pi", "probe": {}})
        yield api


def test_closed_pages_lead_to_the_form_and_their_twins_are_refused(closed):
    page = closed.get("/devices/pi?page=2", role=None)
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=%2Fdevices%2Fpi%3Fpage%3D2")
    assert closed.get("/devices/pi?format=json", role=None).status_code == 401
    assert closed.get("/devices/pi?format=json", role="read").status_code == 200


def test_a_cookie_opens_the_pages_but_never_the_api(closed):
    answer = closed.http.post("/login", data={"token": closed.token("read"), "next": "/jobs"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")
    said = answer.headers["set-cookie"]
    assert "HttpOnly" in said
    assert "SameSite=strict" in said
    assert "Secure" not in said
    assert closed.http.get("/jobs").status_code == 200
    assert closed.http.get("/jobs").headers["cache-control"] == "no-store"
    assert closed.http.get("/v1/jobs").status_code == 401
    assert closed.http.post("/v1/devices", json={"name": "x", "probe": {}}).status_code == 401


def test_wrong_tokens_in_the_form_are_limited_like_those_of_the_api(closed):
    statuses = [closed.http.post("/login", data={"token": "lut_wrong"}).status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    with httpx.Client(base_url=closed.url, cookies={COOKIE: "lut_wrong"}) as other:
        assert other.get("/").status_code == 429


def test_a_form_that_another_site_sends_is_refused_and_leads_nowhere_else(closed):
    lured = closed.http.post("/login", data={"token": closed.token("read")}, headers={"Sec-Fetch-Site": "cross-site"})
    assert lured.status_code == 403
    assert "set-cookie" not in lured.headers
    for target in ("//elsewhere.example", "https://elsewhere.example", "/\\elsewhere.example", "/\n/elsewhere.example"):
        assert own_path(target) == "/"
    assert own_path("/tables/5d0b?page=2") == "/tables/5d0b?page=2"


def test_files_are_compressed_once_and_plotly_is_kept_for_ever(story):
    for name in ("style.css", "page.js", assets.plotly_name()):
        answer = story.get(f"/static/{name}", role=None)
        assert answer.headers["content-encoding"] == "gzip"
        again = story.get(f"/static/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    assert "immutable" in answer.headers["cache-control"]


def test_names_of_files_that_are_not_there_leave_nothing_behind(story):
    kept = assets.read_known.cache_info().currsize, routes.read_own.cache_info().currsize
    for name in ("a" * 50_000, "b.css", "c"):
        assert story.get(f"/static/{name}", role=None).status_code == 404
        assert story.get(f"/agent/web/{name}", role=None).status_code == 404
    assert (assets.read_known.cache_info().currsize, routes.read_own.cache_info().currsize) == kept


def test_facts_are_the_table_without_its_matrices(story):
    content = story.get(f"/v1/tables/{story.table['hash']}").content
    table = from_wire(LatencyTable, story.get(f"/v1/tables/{story.table['hash']}").json())
    facts = read_facts(content)
    assert (facts.prices, facts.networks, facts.held_out) == (table.prices, table.networks, table.held_out)
    kernels = KernelPrices(0.5, (), (), (1.0,), ((0.1, 0.2),), 0.01, 0.3)
    with_kernels = LatencyTable(
        **{
            **{name: getattr(table, name) for name in vars(facts) if name != "kernels"},
            "covariance": table.covariance,
            "relative_spread": 0.1,
            "kernels": kernels,
        }
    )
    assert read_facts(canonical_json(with_kernels)).kernels.base_ms == 0.5


def test_a_thousand_ops_are_drawn_in_part_and_listed_in_pages():
    prices = [
        OpPrice(f"nor_conv_3x3/{channels}x{side}x{side}/{channels}x{side}x{side}/s1", 0.001 * channels, 0.0, 0, 0, 0)
        for channels in range(1, 251)
        for side in (32, 16, 8, 4)
    ]
    drawn = make_heat_map(prices)
    assert (len(drawn.rows), drawn.columns, drawn.left_out) == (60, ("32×32", "16×16", "8×8", "4×4"), 190)
    assert drawn.rows[-1] == "nor_conv_3x3 · 250"


def test_two_runs_are_compared_round_by_round_and_two_tables_by_their_prices(api, lab):
    before = lab.profile(api, rounds=12)
    api.put("/v1/runs/run-2", to_wire(lab.run("run-2")))

    def is_slower(task):
        return task.role == "marginal" and task.subject.startswith("nor_conv_3x3")

    batch = [
        lab.measure(task, canary_ms=3.0, ms=lab.latency_ms(task) * (2.25 if is_slower(task) else 1.5), rounds=12)
        for task in lab.plan.tasks
    ]
    api.post("/v1/runs/run-2/measurements", {"measurements": to_wire(batch)})
    view = api.get(f"{BOTH}&format=json").json()
    slower = [change for change in view["changes"] if change["verdict"] == "slower"]
    assert view["by"] == "raw values"
    assert {change["subject"].partition("/")[0] for change in slower} == {"nor_conv_3x3"}
    assert all(change["low"] < 1.5 < change["high"] for change in slower)
    assert view["verdicts"] == {"slower": 3, "same": len(lab.plan.tasks) - 3}
    assert api.get(f"/compare?before={before['hash']}&after=run-2").status_code == 422
    assert api.get("/compare?before=run-1&after=run-9").status_code == 404
    tables = api.get(f"/compare?before={before['hash']}&after=run-1&format=json").json()
    assert (tables["by"], tables["verdicts"]) == ("prices", {"same": 12})


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_slower_canary_is_no_change_whatever_the_precision(api, lab, precision):
    lab.profile(api, rounds=12, runtime=replace(lab.runtime, precision=precision))
    api.put("/v1/runs/run-2", to_wire(lab.run("run-2", runtime=replace(lab.runtime, precision=precision))))
    busier = [lab.measure(task, canary_ms=3.0, ms=lab.latency_ms(task) * 1.5, rounds=12) for task in lab.plan.tasks]
    api.post("/v1/runs/run-2/measurements", {"measurements": to_wire(busier)})
    assert api.get(f"{BOTH}&format=json").json()["verdicts"] == {"same": len(lab.plan.tasks)}


def test_networks_of_a_settle_check_are_neither_ops_nor_in_the_place_of_their_campaign(api, lab):
    lab.profile(api, rounds=12)
    networks = [task for task in lab.plan.tasks if task.role == "held_out"]
    again = [Task(network.subject, "settle", network.graph) for network in networks]
    settled = [
        lab.measure(task, ms=2 * lab.latency_ms(task), rounds=12, id=f"settle-{n}") for n, task in enumerate(again)
    ]
    api.put("/v1/runs/run-2", to_wire(lab.run("run-2")))
    measured = [*lab.measure_all(rounds=12), *settled]
    api.post("/v1/runs/run-2/measurements", {"measurements": to_wire(measured)})
    view = api.get(f"{BOTH}&format=json").json()
    assert view["verdicts"] == {"same": len(lab.plan.tasks)}
    assert (view["only_before"], view["only_after"]) == (0, 0)
