"""A whole lutnas on this machine: a server on loopback, tokens, commands of agent and search.

Everything runs as a user would run it: console scripts in processes. The stack stops all its
processes.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPTS = Path(sys.executable).parent
STOP_TIMEOUT_S = 20


class StackError(RuntimeError):
    """A command of the stack failed; the message names it."""


def this_device() -> str:
    """A device name for this machine."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", platform.node() or "this-machine").strip("-._")[:64] or "this-machine"


@dataclass
class Stack:
    """The URL of the server, with tokens for the agent and the search.

    Attributes:
        agent_command: what the agent is started with.
        agent_variables: more of its environment.
    """

    folder: Path
    url: str
    agent_token: str
    search_token: str
    agent_command: tuple[str, ...] = ("profiler-agent",)
    agent_variables: Mapping[str, str] = field(default_factory=dict)

    def agent(self, *arguments: str) -> None:
        """Run `profiler-agent` to its end."""
        run([*self.agent_command, *arguments], {**self.environment(self.agent_token), **self.agent_variables})

    def search(self, *arguments: str) -> None:
        """Run `search` to its end."""
        run(["search", *arguments], self.environment(self.search_token))

    def serve(self, *arguments: str) -> None:
        """Run a command of `lut-server` on the database of the stack to its end."""
        run(["lut-server", *arguments, "--database-url", database_url(self.folder)], dict(os.environ))

    def profile(self, device: str, *arguments: str) -> None:
        """Profile this machine as `device`."""
        self.agent("profile", "--lut-url", self.url, "--device", device, *arguments)

    @contextmanager
    def working_agent(self, device: str) -> Iterator[None]:
        """An agent that waits for jobs of `device`; its output goes to a log file."""
        command = [*self.agent_command, "work", "--lut-url", self.url, "--device", device, "--poll-s", "1"]
        with (self.folder / "agent.log").open("a") as log:
            process = subprocess.Popen(
                script(command),
                env={**self.environment(self.agent_token), **self.agent_variables},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
            with stopping(process):
                yield

    def environment(self, token: str) -> dict[str, str]:
        """The environment of a command with `token`."""
        return {**os.environ, "LUTNAS_TOKEN": token, "LUTNAS_SPOOL": str(self.folder / "spool")}


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """Start a server with its database in `folder`. A second start finds its tables."""
    folder.mkdir(parents=True, exist_ok=True)
    database = database_url(folder)
    environment = {**os.environ, "LUTNAS_DATABASE_URL": database}
    with (folder / "server.log").open("a") as log:
        process = subprocess.Popen(
            script(["lut-server", "serve", "--host", "127.0.0.1", "--port", "0", "--database-url", database]),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        with stopping(process):
            url = _listening_url(process, folder)
            agent, search = (_create_token(role, database, environment) for role in ("agent", "search"))
            yield Stack(folder, url, agent, search)


def database_url(folder: Path) -> str:
    """URL of the stack's database in a folder."""
    return f"sqlite:///{(folder / 'lutnas.db').resolve()}"


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a command to its end, with its output on this terminal.

    Raises:
        StackError: it failed.
    """
    status = subprocess.run(script(command), env=environment, stdin=subprocess.DEVNULL, check=False).returncode
    if status:
        raise StackError(f"`{' '.join(command[:2])}` failed with exit code {status}")


def climb(stack: Stack, run_folder: Path, *options: str) -> list[dict[str, Any]]:
    """The rungs of `search ladder`. A budget that is missed is a result, although the command exits with 1.

    Raises:
        StackError: it failed otherwise.
    """
    ladder = run_folder / "ladder.json"
    try:
        stack.search("ladder", "--run", str(run_folder), *options)
    except StackError:
        if not ladder.exists() or all(rung["met"] for rung in json.loads(ladder.read_text())):
            raise
    rungs: list[dict[str, Any]] = json.loads(ladder.read_text())
    return rungs


def script(command: list[str]) -> list[str]:
    """The command with the path of its console script in this environment."""
    return [str(SCRIPTS / command[0]), *command[1:]]


@contextmanager
def stopping(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process: SIGTERM first, SIGKILL after a while."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _listening_url(process: subprocess.Popen[str], folder: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        match = re.search(r"listening on (http://\S+)", line)
        if match:
            return match.group(1)
    raise StackError(f"the server did not start; its log is {folder / 'server.log'}")


def _create_token(role: str, database: str, environment: dict[str, str]) -> str:
    command = script(["lut-server", "token", "create", "--role", role, "--database-url", database])
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise StackError(f"no token for the {role}: {finished.stderr.strip()}")
    return finished.stdout.strip().splitlines()[-1]
