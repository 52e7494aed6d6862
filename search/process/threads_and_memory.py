"""Threads of an operation, and memory that is freed and soon asked for again.

A training step frees tensors of megabytes and asks for as many a moment later. By default glibc
hands such blocks back to the kernel. The kernel clears every page before it gives them out again:
that takes a third of a step of a small network.
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
    """Compute with so many threads within an operation, and keep freed memory."""
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def single_threaded_workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """So many workers side by side; they and the caller compute with a single thread each."""
    with torch_threads(1), ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool


@cache
def keep_freed_memory() -> bool:
    """Keep freed blocks in this process from now on; returns whether its C library can (glibc)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False  # another C library; TypeError: Windows has no main program to look in
    # Only both together: each alone switches off glibc's own adaptation.
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER_TRIM))
