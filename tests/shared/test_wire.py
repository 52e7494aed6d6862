import json

import pytest

from shared.errors import InvalidValue, OtherSchema
from shared.jobs import NewJob, Promise
from shared.measurements.measurement import Measurement, Round, Run, Verdict
from shared.measurements.plan import Plan, make_plan
from shared.runtime import Runtime, parse_runtime, runtime_parts
from shared.spaces import NasBench201
from shared.wire import canonical_json, content_hash, from_wire, to_wire

SPACE = NasBench201(resolution=16, channels=4, depth=1)
RUNTIME = Runtime("onnxruntime", "1.31.0", threads=2)
MEASUREMENT = Measurement(
    "m-1", "op", "marginal", "chain", "chain", 6, (Round((1.0, 2.0), (0.5,), (0.25,)),), Verdict(False, ("a reason",))
)
RUN = Run("r-1", "rpi4", RUNTIME, str(SPACE), "0" * 64, "canary:conv-v1", "0.1.0", "2026-01-01T00:00:00Z", {"cpu": "x"})
JOB = NewJob("rpi4", "verify", RUNTIME, "canary:conv-v1", str(SPACE), "model:0", Promise("0", "|", 1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    "value", [RUNTIME, MEASUREMENT, RUN, JOB, make_plan(SPACE, 3, 3)], ids=lambda v: type(v).__name__
)
def test_a_value_survives_json(value: object) -> None:
    assert from_wire(type(value), json.loads(json.dumps(to_wire(value)))) == value


def test_the_same_value_always_has_the_same_bytes_and_another_value_another_hash() -> None:
    assert canonical_json({"b": 1, "a": [1.5, None]}) == b'{"a":[1.5,null],"b":1}'
    assert content_hash(make_plan(SPACE, 3, 3)) == content_hash(make_plan(SPACE, 3, 3))
    assert content_hash(make_plan(SPACE, 3, 3)) != content_hash(make_plan(SPACE, 3, 3, seed=1))


def test_fields_of_a_newer_writer_are_ignored() -> None:
    assert from_wire(Runtime, {**to_wire(RUNTIME), "colour": "red"}) == RUNTIME


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"threads": "2"}, "Runtime.threads"),
        ({"threads": True}, "Runtime.threads"),
        ({"threads": 1.5}, "Runtime.threads"),
        ({"version": None}, "Runtime.version"),
        ({"precision": "fp8"}, "runtime.precision"),
        ({"batch": 0}, "runtime.batch"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(change: dict[str, object], where: str) -> None:
    with pytest.raises(InvalidValue, match=where):
        from_wire(Runtime, {**to_wire(RUNTIME), **change})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0, -1.0, 1e9])
def test_a_time_that_cannot_be_is_refused(value: float) -> None:
    data = to_wire(MEASUREMENT)
    data["rounds"][0]["graph_ms"][0] = value
    with pytest.raises(InvalidValue, match="not a time"):
        from_wire(Measurement, data)


@pytest.mark.parametrize(("found", "words"), [(1, "schema 1"), (99, "schema 99"), (None, "no schema number")])
def test_a_plan_of_another_lutnas_is_told_as_such(found: int | None, words: str) -> None:
    data = {**to_wire(make_plan(SPACE, 3, 3)), "schema": found, "tasks": "in another form"}
    with pytest.raises(OtherSchema, match=f"the plan has {words}, this lutnas reads schema 10: make it anew"):
        from_wire(Plan, data, "the plan")


def test_a_runtime_survives_its_string_form() -> None:
    assert parse_runtime(str(RUNTIME)) == RUNTIME


def test_a_browser_s_runtime_reads_back_and_is_found_by_its_parts_but_never_as_a_native_one():
    runtime = Runtime("onnxruntime-web", "1.30.0", "wasm/simd", threads=4)
    assert str(runtime) == "onnxruntime-web-1.30.0/wasm/simd/fp32/threads=4/opt=all/batch=1"
    assert parse_runtime(str(runtime)) == runtime
    assert {"onnxruntime-web", "wasm", "simd", "threads=4"} <= runtime_parts(str(runtime))
    assert "onnxruntime" not in runtime_parts(str(runtime))
    assert "onnxruntime" in runtime_parts(str(RUNTIME))
    gpu = Runtime("onnxruntime-web", "1.30.0", "webgpu")
    assert parse_runtime(str(gpu)) == gpu
    for provider in ("wasm/other", "/simd", "wasm/simd/simd"):
        with pytest.raises(InvalidValue, match="provider"):
            Runtime("onnxruntime-web", "1.30.0", provider)
