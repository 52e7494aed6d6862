"""Profiling without a server, the file that comes of it, and its way to a server."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from profiler_agent.cli import main
from profiler_agent.profile import group_campaign, settle
from profiler_agent.profile.offline import upload_file
from profiler_agent.server.server_client import ServerClient
from profiler_agent.spool.run_file import read_run_file, write_run_file
from profiler_agent.spool.spool import Spool
from shared.errors import CorruptFile, OtherSchema, Stopped
from shared.measurements.measurement import Verdict
from shared.wire import RUN_FILE_SCHEMA, canonical_json, content_hash

TOKEN = "secret-of-the-agent"
SIZES = "--resolution 8 --channels 4 --cells-per-stage 1 --classes 3 --calibration 3 --held-out 2 --preset quick"
TASKS = 29
CHECKED = ("--preset", "standard", "--seconds-per-task", "0.05")
"""Quick, but precise enough for a settle check."""
PROGRAM = [sys.executable, "-m", "profiler_agent"]


def offline(folder, *more):
    flags = ["--out", str(folder / "run.json"), "--spool", str(folder / "spool"), "--device", "bench"]
    return ["profile", "--offline", *flags, "--space", "nas-bench-201", *SIZES.split(), *more]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run made offline once, for all tests that only read it."""
    folder = tmp_path_factory.mktemp("offline")
    assert main(offline(folder)) == 0
    return folder / "run.json"


@pytest.fixture
def upload(server, tmp_path):
    connection = ["--server", server.url, "--token", TOKEN, "--spool", str(tmp_path / "empty")]
    return lambda *files: main(["upload", *connection, *map(str, files)])


def rewrite(path, out, **changes):
    """The file with other fields, and with the hash that fits them."""
    data = json.loads(path.read_bytes()) | changes
    data["sha256"] = content_hash({name: data[name] for name in ("plan", "run", "measurements", "kernels")})
    out.write_bytes(canonical_json(data))
    return out


def test_a_run_without_a_server_ends_in_one_whole_file(recorded):
    run = read_run_file(recorded)
    assert len(run.measurements) == TASKS
    assert run.missing_tasks() == []
    assert run.run.device == "bench"
    data = json.loads(recorded.read_bytes())
    assert (data["format"], data["version"]) == ("lutnas-run", RUN_FILE_SCHEMA)
    assert recorded.read_bytes() == canonical_json(data)


def test_the_file_is_handed_in_later_and_again_without_harm(recorded, server, upload, capsys):
    assert upload(recorded) == 0
    first = capsys.readouterr().out
    assert f"uploaded {TASKS} measurements" in first
    assert upload(recorded) == 0
    assert capsys.readouterr().out == first
    ((run_id, measurements),) = server.measurements.items()
    assert len(measurements) == TASKS
    assert server.runs[run_id] == read_run_file(recorded).run
    assert len(server.tables) == 1
    assert "bench" in server.devices


def test_an_upload_that_broke_off_is_done_again_from_its_file(recorded, server, upload):
    def break_off(method, path):
        if path.endswith("/finish"):
            server.stop()

    server.before = break_off
    with ServerClient(server.url, TOKEN) as client, pytest.raises(Exception, match="no answer"):
        upload_file(client, read_run_file(recorded), sleep=lambda seconds: None)
    server.before = lambda method, path: None
    server.start()
    assert upload(recorded) == 0
    assert [len(measurements) for measurements in server.measurements.values()] == [TASKS]


def test_the_same_offline_profile_again_measures_nothing_and_new_measures_again(tmp_path, capsys):
    assert main(offline(tmp_path)) == 0
    content = (tmp_path / "run.json").read_bytes()
    assert main(offline(tmp_path)) == 0
    assert "holds this run already" in capsys.readouterr().out
    assert (tmp_path / "run.json").read_bytes() == content
    assert main(offline(tmp_path, "--new")) == 0
    assert read_run_file(tmp_path / "run.json").run.id != json.loads(content)["run"]["id"]


def test_a_file_of_another_run_is_not_overwritten(recorded, tmp_path, capsys):
    (tmp_path / "run.json").write_bytes(recorded.read_bytes())
    assert main([*offline(tmp_path), "--device", "other"]) == 1
    assert "holds another run (of bench" in capsys.readouterr().err
    (tmp_path / "run.json").write_text("my notes")
    assert main(offline(tmp_path)) == 1
    assert (tmp_path / "run.json").read_text() == "my notes"


def test_a_killed_offline_profile_is_resumed(tmp_path, capsys):
    command = [*PROGRAM, *offline(tmp_path)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "spool").glob("runs/*/rounds.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run.json").exists()
    assert main(offline(tmp_path)) == 0
    assert "resuming run" in capsys.readouterr().err
    assert read_run_file(tmp_path / "run.json").missing_tasks() == []


def test_what_cannot_be_written_stays_in_the_spool_and_is_written_by_the_same_command(tmp_path, capsys):
    blocked = tmp_path / "run.json"
    command = offline(tmp_path)
    command[command.index(str(blocked))] = str(tmp_path / "file" / "run.json")
    (tmp_path / "file").write_text("in the way")
    assert main(command) == 1
    assert "cannot use" in capsys.readouterr().err
    (tmp_path / "file").unlink()
    assert main(command) == 0
    assert "resuming run" in capsys.readouterr().err
    assert len(read_run_file(tmp_path / "file" / "run.json").measurements) == TASKS


def test_an_incomplete_run_is_handed_in_but_makes_no_table(recorded, tmp_path, server, upload, capsys):
    run = read_run_file(recorded)
    write_run_file(tmp_path / "part.json", run.run, run.plan, run.measurements[:5], {})
    assert upload(tmp_path / "part.json") == 1
    assert "24 of 29 tasks are not measured: no table" in capsys.readouterr().out
    assert [len(measurements) for measurements in server.measurements.values()] == [5]
    assert upload(tmp_path / "part.json", "--force") == 1
    assert "24 of 29 tasks have no measurement" in capsys.readouterr().err


@pytest.mark.parametrize("found", [1, 99])
def test_a_file_of_another_lutnas_is_refused_in_a_line(recorded, tmp_path, upload, capsys, found):
    other = rewrite(recorded, tmp_path / "other.json", version=found)
    assert upload(other) == 1
    assert capsys.readouterr().err == (
        f"profiler-agent: {other} has schema {found}, this lutnas reads schema 12: "
        "make it anew, or use the lutnas that wrote it\n"
    )


def test_a_plan_of_another_lutnas_inside_is_refused_too(recorded, tmp_path):
    data = json.loads(recorded.read_bytes())
    newer = rewrite(recorded, tmp_path / "newer.json", plan=data["plan"] | {"schema": 99})
    with pytest.raises(OtherSchema, match="plan"):
        read_run_file(newer)


def test_fields_that_this_version_does_not_know_are_ignored(recorded, tmp_path):
    data = json.loads(recorded.read_bytes())
    run = data["run"] | {"weather": "fine"}
    assert read_run_file(rewrite(recorded, tmp_path / "more.json", run=run, extra=[1])).run.device == "bench"


DAMAGE = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "one digit": lambda content: content.replace(b'"divisor":6', b'"divisor":7', 1),
    "not text": lambda content: content[:100] + b"\xff\xfe" + content[100:],
    "a list": lambda content: b"[1,2,3]",
    "another file": lambda content: b'{"format":"onnx","version":1}',
    "no version": lambda content: content.replace(b'"version":1', b'"version":"one"'),
    "no measurements": lambda content: content.replace(b'"measurements"', b'"measurementz"', 1),
    "no hash": lambda content: content.replace(b'"sha256"', b'"sha257"', 1),
    "not a number": lambda content: content.replace(b'"divisor":6', b'"divisor":NaN', 1),
    "nested without end": lambda content: b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_in_one_line(damage, recorded, tmp_path, upload, capsys):
    path = tmp_path / "run.json"
    path.write_bytes(DAMAGE[damage](recorded.read_bytes()))
    with pytest.raises(CorruptFile):
        read_run_file(path)
    assert upload(path, recorded) == 1
    seen = capsys.readouterr()
    assert len(seen.err.splitlines()) == 1
    assert str(path) in seen.err
    assert "table" in seen.out, "the file beside it was handed in"


def test_measurements_that_are_not_of_the_plan_are_refused(recorded, tmp_path):
    data = json.loads(recorded.read_bytes())
    twice = rewrite(recorded, tmp_path / "twice.json", measurements=data["measurements"] + data["measurements"][:1])
    with pytest.raises(CorruptFile, match="not one for each task"):
        read_run_file(twice)
    foreign = rewrite(recorded, tmp_path / "foreign.json", run=data["run"] | {"plan_id": "0" * 64})
    with pytest.raises(CorruptFile, match="not the plan that the run names"):
        read_run_file(foreign)


def test_the_settle_check_takes_its_rounds_at_every_try_and_stands_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(settle, "SETTLED", -1.0)  # nothing is ever settled
    monkeypatch.setattr(settle, "PAUSE_S", 0.0)
    assert main(offline(tmp_path, *CHECKED)) == 0
    again = [each for each in read_run_file(tmp_path / "run.json").measurements if each.role == "settle"]
    assert len(again) == 5, "each network of the plan"
    assert {len(each.rounds) for each in again} == {settle.TRIES * settle.ROUNDS}


def test_a_campaign_that_ended_before_its_settle_check_makes_it_when_resumed(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise Stopped("a signal came")

    with monkeypatch.context() as patched:
        patched.setattr(group_campaign, "settle", interrupted)
        assert main(offline(tmp_path, *CHECKED)) == 130
    assert not (tmp_path / "run.json").exists()
    assert main(offline(tmp_path, *CHECKED)) == 0
    assert sum(each.role == "settle" for each in read_run_file(tmp_path / "run.json").measurements) == 5


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--offline"], "--out: is needed with --offline"),
        (["--offline", "--out", "run.json", "--server", "http://host"], "exclude each other"),
        (["--out", "run.json", "--server", "http://host"], "--out: is for --offline alone"),
        ([], "--lut-url: is needed"),
    ],
)
def test_flags_that_do_not_go_together_are_named(flags, said, capsys):
    assert main(["profile", "--device", "bench", "--space", "nas-bench-201", *flags]) == 2
    assert said in capsys.readouterr().err


def test_without_onnx_it_says_what_to_install(tmp_path):
    hide = (
        "import sys; sys.modules['onnx'] = None; sys.meta_path.insert(0, type('Hide', (), {'find_spec': staticmethod("
    )
    hide += (
        "lambda name, path=None, target=None: (_ for _ in ()).throw(ImportError(name)) if name == 'onnx' else None)}))"
    )
    program = f"{hide}; from profiler_agent.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, *offline(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'lutnas[offline]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_spool_of_an_offline_run_holds_nothing_that_waits_for_a_server(recorded, server, upload, capsys):
    spool = recorded.parent / "spool"
    assert [spooled.finished for spooled in Spool(spool).runs()] == [True]
    assert main(["upload", "--server", server.url, "--token", TOKEN, "--spool", str(spool)]) == 0
    assert "nothing to upload" in capsys.readouterr().out


def test_a_verdict_survives_the_file(recorded, tmp_path):
    run = read_run_file(recorded)
    write_run_file(tmp_path / "again.json", run.run, run.plan, run.measurements, run.kernels)
    assert (tmp_path / "again.json").read_bytes() == recorded.read_bytes()
    assert all(isinstance(measurement.verdict, Verdict) for measurement in run.measurements)


def test_a_run_killed_after_its_last_round_needs_no_round_more(tmp_path):
    command = [*offline(tmp_path), "--preset", "quick"]
    assert main(command) == 0
    (folder,) = (tmp_path / "spool" / "runs").iterdir()
    rounds = (folder / "rounds.jsonl").read_bytes()
    for path in (folder / "measurements.jsonl", folder / "finished.json", tmp_path / "run.json"):
        path.unlink()
    for known in (tmp_path / "spool" / "known").iterdir():
        if b"usual_ms" in known.read_bytes():
            known.unlink()
    assert main(command) == 0
    assert (folder / "rounds.jsonl").read_bytes() == rounds
    assert len(read_run_file(tmp_path / "run.json").measurements) == TASKS
