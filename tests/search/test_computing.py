"""Threads of an operation, and memory that a process keeps."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

import pytest
import torch

from search.process.threads_and_memory import keep_freed_memory, torch_threads

FAULTS = """
import resource, sys, torch
from search.process.threads_and_memory import torch_threads
torch.set_num_threads(1)

def step():
    return sum(float(one[0]) for one in [torch.zeros(2**20) for _ in range(20)])  # 80 MB

def faults_of_a_step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(), step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with torch_threads(1):
    step(), step()
    print(faults_of_a_step())
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="no glibc")
def test_a_step_gets_the_pages_of_the_step_before() -> None:
    """Counted in a process of its own: this one's heap has seen other tests."""
    done = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 10_000, "of 20 x 1,024 pages, which all are new without it"


def test_threads_are_as_before_afterwards_even_after_an_error() -> None:
    before = torch.get_num_threads()
    with suppress(ValueError), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ValueError("an operation failed")
    assert torch.get_num_threads() == before
