import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def saturates() -> bool:
    """Whether this processor adds two products of 8 bits in 16, which saturate: x86 without VNNI."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    return not {"avx512_vnni", "avx_vnni"} & set(Path("/proc/cpuinfo").read_text().split())


@pytest.fixture
def write_images() -> Callable[[Path], None]:
    """Writes random images in CIFAR-10's binary form into a new folder."""

    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(0)
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
            labels = np.arange(40, dtype=np.uint8)[:, None] % 10
            images = pixels.integers(0, 256, (40, 3072), np.uint8)
            (folder / f"{name}.bin").write_bytes(np.hstack([labels, images]).tobytes())
        (folder / "batches.meta.txt").write_text("".join(f"class {number}\n" for number in range(10)))

    return write
