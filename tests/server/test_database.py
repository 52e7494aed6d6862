"""Migrations, SQLite's modes, and many threads at once."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from lut_server.campaigns import finish_run
from lut_server.database import Database
from lut_server.schema import metadata
from lut_server.sql import open_store
from lut_server.table_builder import build_table
from shared.errors import Conflict, InvalidValue, LutnasError, SchemaTooNew


def test_migrations_end_at_the_schema_that_the_code_uses(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/a.db")
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert database.revision() == "0002"
    database.close()


def test_sqlite_runs_in_wal_mode_with_foreign_keys(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/a.db")
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
    database.close()


def test_opening_again_keeps_everything(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    first = open_store(url)
    device, is_new = first.devices.register("pi", {"cpu": "x"})
    first.close()
    second = open_store(url)
    assert is_new
    assert second.devices.list() == (device,)
    second.close()


def test_database_of_a_newer_lutnas_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "a.db"
    open_store(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    connection.close()
    with pytest.raises(SchemaTooNew, match="has schema 99, this lutnas reads up to 2; upgrade lutnas"):
        open_store(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0099",)]
    connection.close()


def test_file_that_is_no_database_is_refused_in_one_line(tmp_path):
    path = tmp_path / "a.db"
    path.write_text("a kettle is no database, however long it has been boiling on the stove " * 20)
    with pytest.raises(LutnasError, match=r"cannot open the database sqlite:///.*a\.db: file is not a database"):
        open_store(f"sqlite:///{path}")
    with pytest.raises(LutnasError, match="unable to open database file"):
        open_store(f"sqlite:///{tmp_path}/nowhere/a.db")


@pytest.mark.parametrize("url", ["", "kettle", "sqlite://", "sqlite:///:memory:", "kettle://x/y"])
def test_url_that_names_no_database_file_is_wrong_use(url):
    with pytest.raises(InvalidValue, match="database_url"):
        open_store(url)


def test_servers_that_start_at_once_migrate_once(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    with ThreadPoolExecutor(4) as pool:
        for store in pool.map(lambda _: open_store(url), range(4)):
            assert store.revision() == "0002"
            store.close()


def test_writers_wait_for_one_another_and_nothing_is_lost(store, lab):
    store.devices.register("pi", {})
    store.runs.put(lab.run())
    measurements = lab.measure_all()
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda one: store.runs.add_measurements("run-1", [one]), measurements * 2):
            pass
    assert {one.id for one in store.runs.measurements("run-1")} == {one.id for one in measurements}
    assert store.runs.get("run-1").measurements == len(measurements)


def test_one_job_is_leased_to_one_of_many_askers(store, lab):
    store.devices.register("pi", {})
    job = store.jobs.add(lab.verify_job({"hash": "0" * 64}))
    with ThreadPoolExecutor(8) as pool:
        leased = list(pool.map(lambda n: store.jobs.lease("pi", f"agent-{n}", 60), range(16)))
    assert [one.id for one in leased if one is not None] == [job.id]


def test_failed_transaction_leaves_nothing(store, lab):
    store.devices.register("pi", {})
    store.runs.put(lab.run())
    first, second = lab.measure_all()[:2]
    store.runs.add_measurements("run-1", [first])
    clash = lab.measure(lab.plan.tasks[0], ms=9.0)
    with pytest.raises(Conflict):
        store.runs.add_measurements("run-1", [second, clash])
    assert store.runs.measurements("run-1") == (first,)


def test_table_in_another_unit_than_the_devices_is_refused_and_calibrated_again_in_that_unit(store, lab):
    store.devices.register("pi", {})
    for run_id in ("run-1", "run-2"):
        store.runs.put(lab.run(run_id))
        store.runs.add_measurements(run_id, lab.measure_all(canary_ms=2.0 if run_id == "run-1" else 2.5))
    stale = build_table(lab.run("run-2"), lab.plan, store.runs.measurements("run-2"), 2.5)
    finish_run(store, lab.run("run-1"), lab.plan)
    with pytest.raises(Conflict, match="another run of pi has set the canary's nominal time"):
        store.runs.finish("run-2", stale)
    assert not store.runs.get("run-2").finished
    assert [one.canary_nominal_ms for one in store.tables.list()] == [2.0]
    assert finish_run(store, lab.run("run-2"), lab.plan).canary_nominal_ms == 2.0


def test_uploaded_values_come_back_equal(store, lab):
    store.devices.register("pi", {})
    assert store.runs.put(lab.run())
    assert not store.runs.put(lab.run())
    store.runs.add_measurements("run-1", lab.measure_all())
    assert store.runs.get("run-1").run == lab.run()
    assert store.runs.measurements("run-1") == tuple(lab.measure_all())
