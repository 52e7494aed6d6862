"""fp32 or bfloat16, whichever trains faster here. The config of a run keeps the choice."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

from search.alphas.path_sampling import FairSampler
from search.process.threads_and_memory import torch_threads
from search.supernet import Supernet
from shared.spaces import Space

BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""As /proc/cpuinfo names them (x86 and Arm)."""
CPUINFO = Path("/proc/cpuinfo")
WORTH_IT = 0.9
"""bfloat16 costs precision, so it must save a tenth of the time."""
ROUNDS = 2


def choose_precision(
    space: Space,
    resolution: int,
    batch_size: int,
    say: Callable[[str], None],
    cpuinfo: Path = CPUINFO,
    clock: Callable[[], float] = time.perf_counter,
) -> str:
    """ "bf16" if the CPU has instructions for it and training steps are clearly faster, else
    "fp32".
    """
    if not has_bf16(cpuinfo):
        return "fp32"
    supernet, sampler = Supernet(space).train(), FairSampler(space, 0)
    parameters = list(supernet.parameters())
    images = torch.zeros(batch_size, space.image_channels, resolution, resolution)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(batch_size, dtype=torch.long)

    def seconds(bf16: bool) -> float:
        started_s = clock()
        for path in map(sampler.path, range(sampler.cycle_length)):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):
                loss = F.cross_entropy(supernet(images, path).float(), labels)
            torch.autograd.grad(loss, parameters, allow_unused=True)
        return clock() - started_s

    with torch_threads(1):
        seconds(False), seconds(True)  # the first run is slower
        fp32_s, bf16_s = (min(seconds(bf16) for _ in range(ROUNDS)) for bf16 in (False, True))
    chosen = "bf16" if bf16_s < WORTH_IT * fp32_s else "fp32"
    per_path_ms = 1000 / sampler.cycle_length
    say(f"precision {chosen}: a path takes {fp32_s * per_path_ms:.1f} ms in fp32, {bf16_s * per_path_ms:.1f} in bf16")
    return chosen


def has_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the CPU lists bfloat16 instructions. Without them torch emulates, a hundred times as slow."""
    try:
        words = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return bool(words & BF16_FLAGS)
