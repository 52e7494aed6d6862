"""`profiler-agent adb` against stand-ins for adb: transcripts, and a phone whose Termux is a folder
here.

No phone was at hand: what adb and Android print was taken from their sources and from reports, and
written down in tests/agent/adb.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from profiler_agent.android import campaign as campaign_module
from profiler_agent.android.bridge import Adb, AttachedPhone, PhoneAway, choose_phone, list_attached
from profiler_agent.android.bundle import agent_files, pack, unpack_runs
from profiler_agent.android.campaign import PhoneCampaign
from profiler_agent.android.health import Health
from profiler_agent.android.phone import PhoneAgent, Progress, proot_words, watch_content
from profiler_agent.android.termux import RunAs, Ssh, open_termux
from profiler_agent.cli import main
from profiler_agent.commands.adb import parse_cores, phone_flags
from profiler_agent.commands.options import add_plan, wanted_profile
from profiler_agent.profile.profile import ProfileRequest
from profiler_agent.server.server_client import ServerClient
from profiler_agent.spool.spool import Spool
from profiler_agent.timing.stopping import PRESETS
from shared.command_line import Interrupted
from shared.errors import InvalidValue, LutnasError

FOLDER = Path(__file__).parent / "adb"
THERMAL = (FOLDER / "out/thermalservice").read_text()
SERIAL = "R58M123ABCD"
LISTED = "List of devices attached\n"
READY = f"{SERIAL}            device usb:1-4 product:beyond1ltexx model:SM_G973F device:beyond1 transport_id:3\n"


@pytest.fixture
def replay(tmp_path, monkeypatch):
    """Answers of adb and ssh, from a list of lines; `check` says whether all were asked for, and
    nothing else.
    """
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("adb", "ssh"):
        (programs / name).symlink_to(FOLDER / "replay")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    played, transcript = tmp_path / "played", tmp_path / "transcript.json"
    monkeypatch.setenv("PLAYED", str(played))
    monkeypatch.setenv("TRANSCRIPT", str(transcript))

    def begin(lines):
        transcript.write_text(json.dumps(lines))

    def check():
        problem = played.with_suffix(".problem")
        assert not problem.exists(), problem.read_text()
        assert int(played.read_text()) == len(json.loads(transcript.read_text()))

    return SimpleNamespace(begin=begin, check=check)


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """A phone whose Termux is a folder, whose Python is this one, and whose fastest core is the
    last one here.
    """
    folder = tmp_path / "phone"
    for name in ("files/home", "files/usr/bin", "files/usr/tmp", "programs"):
        (folder / name).mkdir(parents=True)
    python = folder / "files/usr/bin/python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    cores = sorted(os.sched_getaffinity(0))
    frequencies = "".join(f"cpu{core} {2_000_000 + 100_000 * (core == cores[-1])}\n" for core in cores)
    shutil.copytree(FOLDER / "out", folder / "out")
    (folder / "out/frequencies").write_text(frequencies)
    (folder / "programs/adb").symlink_to(FOLDER / "phone")
    monkeypatch.setenv("PATH", f"{folder / 'programs'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PHONE", str(folder))
    monkeypatch.setattr(campaign_module, "ASK_EVERY_S", 0.3)
    monkeypatch.setattr(campaign_module, "COME_BACK_S", 0.3)
    base, clients = folder / "files/home/.lutnas", []
    thermal = folder / "out/thermalservice"
    yield SimpleNamespace(folder=folder, base=base, core=cores[-1], thermal=thermal, clients=clients)
    for client in clients:
        client.__exit__()
    if (base / "run/pid").exists() and not (base / "run/code").exists():
        with suppress(ProcessLookupError):
            os.kill(int((base / "run/pid").read_text()), signal.SIGKILL)


def command(agent, *more):
    sizes = agent.profile[agent.profile.index("--space") :]
    return ["adb", *agent.connection, "--device", "phone", *sizes, "--preset", "smoke", *more]


def spooled(agent):
    return Spool(agent.spool / "adb" / SERIAL)


def test_a_phone_is_measured_from_the_desktop_to_its_table(agent, server, phone, capsys):
    assert main(command(agent)) == 0
    said = capsys.readouterr().err
    assert "samsung SM-G973F, Samsung Exynos 9820, Android 12" in said
    assert "thermal status light, processor 42, skin 34 degrees Celsius, battery 84 %" in said
    assert f"running on cores {phone.core}" in said
    assert "put the agent on the phone" in said
    (run,) = spooled(agent).runs()
    assert f"run {run.run.id}: table " in said
    assert len(server.measurements[run.run.id]) == agent.tasks
    # measured by the agent that was put there, on the phone's fastest core, with what it was told
    # of the phone
    assert run.run.probe["cores"].startswith("1 of ")
    assert run.run.probe["battery"] == "84 % at 31 degrees Celsius, charging"
    reasons = [reason for measurement in run.read_measurements().values() for reason in measurement.verdict.reasons]
    assert any("held back (thermal status light)" in reason for reason in reasons)
    assert f"taskset {1 << phone.core:x} env PYTHONPATH=" in (phone.folder / "called").read_text()

    assert main(command(agent)) == 0
    again = capsys.readouterr().err
    assert "0 graphs put on the phone" in again
    assert "put the agent" not in again
    assert len(spooled(agent).runs()) == 1


def campaign(agent, phone, sleep, said, wait_s=60.0):
    """With a sleep of one's own: what is done in it happens between two questions."""
    adb = Adb(SERIAL)
    client = ServerClient(agent.connection[1], agent.connection[3])
    phone.clients.append(client)
    on_phone = PhoneAgent(adb, RunAs(adb), python="python3")
    return PhoneCampaign(on_phone, client, spooled(agent), said.append, 2, wait_s, sleep)


def request(small_space):
    return ProfileRequest("phone", (small_space,), 3, 2, preset=PRESETS["smoke"])


SIZES = "--resolution 8 --channels 4 --depth 1 --classes 3 --calibration 3 --held-out 2"
FLAGS = ["--space", "nas-bench-201", *SIZES.split(), "--device", "phone", "--preset", "smoke"]
LONGER = [*FLAGS[:-1], "standard"]  # still under way when the phone is asked for the first time


@pytest.mark.slow
def test_without_the_cable_the_phone_goes_on_and_is_found_again(agent, server, phone, small_space):
    said, unplugged = [], phone.folder / "unplugged"

    def sleep(seconds):
        if unplugged.exists() and time.monotonic() > sleep.back_s:
            unplugged.unlink()
        elif not hasattr(sleep, "back_s") and (phone.base / "run/pid").exists():
            sleep.back_s = time.monotonic() + 1.5
            unplugged.touch()
        time.sleep(0.2)

    assert campaign(agent, phone, sleep, said).run(request(small_space), FLAGS, ()) == 0
    away = "the phone R58M123ABCD went away (device 'R58M123ABCD' not found): it goes on measuring by itself"
    assert [line for line in said if away in line or line == "the phone is back"] != []
    assert "the phone is back" in said
    (run,) = spooled(agent).runs()
    assert len(server.measurements[run.run.id]) == agent.tasks


@pytest.mark.slow
def test_a_phone_that_stays_away_ends_the_command_and_the_same_command_finds_its_campaign(
    agent, server, phone, small_space
):
    said, unplugged = [], phone.folder / "unplugged"
    # A hot phone waits: so its campaign is still under way when the second command comes.
    phone.thermal.write_text(THERMAL.replace("Thermal Status: 1", "Thermal Status: 3"))

    def unplug(seconds):
        unplug.questions = getattr(unplug, "questions", 0) + 1
        if unplug.questions == 4:
            unplugged.touch()
        time.sleep(0.3)

    with pytest.raises(PhoneAway, match="run the same command, nothing is lost"):
        campaign(agent, phone, unplug, said, wait_s=0.0).run(request(small_space), FLAGS, ())
    unplugged.unlink()

    def cool(seconds):
        phone.thermal.write_text(THERMAL)
        time.sleep(0.3)

    assert campaign(agent, phone, cool, said).run(request(small_space), FLAGS, ()) == 0
    assert "the phone is measuring this already" in said
    (run,) = spooled(agent).runs()
    assert len(server.measurements[run.run.id]) == agent.tasks


@pytest.mark.slow
def test_a_campaign_that_ended_while_nobody_was_there_is_fetched_and_not_begun_again(agent, phone, small_space):
    said, flags = [], [*LONGER, "--new"]

    def unplug(seconds):
        (phone.folder / "unplugged").touch()

    with pytest.raises(PhoneAway):
        campaign(agent, phone, unplug, said, wait_s=0.0).run(request(small_space), flags, ())
    (phone.folder / "unplugged").unlink()
    for _ in range(600):
        if (phone.base / "run/code").exists():
            break
        time.sleep(0.1)
    assert campaign(agent, phone, time.sleep, said).run(request(small_space), flags, ()) == 0
    assert "the phone has measured this already" in said
    assert len(spooled(agent).runs()) == 1
    assert not (phone.base / "run/command").exists()  # from now on --new means what it says


@pytest.mark.slow
def test_stopped_here_it_is_stopped_there_and_goes_on_from_what_it_had(agent, server, phone, small_space):
    said = []

    def interrupt(seconds):
        if any("round" in line for line in said) or list((phone.base / "spool/runs").glob("*/rounds.jsonl")):
            raise Interrupted(signal.SIGINT)
        time.sleep(0.1)

    with pytest.raises(Interrupted):
        campaign(agent, phone, interrupt, said).run(request(small_space), LONGER, ())
    for _ in range(100):
        if (phone.base / "run/code").exists():
            break
        time.sleep(0.1)
    assert (phone.base / "run/code").read_text().strip() == "130"
    (rounds,) = (phone.base / "spool/runs").glob("*/rounds.jsonl")
    before = rounds.read_bytes()

    assert campaign(agent, phone, time.sleep, said).run(request(small_space), FLAGS, ()) == 0
    assert any("resuming run" in line for line in said)
    assert rounds.read_bytes().startswith(before)
    (run,) = spooled(agent).runs()
    assert len(server.measurements[run.run.id]) == agent.tasks


@pytest.mark.slow
def test_a_hot_phone_is_left_to_cool_down(agent, server, phone, small_space):
    said = []
    phone.thermal.write_text(THERMAL.replace("Thermal Status: 1", "Thermal Status: 3"))

    def sleep(seconds):
        sleep.questions = getattr(sleep, "questions", 0) + 1
        if sleep.questions == 8:
            assert not list((phone.base / "spool/runs").glob("*/rounds.jsonl"))
            phone.thermal.write_text(THERMAL.replace("Thermal Status: 1", "Thermal Status: 0"))
        time.sleep(0.3)

    assert campaign(agent, phone, sleep, said).run(request(small_space), FLAGS, ()) == 0
    assert any("thermal status severe" in line and "pausing until it has cooled down" in line for line in said)
    assert "phone: pausing: thermal status severe" in said
    assert "phone: going on" in said


@pytest.mark.slow
def test_a_server_that_is_away_afterwards_loses_nothing(agent, server, phone, capsys, monkeypatch):
    whole = PhoneCampaign._upload

    def upload_without_server(self):
        server.stop()
        return whole(self)

    monkeypatch.setattr(PhoneCampaign, "_upload", upload_without_server)
    assert main(command(agent)) == 1
    assert "no answer from" in capsys.readouterr().err
    (run,) = spooled(agent).runs()
    assert len(run.read_measurements()) == agent.tasks
    server.start()
    monkeypatch.setattr(PhoneCampaign, "_upload", whole)
    assert main(command(agent)) == 0
    assert len(server.measurements[run.run.id]) == agent.tasks


def test_what_termux_lacks_is_said_with_the_commands_that_install_it(agent, server, phone, capsys):
    python = phone.folder / "files/usr/bin/python3"
    python.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'onnxruntime'\" >&2\nexit 1\n")
    assert main(command(agent)) == 1
    said = capsys.readouterr().err
    assert "No module named 'onnxruntime'" in said
    assert "in Termux: pkg install python python-numpy && pkg install python-onnxruntime && pip install httpx" in said


def test_another_campaign_on_the_phone_is_not_disturbed(agent, server, phone, small_space):
    (phone.base / "run").mkdir(parents=True)
    (phone.base / "run/pid").write_text(str(os.getppid()))
    (phone.base / "run/command").write_text("taskset 1 something else")
    try:
        with pytest.raises(LutnasError, match="measuring something else"):
            campaign(agent, phone, time.sleep, []).run(request(small_space), FLAGS, ())
    finally:
        (phone.base / "run/pid").unlink()


@pytest.mark.slow
def test_an_agent_that_is_gone_without_a_word_is_said_to_be(agent, server, phone, small_space):
    said = []

    def kill(seconds):
        if not said or "killed" not in said:
            pid = int((phone.base / "run/pid").read_text())
            os.killpg(os.getpgid(pid), signal.SIGKILL)  # with the shell that would write down its exit code
            said.append("killed")
        time.sleep(0.1)

    with pytest.raises(LutnasError, match="gone without a word"):
        campaign(agent, phone, kill, said).run(request(small_space), FLAGS, ())


def test_spooled_measures_what_it_is_given_and_asks_nobody(agent, capsys):
    assert main(["profile", "--spooled", *agent.profile[1:]]) == 2
    assert "--spooled: asks no server" in capsys.readouterr().err
    sizes = agent.profile[agent.profile.index("--device") :]
    assert main(["profile", "--spooled", "--spool", str(agent.spool), *sizes]) == 1
    assert "has no such plan from before" in capsys.readouterr().err


def line(arguments, **more):
    return {"args": arguments.split(), **more}


@pytest.mark.parametrize(
    ("listed", "serial", "code", "said"),
    [
        ("\n", (), 1, "no phone is connected"),
        (f"{SERIAL}            unauthorized usb:1-4 transport_id:4\n", (), 1, "allow USB debugging for this computer"),
        (f"{SERIAL}            offline usb:1-4 transport_id:4\n", (), 1, "is offline: plug the phone in again"),
        (
            "????????????           no permissions (missing udev rules? user is in the plugdev group); see [...]\n",
            (),
            1,
            "install the udev rules",
        ),
        (
            READY + "emulator-5554          device product:sdk model:Pixel_7 device:emu transport_id:1\n",
            (),
            2,
            f"several phones are connected, name one of them: {SERIAL} (SM G973F), emulator-5554 (Pixel 7)",
        ),
        (READY, ("--serial", "other"), 2, f"no phone other is connected (connected: {SERIAL} (SM G973F))"),
    ],
)
def test_a_phone_that_cannot_be_used_is_named_with_what_to_do(agent, replay, capsys, listed, serial, code, said):
    replay.begin([line("adb devices -l", out=LISTED + listed)])
    assert main(command(agent, *serial)) == code
    assert said in capsys.readouterr().err
    replay.check()


def test_the_lines_of_a_starting_daemon_are_no_phones(replay):
    started = "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n"
    replay.begin([line("adb devices -l", out=started + LISTED + READY + "\n")])
    assert list_attached() == [AttachedPhone(SERIAL, "device", "SM G973F")]
    assert choose_phone([AttachedPhone(SERIAL, "device")], None).serial == SERIAL


def test_without_adb_one_line_says_what_to_install(agent, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(command(agent)) == 1
    assert "adb is not here: install it (Debian: apt-get install adb)" in capsys.readouterr().err


def conversation():
    """A phone with Termux from F-Droid: run-as is refused, ssh works; the cable is out once."""
    code = f"/data/data/com.termux/files/home/.lutnas/agent-{hashlib.sha256(pack(agent_files())).hexdigest()[:16]}"
    text = (FOLDER / "ssh-through-the-cable.json").read_text().replace("{code}", code)
    return json.loads(text)


def test_a_termux_that_is_not_debuggable_is_reached_by_ssh_through_the_cable(replay):
    replay.begin(conversation())
    adb = Adb(SERIAL)
    shell = open_termux(adb)
    assert isinstance(shell, Ssh)
    agent = PhoneAgent(adb, shell, python="python3")
    assert agent.describe().model == "samsung SM-G973F"
    assert [cluster.cores for cluster in agent.clusters()] == [(0, 1, 2, 3), (4, 5), (6, 7)]
    health = agent.health()
    assert health.thermal == "light"
    assert not agent.install()
    # b is there, and c was torn by a cable that went
    assert agent.stock([("known/a.json", b"{}"), ("graphs/b.onnx", b"b"), ("graphs/c.onnx", b"c")]) == 1
    command = agent.command(["--device", "s10", "--space", "nas-bench-201"], (6, 7))
    assert agent.find_campaign() == (Progress("none"), "")
    agent.start(command, health, 2)
    progress, seen = agent.watch(health, 2, 0)
    assert (progress.state, progress.output) == ("running", "graphs: 3 of 30\n")
    with pytest.raises(PhoneAway, match="Connection closed"):
        agent.watch(health, 2, seen)
    with pytest.raises(PhoneAway, match="not found"):
        agent.watch(health, 2, seen)
    progress, seen = agent.watch(health, 2, seen)  # a new port
    assert (progress.state, progress.code, progress.output) == ("ended", 0, "run        1\n")
    assert agent.fetch_runs() == b"a tar file"
    agent.forget_campaign()
    agent.keep_finished([("runs/1/finished.json", b"{}")])
    shell.close()
    replay.check()


@pytest.mark.parametrize(
    ("refusal", "ssh"),
    [
        ("run-as: package not debuggable: com.termux", "ssh: connect to host 127.0.0.1 port 40000: Connection refused"),
        ("run-as: unknown package: com.termux", "kex_exchange_identification: Connection closed by remote host"),
        ("run-as: Package 'com.termux' is unknown", "u0_a1@127.0.0.1: Permission denied (publickey,password)."),
    ],
)
def test_where_there_is_no_way_into_termux_both_reasons_and_both_remedies_are_said(replay, refusal, ssh):
    lines = conversation()[:3]
    lines[0] |= {"err": refusal + "\n", "exit": 1}
    lines[2] |= {"err": ssh + "\n", "exit": 255}
    replay.begin([*lines, line(f"adb -s {SERIAL} forward --remove tcp:40000")])
    with pytest.raises(LutnasError) as failed:
        open_termux(Adb(SERIAL))
    for part in (refusal, ssh, "from its GitHub releases", "pkg install openssh"):
        assert part in str(failed.value)
    replay.check()


def test_a_proot_goes_before_the_agents_command_and_the_mask_before_the_proot():
    adb = Adb(SERIAL)
    agent = PhoneAgent(adb, RunAs(adb), proot_words("debian"), "/opt/lutnas/bin/python", code="/code")
    words = agent.command(["--device", "s10"], (4, 5, 6, 7)).split()
    assert words[:5] == ["taskset", "f0", "proot-distro", "login", "debian"]
    assert words[words.index("--") + 1] == "env"
    assert "/opt/lutnas/bin/python" in words


def test_measuring_pauses_from_the_level_that_was_asked_for():
    assert watch_content(Health(2), 2)["pause"] is True
    assert watch_content(Health(1), 2) | {"facts": 0} == {
        "pause": False, "held_back": ["thermal status light"], "facts": 0,
    }  # fmt: skip
    assert watch_content(Health(), 1) | {"facts": 0} == {"pause": False, "held_back": [], "facts": 0}


def test_the_phone_profiles_what_the_desktop_was_asked_for():
    parser = argparse.ArgumentParser()
    add_plan(parser)
    sizes = "--resolution 32 64 --channels 8 --depth 1 --classes 5 --image-channels 1 --calibration 9 --held-out 8"
    runtime = "--threads 2 --batch 4 --precision fp16 --provider webgpu --optimisation basic"
    asked = f"--device pixel8 --space nas-bench-201 --seed 3 --preset quick --seconds-per-task 0.4 {sizes} {runtime}"
    here = parser.parse_args(asked.split())
    assert wanted_profile(parser.parse_args(phone_flags(here))) == wanted_profile(here)


@pytest.mark.parametrize(("text", "cores"), [("4-7", (4, 5, 6, 7)), ("0,2-3", (0, 2, 3)), ("7", (7,))])
def test_cores_are_numbers_and_ranges(text, cores):
    assert parse_cores(text) == cores


@pytest.mark.parametrize("text", ["", "big", "4-", "-1", "1,,2", "0x3"])
def test_other_cores_are_wrong_use(text):
    with pytest.raises(InvalidValue, match="--cores"):
        parse_cores(text)


def test_only_a_phones_runs_are_unpacked_and_nothing_outside_of_the_spool(tmp_path):
    names = ["runs/1/run.json", "runs/1/acknowledged.jsonl", "runs/../../evil", "known/x.json", "/runs/2/run.json"]
    assert unpack_runs(pack((name, b"{}") for name in names), tmp_path / "spool") == 1
    found = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert found == ["spool/runs/1/run.json"]
    with pytest.raises(LutnasError, match="cut off"):
        unpack_runs(pack([("runs/1/run.json", b"x" * 5000)])[:3000], tmp_path / "spool")


def test_the_agents_files_are_whole_and_named_by_their_content():
    entries = agent_files()
    names = [name for name, _ in entries]
    assert {"profiler_agent/cli.py", "profiler_agent/canary-conv-v1.onnx", "shared/measurements/plan.py"} <= set(names)
    assert not any("__pycache__" in name or name.startswith("shared/graphs/") for name in names)
    assert pack(entries) == pack(agent_files())
    assert pack(entries) != pack([*entries[1:], (entries[0][0], entries[0][1] + b"#")])
