import random

import pytest
import torch

from search.ranking.activation_cache import ActivationCache, StepResult
from search.supernet import Supernet


@pytest.fixture(scope="module")
def supernet(space):
    torch.manual_seed(0)
    return Supernet(space).train()


@pytest.fixture(scope="module")
def genotypes(space):
    draws = random.Random(1)
    return sorted({space.canonical(space.sample(draws)) for _ in range(40)})


@pytest.fixture(scope="module")
def images():
    return torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))


class Counting:
    """Runs steps of a supernet and counts those of the first cell."""

    def __init__(self, supernet):
        self.supernet = supernet
        self.in_first_cell = 0

    def __call__(self, step, x):
        self.in_first_cell += step.name.startswith("stages.0.")
        return StepResult(self.supernet.run_step(step, x), x.new_tensor(1.0))


@pytest.mark.parametrize("most_bytes", [0, 200_000, 1 << 28])
def test_values_equal_those_of_a_single_path_for_any_memory_limit(supernet, space, genotypes, images, most_bytes):
    paths = ActivationCache(Counting(supernet), images, most_bytes)
    with torch.no_grad():
        for genotype in genotypes:
            value, note = paths.evaluate(space.wiring(genotype))
            assert torch.equal(value, supernet(images, genotype))
            assert len(note) == sum(step.key is not None for step in space.wiring(genotype))


def test_shared_values_are_computed_once(supernet, space, genotypes, images):
    def ops_run(most_bytes):
        counting = Counting(supernet)
        paths = ActivationCache(counting, images, most_bytes)
        with torch.no_grad():
            for genotype in genotypes:
                paths.evaluate(space.wiring(genotype))
        return counting.in_first_cell

    assert ops_run(1 << 28) < 0.6 * ops_run(0)


def test_kept_values_stay_within_the_memory_limit(supernet, space, genotypes, images):
    paths = ActivationCache(Counting(supernet), images, most_bytes=200_000)
    with torch.no_grad():
        for genotype in genotypes:
            paths.evaluate(space.wiring(genotype))
            kept = sum(result.value.nbytes for result in paths._kept.values())
            assert kept == paths._bytes <= 200_000
    assert paths._kept
