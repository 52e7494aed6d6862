"""How this process computes: threads of an operation, and what becomes of memory that is freed.

A training step frees tensors of megabytes and asks for as many a moment later. glibc hands such blocks back to the
kernel by default, which then clears every page of the next one: a third of a step of a small network.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`, from malloc.h."""
LARGEST_KEPT = 32 * 2**20
"""Bytes of a block; glibc takes no larger threshold."""
NEVER_TRIM = 2**31 - 1


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads within an operation, and freed memory kept: for whoever computes step after step."""
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def single_threaded_workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """So many workers side by side, each of which computes with one thread, as the caller does meanwhile."""
    with torch_threads(1), ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool


@cache
def keep_freed_memory() -> bool:
    """From now on this process keeps freed blocks for its next ones; says whether its C library can (glibc)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False  # another C library; TypeError: Windows has no main program to look in
    # Only both together: each alone switches off glibc's own adaptation.
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER_TRIM))
