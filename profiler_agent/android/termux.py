"""A shell inside Termux, from a desktop and without root.

Android lets nobody into another app's files. There are two ways around it, tried in this order:

* `run-as com.termux` needs a debuggable app. Termux from its GitHub releases is debuggable; from
  F-Droid or the Play Store it is not ("package not debuggable").
* ssh to Termux' own sshd, through the cable (`adb forward`), works with any Termux. Its user has to
  start sshd and put the desktop's public key there.

Termux' RUN_COMMAND intent is no way: only apps may use it, and adb gets neither output nor exit
code.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from profiler_agent.android.bridge import Adb, PhoneAway, ProgramResult, run_program
from shared.errors import LutnasError, in_one_line

FILES = "/data/data/com.termux/files"
HOME = f"{FILES}/home"
PREFIX = f"{FILES}/usr"
SSHD_PORT = 8022
SSH_FAILED = 255
_ENVIRONMENT = (
    f"export PREFIX={PREFIX} HOME={HOME} TMPDIR={PREFIX}/tmp PATH={PREFIX}/bin:/system/bin LANG=C.UTF-8; cd {HOME} && "
)
WAYS = ("run-as", "ssh")


@dataclass
class RunAs:
    """By `run-as`. It brings no environment along."""

    adb: Adb

    def run(self, script: str, stdin: bytes | None = None) -> ProgramResult:
        inside = shlex.join(["run-as", "com.termux", f"{PREFIX}/bin/sh", "-c", _ENVIRONMENT + script])
        return self.adb.shell(inside, stdin)


@dataclass
class Ssh:
    """By ssh through the cable. A lost cable loses the port; the next script asks for another."""

    adb: Adb
    port: str = ""

    def run(self, script: str, stdin: bytes | None = None) -> ProgramResult:
        if not self.port:
            self.port = self.adb.run("forward", "tcp:0", f"tcp:{SSHD_PORT}").out.decode().strip()
        options = ["BatchMode=yes", "StrictHostKeyChecking=accept-new", "ConnectTimeout=20"]
        # The port is another one each time, and the address everybody's: the phone's key goes by a
        # name of its own.
        options.append(f"HostKeyAlias=lutnas-{self.adb.serial}")
        flags = [word for option in options for word in ("-o", option)]
        command = ["ssh", "-p", self.port, *flags, "127.0.0.1", shlex.join(["sh", "-c", _ENVIRONMENT + script])]
        done = run_program(command, stdin)
        if done.code == SSH_FAILED:
            self.close()
            raise PhoneAway(f"ssh to the phone: {' '.join(done.err.split())[-200:] or 'failed'}")
        return done

    def close(self) -> None:
        port, self.port = self.port, ""
        if port:
            run_program(["adb", "-s", self.adb.serial, "forward", "--remove", f"tcp:{port}"])


Shell = RunAs | Ssh
"""Runs scripts as Termux' user, in its home. Raises PhoneAway if the phone is out of reach."""


def open_termux(adb: Adb, way: str | None = None) -> Shell:
    """A shell inside Termux, by the first way that works, or by the named way.

    Raises:
        PhoneAway: the phone is not there.
        LutnasError: neither way works; says why, and what to do on the phone.
    """
    run_as, problems = RunAs(adb), []
    if way != "ssh":
        done = run_as.run("true")
        if done.code == 0:
            return run_as
        problems.append(in_one_line(done.err or done.out.decode(errors="replace")) or "run-as fails")
    if way != "run-as":
        ssh = Ssh(adb)
        try:
            done = ssh.run("true")
        except PhoneAway as error:
            problems.append(str(error))
        else:
            if done.code == 0:
                return ssh
            problems.append(f"ssh: {in_one_line(done.err) or f'exit code {done.code}'}")
    raise LutnasError(
        f"no way into Termux on {adb.serial} ({'; '.join(problems)}): install Termux from its GitHub releases, which"
        " are debuggable, and open it once; or in Termux: pkg install openssh, this computer's public key into"
        " ~/.ssh/authorized_keys, sshd"
    )
