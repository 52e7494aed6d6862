"""The install script to its end: a real server, pip and a package registry, in a home folder of its own. Minutes."""

import dataclasses
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lut_server.http.routes import agent_files
from lut_server.provisioning.release import get_release

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SIZES = ["--resolution", "8", "--channels", "4", "--depth", "1", "--preset", "quick"]
SIZES += ["--calibration", "8", "--held-out", "4"]
CARRIED = [name for name in os.environ if name.startswith(("PIP_", "SSL_")) or name.lower().endswith("_proxy")]


class Home:
    """Somebody's home folder on a device."""

    def __init__(self, folder, api):
        self.folder, self.api = folder, api
        self.prefix = folder / ".local" / "share" / "lutnas" / "agent"
        self.spool = folder / ".local" / "state" / "lutnas"
        self.bin = self.prefix / "env" / "bin"
        cache = subprocess.run([sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True)
        self.environment = {name: os.environ[name] for name in CARRIED}
        self.environment |= {"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1"}
        if cache.returncode == 0:
            self.environment["PIP_CACHE_DIR"] = cache.stdout.strip()

    def start(self, *arguments, token=True):
        script = get_release().script(self.api.url).encode()
        command = ["sh", "-s", "--", *arguments]
        # The prefix of a root's own installation is another one.
        if "--prefix" not in arguments:
            command += ["--prefix", str(self.prefix)]
        environment = {**self.environment, **({"LUTNAS_TOKEN": self.api.token("agent")} if token else {})}
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        process.stdin.write(script)
        process.stdin.close()
        return process

    def run(self, *arguments, **more):
        process = self.start(*arguments, **more)
        with process.stdout:
            said = process.stdout.read().decode()
        return process.wait(timeout=600), said

    def install(self, *arguments, **more):
        return self.run("--device", "board", "--python", sys.executable, *arguments, *SIZES, **more)

    def python(self, program):
        done = subprocess.run([self.bin / "python", "-I", "-c", program], capture_output=True, text=True, check=True)
        return done.stdout.strip()


def command_lines():
    """Of every process that can be seen."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            continue


@pytest.fixture(scope="module")
def home(tmp_path_factory, steady_api):
    """With the agent installed in one line, its first profile done, and every command line that was seen meanwhile."""
    home = Home(tmp_path_factory.mktemp("home"), steady_api)
    process = home.start("--device", "board", "--python", sys.executable, *SIZES)
    seen = set()
    while process.poll() is None:
        seen.update(command_lines())
        time.sleep(0.02)
    with process.stdout:
        home.first_words = process.stdout.read().decode()
    assert process.returncode == 0, home.first_words
    home.seen = seen
    return home


def tables(api, device="board"):
    return api.get(f"/v1/devices/{device}").json()["device"]["tables"]


def test_one_line_makes_the_devices_table(home, steady_api):
    (table,) = tables(steady_api)
    assert table["hash"] in home.first_words
    assert "starting the profile; after an interruption go on with: " in home.first_words


def test_the_token_stands_in_a_file_for_its_owner_alone_and_on_no_command_line(home, steady_api):
    file = home.prefix / "token"
    assert file.read_text().strip() == steady_api.token("agent")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert any(b"profiler-agent" in one for one in home.seen)
    assert not [one for one in home.seen if steady_api.token("agent").encode() in one]


def test_what_is_installed_is_the_servers_own_lutnas_with_tested_versions(home):
    program = "from lut_server.provisioning.release import build_wheel; print(build_wheel().sha256)"
    assert home.python(program) == get_release().wheel.sha256
    listed = home.python("import pip; pip.main(['list', '--format', 'freeze', '--disable-pip-version-check'])")
    installed = {line.lower() for line in listed.splitlines()} - {""}
    tested = {line.lower() for line in get_release().constraints.decode().splitlines()}
    own = [line for line in installed - tested if not re.match("(lutnas|pip|setuptools|wheel)==", line)]
    assert own == []
    assert len(installed & tested) >= 10


def test_the_command_that_is_shown_goes_on_by_hand(home):
    command = re.search(r"go on with: (.*)", home.first_words).group(1).split()
    done = subprocess.run(command, env=home.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "the server has this table already" in done.stdout


def test_the_same_again_installs_nothing_and_needs_no_token(home):
    started_s = time.monotonic()
    code, said = home.install(token=False)
    assert code == 0, said
    assert said.startswith(f"lutnas {get_release().wheel.name.split('-')[1]} is installed in {home.prefix}\n")
    assert "the server has this table already" in said
    assert time.monotonic() - started_s < 60


def test_the_same_again_upgrades_and_mends(home):
    (home.prefix / "installed").write_text("another wheel\n")
    (next(home.prefix.glob("env/lib/python3*/site-packages/profiler_agent")) / "cli.py").unlink()
    code, said = home.install("--no-profile")
    assert code == 0, said
    assert "installing httpx numpy onnxruntime rich" in said
    assert "board is registered at" in said
    assert subprocess.run([home.bin / "profiler-agent", "--version"], capture_output=True).returncode == 0


def test_killed_at_any_moment_the_same_command_goes_on(tmp_path, steady_api):
    home, draw = Home(tmp_path, steady_api), random.Random(5)
    for moment in (0.3, 1.2, 3, 5, 8, 12):
        process = home.start("--device", "killed", "--no-profile", "--python", sys.executable)
        time.sleep(moment * draw.uniform(0.8, 1.2))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    code, said = home.run("--device", "killed", "--no-profile", "--python", sys.executable)
    assert code == 0, said
    assert home.python("import httpx, numpy, onnxruntime, rich, profiler_agent.cli; print('whole')") == "whole"
    assert {one.name for one in home.prefix.iterdir()} == {".lutnas-agent", "env", "installed", "token"}
    code, said = home.run("--uninstall")
    assert code == 0, said
    assert not home.prefix.exists()


def test_stopped_by_the_keyboard_it_leaves_no_lock_and_no_temporary_files(tmp_path, steady_api):
    home = Home(tmp_path, steady_api)
    process = home.start("--device", "stopped", "--no-profile", "--python", sys.executable)
    deadline = time.monotonic() + 60
    while not (home.prefix / "tmp").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGSTOP)  # it shall not be done before the other
    other = home.run("--device", "stopped", "--no-profile", "--python", sys.executable)
    assert other[0] == 1
    assert "installs into" in other[1]
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGCONT)
    assert process.wait(timeout=60) != 0
    process.stdout.close()
    assert not (home.prefix / "lock").exists()
    assert not (home.prefix / "tmp").exists()


def test_where_the_tested_versions_are_not_to_be_had_others_are_taken_if_asked_for(tmp_path, steady_api, monkeypatch):
    home, release = Home(tmp_path, steady_api), get_release()
    impossible = dataclasses.replace(release, constraints=b"rich==13.0.0.dev0\n")
    monkeypatch.setattr(agent_files, "get_release", lambda: impossible)
    monkeypatch.setitem(globals(), "get_release", lambda: impossible)
    code, said = home.run("--device", "elsewhere", "--no-profile", "--python", sys.executable)
    assert code == 1, said
    assert re.search("pip cannot install the tested versions: .*; --unpinned takes others", said)
    code, said = home.run("--device", "elsewhere", "--no-profile", "--unpinned", "--python", sys.executable)
    assert code == 0, said
    assert re.search(r"not available here; installed instead: .*numpy==", said)


def test_uninstalling_keeps_what_was_measured_unless_it_is_told_not_to(home):
    code, said = home.run("--uninstall", token=False)
    assert code == 0, said
    assert f"kept the measurements in {home.spool}, " in said
    assert "--purge" in said
    assert not home.prefix.exists()
    assert list(home.spool.glob("runs/*/measurements.jsonl"))
    code, said = home.run("--uninstall", "--purge", token=False)
    assert code == 0, said
    assert not home.spool.exists()
    assert [path for path in (home.folder / ".local").rglob("*") if not path.is_dir()] == []
