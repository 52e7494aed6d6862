"""What `GET /agent/install.sh` refuses before it changes anything, a line each."""

import argparse
import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lut_server.auth import create_token
from lut_server.http.routes import agent_files
from lut_server.provisioning.release import get_release
from profiler_agent.cli import parser

TOOLS = "awk basename cat cut df dirname env getconf grep head id ls mkdir mv rm rmdir sed sh sleep tail tr uname"
SHELLS = [["sh"], ["dash"], ["busybox", "sh"], ["bash", "--posix"]]


def find_shells():
    return [shell for shell in SHELLS if shutil.which(shell[0])]


class Board:
    """A device with a home folder and the programs that a test gives it; runs the script."""

    def __init__(self, folder, api):
        self.folder, self.api = folder, api
        self.home, self.programs = folder / "home", folder / "bin"
        for program in (self.home, self.programs):
            program.mkdir()
        for tool in TOOLS.split():
            (self.programs / tool).symlink_to(shutil.which(tool))
        self.put("python3", f'exec {sys.executable} "$@"')

    def put(self, name, body):
        file = self.programs / name
        file.unlink(missing_ok=True)
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)

    def run(self, *arguments, token="", shell=("sh",), **environment):
        script = get_release().script(self.api.url)
        shell = [shutil.which(shell[0]), *shell[1:]]
        variables = {"PATH": str(self.programs), "HOME": str(self.home), "LUTNAS_TOKEN": token, **environment}
        return subprocess.run(
            [*shell, "-s", "--", *arguments], input=script, env=variables, capture_output=True, text=True, timeout=120
        )

    @property
    def prefix(self):
        return self.folder / "agent"

    def install(self, *arguments, **more):
        token = more.pop("token", None) or self.api.token("agent")
        return self.run("--device", "board", "--prefix", str(self.prefix), *arguments, token=token, **more)

    def refuses(self, done, code, *words):
        """One line, the exit code, and nothing changed anywhere."""
        assert done.returncode == code, done.stdout + done.stderr
        assert done.stdout == ""
        assert done.stderr.startswith("install.sh: ")
        assert done.stderr.count("\n") == 1
        for word in words:
            assert word in done.stderr
        assert not self.prefix.exists()
        assert list(self.home.iterdir()) == []
        assert "board" not in {device["name"] for device in self.api.get("/v1/devices").json()["devices"]}


@pytest.fixture
def board(tmp_path, steady_api):
    return Board(tmp_path, steady_api)


@pytest.mark.parametrize("shell", find_shells(), ids=" ".join)
def test_script_is_read_whole_by_every_shell(shell, tmp_path):
    file = tmp_path / "install.sh"
    file.write_text(get_release().script("https://[2001:db8::1]:8700/lutnas"))
    done = subprocess.run([*shell, "-n", str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing(tmp_path):
    file = tmp_path / "install.sh"
    file.write_text(get_release().script("http://host:8700"))
    done = subprocess.run(["shellcheck", "-s", "sh", str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_of_half_a_download_nothing_is_run(board):
    script = get_release().script(board.api.url)
    for share in (0.3, 0.6, 0.9, 0.999):
        cut = script[: int(len(script) * share)]
        done = subprocess.run(
            ["sh", "-s", "--", "--device", "board", "--prefix", str(board.prefix)],
            input=cut,
            env={"PATH": str(board.programs), "HOME": str(board.home), "LUTNAS_TOKEN": board.api.token("agent")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == ""
        assert not board.prefix.exists()


@pytest.mark.parametrize("machine", ["armv7l", "armv6l", "armv8l", "i686"])
@pytest.mark.parametrize("shell", find_shells(), ids=" ".join)
def test_a_32_bit_system_is_told_so_before_anything_is_changed(board, machine, shell):
    board.put("uname", f'[ "$1" = -m ] && echo {machine} || echo Linux')
    done = board.install(shell=shell)
    board.refuses(done, 1, machine, "32-bit", "install a 64-bit system", "Nothing was changed")


def test_a_32_bit_system_on_a_64_bit_kernel_is_told_so(board):
    board.put("uname", '[ "$1" = -m ] && echo aarch64 || echo Linux')
    board.put("getconf", "echo 32")
    board.refuses(board.install(), 1, "the kernel is 64-bit (aarch64), the system on it is 32-bit")


def test_another_machine_or_system_is_told_what_there_is(board):
    board.put("uname", '[ "$1" = -m ] && echo riscv64 || echo Linux')
    board.refuses(board.install(), 1, "no ONNX Runtime package for riscv64", "--onnxruntime")
    board.put("uname", "echo Darwin")
    board.refuses(board.install(), 1, "this is Darwin")


def test_an_old_python_is_named_with_what_to_install(board):
    board.put("python3", '[ "$1" = -V ] || exit 1; echo Python 3.9.2')
    board.refuses(
        board.install(), 1, "Python 3.9.2 is here", "3.11 or newer", "apt-get install python3.11 python3.11-venv"
    )
    board.refuses(board.install("--python", "python3"), 1, "is Python 3.9.2", "3.11 or newer")
    (board.programs / "python3").unlink()
    board.refuses(board.install(), 1, "no Python is here")
    board.refuses(board.install("--python", "python9"), 2, "there is no such program")


def test_a_newer_python_beside_an_old_one_is_taken(board):
    board.put("python3", "exit 1")
    board.put("python3.12", f'exec {sys.executable} "$@"')
    done = board.install("--server", "http://127.0.0.1:1")
    board.refuses(done, 1, "no answer from http://127.0.0.1:1")


def test_a_python_without_venv_is_told_which_package_brings_it(board):
    bare = board.folder / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    (site,) = bare.glob("lib/python3.*/site-packages")
    # As Debian has it without python3-venv.
    (site / "sitecustomize.py").write_text("import sys; sys.modules['ensurepip'] = None\n")
    board.put("python3", f'exec {bare}/bin/python "$@"')
    board.refuses(board.install(), 1, "apt-get install python3-venv")
    board.put("python3.13", f'exec {bare}/bin/python "$@"')
    board.refuses(board.install("--python", "python3.13"), 1, "apt-get install python3.13-venv")


def test_a_full_disk_is_told_how_much_is_needed(board):
    board.put("df", 'echo header; echo "/dev/x 1 2 51200 9% /"')
    board.refuses(board.install(), 1, "50 MB left, the agent needs 400")


def test_a_server_that_is_not_there_or_none_is_named(board, tmp_path):
    board.refuses(board.install("--server", "http://127.0.0.1:1/"), 1, "no answer from http://127.0.0.1:1 ")
    board.refuses(board.install("--server", f"{board.api.url}/v1"), 1, "refuses (404)", "/v1/healthz")


def test_a_token_that_is_wrong_weak_or_bound_to_another_device_is_refused(board):
    tokens, clock = board.api.store.tokens, board.api.clock
    board.refuses(board.install(token="lut_123456789012_abcdefghijabcdefghij"), 1, "refuses (401)", "not known here")
    board.refuses(board.install(token=create_token(tokens, "search", clock=clock)), 1, "has the role search")
    bound = create_token(tokens, "agent", device="pear", clock=clock)
    board.refuses(board.install(token=bound), 1, "is bound to the device pear")
    board.refuses(board.install(token="a token"), 2, "characters that no token has")


def test_a_server_with_a_certificate_of_its_own_is_trusted_by_its_file(board):
    pytest.importorskip("cryptography", reason="the extra tls is not installed")
    database = f"sqlite:///{board.folder}/tls.db"
    command = [sys.executable, "-m", "lut_server.cli", "serve", "--port", "0", "--database-url", database]
    with subprocess.Popen(
        [*command, "--tls", "self-signed"], cwd=board.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            said = server.stderr.readline()
            url = server.stdout.readline().split()[-1]
            ca_file = re.search(r"\S+ca\.pem", said).group(0)
            board.refuses(board.install("--server", url), 1, f"the certificate of {url} is not trusted", "--ca-file")
            done = board.install("--server", url, "--ca-file", str(board.folder / ca_file))
            board.refuses(done, 1, f"{url} refuses (401)")
            board.refuses(board.install("--server", url, "--ca-file", "/nowhere"), 2, "/nowhere cannot be read")
        finally:
            server.terminate()


def test_a_token_is_asked_for_with_the_command_that_makes_one(board):
    done = board.run("--device", "board", "--prefix", str(board.prefix))
    board.refuses(done, 2, "lut-server token create --role agent --device board")
    board.refuses(board.install("--token-file", "/nowhere"), 2, "--token-file /nowhere cannot be read")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--device NAME is missing"),
        (["--device"], "--device needs a value"),
        (["--device", "a b"], "'a b' is not a name"),
        (["--device", "-pi"], "'-pi' is not a name"),
        (["--device", "x" * 65], "longer than 64"),
        (["--devise", "pi"], "no flag --devise"),
        (["pi"], "'pi' belongs to no flag"),
        (["--device", "pi", "--service", "extra"], "'extra' belongs to no flag"),
        (["--device", "pi", "--server", "ftp://host"], "is not a URL"),
        (["--device", "pi", "--server", "http://host/$(reboot)"], "is not a URL"),
        (["--device", "pi", "--prefix", "/opt/a b"], "--prefix '/opt/a b'"),
        (["--device", "pi", "--prefix", "/usr"], "/usr holds other things"),
        (["--device", "pi", "--purge"], "--purge goes with --uninstall only"),
        (["--uninstall", "--space", "darts"], "--uninstall takes only --prefix and --purge"),
    ],
)
def test_wrong_use_ends_with_exit_code_2_and_one_line(board, arguments, words):
    board.refuses(board.run(*arguments, token="t"), 2, words)


def test_a_prefix_below_a_folder_with_a_space_is_refused_however_it_is_written(board, monkeypatch):
    (board.folder / "My Devices").mkdir()
    monkeypatch.chdir(board.folder / "My Devices")
    board.refuses(board.run("--device", "pi", "--prefix", "agent", token="t"), 2, "My Devices/agent' has characters")
    assert list((board.folder / "My Devices").iterdir()) == []


def test_a_wheel_that_is_not_the_scripts_own_is_never_installed(board, monkeypatch):
    other = dataclasses.replace(get_release(), constraints=b"numpy==0.1\n")
    monkeypatch.setattr(agent_files, "get_release", lambda: other)
    own = create_token(board.api.store.tokens, "agent", device="board", clock=board.api.clock)
    done = board.install(token=own)
    assert done.returncode == 1
    assert "Nothing was changed" not in done.stderr
    assert "constraints.txt is not what this script was made for (SHA-256)" in done.stderr
    assert not (board.prefix / "env").exists()
    assert board.run("--uninstall", "--prefix", str(board.prefix)).returncode == 0
    assert not board.prefix.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="the script asks for root first")
def test_a_service_needs_systemd_and_no_flag_that_a_job_cannot_carry(board):
    board.put("systemctl", "echo System has not been booted with systemd >&2; exit 1")
    board.refuses(board.install("--service"), 1, "needs systemd, which does not run here")
    board.put("systemctl", "echo Version=245.4-4ubuntu3")
    board.refuses(board.install("--service"), 1, "systemd 247 or newer, here is 245")
    board.refuses(board.install("--service", "--seed", "1"), 2, "--seed does not go with --service")


def test_without_root_a_service_is_told_how(board):
    board.put("id", "echo 1000")
    board.refuses(board.install("--service"), 2, "| sudo sh -s --")


def test_uninstalling_what_is_not_there_is_said(board):
    board.refuses(board.run("--uninstall", "--prefix", str(board.prefix)), 1, "there is no agent in")


def test_uninstalling_removes_no_file_because_a_marker_names_it(board):
    board.prefix.mkdir()
    kept = [board.folder / "passwd", board.folder / "passwd.new", board.folder / "project" / "runs" / "mine"]
    for file in kept:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    marker = f"unit={kept[0]}\nspool={board.folder / 'project'}\n"
    (board.prefix / ".lutnas-agent").write_text(marker)
    done = board.run("--uninstall", "--purge", "--prefix", str(board.prefix))
    assert done.returncode == 0, done.stderr
    assert [file.read_text() for file in kept] == ["mine"] * 3
    assert f"kept {board.folder / 'project'}: no agent measured there" in done.stdout
    assert not board.prefix.exists()


def test_versions_that_nobody_tested_are_installed_only_if_asked_for(board):
    """pip that can install anything but what is pinned."""
    log = board.folder / "log"
    pip = f"""case "$*" in
*"-m venv"*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; exit 0 ;;
*"-m pip"*" -c "*) echo "ERROR: No matching distribution found for rich==1"; exit 1 ;;
*"-m pip"*) echo "$*" >>{log}; exit 0 ;;
esac
exec {sys.executable} "$@\""""
    board.put("python3", pip)
    for tool in ("cp", "chmod"):
        (board.programs / tool).symlink_to(shutil.which(tool))
    done = board.install("--no-profile")
    assert done.returncode == 1
    wanted = "pip cannot install the tested versions: ERROR: No matching distribution found for rich==1; --unpinned"
    assert wanted in done.stderr
    assert not log.exists()
    board.install("--no-profile", "--unpinned")
    assert "--only-binary" in log.read_text()


def test_server_on_this_machine_is_asked_without_a_proxy_and_another_proxy_is_named(board):
    done = board.install(token="lut_123456789012_abcdefghijabcdefghij", http_proxy="http://me:hush@127.0.0.1:1")
    board.refuses(done, 1, "refuses (401)")
    done = board.install("--server", "http://lut.example", http_proxy="http://me:hush@127.0.0.1:1")
    board.refuses(done, 1, "no answer from http://lut.example through the proxy 127.0.0.1:1 (")
    assert "hush" not in done.stderr


def test_help_lists_every_flag(board):
    done = board.run("--help")
    assert done.returncode == 0
    script = get_release().script(board.api.url)
    own = re.search(r"^ +(--device \| .*)\)$", script, re.MULTILINE).group(1).split(" | ")
    for flag in [*own, "--service", "--no-profile", "--uninstall", "--purge", "--unpinned"]:
        assert f"  {flag}" in done.stdout or f" {flag} " in done.stdout or f" {flag}:" in done.stdout


def test_script_knows_every_flag_of_a_profile_and_no_other():
    script = get_release().script("http://host")
    known = set(re.findall(r"--[a-z-]+", re.search(r"--new \| --force\).*?\n {6}-\*\)", script, re.DOTALL).group(0)))
    commands = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    actions = commands.choices["profile"]._actions
    flags = {flag for action in actions for flag in action.option_strings if flag.startswith("--")}
    by_script = {
        "--server",
        "--lut-url",
        "--device",
        "--token",
        "--token-file",
        "--ca-file",
        "--spool",
        "--help",
        "--offline",
        "--out",
        "--spooled",  # between a desktop and the phone on its cable
    }
    assert known == flags - by_script


def test_documents_say_every_flag_of_the_script(board):
    page = (Path(__file__).parents[2] / "docs" / "agent.md").read_text(encoding="utf-8")
    for flag in re.findall(r"^  (--[a-z-]+)", board.run("--help").stdout, re.MULTILINE):
        assert f"`{flag}" in page, flag
