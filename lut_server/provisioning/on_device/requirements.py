"""requirements.py WHEEL RUNTIME: print the requirements of the wheel's extra `agent`.

RUNTIME replaces onnxruntime. If the environment has another build of ONNX Runtime, that stays: two
builds would share a folder.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping, Sequence
from email import message_from_bytes
from importlib.metadata import packages_distributions
from typing import Any

ONNXRUNTIME = "onnxruntime"


def get_requirements(metadata: bytes, runtime: str, installed: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines of a requirements file, from a wheel's METADATA.

    Args:
        runtime: what to install for onnxruntime.
        installed: distributions by the module that they install.
    """
    found = []
    for line in message_from_bytes(metadata).get_all("Requires-Dist", []):
        needed = _requirement(line)
        if not needed.marker or needed.marker.evaluate({"extra": ""}) or not needed.marker.evaluate({"extra": "agent"}):
            continue
        if needed.name == ONNXRUNTIME and runtime != ONNXRUNTIME:
            found.append(runtime)
        elif needed.name != ONNXRUNTIME or not set(installed.get(ONNXRUNTIME, ())) - {ONNXRUNTIME}:
            found.append(f"{needed.name}{needed.specifier}")
    return found


def _requirement(line: str) -> Any:
    # pip's own copy: the environment has no other.
    from pip._vendor.packaging.requirements import Requirement

    return Requirement(line)


def main(arguments: Sequence[str]) -> int:
    path, runtime = arguments
    with zipfile.ZipFile(path) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        found = get_requirements(wheel.read(name), runtime, packages_distributions())
    print("\n".join(found))
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
