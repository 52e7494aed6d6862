"""What the agent reads of a machine, on made-up /proc and /sys trees."""

import pytest

from profiler_agent.host.machine import CpuTimes, Machine, steal_percent
from profiler_agent.host.probe import probe
from profiler_agent.ort.sessions import TimedGraph
from profiler_agent.timing.campaign import Subject
from profiler_agent.timing.stability import StabilityJudge
from profiler_agent.timing.stopping import PRESETS
from shared.measurements.measurement import Round
from shared.measurements.plan import Task


def tree(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


PI = {
    "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 108.00\n\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
    "proc/meminfo": "MemTotal:        3884400 kB\nMemFree: 100 kB\nMemAvailable:    3145728 kB\n",
    "proc/loadavg": "0.10 0.20 0.30 1/200 999\n",
    "proc/stat": "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n",
    "sys/class/thermal/thermal_zone0/temp": "84200\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "600000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1800000\n",
}


def test_a_raspberry_pi_is_read_as_what_it_is(tmp_path):
    found = probe(Machine(tree(tmp_path, PI), lambda command: "throttled=0x50005\n"), sleep=lambda s: None)
    assert found["cpu"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert found["governor"] == "ondemand"
    assert found["frequency_mhz"] == "1500 (600 to 1800)"
    assert found["temperature_c"] == "84.2"
    assert found["throttling"] == "under-voltage, throttled"
    assert found["memory_mb"] == "3072 free of 3793"
    assert found["load"] == "0.10 0.20 0.30"


def test_what_cannot_be_read_is_unknown(tmp_path):
    found = probe(Machine(tmp_path, lambda command: None), sleep=lambda s: None)
    unknown = {name for name, value in found.items() if value == "unknown"}
    assert unknown >= {"governor", "frequency_mhz", "temperature_c", "throttling", "memory_mb", "load", "steal_percent"}
    assert all(isinstance(value, str) and value for value in found.values())


@pytest.mark.parametrize("garbage", ["", "\0\0", "throttled=0xZZ", "cpu x y", "-1", "9" * 400])
def test_garbage_is_unknown_too(tmp_path, garbage):
    probe(Machine(tree(tmp_path, dict.fromkeys(PI, garbage)), lambda command: garbage), sleep=lambda s: None)


def test_this_very_machine_can_be_probed():
    found = probe(sleep=lambda s: None)
    assert found["python"].startswith("3.")
    assert "cpu" in found["providers"].split(", ")


def test_steal_is_the_share_that_others_got():
    assert steal_percent(CpuTimes(1000, 0), CpuTimes(1200, 50)) == pytest.approx(25.0)
    assert steal_percent(None, CpuTimes(1, 0)) is None
    assert steal_percent(CpuTimes(5, 0), CpuTimes(5, 0)) is None


def steady_subject(canaries=(1.0,) * 10):
    task = Task("net", "calibration", "canary:conv-v1")
    return Subject(task, TimedGraph("net", lambda: None), rounds=[Round((2.0 * c,), (c,)) for c in canaries])


def test_a_held_back_machine_is_named_with_what_to_do(tmp_path):
    machine = Machine(tree(tmp_path, PI), lambda command: "throttled=0x4\n")
    judge = StabilityJudge(PRESETS["standard"], machine)
    (tmp_path / "proc/stat").write_text("cpu  150 0 150 850 0 0 0 50 0 0\n")
    verdict = judge.judge(steady_subject())
    said = "\n".join(verdict.reasons)
    assert not verdict.stable
    for part in ("held back (throttled)", "84 degrees", "the hypervisor took 25 %", "echo performance"):
        assert part in said


@pytest.mark.parametrize(
    ("group", "stat", "stopped"),
    [
        ("0::/slice/agent", "sys/fs/cgroup/slice/agent/cpu.stat", "throttled_usec 4000000"),
        ("0::/docker/1f", "sys/fs/cgroup/cpu.stat", "throttled_usec 4000000"),
        ("3:cpu,cpuacct:/box\n0::/", "sys/fs/cgroup/cpu/box/cpu.stat", "throttled_time 4000000000"),
    ],
)
def test_a_quota_that_stops_the_agent_half_of_the_time_is_named(tmp_path, group, stat, stopped):
    name = stopped.split()[0]
    root = tree(tmp_path, {"proc/self/cgroup": f"{group}\n", stat: f"nr_periods 9\n{name} 0\n"})
    now = iter((0.0, *[8.0] * 20))
    judge = StabilityJudge(PRESETS["standard"], Machine(root, lambda command: None), lambda: next(now))
    (root / stat).write_text(f"nr_periods 99\n{stopped}\n")
    verdict = judge.judge(steady_subject())
    assert verdict.reasons == ("a CPU quota stopped it for 50 % of the time: give it whole cores",)


def test_a_governor_alone_is_advice_and_leaves_a_precise_measurement_stable(tmp_path):
    quiet = {**PI, "sys/class/thermal/thermal_zone0/temp": "45000\n"}
    judge = StabilityJudge(PRESETS["standard"], Machine(tree(tmp_path, quiet), lambda command: "throttled=0x0\n"))
    verdict = judge.judge(steady_subject())
    assert verdict.stable
    assert len(verdict.reasons) == 1
    assert "the frequency governor is ondemand" in verdict.reasons[0]


def test_a_canary_that_drifted_makes_a_measurement_unstable(tmp_path):
    judge = StabilityJudge(PRESETS["standard"], Machine(tmp_path, lambda command: None))
    verdict = judge.judge(steady_subject((1.0,) * 5 + (1.2,) * 5))
    assert not verdict.stable
    assert "the canary drifted by 1.20" in verdict.reasons[0]


def test_an_imprecise_measurement_says_how_imprecise(tmp_path):
    judge = StabilityJudge(PRESETS["standard"], Machine(tmp_path, lambda command: None))
    subject = steady_subject()
    subject.rounds = [Round((value,), (1.0,)) for value in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9)]
    verdict = judge.judge(subject)
    assert not verdict.stable
    assert "1.0% wanted" in verdict.reasons[0]
