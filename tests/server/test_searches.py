import dataclasses

import pytest

from shared.errors import InvalidValue, NotFound
from shared.wire import to_wire


def test_a_search_is_stored_once_and_its_newest_posting_stands_for_it(any_store, lab, clock):
    any_store.devices.register("pi", {})
    family = lab.search_result("b" * 64, ladder=())
    climbed = lab.search_result("b" * 64)
    assert any_store.searches.put(family)
    clock.advance(60)
    assert any_store.searches.put(climbed)
    assert not any_store.searches.put(family)
    other = dataclasses.replace(family, search="c" * 64)
    any_store.searches.put(other)
    assert any_store.searches.get("a" * 64).result == climbed
    assert [search.result for search in any_store.searches.list()] == [climbed, other]
    assert any_store.searches.list("pear") == ()
    with pytest.raises(NotFound, match="no search dddd"):
        any_store.searches.get("d" * 64)
    with pytest.raises(NotFound, match="unknown device 'pear'"):
        any_store.searches.put(dataclasses.replace(family, device="pear"))


def test_posting_needs_the_role_search_and_answers_with_what_is_there(api, lab):
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    posted = to_wire(lab.search_result("b" * 64))
    assert api.post("/v1/searches", posted, role="read").status_code == 403
    answer = api.post("/v1/searches", posted, role="search")
    assert (answer.status_code, answer.json()["result"]) == (201, posted)
    assert api.post("/v1/searches", posted, role="search").status_code == 200
    assert api.get(f"/v1/searches/{'a' * 64}").json() == answer.json()
    assert api.get("/v1/searches?device=pi").json() == {"searches": [answer.json()]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"search": "../x"},
        {"table_hash": ""},
        {"device": "<b>"},
        {"seconds": -1.0},
        {"space": ""},
        {"dataset": "x" * 3000},
    ],
)
def test_a_result_that_is_none_is_refused_by_name(lab, wrong):
    good = lab.search_result("b" * 64)
    with pytest.raises(InvalidValue):
        dataclasses.replace(good, **wrong)


@pytest.mark.parametrize("number", [10**310, 10**15, -1])
def test_a_whole_number_that_none_can_have_is_refused_however_long(api, lab, number):
    api.post("/v1/devices", {"name": "pi", "probe": {}})
    for part in ("members", "random", "ladder"):
        posted = to_wire(lab.search_result("b" * 64))
        posted[part][0]["parameters"] = number
        answer = api.post("/v1/searches", posted)
        assert answer.status_code == 422, answer.text
        assert "negative, too large or not finite" in answer.json()["error"]["message"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(lab, number):
    with pytest.raises(InvalidValue, match="not finite"):
        dataclasses.replace(lab.search_result("b" * 64), seconds=number)
