import platform
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def saturates() -> bool:
    """Whether this processor adds two products of 8 bits in 16, which saturate: x86 without VNNI."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    return not {"avx512_vnni", "avx_vnni"} & set(Path("/proc/cpuinfo").read_text().split())
