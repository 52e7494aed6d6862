"""What the agent knows of phones: Android's properties, clusters of cores, thermal status, battery,
the watch file.
"""

import json
from pathlib import Path

import pytest

from profiler_agent.android.health import Health, read_health
from profiler_agent.host.machine import (
    Machine,
    affinity_mask,
    fastest_cores,
    find_clusters,
    find_phone,
    join_numbers,
    read_properties,
)
from profiler_agent.host.probe import probe
from profiler_agent.host.throttle_sensor import SensorReading, ThrottleSensor, find_throttle_sensor
from profiler_agent.ort.session_cache import give_back_memory
from profiler_agent.spool.spool import default_spool
from shared.atomic_files import hold_lock
from shared.errors import LutnasError, WrongUse

PRINTED = Path(__file__).parent / "adb" / "out"
PROPERTIES, THERMAL, BATTERY = ((PRINTED / name).read_text() for name in ("getprop", "thermalservice", "battery"))
FREQUENCIES = {**dict.fromkeys(range(4), 1950000), **dict.fromkeys((4, 5), 2314000), **dict.fromkeys((6, 7), 2730000)}


def phone_tree(root):
    for core, khz in FREQUENCIES.items():
        folder = root / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(f"{khz}\n")
    return root


def getprop(command):
    return PROPERTIES if command == ["getprop"] else None


def test_a_phone_is_probed_by_its_model_processor_android_and_clusters(tmp_path):
    found = probe(Machine(phone_tree(tmp_path), getprop), sleep=lambda s: None)
    assert found["phone"] == "samsung SM-G973F"
    assert found["cpu"] == "Samsung Exynos 9820"
    assert found["os"].startswith("Android 12, Linux ")
    assert found["clusters"] == "4 x 1950 MHz (cores 0-3), 2 x 2314 MHz (cores 4-5), 2 x 2730 MHz (cores 6-7)"
    # what Android hides from apps
    assert {found[name] for name in ("load", "steal_percent", "temperature_c", "governor", "throttling")} == {"unknown"}


def test_older_phones_name_their_processor_by_the_board():
    properties = {"ro.build.version.release": "9", "ro.board.platform": "sdm845", "ro.product.model": "Pixel 3"}
    phone = find_phone(properties)
    assert (phone.model, phone.soc, phone.version) == ("Pixel 3", "sdm845", "9")


def test_what_is_no_phone_is_none():
    assert find_phone(read_properties("throttled=0x0\n")) is None
    assert "phone" not in probe(Machine(), sleep=lambda s: None)


def test_threads_get_the_fastest_cluster_and_the_next_ones_only_when_it_is_too_small():
    clusters = find_clusters({**FREQUENCIES, 8: 3_000_000})
    assert [fastest_cores(clusters, threads) for threads in (1, 2, 4)] == [(8,), (6, 7, 8), (4, 5, 6, 7, 8)]
    assert fastest_cores((), 1) == ()
    assert affinity_mask((6, 7)) == "c0"
    assert join_numbers((0, 1, 2, 5, 7, 8)) == "0-2,5,7-8"


def test_health_is_read_from_what_the_services_print():
    health = read_health(THERMAL, BATTERY)
    assert health == Health(1, 41.6, 33.8, 84, 31.2, powered=True)
    assert str(health) == (
        "thermal status light, processor 42, skin 34 degrees Celsius, battery 84 % at 31 degrees Celsius, charging"
    )


@pytest.mark.parametrize("text", ["", "Can't find service: thermalservice\n", "Thermal Status: \n", "\0" * 10])
def test_what_a_phone_does_not_tell_is_unknown(text):
    assert read_health(text, text) == Health()
    assert str(Health()) == "thermal status unknown, battery unknown"


def test_a_watch_file_pauses_while_it_asks_for_it_and_a_writer_that_is_gone_holds_up_nobody(tmp_path):
    path, said, now_s = tmp_path / "watch.json", [], [tmp_path.stat().st_mtime]
    path.write_text(json.dumps({"pause": True, "held_back": ["thermal status severe"]}))

    def sleep(seconds):
        now_s[0] += 10 * seconds

    ThrottleSensor(path, lambda: now_s[0], sleep, said.append).wait()
    assert said == ["pausing: thermal status severe", "going on"]
    assert 60 <= now_s[0] - path.stat().st_mtime < 80


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"held_back": 3, "facts": [], "pause": 1}', b"\xff"])
def test_a_garbled_watch_file_says_nothing(tmp_path, content):
    path = tmp_path / "watch.json"
    path.write_bytes(content)
    assert ThrottleSensor(path).read() == SensorReading()


def test_what_a_watch_file_says_is_in_probe_and_throttling(tmp_path, monkeypatch):
    (tmp_path / "watch.json").write_text(
        json.dumps({"held_back": ["thermal status light"], "facts": {"battery": "84 %"}})
    )
    watch = find_throttle_sensor({"LUTNAS_WATCH": str(tmp_path / "watch.json")})
    machine = Machine(tmp_path, lambda command: None, watch)
    assert machine.throttling() == ["thermal status light"]
    assert probe(machine, sleep=lambda s: None)["battery"] == "84 %"
    assert find_throttle_sensor({}) is None


def test_a_disk_without_locks_is_one_clear_line(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.raises(LutnasError, match=r"cannot lock .*measuring\.lock: Function not implemented"),
        hold_lock(tmp_path / "measuring.lock", wait=False, busy=""),
    ):
        pass


def test_a_user_without_a_home_is_told_to_name_a_folder(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(WrongUse, match="--spool or LUTNAS_SPOOL"):
        default_spool({})
    assert default_spool({"LUTNAS_SPOOL": "/spool"}) == Path("/spool")


@pytest.mark.parametrize("platform", ["android", "linux"])
def test_a_c_library_without_malloc_trim_is_no_error(monkeypatch, platform):
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    give_back_memory()
