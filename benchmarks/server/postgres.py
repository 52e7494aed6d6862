"""A real PostgreSQL for tests and benchmarks: Debian's package, a temporary folder, loopback.

PostgreSQL refuses to run as root; then it runs as the package's user `postgres`. `stop` removes all
of it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

USER = "lutnas"
START_TIMEOUT_S = 60
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = {durable}
synchronous_commit = {durable}
full_page_writes = {durable}
shared_buffers = 64MB
max_connections = 100
logging_collector = off
"""


class PostgresMissing(Exception):
    """The binaries are not installed, or there is no user to run them as."""


class PostgresServer:
    """A PostgreSQL that can be stopped and started again.

    Args:
        durable: flush to disk as in production. Off, a crash of the machine loses data, that of a
            process does not.

    Raises:
        PostgresMissing: this machine cannot run PostgreSQL.
    """

    def __init__(self, durable: bool = False) -> None:
        self._bin = _find_binaries()
        self._as_user = _run_as()
        self._folder = Path(tempfile.mkdtemp(prefix="lutnas-postgres-"))
        self._data = self._folder / "data"
        self.port = _free_port()
        if self._as_user:
            shutil.chown(self._folder, "postgres", "postgres")
        self._run("initdb", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N", "-D", str(self._data))
        with (self._data / "postgresql.conf").open("a", encoding="utf-8") as settings:
            settings.write(SETTINGS.format(durable="on" if durable else "off"))
            settings.write(f"port = {self.port}\n")

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        log = str(self._folder / "log")
        self._run("pg_ctl", "start", "-w", "-t", str(START_TIMEOUT_S), "-D", str(self._data), "-l", log)

    def stop(self, mode: str = "fast") -> None:
        """Stop it: "fast" ends its connections, "immediate" is a crash."""
        self._run("pg_ctl", "stop", "-w", "-m", mode, "-D", str(self._data))

    def create_database(self, name: str, template: str = "template1") -> str:
        """Make a database and return its URL."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def execute(self, statement: str) -> None:
        """Run a statement outside of a transaction."""
        import psycopg

        address = self.url().replace("+psycopg", "")
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement.encode())

    def remove(self) -> None:
        """Stop it if it runs, and delete its folder."""
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, name: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._bin / name), *arguments]
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        # Not through a pipe: the server that pg_ctl starts would hold its other end open.
        with (self._folder / "commands").open("a+", encoding="utf-8") as said:
            finished = subprocess.run(
                command, cwd="/", env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False
            )
            if finished.returncode:
                said.seek(0)
                raise RuntimeError(f"{name} failed: {said.read()[-2000:]}")


def _find_binaries() -> Path:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: _version(path.parent.name), reverse=True
    )
    for folder in folders:
        if all((folder / name).exists() for name in ("initdb", "pg_ctl", "postgres")):
            return folder
    raise PostgresMissing("PostgreSQL is not installed (Debian: apt-get install postgresql)")


def _version(name: str) -> float:
    try:
        return float(name)
    except ValueError:
        return 0.0


def _run_as() -> list[str]:
    if os.geteuid() != 0:
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        raise PostgresMissing("PostgreSQL does not run as root, and there is no user postgres") from None
    tool = shutil.which("setpriv")
    if tool is None:
        raise PostgresMissing("PostgreSQL does not run as root, and there is no setpriv to become another user")
    return [tool, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
