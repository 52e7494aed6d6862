"""Thousands of damaged uploads: each is refused in the one error shape, and nothing of it is stored."""

import copy
import json
import random

import pytest

from shared.wire import to_wire


def places(value, path=()):
    """Every place within a JSON value, by its path."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def put(value, path, new):
    """The value with another one at the path."""
    if not path:
        return new
    changed = copy.deepcopy(value)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    return changed


def find(value, path):
    for key in path:
        value = value[key]
    return value


def wrong_type(rng, batch):
    path = rng.choice(list(places(batch)))
    old = find(batch, path)
    others = [one for one in ("text", [], {}, True, None, [[]], 1e999) if type(one) is not type(old)]
    if path and path[-1] == "minus":
        others = [[], {}, True, 3]
    return json.dumps(put(batch, path, rng.choice(others))).encode()


def bad_number(rng, batch):
    path = rng.choice([one for one in places(batch) if isinstance(find(batch, one), float)])
    new = rng.choice([float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e300, -1e-9])
    return json.dumps(put(batch, path, new)).encode()


def missing_field(rng, batch):
    path = rng.choice([one for one in places(batch) if isinstance(find(batch, one), dict)])
    required = [key for key in find(batch, path) if key not in ("minus_ms", "reasons", "at_s")]
    changed = copy.deepcopy(batch)
    del find(changed, path)[rng.choice(required)]
    return json.dumps(changed).encode()


def truncated(rng, batch):
    body = json.dumps(batch).encode()
    return body[: rng.randrange(len(body))]


def binary(rng, batch):
    body = bytearray(json.dumps(batch).encode())
    at = rng.randrange(len(body))
    return bytes(body[:at] + bytes([rng.choice([0x00, 0xFF, 0xC0, 0xFE])]) + body[at:])


def nested(rng, _):
    depth = rng.choice([10, 1000, 100_000])
    return b'{"measurements":' + b"[" * depth + b"]" * depth + b"}"


def huge(rng, batch):
    path = rng.choice(
        [one for one in places(batch) if isinstance(find(batch, one), list) and one[-1:] == ("graph_ms",)]
    )
    return json.dumps(put(batch, path, [1.0] * rng.choice([1001, 5000]))).encode()


MUTATIONS = (wrong_type, wrong_type, bad_number, missing_field, truncated, binary, nested, huge)


@pytest.mark.parametrize("count", [800, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_every_damaged_upload_is_refused_and_nothing_of_it_is_stored(steady_api, lab, count):
    rng = random.Random(1)
    batch = {"measurements": [to_wire(one) for one in lab.measure_all()[:3]]}
    for number in range(count):
        mutate = rng.choice(MUTATIONS)
        body = mutate(rng, batch)
        answer = steady_api.call(
            "POST",
            "/v1/runs/run-1/measurements",
            role="agent",
            content=body,
            headers={"Content-Type": "application/json"},
        )
        what = f"{number}: {mutate.__name__}: {body[:300]!r} gave {answer.status_code} {answer.text[:300]}"
        assert 400 <= answer.status_code < 500, what
        assert set(answer.json()) == {"error"}, what
        assert set(answer.json()["error"]) == {"code", "message", "detail"}, what
    assert steady_api.get("/v1/runs/run-1/measurements").json() == {"measurements": []}
