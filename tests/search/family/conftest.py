import random
import shutil
from dataclasses import replace

import numpy as np
import pytest

from search.data import load_images
from search.family.family import FamilySettings, build_family
from search.process.progress import SilentProgress
from search.runs.run_directory import RunDirectory, on_device
from search.training.training import Trainer
from shared.runtime import Runtime
from shared.spaces import make_space
from shared.tables.prediction import HeldOutError
from shared.tables.table import LatencyTable, NetworkCheck, OpPrice

PRICE_MS = {"skip_connect": 0.004, "nor_conv_1x1": 0.02, "nor_conv_3x3": 0.06, "avg_pool_3x3": 0.05}


def make_table(space, seed=0, networks=6):
    """A table with positive prices near those of a small CPU, and a covariance that is not diagonal."""
    rng = np.random.default_rng(seed)
    keys = space.op_keys()
    prices = []
    for key in keys:
        price_ms = PRICE_MS[key.primitive] * float(rng.uniform(0.7, 1.3))
        prices.append(OpPrice(str(key), price_ms, 0.02 * price_ms, price_ms, 0.9 * price_ms, 1.1 * price_ms))
    root = 1e-3 * rng.standard_normal((len(keys) + 1, len(keys) + 1))
    table = LatencyTable(
        device="testbed",
        runtime=Runtime("onnxruntime", "1.31.0"),
        space=str(space),
        canary="canary:conv-v1",
        canary_nominal_ms=0.4,
        agent_version="0.1.0",
        base_ms=0.2,
        prices=tuple(prices),
        covariance=tuple(map(tuple, (root @ root.T).tolist())),
        relative_spread=0.015,
        held_out=HeldOutError(40, 1.9, 97.5, 100.0, 0.95, 96.0, 4.0),
        networks=(),
        runs=("run-1",),
    )
    draws = random.Random(seed)
    checks = []
    for index in range(networks):
        genotype = space.sample(draws)
        prediction = table.predict(genotype)
        measured_ms = prediction.mean_ms * draws.uniform(0.98, 1.02)
        role = "held_out" if index % 2 else "calibration"
        checks.append(
            NetworkCheck(space.format(genotype), role, measured_ms, prediction.mean_ms, prediction.upper_ms(0.95))
        )
    return replace(table, networks=tuple(checks))


@pytest.fixture(scope="session")
def space():
    return make_space("nas-bench-201", resolution=16, channels=4, depth=1, image_channels=1)


@pytest.fixture(scope="session")
def table(space):
    return make_table(space)


@pytest.fixture(scope="session")
def digits(space):  # of its own: a fixture of a session is made once, with the space that asked first
    return load_images("digits", space.resolution, space.image_channels)


SETTINGS = FamilySettings(trade_offs=3, budgets=12, candidates=30)


@pytest.fixture(scope="session")
def finished(table, digits, config_of, tmp_path_factory):
    """The folder of a small real search: 40 steps on real images, then its family. Tests copy it before they write."""
    config = config_of(
        table,
        digits,
        warmup_steps=25,
        search_steps=15,
        batch_size=32,
        alpha_batch_size=16,
        threads=2,
        checkpoint_every=200,
    )
    run = RunDirectory.create(tmp_path_factory.mktemp("finished") / "run", config, table)
    assert Trainer(run, digits).train(SilentProgress())
    build_family(on_device(run), SilentProgress(), SETTINGS)
    return run.path


@pytest.fixture
def run(finished, tmp_path):
    """A finished run of the test's own."""
    shutil.copytree(finished, tmp_path / "run")
    return on_device(RunDirectory.open(tmp_path / "run"))


@pytest.fixture(scope="session")
def reading(finished):
    """A finished run that is only read."""
    return on_device(RunDirectory.open(finished))
