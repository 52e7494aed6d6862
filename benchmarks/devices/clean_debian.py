"""A temporary Debian with Python, venv and curl alone: a container or a chroot.

Its programs reach a server on this machine's loopback address. It gets this machine's settings for
a package index (proxy, certificates), but not its packages and caches.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import DataMissing

IMAGE = "python:3.11-slim-bookworm"
RELEASE = "bookworm"
PACKAGES = ("python3", "python3-venv", "ca-certificates", "curl")
CARRIED = ("PIP_CERT", "PIP_INDEX_URL", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_MOUNTED = """
set -e
mount -t proc proc "$1/proc"
for name in dev sys; do mount --rbind "/$name" "$1/$name"; done
exec chroot "$@"
"""


@dataclass
class CleanDebian:
    """A clean system. `enter` begins a command that runs in it."""

    name: str
    enter: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, line: str) -> list[str]:
        """The command on this machine for a line of shell in it."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return [*self.enter, "env", "-i", path, "HOME=/root", "LANG=C.UTF-8", *variables, "sh", "-c", line]

    def run(self, line: str, content: bytes | None = None) -> str:
        """Run a line of shell to its end; returns its output.

        Raises:
            RuntimeError: it failed.
        """
        done = subprocess.run(self.command(line), input=content, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"`{line[:80]}` failed in {self.name}: {done.stderr.decode()[-2000:]}")
        return done.stdout.decode()

    def used_mb(self) -> float:
        """Size of all files on the disk."""
        return int(self.run("du -skx / | cut -f 1")) / 1024


@contextmanager
def clean_debian() -> Iterator[CleanDebian]:
    """The system, which is removed afterwards.

    Raises:
        DataMissing: this machine cannot make it.
    """
    if _succeeds("docker", "info") and (
        _succeeds("docker", "image", "inspect", IMAGE) or _succeeds("docker", "pull", "-q", IMAGE)
    ):
        with _container() as system:
            yield _prepared(system)
    elif os.geteuid() == 0 and shutil.which("debootstrap") and shutil.which("unshare"):
        with _chroot() as system:
            yield _prepared(system)
    else:
        raise DataMissing(f"needs a Docker engine with {IMAGE}, or root and debootstrap (Debian: apt-get install)")


@contextmanager
def _container() -> Iterator[CleanDebian]:
    started = subprocess.run(
        ["docker", "run", "--rm", "-d", "--init", "--network", "host", IMAGE, "sleep", "infinity"],
        capture_output=True,
        text=True,
        check=True,
    )
    container = started.stdout.strip()
    try:
        yield CleanDebian(f"a container of {IMAGE}", ("docker", "exec", "-i", container))
    finally:
        subprocess.run(["docker", "kill", container], capture_output=True, check=False)


@contextmanager
def _chroot() -> Iterator[CleanDebian]:
    root = Path(tempfile.mkdtemp(prefix="lutnas-clean-"))
    try:
        bootstrap(root)
        # A mount namespace of its own: its mounts end with its last process.
        enter = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _MOUNTED, "enter", str(root))
        yield CleanDebian(f"a chroot of Debian {RELEASE}", enter)
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=False)


def bootstrap(root: Path, packages: Sequence[str] = PACKAGES) -> None:
    """Unpack the smallest Debian with some packages into a folder.

    Raises:
        DataMissing: it could not be fetched.
    """
    include = f"--include={','.join(packages)}"
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", include, RELEASE, str(root)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DataMissing(f"debootstrap failed: {' '.join(done.stdout.split())[-200:]}")


def _prepared(system: CleanDebian) -> CleanDebian:
    """Add this machine's settings for a package index, and curl, which the image lacks."""
    for name, value in os.environ.items():
        if name.upper() not in CARRIED:
            continue
        system.environment[name] = value
        if Path(value).is_file():
            target = shlex.quote(value)
            system.run(f"mkdir -p $(dirname {target}) && cat >{target}", Path(value).read_bytes())
    system.run("command -v curl >/dev/null || { apt-get -qq update && apt-get -qq install -y curl; } >/dev/null")
    return system


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=600).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
