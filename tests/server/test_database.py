"""Migrations, SQLite's modes, and many threads at once."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from threading import Timer

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from lut_server.store.database import Database
from lut_server.store.schema import metadata
from lut_server.store.sql import open_store
from shared.errors import InvalidValue, LutnasError, OtherSchema


def test_migration_makes_the_tables_that_the_code_uses(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/a.db")
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert database.revision() == "0012"
    database.close()


def test_sqlite_runs_in_wal_mode_with_foreign_keys(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/a.db")
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 10_000
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


@pytest.mark.parametrize("found", ["0001", "0002", "0003", "0004", "0005", "0006", "0007", "0099", "kettle"])
def test_database_of_another_lutnas_is_refused_and_left_alone(tmp_path, found):
    path = tmp_path / "a.db"
    open_store(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [found])
    connection.close()
    before = path.read_bytes()
    with pytest.raises(OtherSchema, match=f"a.db has schema {found}, this lutnas reads schema 0012: make it anew"):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes() == before


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


def test_a_new_file_that_another_server_is_about_to_write_is_waited_for(tmp_path):
    """Two servers that start at once: SQLite's own timeout does not count while the journal's mode is changed."""
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE first (x)")
    other.execute("BEGIN IMMEDIATE")
    done = Timer(0.3, other.execute, ["ROLLBACK"])
    done.start()
    open_store(f"sqlite:///{tmp_path}/a.db").close()
    done.join()
    other.close()


def test_servers_that_start_at_once_migrate_once(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    with ThreadPoolExecutor(4) as pool:
        for store in pool.map(lambda _: open_store(url), range(4)):
            assert store.database.revision() == "0012"
            store.close()


def test_new_databases_of_one_process_are_made_at_once(tmp_path):
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda number: open_store(f"sqlite:///{tmp_path}/{number}.db"), range(12)))
    assert all(store.tables.list() == () for store in stores)
    for store in stores:
        store.close()
