"""`install.sh --service` on a Debian that is booted with systemd, in a container: what runs there, and as whom."""

import os
import re
import shutil
import subprocess
import time

import pytest

from benchmarks import DataMissing
from benchmarks.devices.clean_debian import PACKAGES, bootstrap
from lut_server.provisioning.release import get_release

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

UNIT = "lutnas-agent.service"
SIZES = "--resolution 8 --channels 4 --depth 1 --preset quick"
TOOLS = ("systemd-nspawn", "debootstrap", "nsenter", "pgrep")


class Machine:
    """A booted Debian that shares this machine's network."""

    def __init__(self, root, api):
        self.root, self.api = root, api
        self.process = self.leader = None

    def boot(self):
        command = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--directory", str(self.root)]
        nothing = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
        for _ in range(120):
            found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True)
            self.leader = found.stdout.strip()
            if self.leader and self.run("systemctl is-active multi-user.target", check=False).strip() == "active":
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.5)
        pytest.skip("systemd-nspawn cannot boot a system here")

    def shut_down(self):
        """An orderly shutdown of the system inside."""
        self.process.terminate()
        self.process.wait(timeout=120)

    def pull_the_plug(self):
        if self.process is not None and self.process.poll() is None:
            subprocess.run(["kill", "-KILL", self.leader], check=False)
            self.process.wait(timeout=60)

    def run(self, line, content="", check=True):
        enter = ["nsenter", "-t", self.leader, "-m", "-u", "-i", "-p", "-C", "-r", "-w"]
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        done = subprocess.run(
            [*enter, "env", "-i", path, "HOME=/root", *self.carried, "sh", "-c", line],
            input=content,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done.stdout

    def script(self, arguments, token=""):
        variable = f"LUTNAS_TOKEN={token} " if token else ""
        return self.run(f"{variable}sh -s -- {arguments} 2>&1", get_release().script(self.api.url))

    def show(self, name):
        return self.run(f"systemctl show --property={name} --value {UNIT}").strip()

    def inside(self, line):
        """A line of shell in the service's own view of the file system, as its own user."""
        pid, root = self.show("MainPID"), "nsenter --mount --target"
        user = self.run(f"stat -c %u /proc/{pid}").strip()
        return self.run(f"{root} {pid} setpriv --reuid={user} --clear-groups sh -c '{line}' 2>&1", check=False)

    @property
    def carried(self):
        return ["PIP_CERT=/etc/ssl/certs/ca-certificates.crt"]


@pytest.fixture(scope="module")
def machine(tmp_path_factory, steady_api):
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(TOOLS)} (Debian: systemd-container, debootstrap)")
    root = tmp_path_factory.mktemp("machine") / "root"
    try:
        bootstrap(root, (*PACKAGES, "systemd", "systemd-sysv", "dbus"))
    except DataMissing as error:
        pytest.skip(str(error))
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")
    machine = Machine(root, steady_api)
    try:
        machine.boot()
        token = steady_api.token("agent")
        machine.first_words = machine.script(f"--device board --service {SIZES}", token)
        yield machine
    finally:
        machine.pull_the_plug()
        subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=False)


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_the_service_makes_the_first_table_by_itself(machine, steady_api):
    assert f"{UNIT} works for {steady_api.url} as board" in machine.first_words
    wait_for(lambda: steady_api.get("/v1/devices/board").json()["device"]["tables"])

    def kind_and_state():
        (job,) = steady_api.get("/v1/jobs?device=board").json()["jobs"]
        return job["job"]["kind"], job["state"]

    # The table stands as soon as its run is finished: the agent reports the job right after.
    wait_for(lambda: kind_and_state() == ("profile", "done"))


def test_nobody_but_root_and_the_service_can_read_the_token(machine, steady_api):
    token = steady_api.token("agent")
    assert machine.run("stat -c '%a %U' /opt/lutnas-agent/token").split() == ["600", "root"]
    pid = machine.show("MainPID")
    assert machine.run(f"stat -c %U /proc/{pid}").strip() != "root"
    for place in (
        f"cat /proc/{pid}/cmdline /proc/{pid}/environ",
        f"cat /etc/systemd/system/{UNIT}",
        f"systemctl show {UNIT}",
        f"journalctl -u {UNIT}",
    ):
        assert token not in machine.run(place), place


def test_the_unit_is_sound_and_shut_in(machine):
    assert machine.run(f"systemd-analyze verify /etc/systemd/system/{UNIT} 2>&1") == ""
    said = machine.run(f"systemd-analyze security --no-pager {UNIT}")
    assert float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said).group(1)) <= 2.0


def test_the_service_reads_sensors_and_writes_nothing_but_its_state(machine):
    for path in ("/proc/stat", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu/online"):
        assert "denied" not in machine.inside(f"cat {path}"), path
        assert machine.inside(f"cat {path}"), path
    assert "No such" not in machine.inside("ls /sys/class/thermal")
    for path in ("/opt/x", "/etc/x", "/home/x", "/sys/x", "/root/x"):
        assert re.search("Read-only|denied|No such", machine.inside(f"touch {path}")), path
    state = "/var/lib/lutnas-agent/x"
    assert machine.inside(f"touch {state} && rm {state} && echo written").strip() == "written"
    assert machine.inside("cat /opt/lutnas-agent/token").strip().endswith("Permission denied")


def test_a_second_installation_does_not_take_the_first_ones_service(machine, steady_api):
    line = f"LUTNAS_TOKEN={steady_api.token('agent')} sh -s -- --device second --service --prefix /opt/second 2>&1"
    said = machine.run(line, get_release().script(steady_api.url), check=False)
    assert said.startswith(f"install.sh: {UNIT} is there already, of another installation")
    assert said.count("\n") == 1
    assert machine.run("ls /opt").split() == ["lutnas-agent"]


def test_the_service_starts_with_the_system(machine):
    assert machine.run(f"systemctl is-enabled {UNIT}").strip() == "enabled"
    machine.shut_down()
    machine.boot()
    wait_for(lambda: machine.run(f"systemctl is-active {UNIT}", check=False).strip() == "active")


def test_the_same_again_upgrades_and_starts_the_service_anew(machine):
    before = machine.show("MainPID")
    machine.run("echo another wheel >/opt/lutnas-agent/installed")
    said = machine.script(f"--device board {SIZES}")  # neither --service nor the token: both are known
    assert "installing httpx numpy onnxruntime rich" in said
    assert "the server has its table already" in said
    assert machine.show("MainPID") not in (before, "0")
    assert machine.run(f"systemctl is-active {UNIT}").strip() == "active"


def test_a_board_with_firmware_to_ask_may_ask_it_and_no_other_device(machine, steady_api):
    # A character device in the place where a Raspberry Pi has its firmware's: what it answers is of no matter here.
    machine.run("mknod -m 660 /dev/vcio c 1 5 && chgrp video /dev/vcio")
    machine.script(f"--device board --no-profile {SIZES}")
    assert machine.run(f"systemd-analyze verify /etc/systemd/system/{UNIT} 2>&1") == ""
    assert machine.show("DeviceAllow").splitlines().count("/dev/vcio rw") == 1
    assert machine.run(f"systemctl is-active {UNIT}").strip() == "active"
    pid = machine.show("MainPID")
    groups = machine.run(f"sed -n 's/^Groups://p' /proc/{pid}/status").split()
    assert machine.run("stat -c %g /dev/vcio").strip() in groups


def test_uninstalling_leaves_what_was_measured_and_purging_nothing(machine):
    said = machine.script("--uninstall")
    assert "kept the measurements in /var/lib/lutnas-agent, " in said
    assert machine.run(f"systemctl is-active {UNIT}", check=False).strip() == "inactive"
    assert machine.run("ls /opt /etc/systemd/system").count("lutnas") == 0
    assert "measurements.jsonl" in machine.run("ls -R /var/lib/private/lutnas-agent")
    machine.script("--uninstall --purge")
    assert machine.run("find / -xdev -path /proc -prune -o -name '*lutnas*' -print").split() == []
