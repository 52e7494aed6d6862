"""A whole store as a file: the same bytes from every database, and loaded whole or not at all."""

import base64
import dataclasses
import gzip
import hashlib
import json
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lut_server.calibration.table_builder import build_table
from lut_server.cli import main
from lut_server.store import schema
from lut_server.store.sql import open_store
from lut_server.store.sql.archive import KINDS, LEFT_OUT
from lut_server.store.values import ArchiveRecord
from lut_server.transfer.archive import archive_lines, compressed, load_archive
from shared.errors import Conflict, CorruptFile, OtherSchema
from shared.jobs import JobResult
from shared.wire import canonical_json

OWN = "own/0123456789abcdef/r8/i1/k10/2.3"


@pytest.fixture
def full(store, lab):
    """A store with everything in it."""
    store.devices.register("pi", {"cpu": "a kettle ☕"})
    store.devices.register("pear", {})
    store.runs.put(lab.run())
    store.runs.add_measurements("run-1", lab.measure_all())
    table = store.runs.finish("run-1", build_table(lab.run(), lab.plan, lab.measure_all(), 2.0))
    store.runs.put(lab.run("run-2"))
    store.runs.add_measurements("run-2", [lab.measure(lab.plan.tasks[0])])
    graph = lab.plan.graphs()[1]
    store.kernels.put("pi", str(lab.runtime), {graph: {"Relu/1x2x2x2/1x2x2x2": 3}})
    store.models.put(hashlib.sha256(b"\x00model\xff").hexdigest(), b"\x00model\xff")
    own = f"network:{OWN}:0.1"
    store.models.put_network(own, hashlib.sha256(b"\x00model\xff").hexdigest())
    job = store.jobs.add(lab.verify_job({"hash": table.hash}))
    store.jobs.lease("pi", "agent-7", 60)
    store.jobs.add(lab.verify_job({"hash": table.hash}))
    store.jobs.complete(job.id, JobResult(error="it fell"), None)
    store.searches.put(lab.search_result(table.hash))
    return store


@pytest.fixture
def fresh(tmp_path, clock):
    """Opens an empty store at a later moment."""
    opened = []

    def open_():
        clock.advance(1000)
        opened.append(open_store(f"sqlite:///{tmp_path}/fresh-{len(opened)}.db", clock))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


def written(store):
    return b"".join(archive_lines(store))


def load(store, content, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    with path.open("rb") as file:
        return load_archive(store, file, path.name)


def resigned(lines):
    """The archive of these lines (header and records), with counts and hash that fit."""
    counts = {}
    for line in lines[1:]:
        kind = json.loads(line)["kind"]
        counts[kind] = counts.get(kind, 0) + 1
    end = {"kind": "end", "counts": counts, "sha256": hashlib.sha256(b"".join(lines)).hexdigest()}
    return b"".join(lines) + canonical_json(end) + b"\n"


def test_every_table_of_the_database_is_in_the_archive_or_left_out_on_purpose():
    assert {kind.table.name for kind in KINDS} | set(LEFT_OUT) == set(schema.metadata.tables)


def test_export_import_export_gives_the_same_bytes_and_every_value_back(full, fresh, tmp_path):
    content = written(full)
    other = fresh()
    loaded = load(other, content, tmp_path)
    assert min(loaded.stored.values()) > 0
    assert set(loaded.known.values()) == {0}
    assert written(other) == content
    assert other.runs.measurements("run-1") == full.runs.measurements("run-1")
    assert other.jobs.list() == full.jobs.list()
    table = full.tables.list()[0].hash
    assert other.tables.get_bytes(table) == full.tables.get_bytes(table)
    sha256 = hashlib.sha256(b"\x00model\xff").hexdigest()
    assert other.models.get(sha256) == b"\x00model\xff"
    assert b"secret" not in content


def test_gzip_says_the_same_and_has_no_time_in_it(full, fresh, tmp_path):
    packed = b"".join(compressed(archive_lines(full)))
    assert packed[4:8] == b"\0\0\0\0"
    assert gzip.decompress(packed) == written(full)
    other = fresh()
    load(other, packed, tmp_path)
    assert b"".join(compressed(archive_lines(other))) == packed


def test_archive_of_sqlite_goes_into_either_store_and_comes_out_the_same(full, any_store, clock, tmp_path):
    content = written(full)
    clock.advance(1000)
    load(any_store, content, tmp_path)
    assert written(any_store) == content
    assert set(load(any_store, content, tmp_path).stored.values()) == {0}
    with pytest.raises(CorruptFile):
        load(any_store, content[:-5], tmp_path)


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)


@given(
    probes=st.dictionaries(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True), st.dictionaries(TEXT, TEXT)
    ),
    models=st.sets(st.binary(max_size=200)),
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_stored_comes_back_byte_for_byte(tmp_path_factory, probes, models):
    folder = tmp_path_factory.mktemp("any")
    stores = [open_store(f"sqlite:///{folder}/{name}.db") for name in ("one", "other")]
    for name, probe in probes.items():
        stores[0].devices.register(name, probe)
    for model in models:
        stores[0].models.put(hashlib.sha256(model).hexdigest(), model)
    content = written(stores[0])
    load(stores[1], content, folder)
    assert written(stores[1]) == content
    for store in stores:
        store.close()


def test_text_that_is_not_canonical_json_comes_back_as_it_was(full, fresh, tmp_path):
    with full.database.write() as connection:
        connection.execute(schema.devices.update().values(probe='{"b" : "1",  "a": "2"}'))
    content = written(full)
    other = fresh()
    load(other, content, tmp_path)
    assert written(other) == content


def test_same_archive_again_changes_nothing_though_the_device_was_heard_of_meanwhile(full, clock, tmp_path):
    content = written(full)
    clock.advance(60)
    full.devices.register("pi", {"cpu": "another"})
    before = written(full)
    loaded = load(full, content, tmp_path)
    assert set(loaded.stored.values()) == {0}
    assert written(full) == before


def test_other_content_under_a_known_name_is_refused_by_name_and_nothing_is_stored(full, fresh, lab, tmp_path):
    other = fresh()
    other.devices.register("pi", {})
    other.runs.put(lab.run(agent_version="9"))
    before = written(other)
    with pytest.raises(Conflict, match="run run-1 is here already with another content"):
        load(other, written(full), tmp_path)
    assert written(other) == before


def test_new_measurement_for_a_run_that_is_finished_here_is_refused(full, fresh, tmp_path):
    other = fresh()
    load(other, written(full), tmp_path)
    with other.database.write() as connection:
        connection.execute(schema.measurements.delete().where(schema.measurements.c.id == "marginal-0"))
    with pytest.raises(Conflict, match="run run-1 is finished here, and without the measurement marginal-0"):
        load(other, written(full), tmp_path)


def test_archive_cut_off_anywhere_imports_nothing(full, fresh, tmp_path):
    content, other = written(full), fresh()
    empty = written(other)
    line_ends = [index + 1 for index, byte in enumerate(content) if byte == 10][:-1]
    for end in (0, 1, *line_ends[:: max(1, len(line_ends) // 12)], *range(7, len(content), len(content) // 12)):
        with pytest.raises(CorruptFile, match=r"in.jsonl, line \d+: "):
            load(other, content[:end], tmp_path)
    packed = b"".join(compressed([content]))
    for end in (1, 5, len(packed) // 2, len(packed) - 1):
        with pytest.raises(CorruptFile):
            load(other, packed[:end], tmp_path)
    assert written(other) == empty


def test_every_altered_byte_is_found_and_nothing_is_imported(full, fresh, tmp_path):
    content, other = written(full), fresh()
    empty = written(other)
    for place in range(3, len(content), len(content) // 40):
        altered = bytearray(content)
        altered[place] ^= 1
        with pytest.raises((CorruptFile, OtherSchema)):
            load(other, bytes(altered), tmp_path)
    assert written(other) == empty


def changed(line, **fields):
    data = json.loads(line) | fields
    return canonical_json({key: value for key, value in data.items() if value != "GONE"}) + b"\n"


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("device", {"name": "a/b"}, "device: 'a/b' is not a name"),
        ("device", {"name": 5}, "cannot be 5"),
        ("device", {"probe": [1]}, "probe"),
        ("device", {"taste": "sweet"}, "has an unknown field 'taste'"),
        ("device", {"name": "GONE"}, "has no 'name'"),
        ("device", {"kind": "fruit"}, "'fruit' is none of"),
        ("table", {"hash": "0" * 64}, "is not the hash"),
        ("table", {"device": "pear"}, "says pear, its content pi"),
        ("run", {"device": "pear"}, "says pear, its content pi"),
        ("run", {"content": "{"}, "is not JSON"),
        ("run", {"table_hash": "0" * 64}, "does not fit"),
        ("measurement", {"run": "run-9"}, "does not fit"),
        ("measurement", {"content": {}}, "is missing"),
        ("measurement", {"role": "kernel"}, "says kernel, its content"),
        ("measurement", {"content_hash": "GONE"}, "has no field 'content_hash'"),
        ("nominal", {"nominal_ms": -1.0}, "is not a time"),
        ("model", {"content": base64.b64encode(b"other").decode()}, "model: says"),
        ("model", {"content": "%%"}, "is not base64"),
        ("own-network", {"graph": "network:own/"}, "does not read own/HASH"),
        ("own-network", {"sha256": "0" * 64}, "does not fit"),
        ("job", {"state": None}, "cannot be null"),
        ("job", {"attempts": "many"}, 'cannot be "many"'),
        ("job", {"state": "asleep"}, "'asleep' is none of"),
        ("job", {"lease_until": "0000"}, "'0000' is no moment"),
        ("device", {"last_seen_at": "yesterday"}, "'yesterday' is no moment"),
        ("device", {"created_at": "2026-01-01T00:00:00"}, "is no moment"),
        ("run", {"raw_dropped_at": "9999-12-31T23:59:59-23:59"}, "is no moment"),
        ("table", {"held_out": {"x": 1}}, "another error or another canary"),
        ("table", {"canary_nominal_ms": 1e308}, "another error or another canary"),
        ("kernels", {"counts": {"Conv": 0}}, "0 times"),
    ],
)
def test_archive_whose_values_are_none_is_refused_though_its_hash_fits(full, fresh, tmp_path, kind, fields, words):
    *lines, _ = written(full).splitlines(keepends=True)
    place = next(index for index, line in enumerate(lines) if json.loads(line).get("kind") == kind)
    lines[place] = changed(lines[place], **fields)
    other = fresh()
    empty = written(other)
    with pytest.raises(CorruptFile, match=f"in.jsonl, line {place + 1}.*{words}"):
        load(other, resigned(lines), tmp_path)
    assert written(other) == empty


@pytest.mark.parametrize("place", [b'"base_ms":', b'"seconds":', b'"nominal_ms":', b'"kind":"device",'])
def test_number_beyond_every_float_is_refused_in_an_archive(full, fresh, tmp_path, place):
    *lines, _ = written(full).splitlines(keepends=True)
    lines = [
        line.replace(place, place + b'1e999,"x":' if place.endswith(b":") else place + b'"x":1e999,') for line in lines
    ]
    with pytest.raises(CorruptFile, match="is not JSON"):
        load(fresh(), resigned(lines), tmp_path)
    search = next(index for index, line in enumerate(lines) if json.loads(line).get("kind") == "search")
    *lines, _ = written(full).splitlines(keepends=True)
    text = json.dumps(json.loads(lines[search])["content"]).replace('"seconds": 12.0', '"seconds": 12.0, "x": 1e999')
    lines[search] = changed(lines[search], content=text)
    with pytest.raises(CorruptFile, match="is not JSON"):
        load(fresh(), resigned(lines), tmp_path)


def test_archive_of_another_lutnas_and_what_is_none_are_refused(full, fresh, tmp_path):
    header, *lines, _ = written(full).splitlines(keepends=True)
    written_by_others = (
        ("0007", "schema 0007"),
        ("9999", "schema 9999"),
        (7, "schema 7"),
        ("GONE", "no schema number"),
    )
    for found, words in written_by_others:
        with pytest.raises(OtherSchema, match=f"the archive has {words}, this lutnas reads schema 0012"):
            load(fresh(), resigned([changed(header, schema=found), *lines]), tmp_path)
    with pytest.raises(CorruptFile, match="no archive of lutnas"):
        load(fresh(), b'{"format": "zip"}\n', tmp_path)
    with pytest.raises(CorruptFile, match="goes on after its end"):
        load(fresh(), written(full) + b"{}\n", tmp_path)


def test_memory_does_not_grow_with_the_archive(store, lab):
    store.devices.register("pi", {})
    store.runs.put(lab.run())
    measurement = lab.measure(lab.plan.tasks[0], rounds=30)
    store.runs.add_measurements("run-1", [dataclasses.replace(measurement, id=f"m-{index}") for index in range(800)])
    tracemalloc.start()
    written_bytes = sum(len(line) for line in archive_lines(store))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert written_bytes > 1.5e6
    assert peak_bytes < written_bytes / 2


def test_command_writes_and_reads_an_archive(full, tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/store.db"
    files = [tmp_path / name for name in ("all.jsonl.gz", "all.jsonl")]
    for file in files:
        assert main(["export", "--all", str(file), "--database-url", url], environment={}) == 0
    assert gzip.decompress(files[0].read_bytes()) == files[1].read_bytes() == written(full)
    for file in files:
        other = f"sqlite:///{tmp_path}/{file.name}.db"
        assert main(["import", str(file), "--database-url", other], environment={}) == 0
        assert "measurement: " in capsys.readouterr().out
    files[1].write_bytes(files[1].read_bytes()[:-30])
    assert main(["import", str(files[1]), "--database-url", f"sqlite:///{tmp_path}/x.db"], environment={}) == 1
    assert "cut off" in capsys.readouterr().err
    for wrong in ([], ["--device", "pi", "--all", str(files[0])]):
        assert main(["export", *wrong, "--database-url", url], environment={}) == 2


def test_archive_over_http_is_for_administrators_and_goes_in_whole(api, lab, full, tmp_path):
    content = written(full)
    answer = api.post("/v1/archive", content=content)
    assert answer.status_code == 200, answer.text
    assert answer.json()["stored"]["measurement"] == len(lab.plan.tasks) + 1
    out = api.get("/v1/archive")
    assert gzip.decompress(out.content) == content
    cut = api.post("/v1/archive", content=content[:-40])
    assert (cut.status_code, cut.json()["error"]["code"]) == (422, "invalid")
    raw_gzip = api.post("/v1/archive", content=out.content)
    assert raw_gzip.status_code == 415
    assert api.post("/v1/archive", content=out.content, headers={"Content-Encoding": "gzip"}).status_code == 200
    assert api.get("/v1/archive", role="agent").status_code == 403


def test_run_that_an_agent_measured_goes_through_an_archive_unchanged(tmp_path, fresh, api):
    arguments = (
        f"profile --server {api.url} --token {api.token('admin')} --device here --space nas-bench-201 --resolution 8"
        " --channels 4 --cells-per-stage 1 --classes 3 --calibration 4 --held-out 2 --preset quick"
    )
    done = subprocess.run(
        [sys.executable, "-m", "profiler_agent.cli", *arguments.split(), "--spool", str(tmp_path / "spool")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    content, other = written(api.store), fresh()
    load(other, content, tmp_path)
    assert written(other) == content
    run = other.runs.list()[0]
    assert run.table == api.store.runs.list()[0].table
    assert other.runs.measurements(run.run.id) == api.store.runs.measurements(run.run.id)


def test_records_that_name_a_kind_out_of_turn_do_not_fit(fresh):
    other = fresh()
    with pytest.raises(CorruptFile):
        other.archive.load([ArchiveRecord("measurement", {"run": "x", "id": "y", "content_hash": "", "content": "{}"})])
