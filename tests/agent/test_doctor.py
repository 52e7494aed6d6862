"""The examination of a machine, on made-up machines whose clock only the graphs move, and once on
this one.
"""

import json
import random

import pytest

from profiler_agent.cli import main
from profiler_agent.doctor import canary_model, examine, report_lines
from profiler_agent.host.machine import Machine
from profiler_agent.ort.sessions import TimedGraph
from profiler_agent.spool.spool import Spool
from shared.graphs import build_graph
from shared.measurements.graph_spec import CanaryGraph

CANARY_MS = 0.5
PI = {
    "proc/meminfo": "MemTotal:        3884400 kB\nMemAvailable:    3145728 kB\n",
    "proc/loadavg": "0.10 0.20 0.30 1/200 999\n",
    "proc/stat": "cpu  100 0 100 800 0 0 0 0 0 0\n",
    "sys/class/thermal/thermal_zone0/temp": "45200\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
}


class Bench:
    """Graphs that take half a millisecond on a clock that costs 50 ns to read; `slowness(seconds)`
    stretches them.
    """

    def __init__(self, slowness=lambda seconds: 1.0):
        self.now_ns = self.thread_ns = 0
        self.slowness = slowness

    def clock_ns(self):
        self.now_ns += 50
        return self.now_ns

    def graph(self):
        def run():
            self.now_ns += round(CANARY_MS * 1e6 * self.slowness(self.now_ns / 1e9))
            self.thread_ns += round(CANARY_MS * 1e6)

        return TimedGraph("canary", run)

    def graphs(self):
        return self.graph(), self.graph(), self.graph()


def pi(root, run=lambda command: "throttled=0x0\n", **changes):
    for path, text in {**PI, **changes}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return Machine(root, run)


def look(tmp_path, bench=None, machine=None, seconds=6.0):
    bench = bench or Bench()
    return examine(seconds, machine or pi(tmp_path), bench.clock_ns, bench.graphs())


def levels(report):
    return {finding.name: finding.level for finding in report.findings}


def test_the_canary_that_ships_with_the_agent_is_the_one_that_servers_build():
    assert canary_model() == build_graph(CanaryGraph())


def test_a_quiet_machine_is_good_in_every_respect_and_gets_no_advice(tmp_path):
    report = look(tmp_path)
    assert report.verdict == "good"
    assert set(levels(report).values()) == {"good"}
    assert not any(finding.advice for finding in report.findings)
    assert report.numbers["canary_ms"] == pytest.approx(CANARY_MS, rel=1e-3)
    assert report.numbers["entry_variation_percent"] == pytest.approx(0, abs=0.01)


def test_it_takes_the_time_that_it_was_given_and_no_more(tmp_path):
    bench = Bench()
    look(tmp_path, bench, seconds=5.0)
    assert 5.0 <= bench.now_ns / 1e9 < 5.2


def test_noise_that_hits_graph_and_canary_apart_shows_in_the_table_entries(tmp_path):
    rng = random.Random(0)
    calm = look(tmp_path, Bench(lambda seconds: rng.gauss(1.0, 0.01)))
    wild = look(tmp_path, Bench(lambda seconds: max(rng.gauss(1.0, 0.1), 0.1)))
    assert 0 < calm.numbers["entry_variation_percent"] < wild.numbers["entry_variation_percent"]
    assert wild.numbers["spread_within_percent"] > 10


def test_a_machine_that_slows_down_drifts(tmp_path):
    report = look(tmp_path, Bench(lambda seconds: 1.0 + 0.05 * seconds))
    assert report.numbers["drift"] > 1.10
    assert levels(report)["drift"] == "poor"
    assert report.verdict == "poor"


def test_rare_long_interruptions_are_the_tail(tmp_path):
    rng = random.Random(0)
    report = look(tmp_path, Bench(lambda seconds: 10.0 if rng.random() < 0.02 else 1.0))
    assert report.numbers["tail"] > 5
    assert levels(report)["slowest 1 %"] == "usable", "the quantile leaves them out"


def test_slices_that_other_programs_get_are_no_doubt_of_numbers_that_do_not_hold_them(tmp_path):
    rng = random.Random(0)
    bench = Bench(lambda seconds: rng.choice((1.0, 9.0)))
    machine = pi(tmp_path)
    assert look(tmp_path, bench, machine).verdict == "poor"
    by_thread = examine(6.0, machine, bench.clock_ns, bench.graphs(), lambda: bench.thread_ns)
    assert by_thread.verdict == "good"


def test_a_coarse_clock_is_found_out(tmp_path):
    bench = Bench()
    report = examine(6.0, pi(tmp_path), lambda: bench.clock_ns() // 20_000 * 20_000, bench.graphs())
    assert levels(report)["clock"] == "poor"
    assert "clocksource" in " ".join(report_lines(report))


def test_a_clock_that_only_jumps_ends_the_examination_and_is_poor(tmp_path):
    bench = Bench()
    rng = random.Random(0)
    report = examine(
        6.0, pi(tmp_path), lambda: bench.clock_ns() - rng.randrange(10**12), bench.graphs()
    )  # fmt: skip
    assert levels(report)["clock jumps"] == "poor"
    assert report.verdict == "poor"


@pytest.mark.parametrize(
    ("path", "text", "name", "level", "advice"),
    [
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n", "governor", "usable", "performance"),
        ("sys/class/thermal/thermal_zone0/temp", "71000\n", "temperature", "usable", "fan"),
        ("sys/class/thermal/thermal_zone0/temp", "83000\n", "temperature", "poor", "fan"),
        ("proc/meminfo", "MemTotal: 900000 kB\nMemAvailable: 700000 kB\n", "memory", "usable", "free some memory"),
        ("proc/loadavg", "64.0 2 1 1/200 999\n", "load before", "usable", "idle"),
    ],
)
def test_what_the_operating_system_says_is_judged_with_advice(tmp_path, path, text, name, level, advice):
    report = look(tmp_path, machine=pi(tmp_path, **{path: text}))
    assert levels(report)[name] == level == report.verdict
    assert [advice in finding.advice for finding in report.findings if finding.name == name] == [True]


def test_a_board_that_is_held_back_at_any_moment_is_poor(tmp_path):
    answers = iter(["throttled=0x0\n"] * 5 + ["throttled=0x4\n"] + ["throttled=0x0\n"] * 100)
    report = look(tmp_path, machine=pi(tmp_path, run=lambda command: next(answers)))
    assert levels(report)["held back"] == "poor"
    assert "throttled" in [finding.found for finding in report.findings if finding.name == "held back"]


def test_time_that_a_hypervisor_took_is_read_over_the_examination(tmp_path):
    bench, machine = Bench(), pi(tmp_path)
    (tmp_path / "proc/stat").write_text("cpu  100 0 100 800 0 0 0 0 0 0\n")
    first, second, third = bench.graphs()

    def run():
        (tmp_path / "proc/stat").write_text("cpu  150 0 100 840 0 0 0 10 0 0\n")
        second.run()

    report = examine(1.0, machine, bench.clock_ns, (first, TimedGraph("canary", run), third))
    assert levels(report)["steal"] == "poor"


def test_a_machine_that_tells_nothing_is_judged_by_its_canary_alone(tmp_path):
    report = look(tmp_path, machine=Machine(tmp_path / "nothing", lambda command: None))
    assert "governor" not in levels(report)
    assert "table entry" in levels(report)


def test_the_command_examines_this_machine_and_its_exit_code_is_the_verdict(tmp_path, capsys):
    code = main(["doctor", "--seconds", "1", "--json", "--spool", str(tmp_path)])
    report = json.loads(capsys.readouterr().out)
    assert code == (1 if report["verdict"] == "poor" else 0)
    assert report["rounds"] >= 30
    assert {"clock_step_ns", "canary_ms", "drift", "tail"} <= set(report["numbers"])
    assert max(("good", "usable", "poor").index(finding["level"]) for finding in report["findings"]) == (
        "good", "usable", "poor"
    ).index(report["verdict"])  # fmt: skip


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_that_is_none_is_refused(seconds, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--seconds", seconds])
    assert stopped.value.code == 2


def test_it_does_not_disturb_a_profile_that_is_running(tmp_path, capsys):
    with Spool(tmp_path).measuring_lock():
        assert main(["doctor", "--seconds", "1", "--spool", str(tmp_path)]) == 1
    assert "another profiler-agent is measuring" in capsys.readouterr().err
