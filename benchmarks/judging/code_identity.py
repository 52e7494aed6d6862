"""Which code a kept number came from."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
for name, module in sorted(sys.modules.items()):
    if name.startswith(("search", "lut_server.calibration.op_calibration", "lut_server.transfer", "shared.spaces")):
        print(module.__file__)
"""
"""Lists the files that decide a number. The others read, write, check and name."""


def identify(modules: Sequence[str], *contents: bytes) -> str:
    """SHA-256 over some contents and the code of modules with all that they import."""
    listing = [sys.executable, "-c", SOURCES, *modules]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True)
    digest = hashlib.sha256()
    for content in (*contents, *(Path(line).read_bytes() for line in listed.stdout.splitlines())):
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
