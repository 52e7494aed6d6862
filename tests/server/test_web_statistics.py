"""The page's statistics and rules against those of the agent, on the same numbers."""

import json
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from lut_server.web_agent import web_runtime
from profiler_agent.timing.campaign import CanaryWatch
from profiler_agent.timing.round_timer import TimedRound
from profiler_agent.timing.stability import canary_drift
from profiler_agent.timing.stopping import PRESETS, StoppingRule, precision_reached
from shared.errors import ServerAway, ServerRefused
from shared.http.retry import is_passing, retry
from shared.measurements.measurement import Round, estimate_rounds, quantile
from shared.wire import to_wire

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="there is no node here (Debian: apt-get install nodejs)")
STATIC = Path(web_runtime.__file__).parent / "static"
READ = "import { readFileSync } from 'node:fs'; const data = JSON.parse(readFileSync(0));"


def run_script(script, data):
    done = subprocess.run(
        [NODE, "--input-type=module", "--eval", READ + script.replace("STATIC", STATIC.as_uri())],
        input=json.dumps(to_wire(data)), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def made_up_rounds(rng, count, minus):
    def values(mean, n):
        return tuple(round(mean * rng.lognormvariate(0, 0.05), 6) for _ in range(n))

    repeats = rng.randint(4, 20)
    return [Round(values(3.0, repeats), values(0.5, 8), values(1.0, repeats) if minus else ()) for _ in range(count)]


@pytest.fixture(scope="module")
def cases():
    rng = random.Random(7)
    return [made_up_rounds(rng, count, minus) for count in (1, 2, 6, 7, 16, 30, 61) for minus in (False, True)]


def test_quantiles_estimates_precision_and_drift_are_those_of_the_agent(cases):
    script = (
        "import { canaryDrift, estimateRounds, precisionReached, quantile } from 'STATIC/statistics.js';"
        "console.log(JSON.stringify(data.map((rounds) => { const e = estimateRounds(rounds, 6);"
        " return [quantile(rounds[0].graph_ms), quantile(rounds[0].canary_ms, 0.2), e.ratio, e.low, e.high,"
        " precisionReached(rounds, 6), canaryDrift(rounds)]; })));"
    )
    for rounds, found in zip(cases, run_script(script, cases), strict=True):
        estimate = estimate_rounds(rounds, 6)
        expected = [
            quantile(rounds[0].graph_ms),
            quantile(rounds[0].canary_ms, 0.2),
            estimate.ratio,
            estimate.low,
            estimate.high,
            precision_reached(rounds, 6),
            canary_drift(rounds),
        ]
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("spent_s", [0.0, 1e6])
def test_presets_and_the_stopping_rule_are_those_of_the_agent(cases, spent_s):
    script = (
        "import { PRESETS, StoppingRule } from 'STATIC/stopping.js';"
        "const roles = ['marginal', 'isolated', 'held_out'];"
        "console.log(JSON.stringify(Object.values(PRESETS).map((preset) => { const rule = new StoppingRule(preset, 10);"
        f" rule.spentS = {spent_s};"
        " return [preset, data.map((rounds) => roles.map((role) => rule.findReason(rounds, 6, role))),"
        " rule.haveEnough(data), rule.haveEnough(data.slice(-4))]; })));"
    )
    answers = run_script(script, cases)
    # "smoke" tries the agent's path where timings mean nothing; no phone needs that.
    assert [answer[0]["name"] for answer in answers] == [name for name in PRESETS if name != "smoke"]
    for told, reasons, enough_of_all, enough_of_last in answers:
        preset = PRESETS[told["name"]]
        assert told == {
            "name": preset.name,
            "precision": preset.precision,
            "minRounds": preset.min_rounds,
            "maxRounds": preset.max_rounds,
            "secondsPerTask": preset.seconds_per_task,
        }
        rule = StoppingRule(preset, 10, lambda: 0.0)
        rule.spent_s = spent_s
        roles = ("marginal", "isolated", "held_out")
        assert reasons == [[rule.find_reason(rounds, 6, role) for role in roles] for rounds in cases]
        assert (enough_of_all, enough_of_last) == (rule.have_enough(cases), rule.have_enough(cases[-4:]))


def test_the_watch_over_the_canary_is_that_of_the_agent():
    rng = random.Random(3)
    rounds = made_up_rounds(rng, 150, False)
    for at in range(60, 80):
        rounds[at] = replace(rounds[at], canary_ms=tuple(1.3 * value for value in rounds[at].canary_ms))
    timed = [TimedRound(round_, quantile(round_.canary_ms[:4]), quantile(round_.canary_ms[4:])) for round_ in rounds]
    data = [{"round": each.round, "before": each.canary_before_ms, "after": each.canary_after_ms} for each in timed]
    script = (
        "import { CanaryWatch } from 'STATIC/campaign.js';"
        "console.log(JSON.stringify([null, 0.4].map((usual) => { const watch = new CanaryWatch(usual);"
        " return [data.map((timed) => watch.isOff(timed)), watch.usualMs()]; })));"
    )
    for usual_ms, (off, found_ms) in zip((None, 0.4), run_script(script, data), strict=True):
        watch = CanaryWatch(usual_ms)
        assert off == [watch.is_disturbed(each) for each in timed]
        assert found_ms == pytest.approx(watch.usual_ms(), rel=1e-12)
        assert 10 < sum(off) < 149


CLOCK = (
    "import { RoundTimer, clockStepMs, wentWrong } from 'STATIC/round_timer.js';"
    "let now = 0; const step = data.step; const clock = () => Math.floor(now / step) * step;"
    "const graph = (cost) => ({ acquire() {}, release() {},"
    " run() { now += cost * (1 + 0.002 * ((now * 7919) % 1)); } });"
)


@pytest.mark.parametrize("step", [0.005, 0.1])
@pytest.mark.parametrize("cost_ms", [0.003, 0.04, 1.7, 30.0])
def test_a_value_is_good_to_one_percent_whatever_the_clock_s_step(step, cost_ms):
    script = CLOCK + (
        "const timer = new RoundTimer(graph(0.3), step, clock, clock);"
        "const { round } = await timer.time(graph(data.cost), graph(0.5));"
        "console.log(JSON.stringify([clockStepMs(() => (now += 0.0007, clock())), round]));"
    )
    found_step, found = run_script(script, {"step": step, "cost": cost_ms})
    assert found_step == pytest.approx(step)
    for values, expected in ((found["graph_ms"], cost_ms), (found["minus_ms"], 0.5), (found["canary_ms"], 0.3)):
        assert 4 <= len(values) <= 20
        assert all(abs(value / expected - 1) <= 0.0125 for value in values)


@pytest.mark.parametrize(("cost_ms", "repeats"), [(49.0, 8), (100.0, 4), (150.0, 3)])
def test_a_slow_graph_is_repeated_as_seldom_as_by_the_agent(cost_ms, repeats):
    script = CLOCK + (
        "const timer = new RoundTimer(graph(0.3), step, clock, clock);"
        "console.log(JSON.stringify((await timer.time(graph(data.cost))).round.graph_ms.length));"
    )
    assert run_script(script, {"step": 0.005, "cost": cost_ms}) == repeats


def test_a_round_in_which_the_clock_was_set_or_the_phone_slept_is_thrown_away():
    script = (
        "import { wentWrong } from 'STATIC/round_timer.js';"
        "const timed = [{ values: [1, 1, 1.2], loops: 4 }];"
        "console.log(JSON.stringify([[13, 13], [13, 5013], [5013, 5013], [13, -90000], [12, 12]].map((times) =>"
        " wentWrong(timed, ...times)).concat(wentWrong([{ values: [0, 1], loops: 1 }], 1, 1))));"
    )
    assert run_script(script, []) == [False, True, True, True, True, True]


def test_a_campaign_measures_again_what_was_hidden_or_off_and_networks_stop_together():
    script = (
        "import { Campaign, CanaryWatch, seeded } from 'STATIC/campaign.js';"
        "import { PRESETS, StoppingRule } from 'STATIC/stopping.js';"
        "const round = (canary) => ({ graph_ms: [2, 2.001], canary_ms: [canary, canary], minus_ms: [] });"
        "let n = 0; const kept = []; const done = [];"
        "const timer = { time: async () => { n += 1; const slow = n % 17 === 0 ? 1.5 : 1;"
        " return n % 19 === 0 ? null : { round: round(slow), before: slow, after: slow }; } };"
        "let asked = 0; const gate = async () => { asked += 1; const hidden = asked % 23 === 0;"
        " return async () => !hidden; };"
        "const roles = ['marginal', 'isolated', 'calibration', 'held_out', 'held_out'];"
        "const subjects = roles.map((role, i) => ({ task: { subject: String(i), role, divisor: 1 },"
        " rounds: [], disturbed: 0, redos: 0, done: false }));"
        "await new Campaign({ subjects, timer, gate, rule: new StoppingRule(PRESETS.quick, 5),"
        " watch: new CanaryWatch(), judge: () => 'judged', random: seeded('run'), sleep: async () => {},"
        " journal: { keepRound: async (task) => kept.push(task.subject),"
        " keepMeasurement: async (task, rounds, verdict) => done.push([task.role, rounds.length, verdict]) } }).run();"
        "console.log(JSON.stringify([n, kept.length, done.sort()]));"
    )
    timed, kept, done = run_script(script, [])
    assert timed > kept == sum(rounds for _, rounds, _ in done)
    assert {role: rounds for role, rounds, _ in done} == {
        "marginal": 6, "isolated": 6, "calibration": 6, "held_out": 6,
    }  # fmt: skip
    assert {verdict for _, _, verdict in done} == {"judged"}


@pytest.mark.parametrize("after_s", [0, 7, 9999])
def test_page_waits_between_tries_as_the_agent_does(after_s):
    def fail():
        error = ServerAway("away")
        error.retry_after_s = after_s
        raise error

    pauses = []
    with pytest.raises(ServerAway):
        retry(fail, 9, pauses.append)
    script = """
    const { retry, ServerAway } = await import("STATIC/server.js");
    const pauses = [];
    globalThis.setTimeout = (then, ms) => { pauses.push(ms / 1000); then(); };
    const fail = async () => { throw new ServerAway("away", data); };
    await retry(fail, { attempts: 9 }).catch(() => console.log(JSON.stringify(pauses)));
    """
    assert run_script(script, after_s) == pauses


def test_page_asks_again_after_the_statuses_after_which_the_agent_does():
    statuses = list(range(400, 600))
    script = """
    const { Server, ServerAway } = await import("STATIC/server.js");
    const passing = [];
    for (const status of data) {
      globalThis.fetch = async () => new Response(null, { status });
      await new Server().ask("GET", "/").catch((error) => { if (error instanceof ServerAway) passing.push(status); });
    }
    console.log(JSON.stringify(passing));
    """
    assert run_script(script, statuses) == [s for s in statuses if is_passing(ServerRefused("", s, ""))]
