"""The agent on a phone, from a desktop: install, start, watch, and fetch its runs.

In Termux' home, `.lutnas` holds agent-HASH (the agent's code), spool (as on any device) and run (of
the last campaign: command, process id, output, exit code, and the sensor file). The agent runs on
without the cable. Later calls find it by these files.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from profiler_agent.android.bridge import Adb, PhoneAway, ProgramResult
from profiler_agent.android.bundle import agent_files, pack
from profiler_agent.android.health import BATTERY, LEVELS, THERMAL, Health, read_health
from profiler_agent.android.termux import HOME, Shell
from profiler_agent.host.machine import Cluster, Phone, affinity_mask, find_clusters, find_phone, read_properties
from profiler_agent.host.throttle_sensor import VARIABLE as WATCH
from shared.errors import LutnasError, in_one_line
from shared.runtime import silence_onnxruntime

BASE = f"{HOME}/.lutnas"
SPOOL = f"{BASE}/spool"
INSTALL = "pkg install python python-numpy && pkg install python-onnxruntime && pip install httpx"
_FREQUENCIES = (
    "cd /sys/devices/system/cpu && for c in cpu[0-9]*; do"
    ' echo "$c $(cat $c/cpufreq/cpuinfo_max_freq 2>/dev/null)"; done'
)
_STATE = (
    f"cd {BASE}/run 2>/dev/null || {{ echo none; exit; }};"
    " if [ -f code ]; then echo ended $(cat code);"
    ' elif [ -f pid ] && kill -0 "$(cat pid)" 2>/dev/null; then echo running;'
    " elif [ -f command ]; then echo gone; else echo none; fi"
)


@dataclass(frozen=True)
class Progress:
    """State of a campaign on the phone.

    Attributes:
        state: none, running, ended, or gone (ended without a word, as at a reboot).
        code: exit code, once it has ended.
        output: what it printed since the last question.
    """

    state: str
    code: int = 0
    output: str = ""


@dataclass
class PhoneAgent:
    """The agent on a phone.

    Attributes:
        adb: for what Android's shell user may see.
        shell: inside Termux.
        inside: words before each command of the agent, for example of a proot.
        python: with numpy, ONNX Runtime and httpx.
    """

    adb: Adb
    shell: Shell
    inside: Sequence[str] = ()
    python: str = "python"
    code: str = ""

    def describe(self) -> Phone | None:
        return find_phone(read_properties(self.adb.read("getprop")))

    def clusters(self) -> tuple[Cluster, ...]:
        """Its cores; none where Android does not show them."""
        words = [line.split() for line in self.adb.read(_FREQUENCIES).splitlines()]
        return find_clusters(
            {
                int(pair[0].removeprefix("cpu")): int(pair[1])
                for pair in words
                if len(pair) == 2 and pair[0].removeprefix("cpu").isdecimal() and pair[1].isdecimal()
            }
        )

    def health(self) -> Health:
        """How warm and full it is now."""
        return read_health(self.adb.read(THERMAL), self.adb.read(BATTERY))

    def install(self) -> bool:
        """Put the agent's code there if it is missing, and check that it runs; returns whether it
        was missing.

        Raises:
            LutnasError: something that it needs is not installed; says what to type in Termux.
        """
        content = pack(agent_files())
        self.code = f"{BASE}/agent-{hashlib.sha256(content).hexdigest()[:16]}"
        there = self.shell.run(f"test -f {self.code}/complete").code == 0
        if not there:
            script = f"mkdir -p {self.code} && tar -xf - -C {self.code} && : >{self.code}/complete"
            self._do("the agent's files", script, content)
        words = [*self._words(), "-c", "import numpy, onnxruntime, httpx; print(onnxruntime.__version__)"]
        done = self.shell.run(shlex.join(words))
        if done.code:
            said = " ".join(done.err.split())[-200:]
            where = "there" if self.inside else "in Termux"
            what = "pip install numpy onnxruntime httpx" if self.inside else INSTALL
            raise LutnasError(f"the agent does not run on the phone ({said}); {where}: {what}")
        return not there

    def stock(self, entries: Sequence[tuple[str, bytes]]) -> int:
        """Put plans and graphs into the phone's spool; returns the number of new graphs."""
        sizes = f"mkdir -p {SPOOL}/graphs && cd {SPOOL}/graphs && wc -c * 2>/dev/null || true"
        counted = [line.split() for line in self.shell.run(sizes).out.decode().splitlines()]
        whole = {(name, int(size)) for size, name in counted}  # the cable may go while a file is written
        missing = [(name, content) for name, content in entries if (Path(name).name, len(content)) not in whole]
        self._do("the graphs", f"tar -xf - -C {SPOOL}", pack(missing))
        return sum(name.startswith("graphs/") for name, _ in missing)

    def command(self, flags: Sequence[str], cores: Sequence[int]) -> str:
        """The agent's command line, as it is started."""
        pinned = ["taskset", affinity_mask(cores)] if cores else []
        profile = ["-m", "profiler_agent", "profile", "--spooled", "--spool", SPOOL, *flags]
        return shlex.join([*pinned, *self._words(), *profile])

    def start(self, command: str, health: Health, pause_at: int) -> None:
        """Start a campaign. It outlives this session and the cable."""
        content = shlex.quote(json.dumps(watch_content(health, pause_at)))
        keep = f"{command} & echo $! >pid; wait $!; echo $? >code.new; mv code.new code"
        script = (
            f"mkdir -p {BASE}/run && cd {BASE}/run && rm -f code log pid && printf %s {shlex.quote(command)} >command"
            f" && printf %s {content} >watch.json && : >log"
            f" && {{ setsid nohup sh -c {shlex.quote(keep)} </dev/null >log 2>&1 & }};"
            " for i in 1 2 3 4 5 6 7 8 9 10; do test -s pid && exit 0; sleep 0.3; done; exit 1"
        )
        self._do("the campaign", script)

    def find_campaign(self) -> tuple[Progress, str]:
        """State and command of the last campaign; no command if its runs were fetched."""
        head, _, command = self.shell.run(f"{_STATE}; cat command 2>/dev/null").out.partition(b"\n")
        return _parse_state(head), command.decode(errors="replace").strip()

    def watch(self, health: Health, pause_at: int, seen_bytes: int) -> tuple[Progress, int]:
        """Tell the campaign how the phone is; returns its state and the bytes of output seen so
        far.

        Args:
            pause_at: the thermal level from which nothing is measured.
            seen_bytes: of its output, at the last call.
        """
        content = json.dumps(watch_content(health, pause_at))
        script = (
            f"cd {BASE}/run && printf %s {shlex.quote(content)} >watch.new && mv watch.new watch.json;"
            f" {_STATE}; tail -c +{seen_bytes + 1} log 2>/dev/null"
        )
        head, _, output = self.shell.run(script).out.partition(b"\n")
        if not head:
            raise PhoneAway(f"the phone {self.adb.serial} says nothing")
        progress = replace(_parse_state(head), output=output.decode(errors="replace"))
        return progress, seen_bytes + len(output)

    def stop(self) -> None:
        """Stop a campaign. Its measurements are in its spool."""
        self.shell.run(f'cd {BASE}/run && kill "$(cat pid)"')

    def fetch_runs(self) -> bytes:
        """The runs of its spool, as a tar file."""
        return self._do("the runs", f"mkdir -p {SPOOL}/runs && cd {SPOOL} && tar -cf - runs").out

    def forget_campaign(self) -> None:
        """Its runs were fetched: let the same command begin another campaign."""
        self.shell.run(f"rm -f {BASE}/run/command")

    def keep_finished(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """Tell the phone which runs have tables."""
        if entries:
            self._do("the answers", f"tar -xf - -C {SPOOL}", pack(entries))

    def _words(self) -> list[str]:
        variables = {"PYTHONPATH": self.code, WATCH: f"{BASE}/run/watch.json", "PYTHONUNBUFFERED": "1"}
        silence_onnxruntime(variables)
        return [*self.inside, "env", *(f"{name}={value}" for name, value in variables.items()), self.python]

    def _do(self, what: str, script: str, stdin: bytes | None = None) -> ProgramResult:
        done = self.shell.run(script, stdin)
        if done.code:
            problem = in_one_line(done.err) or f"exit code {done.code}"
            raise LutnasError(f"{what}: the phone refuses ({problem})")
        return done


def _parse_state(line: bytes) -> Progress:
    words = line.decode(errors="replace").split() or ["none"]
    return Progress(words[0], int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0)


def watch_content(health: Health, pause_at: int) -> Mapping[str, object]:
    """The file for the agent on the phone (`profiler_agent.host.throttle_sensor`)."""
    level = health.level or 0
    return {
        "pause": level >= pause_at,
        "held_back": [f"thermal status {LEVELS[level]}"] if level else [],
        "facts": {"thermal": health.thermal, "battery": health.battery},
    }


def proot_words(name: str) -> list[str]:
    """Words before a command in a distribution of proot-distro."""
    return ["proot-distro", "login", name, "--bind", BASE, "--"]
