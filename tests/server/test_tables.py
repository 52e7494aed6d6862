"""A table is served as it was stored, and never an old one as the newest."""

from lut_server.runs.finish_run import finish_run
from lut_server.store.sql import open_store


def put_table(store, lab, run_id, canary_ms=2.0):
    store.devices.register("pi", {})
    store.runs.put(lab.run(run_id))
    store.runs.add_measurements(run_id, lab.measure_all(canary_ms=canary_ms))
    return finish_run(store, lab.run(run_id), lab.plan).hash


def test_newest_table_is_the_newest_whoever_stored_it(any_url, any_store, lab):
    other = open_store(any_url)
    found = [put_table(any_store, lab, "run-1"), any_store.tables.find("pi").hash]
    found += [put_table(other, lab, "run-2"), any_store.tables.find("pi").hash]
    found += [put_table(any_store, lab, "run-3"), any_store.tables.find("pi").hash]
    other.close()
    assert found[::2] == found[1::2]
    assert len(set(found)) == 3


def test_table_is_compressed_for_those_who_take_it(api, lab):
    table = lab.profile(api)["hash"]
    for path in (f"/v1/tables/{table}", "/v1/devices/pi/table"):
        plain = api.get(path, headers={"Accept-Encoding": "identity"})
        packed = api.get(path, headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        assert plain.content == packed.content
        assert packed.headers["vary"] == "Accept-Encoding"


def test_table_that_the_client_has_is_not_sent_again(api, lab):
    table = lab.profile(api)["hash"]
    for path in ("/v1/devices/pi/table", "/v1/devices/pi/table?space=nas-bench-201", f"/v1/tables/{table}"):
        for named in (f'"{table}"', f'W/"{table}"', f'"x", "{table}"', "*"):
            unchanged = api.get(path, role=None, headers={"If-None-Match": named})
            assert (unchanged.status_code, unchanged.content) == (304, b"")
            assert unchanged.headers["etag"] == f'"{table}"'
        changed = api.get(path, role=None, headers={"If-None-Match": 'W/"x"'})
        assert (changed.status_code, changed.headers["etag"]) == (200, f'"{table}"')


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
