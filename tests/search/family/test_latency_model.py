import dataclasses
import random

import numpy as np
import pytest

from search.latency.latency_model import LatencyModel
from shared.errors import MissingPrice


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_a_batch_has_the_same_latencies_as_single_predictions(table, space, confidence):
    draws = random.Random(1)
    genotypes = [space.fastest(), *(space.sample(draws) for _ in range(60))]
    model = LatencyModel(table)
    mean_ms, sd_ms = model.mean_and_sd_ms(genotypes)
    upper_ms = model.upper_ms(genotypes, confidence)
    for index, genotype in enumerate(genotypes):
        prediction = table.predict(genotype)
        assert mean_ms[index] == pytest.approx(prediction.mean_ms, rel=1e-12)
        assert sd_ms[index] == pytest.approx(prediction.sd_ms, rel=1e-9)
        assert upper_ms[index] == pytest.approx(prediction.upper_ms(confidence), rel=1e-9)


def test_dead_ops_cost_nothing(table, space):
    live = space.parse("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    mean_ms, _ = LatencyModel(table).mean_and_sd_ms([live, space.fastest()])
    assert mean_ms[0] == mean_ms[1]
    assert np.all(mean_ms > table.base_ms)


def test_a_table_without_all_prices_names_the_missing_key_and_the_command(table):
    size = len(table.prices)
    holed = dataclasses.replace(
        table, prices=table.prices[1:], covariance=tuple(row[:size] for row in table.covariance[:size])
    )
    with pytest.raises(MissingPrice, match=r"avg_pool_3x3/.*profiler-agent profile .*--device testbed"):
        LatencyModel(holed)
