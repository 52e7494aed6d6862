"""A table is served from memory, and never an old one as the newest."""

import gzip

from lut_server.campaigns import finish_run
from lut_server.sql import open_store
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
