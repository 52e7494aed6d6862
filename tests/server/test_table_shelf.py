"""A table is served from memory, and never an old one as the newest."""

import gzip

from lut_server.runs.finish_run import finish_run
from lut_server.store.sql import open_store
from lut_server.table_shelf import TableShelf


def put_table(store, lab, run_id, canary_ms=2.0):
    store.devices.register("pi", {})
    store.runs.put(lab.run(run_id))
    store.runs.add_measurements(run_id, lab.measure_all(canary_ms=canary_ms))
    return finish_run(store, lab.run(run_id), lab.plan).hash


def test_newest_table_is_the_newest_whoever_stored_it(any_url, any_store, lab):
    shelf, other = TableShelf(any_store), open_store(any_url)
    first = put_table(any_store, lab, "run-1")
    assert shelf.newest("pi", "", None) == first
    assert shelf.find_newest("pi", "", None) in (first, None)
    second = put_table(other, lab, "run-2")
    assert second != first
    assert shelf.find_newest("pi", "", None) is None
    assert shelf.newest("pi", "", None) == second
    third = put_table(any_store, lab, "run-3")
    assert (shelf.find_newest("pi", "", None), shelf.newest("pi", "", None)) == (None, third)
    other.close()


def test_sqlite_answers_again_without_being_asked(store, lab):
    shelf = TableShelf(store)
    table = put_table(store, lab, "run-1")
    shelf.newest("pi", "nas-bench-201", None)
    assert shelf.find_newest("pi", "nas-bench-201", None) == table
    assert shelf.find_newest("pi", "", None) is None


def test_bytes_are_kept_up_to_a_limit_plain_and_compressed(store, lab):
    table = put_table(store, lab, "run-1")
    content = store.tables.get_bytes(table)
    roomy, tight = TableShelf(store), TableShelf(store, kept_bytes=1)
    for shelf in (roomy, tight):
        assert gzip.decompress(shelf.get_bytes(table, compressed=True)) == content == shelf.get_bytes(table)
    assert gzip.decompress(roomy.find_bytes(table, compressed=True)) == content
    assert tight.find_bytes(table, compressed=True) is None
    assert tight.find_bytes(table) == content


def test_table_is_compressed_for_those_who_take_it(api, lab):
    table = lab.profile(api)["hash"]
    for path in (f"/v1/tables/{table}", "/v1/devices/pi/table"):
        plain = api.get(path, headers={"Accept-Encoding": "identity"})
        packed = api.get(path, headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        assert plain.content == packed.content
        assert packed.headers["vary"] == "Accept-Encoding"


def test_answer_from_memory_is_the_routes_own(api, lab):
    table = lab.profile(api)["hash"]
    for path in ("/v1/devices/pi/table", "/v1/devices/pi/table?space=nas-bench-201", "/v1/devices/pi/table?x=1"):
        for more in ({}, {"If-None-Match": f'"{table}"'}, {"If-None-Match": 'W/"x"'}, {"Accept-Encoding": "gzip"}):
            headers = {"Accept-Encoding": "identity", "X-Request-Id": "one", **more}
            api.get(path, role=None, headers=headers)
            quick = api.get(path, role=None, headers=headers)
            routed = api.get(path, role="read", headers=headers)
            status = 304 if table in headers.get("If-None-Match", "") else 200
            assert quick.status_code == routed.status_code == status
            assert quick.content == routed.content
            for answer in (quick, routed):
                del answer.headers["date"]
            assert sorted(quick.headers.raw) == sorted(routed.headers.raw)


def test_memory_is_asked_before_the_framework_and_counted_as_the_route(api, lab):
    lab.profile(api)
    for _ in range(3):
        assert api.get("/v1/devices/pi/table?space=nas-bench-201", role=None).status_code == 200
    counted = 'lutnas_requests_total{method="GET",route="/v1/devices/{name}/table",status="200"} 3.0'
    assert counted in api.get("/metrics").text


def test_a_wrong_token_is_refused_and_a_newer_table_is_served_though_one_is_in_memory(api, lab, tmp_path):
    first = lab.profile(api)["hash"]
    path = "/v1/devices/pi/table"
    assert {api.get(path, role=None).headers["etag"] for _ in range(3)} == {f'"{first}"'}
    assert api.get(path, token="lut_wrong").status_code == 401
    another = open_store(f"sqlite:///{tmp_path}/test.db", api.clock)
    second = put_table(another, lab, "run-2", canary_ms=3.0)
    another.close()
    assert second != first
    assert api.get(path, role=None, headers={"If-None-Match": f'"{first}"'}).headers["etag"] == f'"{second}"'


def test_closed_reads_are_closed_though_the_table_is_in_memory(start, lab):
    with start(reads="closed") as api:
        lab.profile(api)
        for _ in range(2):
            assert api.get("/v1/devices/pi/table").status_code == 200
            assert api.get("/v1/devices/pi/table", role=None).status_code == 401
