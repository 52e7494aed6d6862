import dataclasses
import json
import math

import pytest

from shared.errors import InvalidValue, MissingPrice, OtherSchema
from shared.runtime import Runtime
from shared.spaces import Genotype, NasBench201
from shared.tables.table import LatencyTable, OpPrice, Prediction, read_table, student_4
from shared.wire import TABLE_SCHEMA, canonical_json

SPACE = NasBench201(resolution=16, channels=4, depth=2)


def make_table(**changes: object) -> LatencyTable:
    prices = tuple(OpPrice(str(key), 0.1 * (i + 1), 0.0, 0.1, 0.1, 0.1) for i, key in enumerate(SPACE.op_keys()))
    size = len(prices) + 1
    covariance = tuple(tuple(0.01 if i == j else 0.0 for j in range(size)) for i in range(size))
    table = LatencyTable(
        "rpi4", Runtime("onnxruntime", "1.31.0"), str(SPACE), "canary:conv-v1", 1.0, "0.1.0",
        5.0, prices, covariance, 0.02, None, (), ("run",),
    )  # fmt: skip
    return dataclasses.replace(table, **changes)  # type: ignore[arg-type]


def test_a_prediction_is_base_plus_counts_times_prices() -> None:
    table = make_table()
    genotype = Genotype(("nor_conv_3x3",) * 6)
    prices = [table.price_ms(key) for key in SPACE.op_keys() if key.primitive == "nor_conv_3x3"]
    prediction = table.predict(genotype)
    assert prediction.mean_ms == pytest.approx(5.0 + 6 * 2 * sum(prices))
    variance_of_mean = 0.01 * (1 + 3 * (6 * 2) ** 2)
    assert prediction.sd_ms == pytest.approx(math.sqrt(variance_of_mean + (0.02 * prediction.mean_ms) ** 2))


def test_the_bound_widens_with_the_confidence_asked_for() -> None:
    prediction = make_table().predict(SPACE.fastest())
    assert prediction.mean_ms < prediction.upper_ms(0.9) < prediction.upper_ms(0.99)
    with pytest.raises(InvalidValue, match="confidence"):
        prediction.upper_ms(1.0)


def test_a_table_survives_json_with_the_same_hash() -> None:
    table = make_table()
    assert read_table(json.loads(canonical_json(table))) == table
    assert read_table(json.loads(canonical_json(table))).hash == table.hash
    assert make_table(base_ms=5.1).hash != table.hash


def test_missing_key_names_the_device_and_the_command_that_would_measure_it() -> None:
    table = make_table()
    without = dataclasses.replace(table, prices=table.prices[1:], covariance=tuple(r[1:] for r in table.covariance[1:]))
    with pytest.raises(MissingPrice, match=r"rpi4.*avg_pool_3x3/4x16x16.*profiler-agent profile .*--device rpi4"):
        without.predict(Genotype(("avg_pool_3x3",) * 6))


@pytest.mark.parametrize("found", [1, 2, 3, 4, 99])
def test_a_table_of_another_lutnas_is_told_as_such(found: int) -> None:
    data = {**json.loads(canonical_json(make_table())), "schema": found, "prices": "in another form"}
    with pytest.raises(
        OtherSchema, match=f"the latency table has schema {found}, this lutnas reads schema {TABLE_SCHEMA}"
    ):
        read_table(data)


def test_a_covariance_of_another_size_is_refused() -> None:
    with pytest.raises(InvalidValue, match="covariance"):
        make_table(covariance=((1.0,),))


def test_a_network_that_is_not_connected_has_no_latency() -> None:
    with pytest.raises(InvalidValue, match="does not connect"):
        make_table().predict(Genotype(("none",) * 6))


def test_a_primitive_that_the_space_lacks_is_refused() -> None:
    with pytest.raises(InvalidValue, match="conv_9x9"):
        make_table().predict(Genotype(("conv_9x9",) * 6))


def test_the_bound_grows_beyond_95_percent_as_students_t_with_four_degrees_of_freedom():
    assert [student_4(p) for p in (0.5, 0.95, 0.99)] == pytest.approx([0.0, 2.13185, 3.74695], abs=1e-4)
    prediction = Prediction(10.0, 1.0)
    assert prediction.upper_ms(0.95) == pytest.approx(11.64485, abs=1e-4)
    assert prediction.upper_ms(0.99) == pytest.approx(10 + 1.64485 * 3.74695 / 2.13185, abs=1e-4)
    assert prediction.upper_ms(0.5) == pytest.approx(10.0, abs=1e-6)
