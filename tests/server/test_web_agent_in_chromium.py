"""A phone measures itself: the page in a real Chromium, with a real server."""

import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import httpx
import pytest

from lut_server.auth import create_token
from lut_server.store.sql import open_store
from lut_server.web_agent.web_runtime import VERSION, find_runtime, install
from profiler_agent.spool.run_spool import measurement_id
from shared.errors import LutnasError
from shared.jobs import NewJob, Promise
from shared.measurements.graph_spec import CanaryGraph, NetworkGraph
from shared.measurements.plan import Plan
from shared.runtime import Runtime, parse_runtime
from shared.spaces import parse_space
from shared.spaces.op_key import parse_op_key
from shared.wire import from_wire, to_wire

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here (Debian: apt-get install chromium)")
browsers = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `dev`)")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --host-resolver-rules=MAP+phone.test+127.0.0.1"
    " --enable-unsafe-webgpu --use-webgpu-adapter=swiftshader"
)
SIZES = "space=nas-bench-201&resolution=8&channels=4&depth=1&classes=3&calibration=6&held_out=3&preset=quick"
SPACE = "nas-bench-201/r8/c4/n1/k3/i3"
TASKS = 2 * 12 + 9
READY = "body[data-phase=waiting]"
PATIENCE_MS = 120_000


@pytest.fixture(scope="session")
def web_runtime(request):
    """The pinned onnxruntime-web, fetched once per checkout."""
    folder = request.config.cache.mkdir("web-runtime")
    if find_runtime(folder) is None:
        try:
            install(folder)
        except LutnasError as error:
            pytest.skip(str(error))
    return folder


@pytest.fixture(scope="module")
def chromium():
    with browsers.sync_playwright() as playwright:
        flags = [flag.replace("+", " ") for flag in FLAGS.split()]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


class Process:
    """A lut-server of its own, which can be killed and started again at the same address."""

    def __init__(self, folder, runtime, *flags):
        self.database, self.runtime, self.folder = f"sqlite:///{folder / 'lut.db'}", runtime, folder
        self.flags = flags
        folder.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        store = open_store(self.database)
        self.tokens = {role: create_token(store.tokens, role) for role in ("agent", "search")}
        store.close()
        self.start()

    def start(self):
        command = [sys.executable, "-m", "lut_server.cli", "serve", "--port", str(self.port)]
        command += ["--database-url", self.database, "--web-runtime", str(self.runtime), *self.flags]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert "listening" in self.process.stdout.readline()

    def pair(self, device="phone"):
        """The link of a pairing, and its code."""
        command = [sys.executable, "-m", "lut_server.cli", "pair", "--device", device, "--server-url", self.url]
        command += ["--database-url", self.database]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        return re.search(r"^http\S+#\S+code=(\S+)$", said, re.MULTILINE)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(timeout=20)
        self.process.stdout.close()

    def get(self, path):
        answer = httpx.get(self.url + path, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def authorization(self, role):
        return {"Authorization": f"Bearer {self.tokens[role]}"}

    def post(self, path, body=None, role="search"):
        answer = httpx.post(self.url + path, json=body, headers=self.authorization(role), timeout=30)
        assert answer.is_success, answer.text
        return answer.json()

    def runs(self, device="phone"):
        return self.get(f"/v1/runs?device={device}")["runs"]


@pytest.fixture
def server(tmp_path, web_runtime):
    process = Process(tmp_path, web_runtime)
    yield process
    process.stop()


class Phone:
    """A browser window of a phone's size with a profile of its own."""

    def __init__(self, chromium, url):
        self.context = chromium.new_context(
            viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, ignore_https_errors=True
        )
        self.page, self.url = self.context.new_page(), url
        self.problems, self.requested, self.weights = [], [], {}
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type != "log" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.context.on("request", lambda request: self.requested.append(request.url))

    def visit(self, fragment=SIZES):
        self.page.goto(f"{self.url}/agent/web#{fragment}")
        self.page.wait_for_selector("body:not([data-phase=starting])")

    def pair(self, code, device="phone", until=READY):
        self.page.get_by_label("Device").fill(device)
        self.page.get_by_label("Code").fill(code)
        self.page.get_by_role("button", name="Pair", exact=True).click()
        self.page.wait_for_selector(until, timeout=PATIENCE_MS)

    def measure(self):
        self.page.get_by_role("button", name="Measure this device").click()
        self.page.wait_for_selector("body[data-phase=measuring]", timeout=PATIENCE_MS)

    def wait_until_done(self):
        self.page.wait_for_selector(f"{READY} #result:not([hidden])", timeout=PATIENCE_MS)

    def wait_for_share(self, percent):
        self.page.wait_for_function(
            "(least) => parseFloat(document.getElementById('done').textContent) >= least", arg=percent,
            timeout=PATIENCE_MS,
        )  # fmt: skip

    def read(self, store):
        """Everything in a store of the page's database."""
        return self.page.evaluate(
            """(name) => new Promise((resolve, reject) => {
              const opened = indexedDB.open("lutnas-agent");
              opened.onsuccess = () => {
                const asked = opened.result.transaction(name).objectStore(name).getAll();
                asked.onsuccess = () => { opened.result.close(); resolve(asked.result); };
                asked.onerror = () => reject(asked.error);
              };
            })""",
            store,
        )

    def keep(self, store, *entries):
        """Put entries into a store of the page's database."""
        self.page.evaluate(
            """([name, entries]) => new Promise((resolve, reject) => {
              const opened = indexedDB.open("lutnas-agent");
              opened.onsuccess = () => {
                const change = opened.result.transaction(name, "readwrite");
                for (const entry of entries) change.objectStore(name).put(entry);
                change.oncomplete = () => { opened.result.close(); resolve(); };
                change.onabort = () => reject(change.error);
              };
            })""",
            [store, entries],
        )

    def hide(self, is_hidden):
        self.page.evaluate(
            """(state) => {
              Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
              document.dispatchEvent(new Event("visibilitychange"));
            }""",
            "hidden" if is_hidden else "visible",
        )

    def fits(self):
        return self.page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.fixture
def phone(chromium, server):
    made = []

    def make(url=None):
        made.append(Phone(chromium, url or server.url))
        return made[-1]

    yield make
    for window in made:
        window.context.close()


def test_a_phone_measures_itself_shows_its_table_and_verifies_a_network_beside_others_of_it(server, phone):
    window = phone()
    window.visit()
    assert window.page.evaluate("location.hash") == ""
    assert window.page.evaluate("crossOriginIsolated") is True
    window.pair(server.tokens["agent"])
    assert window.fits()
    window.measure()
    assert window.page.locator("#left").inner_text().endswith("left")
    window.wait_until_done()
    assert "are predicted to" in window.page.locator("#verdict").inner_text()
    assert window.page.locator("#scatter circle").count() == 9
    assert window.page.locator("#bars rect").count() == 12
    assert window.fits()
    assert window.problems == []
    assert [url for url in window.requested if not url.startswith(server.url)] == []
    own = {url for url in window.requested if "/agent/web" in url and "onnxruntime-web" not in url}
    assert len(own) > 10
    assert sum(len(httpx.get(url).content) for url in own) <= 200_000

    (stored,) = server.runs()
    assert stored["finished"] is True
    runtime = stored["run"]["runtime"]
    assert (runtime["engine"], runtime["provider"], runtime["threads"]) == ("onnxruntime-web", "wasm/simd", 1)
    assert "Chrome" in stored["run"]["probe"]["user agent"]
    assert stored["run"]["probe"]["cross-origin isolated"] == "yes"
    (device,) = server.get("/v1/devices")["devices"]
    assert device["last_asked_at"] is not None
    table = server.get("/v1/devices/phone/table?runtime=onnxruntime-web/wasm/simd/threads=1")
    assert table["space"] == SPACE
    assert table["kernels"] is None  # a browser does not show them: op prices carry the bound
    (listed,) = server.get("/v1/tables?device=phone")["tables"]
    assert parse_runtime(listed["runtime"]).provider == "wasm/simd"
    refused = httpx.get(f"{server.url}/v1/devices/phone/table?runtime=onnxruntime/CPUExecutionProvider")
    assert refused.json()["error"]["code"] == "no_table"

    network = next(entry for entry in table["networks"] if entry["role"] == "held_out")
    promise = Promise(listed["hash"], network["genotype"], network["measured_ms"], 2 * network["measured_ms"], 1000.0)
    space = parse_space(SPACE)
    graph = str(NetworkGraph(space, space.parse(network["genotype"])))
    job = NewJob("phone", "verify", parse_runtime(listed["runtime"]), str(CanaryGraph()), SPACE, graph, promise)
    authorization = {"Authorization": f"Bearer {server.tokens['search']}"}
    assert httpx.post(f"{server.url}/v1/jobs", json=to_wire(job), headers=authorization).status_code == 201
    window.page.locator("#job-said", has_text="ms measured").wait_for(timeout=PATIENCE_MS)
    (done,) = server.get("/v1/jobs?device=phone")["jobs"]
    assert len(done["job"]["references"]) == 4
    assert 0.2 < done["verification"]["state"] < 5
    assert window.problems == []


def as_values(round_):
    """A round's numbers as floats: JSON has 7 and 7.0."""
    return tuple(tuple(map(float, round_[name])) for name in ("graph_ms", "canary_ms", "minus_ms"))


def test_a_reload_and_a_server_that_dies_in_the_middle_lose_and_double_nothing(server, phone):
    window = phone()
    window.visit()
    window.pair(server.tokens["agent"])
    window.measure()
    window.wait_for_share(25)
    before = window.read("rounds")
    window.page.reload()
    window.page.wait_for_selector("body[data-phase=measuring]", timeout=PATIENCE_MS)
    assert len(window.read("rounds")) >= len(before) > TASKS
    window.wait_for_share(50)
    server.stop(signal.SIGKILL)
    window.wait_for_share(60)
    window.page.wait_for_selector("#offline:not([hidden])", timeout=PATIENCE_MS)
    assert "no answer from" in window.page.locator("#offline").inner_text()
    spooled = window.read("measurements")
    server.start()
    window.wait_until_done()

    (stored,) = server.runs()
    measured = server.get(f"/v1/runs/{stored['run']['id']}/measurements")["measurements"]
    assert len(measured) == TASKS == len({measurement["id"] for measurement in measured})
    kept = {entry["id"]: entry["measurement"] for entry in window.read("measurements")}
    assert {entry["id"] for entry in spooled} <= set(kept)
    assert {measurement["id"]: measurement for measurement in measured} == kept
    of_server = Counter((each["id"], as_values(round_)) for each in measured for round_ in each["rounds"])
    assert {(entry["measurement"], as_values(entry["round"])) for entry in before} <= of_server.keys()
    assert set(of_server.values()) == {1}
    assert stored["finished"] is True


def test_a_pairing_link_pairs_by_itself_once_and_leaves_no_code_in_the_address(server, phone):
    link, code = server.pair().group(0, 1)
    window = phone()
    window.visit(link.partition("#")[2])
    window.page.wait_for_selector(READY)
    assert window.page.evaluate("location.href") == f"{server.url}/agent/web"
    assert window.page.locator("#device").inner_text() == "phone"
    assert "paired until" in window.page.locator("#facts").inner_text()
    (identity,) = [entry["value"] for entry in window.read("known") if entry["key"] == "identity"]
    assert identity["device"] == "phone"
    assert window.problems == []
    window.page.reload()
    window.page.wait_for_selector(READY)

    thief = phone()
    thief.visit(f"device=phone&code={code}")
    thief.page.wait_for_selector("#problem:not([hidden])")
    assert thief.page.locator("#pairing").is_visible()
    assert [entry for entry in thief.read("known") if entry["key"] == "identity" and entry["value"]] == []

    window.page.get_by_role("button", name="Unpair").click()
    window.page.locator("#pairing").wait_for()
    assert [entry["value"] for entry in window.read("known") if entry["key"] == "identity"] == [None]


def test_a_hidden_page_pauses_and_throws_away_the_round_that_it_was_in(server, phone):
    window = phone()
    window.visit()
    window.pair(server.tokens["agent"])
    window.measure()
    window.wait_for_share(10)
    window.hide(True)
    window.page.wait_for_selector("#waiting:not([hidden])")
    time.sleep(0.3)
    before = len(window.read("rounds"))
    time.sleep(1.5)
    assert len(window.read("rounds")) == before
    window.hide(False)
    window.wait_for_share(30)
    window.page.get_by_role("button", name="Pause").click()
    window.page.get_by_role("button", name="Go on").wait_for()
    before = len(window.read("rounds"))
    time.sleep(1.0)
    assert len(window.read("rounds")) <= before + 1
    assert window.problems == []


def test_over_https_a_phone_is_isolated_keeps_its_screen_on_and_may_take_two_threads(phone, tmp_path, web_runtime):
    pytest.importorskip("cryptography", reason="cryptography is not installed (extra `tls`)")
    server = Process(tmp_path / "tls", web_runtime, "--tls", "self-signed", "--allowed-hosts", "phone.test")
    try:
        window = phone(f"https://phone.test:{server.port}")
        window.visit(f"{SIZES}&threads=2")
        assert window.page.evaluate("[isSecureContext, crossOriginIsolated, 'wakeLock' in navigator]") == [True] * 3
        window.pair(server.tokens["agent"])
        window.measure()
        window.wait_for_share(5)
        assert "threads=2/" in window.page.locator("#facts").inner_text()
        assert "by hand" not in window.page.locator("#awake").inner_text()
        (run,) = window.read("runs")
        assert run["run"]["runtime"]["threads"] == 2
        assert window.problems == []
    finally:
        server.stop()


@pytest.fixture
def server_of_phones(tmp_path, web_runtime):
    process = Process(tmp_path / "lan", web_runtime, "--allowed-hosts", "phone.test")
    yield process
    process.stop()


@pytest.mark.slow
def test_without_isolation_a_phone_measures_on_one_thread_with_a_coarse_clock(server_of_phones, phone):
    window = phone(server_of_phones.url.replace("127.0.0.1", "phone.test"))
    window.visit(SIZES.replace("calibration=6", "calibration=2").replace("held_out=3", "held_out=1"))
    assert window.page.evaluate("[isSecureContext, crossOriginIsolated]") == [False, False]
    assert window.page.get_by_label("Threads").is_disabled()
    window.pair(server_of_phones.tokens["agent"])
    window.measure()
    assert "Keep the screen on by hand" in window.page.locator("#awake").inner_text()
    window.wait_until_done()
    (stored,) = server_of_phones.runs()
    assert stored["run"]["probe"]["clock step"] == "100 us"
    assert stored["run"]["runtime"]["threads"] == 1
    assert "not cross-origin isolated" in window.page.locator("#facts").inner_text()


def test_a_wrong_code_a_missing_runtime_and_a_token_of_another_device_are_one_clear_line(server, phone, tmp_path):
    window = phone()
    window.visit()
    window.page.get_by_label("Device").fill("phone")
    window.page.get_by_label("Code").fill("lut_000000000000_" + "a" * 40)
    window.page.get_by_role("button", name="Pair", exact=True).click()
    window.page.locator("#problem", has_text="this token is not known here").wait_for()
    store = open_store(server.database)
    bound = create_token(store.tokens, "agent", device="another")
    store.close()
    window.page.get_by_label("Code").fill(bound)
    window.page.get_by_role("button", name="Pair", exact=True).click()
    window.page.locator("#problem", has_text="bound to device 'another'").wait_for()
    server.stop()
    server.runtime = tmp_path / "nothing"
    server.start()
    window.page.reload()
    window.page.locator("#problem", has_text="lut-server web-runtime install").wait_for()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_phone_makes_the_table_that_the_server_asks_for_and_says_why_it_cannot_count_kernels(server, phone):
    window = phone()
    window.visit()
    window.pair(server.tokens["agent"])
    runtime = Runtime("onnxruntime-web", VERSION, "wasm/simd")
    space = parse_space(SPACE)
    fastest = space.format(space.fastest())
    count = NewJob("phone", "count", runtime, str(CanaryGraph()), SPACE, genotypes=(fastest,), priority=1)
    authorization = {"Authorization": f"Bearer {server.tokens['search']}"}
    for job in (count, NewJob("phone", "profile", runtime, str(CanaryGraph()), SPACE)):
        asked = httpx.post(f"{server.url}/v1/jobs", json=to_wire(job), headers=authorization)
        assert asked.status_code == 201, asked.text
    window.page.locator("#job-said", has_text="profile: done").wait_for(timeout=800_000)
    jobs = server.get("/v1/jobs?device=phone")["jobs"]
    counted, profiled = sorted((job for job in jobs), key=lambda job: job["job"]["kind"])
    assert counted["state"] == "failed"
    assert "does not show which kernels" in counted["reason"]
    (stored,) = server.runs()
    assert (profiled["state"], profiled["run"]) == ("done", stored["run"]["id"])
    assert (stored["finished"], stored["run"]["space"]) == (True, SPACE)


def profile_job():
    return NewJob("phone", "profile", Runtime("onnxruntime-web", VERSION, "wasm/simd"), str(CanaryGraph()), SPACE)


def test_the_run_of_a_cancelled_job_is_left_and_goes_on_when_the_job_is_queued_again(server, phone):
    window = phone()
    window.visit()
    window.pair(server.tokens["agent"])
    job = server.post("/v1/jobs", to_wire(profile_job()))["job"]["id"]
    window.page.wait_for_selector("body[data-phase=fetching]", timeout=PATIENCE_MS)
    (run,) = window.read("runs")
    server.post(f"/v1/jobs/{job}/cancel")
    window.page.reload()
    window.page.wait_for_selector(READY, timeout=20_000)
    assert (run["job"], run["finished"]) == (job, None)
    assert window.read("runs") == [run]
    server.post(f"/v1/jobs/{job}/requeue")
    window.page.wait_for_selector("body[data-phase=fetching]", timeout=PATIENCE_MS)
    assert window.read("runs") == [run]


def test_a_run_of_another_device_waits_until_the_page_is_paired_with_that_device_again(server, phone):
    window = phone()
    window.visit()
    window.pair(server.tokens["agent"])
    window.measure()
    window.wait_for_share(10)
    window.keep("known", {"key": "identity", "value": None})
    window.page.reload()
    window.page.wait_for_selector("body[data-phase=unpaired]")
    window.pair(server.tokens["agent"], "tablet")
    (begun,) = window.read("runs")
    assert (begun["run"]["device"], begun["finished"]) == ("phone", None)
    assert server.runs("tablet") == []
    window.page.get_by_role("button", name="Unpair").click()
    window.pair(server.tokens["agent"], until="body[data-phase=measuring]")
    assert window.read("runs") == [begun]


def test_a_result_that_the_server_refuses_is_kept_and_told_and_the_page_goes_on(server, phone):
    window = phone()
    window.visit()
    window.pair(server.tokens["agent"])
    window.hide(True)  # it takes no jobs, and hands results in
    window.page.wait_for_selector("#waiting:not([hidden])")
    job = server.post("/v1/jobs", to_wire(profile_job()))["job"]["id"]
    refused = {"run": "run-1", "kernels": {"graph": {}}}
    window.keep("results", {"job": job, "result": refused})
    window.page.locator("#problem", has_text="the server refuses the result: ").wait_for()
    assert f"job {job}: " in window.page.locator("#problem").inner_text()
    found = server.get(f"/v1/jobs/{job}")["job"]
    assert (found["state"], found["reason"].partition(":")[0]) == ("failed", "the server refuses the result")
    assert window.read("results") == []
    kept = [entry["value"] for entry in window.read("known") if entry["key"].startswith(f"refused result {job}")]
    assert kept == [refused]
    runtime = Runtime("onnxruntime-web", VERSION, "wasm/simd", precision="int8")
    other = server.post("/v1/jobs", to_wire(replace(profile_job(), runtime=runtime)))["job"]["id"]
    window.hide(False)
    window.page.locator("#job-said", has_text="measures fp32").wait_for()
    assert server.get(f"/v1/jobs/{other}")["job"]["state"] == "failed"


def test_what_a_server_lost_with_its_database_is_sent_again_and_the_run_s_job_is_answered(server, phone, lab):
    window = phone()
    window.visit()
    window.pair(server.tokens["agent"])
    window.hide(True)
    window.page.wait_for_selector("#waiting:not([hidden])")
    job = server.post("/v1/jobs", to_wire(profile_job()))["job"]["id"]
    plan = from_wire(Plan, server.get(f"/v1/plan?space={SPACE}&calibration=6&held_out=3&isolated=1")["plan"])
    version = server.get("/agent/web/settings.json")["version"]
    run = lab.run("run-1", "phone", space=SPACE, plan_id=plan.id, runtime=profile_job().runtime, agent_version=version)
    measured = [
        lab.measure(task, ms=measured_ms(lab, task), id=measurement_id(run.id, task), minus=task.minus)
        for task in plan.tasks
    ]
    httpx.put(
        f"{server.url}/v1/runs/run-1", json=to_wire(run), headers=server.authorization("agent")
    ).raise_for_status()
    server.post("/v1/runs/run-1/measurements", {"measurements": to_wire(measured[:5])}, role="agent")
    entries = [{"id": each.id, "run": run.id, "measurement": to_wire(each), "sent": True} for each in measured]
    window.keep("measurements", *entries)
    begun = {"id": run.id, "run": to_wire(run), "plan": to_wire(plan), "preset": "quick", "job": job}
    window.keep("runs", {**begun, "finished": None, "created": 1})
    window.wait_until_done()
    (stored,) = server.runs()
    assert (stored["finished"], stored["measurements"]) == (True, len(plan.tasks))
    assert [entry["sent"] for entry in window.read("measurements")] == [True] * len(plan.tasks)
    window.page.locator("#job-said", has_text="profile: done").wait_for()
    found = server.get(f"/v1/jobs/{job}")["job"]
    assert (found["state"], found["run"]) == ("done", "run-1")
    assert window.problems == []


def measured_ms(lab, task):
    is_op = task.role in ("marginal", "isolated")
    return lab.price_ms(parse_op_key(task.subject)) if is_op else lab.latency_ms(task)


def searching(server, window, folder):
    """Runs commands of `search` while the page lives on."""
    environment = {**os.environ, "LUTNAS_TOKEN": server.tokens["search"], "OMP_NUM_THREADS": "1"}

    def search(*arguments, codes=(0,)):
        command = [sys.executable, "-m", "search", *arguments]
        with (folder / "said").open("w+") as said:
            process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
            while process.poll() is None:  # the page lives in this thread
                window.page.wait_for_timeout(200)
            said.seek(0)
            text = said.read()
        assert process.returncode in codes, text
        return text

    return search


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_search_goes_to_the_end_on_a_table_of_a_phone_and_the_phone_verifies_the_member(server, phone, tmp_path):
    window = phone()
    sizes = "space=nas-bench-201&resolution=28&channels=8&depth=1&classes=10&image_channels=1&preset=quick"
    window.visit(f"{server.pair().group(0).partition('#')[2]}&{sizes}")
    window.page.wait_for_selector(READY)
    window.measure()
    window.wait_until_done()
    search = searching(server, window, tmp_path)
    run = str(tmp_path / "run")
    search("--device", "phone", "--lut-url", server.url, "--dataset", "digits", "--preset", "smoke", "--out", run)
    table = server.get("/v1/devices/phone/table")
    budget_ms = f"{1.2 * statistics.median(check['upper_ms'] for check in table['networks']):.4f}"
    assert "best" in search("pick", "--run", run, "--max-latency-ms", budget_ms)
    # 1: a budget was not met, which other load on this machine may bring about; the way there is
    # what is tested.
    said = search("verify", "--run", run, "--max-latency-ms", budget_ms, codes=(0, 1))
    search("ladder", "--run", run, "--budgets", "2", codes=(0, 1))
    jobs = server.get("/v1/jobs?device=phone")["jobs"]
    assert len(jobs) >= 2
    for job in jobs:
        assert (job["state"], job["job"]["kind"], job["job"]["runtime"]["engine"]) == (
            "done", "verify", "onnxruntime-web",
        )  # fmt: skip
        assert job["verification"]["measured_ms"] > 0
    first = jobs[0]
    assert first["verification"]["measured_ms"] == pytest.approx(first["job"]["promise"]["predicted_ms"], rel=0.3)
    assert "measured" in said
    window.page.locator("#job-said", has_text="ms measured").wait_for()
    assert window.problems == []
