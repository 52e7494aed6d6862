import numpy as np
import pytest

from search.data import ImageSet, load_images
from shared.spaces import Space, make_space

DARTS = make_space("darts", resolution=8, channels=4, depth=3, image_channels=1)
FBNET = make_space("fbnet", resolution=8, channels=8, depth=1, classes=10, image_channels=1)
MOBILE = make_space("mobile", resolution=8, channels=4, depth=2, image_channels=1)
MACRO = make_space("nas-bench-macro", resolution=8, channels=4, image_channels=1)


def log_probabilities(space: Space, seed: int) -> np.ndarray:
    alpha = np.random.default_rng(seed).normal(size=(len(space.slots), len(space.slots[0].primitives))) * 2
    return alpha - np.log(np.exp(alpha).sum(axis=1, keepdims=True))


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    return load_images("digits", 8, 1)


@pytest.fixture(params=[DARTS, FBNET, MACRO, MOBILE], ids=lambda space: space.name)
def space(request) -> Space:
    return request.param


@pytest.fixture(scope="session")
def probabilities_of():
    return log_probabilities
