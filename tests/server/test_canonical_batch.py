"""Batches in the agents' own form are recognised without being parsed, and nothing is recognised that is not valid."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lut_server.canonical_batch import find_rewritten, find_written
from lut_server.http.requests import MeasurementBatch, parse_body
from shared.errors import LutnasError
from shared.measurements.measurement import MOST_REPEATS, Measurement, Round, Verdict
from shared.wire import canonical_json, to_wire

MARGINAL = Measurement(
    "marginal-0",
    "avg_pool_3x3/16x32x32/16x32x32/s1",
    "marginal",
    "chain:8:x",
    "chain:2:x",
    6,
    (Round((0.912, 12.5), (0.4,), (0.00001234, 0.231)), Round((99999.9,), (0.4,), (0.1,))),
    Verdict(False, ("hot", "drift 1.2 (above 1.10)")),
)
WHOLE = replace(MARGINAL, id="w", role="held_out", minus=None, divisor=1000, rounds=(Round((1.0,), (2.0, 3.25)),))
BATCH = [MARGINAL, WHOLE, replace(WHOLE, id="x.y:z-_", verdict=Verdict(True))]


def body(batch):
    return canonical_json({"measurements": to_wire(list(batch))})


def recognised(data):
    return find_written(data, lambda *_: None)


TOLD = replace(
    WHOLE, id="t", rounds=tuple(Round((1.0,), (2.0,), at_s=at_s) for at_s in (0.0, 1769853600.25, 12.05, 3.5))
)


def test_what_an_agent_sends_is_recognised_and_kept_as_its_bytes(lab):
    for batch in (BATCH[1:], [TOLD], lab.measure_all()):
        found = recognised(body(batch))
        assert [(one.id, one.content) for one in found] == [(one.id, canonical_json(one).decode()) for one in batch]


def test_role_subject_graph_and_minus_of_each_are_checked():
    seen = []
    find_written(body(BATCH[1:]), lambda *texts: seen.append(texts))
    assert seen == [(b"held_out", WHOLE.subject.encode(), b"chain:8:x", None)] * 2


@pytest.mark.parametrize(
    "batch",
    [
        [],
        [MARGINAL],  # a time that Python writes with an exponent
        [replace(WHOLE, subject='a "quoted" name')],
        [replace(WHOLE, subject="naïve")],
        [replace(WHOLE, rounds=(Round((600_000.0,), (1.0,)),))],
    ],
)
def test_valid_batch_in_another_form_is_left_to_the_parser(batch):
    assert recognised(body(batch)) is None
    assert parse_body(MeasurementBatch, body(batch)).measurements == tuple(batch)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"divisor":1000', b'"divisor":1001'),
        (b'"divisor":1000', b'"divisor":0'),
        (b'"divisor":1000', b'"divisor":"1"'),
        (b'"id":"w"', b'"id":""'),
        (b'"id":"w"', b'"id":"a b"'),
        (b'"held_out"', b'"kettle"'),
        (b'"minus":null', b'"minus":"chain:2:x"'),
        (b"[1.0]", b"[]"),
        (b"[1.0]", b"[0.0]"),
        (b"[1.0]", b"[-1.0]"),
        (b"[1.0]", b"[NaN]"),
        (b"[1.0]", b"[1.0,]"),
        (b"[1.0]", b"[01.0]"),
        (b"[1.0]", b"[" + b",".join([b"1.0"] * (MOST_REPEATS + 1)) + b"]"),
        (b'"minus_ms":[]', b'"minus_ms":[1.0]'),
        (b'"stable":false', b'"stable":null'),
        (b"}}]}", b"}}]"),
        (b"}}]}", b"}}]},"),
    ],
)
def test_what_is_not_valid_is_not_recognised(old, new):
    data = body([WHOLE])
    assert recognised(data)
    assert data.count(old) >= 1
    assert recognised(data.replace(old, new, 1)) is None


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), edits=st.integers(1, 3))
def test_mutated_batch_is_recognised_only_if_it_is_valid_and_then_says_the_same(seed, edits):
    rng, data = random.Random(seed), bytearray(body(BATCH[1:]))
    for _ in range(edits):
        at = rng.randrange(len(data))
        piece = bytes(rng.choice(b'0123456789.,[]{}":eE-+ \\nullabc_') for _ in range(rng.randint(0, 2)))
        data[at : at + rng.randint(0, 2)] = piece
    found = recognised(bytes(data))
    if found is not None:
        values = parse_body(MeasurementBatch, bytes(data)).measurements
        assert [one.id for one in found] == [one.id for one in values]
        for one, value in zip(found, values, strict=True):
            assert to_wire(value) == json.loads(one.content)


def test_upload_that_says_the_same_in_other_words_is_known(api, lab):
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    api.put("/v1/runs/run-1", to_wire(lab.run()))
    path, measurements = "/v1/runs/run-1/measurements", lab.measure_all()
    number = len(measurements)
    assert api.post(path, content=body(measurements)).json() == {"stored": number, "known": 0}
    spaced = json.dumps({"measurements": to_wire(measurements)}, indent=1).encode()
    assert api.post(path, content=spaced).json() == {"stored": 0, "known": number}
    longer = body(measurements).replace(b"2.0]", b"2.000]")
    assert recognised(longer)
    assert api.post(path, content=longer).json() == {"stored": 0, "known": number}
    assert api.post(path, content=body(measurements).replace(b"2.0]", b"2.001]")).status_code == 409
    assert api.get(path).json()["measurements"] == to_wire(measurements)


def test_subject_of_another_space_is_refused_in_either_form(api, lab):
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    api.put("/v1/runs/run-1", to_wire(lab.run()))
    stranger = replace(lab.measure_all()[0], subject="nor_conv_3x3/999x1x1/999x1x1/s1")
    for data in (body([stranger]), json.dumps({"measurements": to_wire([stranger])}).encode()):
        answer = api.post("/v1/runs/run-1/measurements", content=data)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


def test_parser_still_says_what_is_wrong(api, lab):
    with pytest.raises(LutnasError, match="divisor"):
        parse_body(MeasurementBatch, body([WHOLE]).replace(b'"divisor":1000', b'"divisor":1001'))


@pytest.mark.parametrize("form", [{"indent": 2}, {"sort_keys": False}, {"separators": (", ", ": ")}])
def test_other_forms_of_the_same_json_are_rewritten_and_recognised(form):
    loose = json.dumps({"more": 1, "measurements": [dict(reversed(to_wire(one).items())) for one in BATCH[1:]]}, **form)
    assert recognised(loose.encode()) is None
    found = find_rewritten(loose.encode(), lambda *_: None)
    assert [one.content for one in found] == [canonical_json(one).decode() for one in BATCH[1:]]


NO_BATCH = ("", "[]", "{}", '{"measurements": 3}', '{"measurements": [NaN]}', "[" * 100_000, "\xff")


@pytest.mark.parametrize("text", NO_BATCH)
def test_what_is_no_batch_is_not_rewritten(text):
    assert find_rewritten(text.encode("latin-1"), lambda *_: None) is None
