"""What an operator meets: full disks, locks, a database that goes away, backups, old values, and
kill -9."""

import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace

import httpx
import pytest
from sqlalchemy import event

from lut_server.app import create_app
from lut_server.auth import create_token
from lut_server.cli import main
from lut_server.runs.finish_run import finish_run
from lut_server.settings import Settings
from lut_server.store.sql import open_store
from shared.errors import LutnasError
from shared.wire import to_wire


@pytest.fixture
def run(any_url, capsys):
    """Run a command on the database: exit code, stdout, stderr."""

    def run(*arguments):
        code = main([*arguments, "--database-url", any_url], {})
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def profiled(any_store, lab):
    """A store with a finished run of many repeats."""
    any_store.devices.register("pi", {})
    any_store.runs.put(lab.run())
    any_store.runs.add_measurements("run-1", lab.measure_all())
    finish_run(any_store, lab.run(), lab.plan)
    return any_store


def check_unavailable(answer, words):
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"] == "2"
    error = answer.json()["error"]
    assert error["code"] == "unavailable"
    assert re.search(words, error["message"]), error["message"]


# --- outages --------------------------------------------------------------------------------------


def test_writer_that_holds_the_database_makes_others_wait_and_then_be_told(tmp_path, serve_app, lab):
    url = f"sqlite:///{tmp_path}/a.db"
    store = open_store(url, busy_timeout_s=0.2)
    with serve_app(create_app(Settings(database_url=url), store=store)) as base, httpx.Client(base_url=base) as http:
        token = {"Authorization": f"Bearer {create_token(store.tokens, 'agent')}"}
        assert http.get("/readyz").status_code == 200
        device = {"name": "pi", "probe": {}}
        with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            check_unavailable(http.post("/v1/devices", json=device, headers=token), "another writer holds the database")
            check_unavailable(http.get("/readyz"), "another writer")
            assert http.get("/v1/devices").json() == {"devices": []}
            other.execute("ROLLBACK")
        assert http.post("/v1/devices", json=device, headers=token).status_code == 201


def test_full_disk_is_told_stores_nothing_and_is_over_when_there_is_room(tmp_path, serve_app, lab):
    url = f"sqlite:///{tmp_path}/a.db"
    store = open_store(url)
    store.devices.register("pi", {})
    store.runs.put(lab.run())
    pages = []

    def limit(connection, *_):
        connection.execute(f"PRAGMA max_page_count = {pages[-1]}").close()

    with closing(sqlite3.connect(tmp_path / "a.db")) as here:
        pages.append(here.execute("PRAGMA page_count").fetchone()[0])
    event.listen(store.database.engine, "checkout", limit)
    with serve_app(create_app(Settings(database_url=url), store=store)) as base, httpx.Client(base_url=base) as http:
        check_unavailable(http.get("/readyz"), "disk of the database is full")
        token = {"Authorization": f"Bearer {create_token(store.tokens, 'agent')}"}
        batch = {"measurements": to_wire(lab.measure_all(rounds=40))}
        refused = http.post("/v1/runs/run-1/measurements", json=batch, headers=token)
        check_unavailable(refused, "disk of the database is full")
        assert http.get("/v1/runs/run-1").json()["measurements"] == 0
        pages.append(1 << 30)
        assert http.get("/readyz").status_code == 200
        assert http.post("/v1/runs/run-1/measurements", json=batch, headers=token).status_code == 200


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.parametrize("takes", ["deleted", "replaced"])
def test_nothing_is_acknowledged_once_a_file_of_the_database_is_another(tmp_path, serve_app, lab, takes, end):
    path = tmp_path / "a.db"
    store = open_store(f"sqlite:///{path}")
    store.devices.register("pi", {})
    store.runs.put(lab.run())
    token = {"Authorization": f"Bearer {create_token(store.tokens, 'agent')}"}
    batch = {"measurements": to_wire(lab.measure_all())}
    settings = Settings(database_url=f"sqlite:///{path}")
    with serve_app(create_app(settings, store=store)) as base, httpx.Client(base_url=base, headers=token) as http:
        assert http.post("/v1/runs/run-1/measurements", json=batch).status_code == 200
        file = path.with_name(path.name + end)
        if takes == "replaced":
            shutil.copy(file, tmp_path / "copy")
            (tmp_path / "copy").replace(file)
        else:
            file.unlink()
        check_unavailable(http.post("/v1/runs/run-1/measurements", json=batch), "deleted or replaced")
        check_unavailable(http.get("/readyz"), "deleted or replaced .* restart the server")
        assert http.get("/healthz").status_code == 200


def test_database_whose_connections_were_all_closed_is_still_the_same(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/a.db")
    store.devices.register("pi", {})
    store.close()  # SQLite deletes the log with its last connection, and makes another
    store.devices.register("phone", {})
    assert [device.name for device in store.devices.list()] == ["pi", "phone"]
    store.close()


def test_database_behind_a_symbolic_link_is_served_backed_up_restored_and_watched(tmp_path, capsys):
    link, backup = tmp_path / "link.db", tmp_path / "backup.db"
    (tmp_path / "disk").mkdir()
    link.symlink_to("disk/real.db")
    url = f"sqlite:///{link}"
    store = open_store(url)
    store.devices.register("pi", {})
    assert main(["backup", str(backup), "--database-url", url], {}) == 0
    store.devices.register("later", {})
    store.close()
    assert main(["restore", str(backup), "--force", "--database-url", url], {}) == 0
    assert capsys.readouterr().err == ""
    assert link.is_symlink()
    assert [device.name for device in store.devices.list()] == ["pi"]
    store.devices.register("phone", {})
    link.unlink()
    shutil.copy(backup, tmp_path / "other.db")
    link.symlink_to("other.db")
    with pytest.raises(LutnasError, match="deleted or replaced"):
        store.devices.register("lost", {})
    store.close()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting a small disk needs root")
def test_small_disk_that_fills_up_is_told_by_readyz(tmp_path, serve_app):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a disk")
    try:
        url = f"sqlite:///{disk}/a.db"
        with serve_app(create_app(Settings(database_url=url))) as base:
            assert httpx.get(f"{base}/readyz").status_code == 200
            (disk / "filler").write_bytes(bytes(12 << 20))
            check_unavailable(httpx.get(f"{base}/readyz"), "disk of the database is full: .* MiB are left")
            (disk / "filler").unlink()
            assert httpx.get(f"{base}/readyz").status_code == 200
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_another_schema_than_the_servers_is_told_by_readyz(any_store, serve_app):
    with serve_app(create_app(Settings(), store=any_store)) as base:
        for found in ("0007", "0999"):
            set_revision(any_store.database, found)
            check_unavailable(httpx.get(f"{base}/readyz"), f"has schema {found}, this server needs 0012")
        set_revision(any_store.database, "0012")
        assert httpx.get(f"{base}/readyz").json() == {"status": "ready", "schema": "0012"}


@pytest.mark.parametrize("found", ["0001", "0007", "0999"])
def test_database_of_another_lutnas_ends_every_command_in_a_line(run, profiled, any_store, found):
    set_revision(any_store.database, found)
    any_store.close()
    for words in (("migrate",), ("devices",), ("jobs", "list"), ("token", "list")):
        code, out, err = run(*words)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert f"has schema {found}, this lutnas reads schema 0012: make it anew" in err


def set_revision(database, revision):
    with database.write() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")


def test_postgresql_that_goes_away_is_told_and_needs_no_restart_when_it_is_back(postgres, postgres_url, serve_app):
    store = open_store(postgres_url)
    token = {"Authorization": f"Bearer {create_token(store.tokens, 'agent')}"}
    device = {"name": "pi", "probe": {}}
    with (
        serve_app(create_app(Settings(), store=store)) as base,
        httpx.Client(base_url=base, timeout=30, headers=token) as http,
    ):
        assert http.post("/v1/devices", json=device).status_code == 201
        postgres.stop()
        try:
            for answer in (http.get("/readyz"), http.get("/v1/devices"), http.post("/v1/devices", json=device)):
                check_unavailable(answer, "does not answer")
            assert http.get("/healthz").status_code == 200
        finally:
            postgres.start()
        assert http.get("/readyz").status_code == 200
        assert http.post("/v1/devices", json=device).status_code == 200


def test_postgresql_that_is_not_there_is_one_line(postgres):
    with pytest.raises(LutnasError, match=r"cannot open the database postgresql.*:1/x: connection failed") as caught:
        open_store("postgresql+psycopg://lutnas:secret@127.0.0.1:1/x")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


# --- jobs, vacuum, backup -------------------------------------------------------------------------


def test_jobs_are_listed_with_what_keeps_them_cancelled_and_queued_again(run, profiled, lab):
    job = profiled.jobs.add(lab.verify_job({"hash": "0" * 64}))
    listed = run("jobs", "list", "--device", "pi", "--state", "queued")[1]
    assert job.id in listed
    assert "no agent has asked for work of 'pi' yet" in listed
    assert run("jobs", "cancel", job.id) == (0, f"job {job.id} is cancelled\n", "")
    assert run("jobs", "requeue", job.id) == (0, f"job {job.id} is queued again\n", "")
    code, out, err = run("jobs", "requeue", job.id)
    assert (code, out, err.count("\n")) == (1, "", 1)


def test_vacuum_drops_repeats_and_changes_no_statistic_and_no_table(run, any_store, lab):
    repeats = [measurement.without_raw() for measurement in lab.measure_all()]  # one value a round
    any_store.devices.register("pi", {})
    any_store.runs.put(lab.run())
    many = [widened(measurement) for measurement in lab.measure_all()]
    any_store.runs.add_measurements("run-1", many)
    table = finish_run(any_store, lab.run(), lab.plan)
    assert "of 0 finished runs" in run("vacuum", "--keep-days", "100000")[1]
    assert f"{len(many)} measurements of 1 finished runs" in run("vacuum", "--keep-days", "0")[1]
    kept = any_store.runs.measurements("run-1")
    assert [measurement.estimate() for measurement in kept] == [measurement.estimate() for measurement in many]
    assert [measurement.raw_ms() for measurement in kept] == [measurement.raw_ms() for measurement in many]
    assert sum(len(round_.graph_ms) for m in kept for round_ in m.rounds) == sum(len(m.rounds) for m in repeats)
    assert any_store.runs.get("run-1").raw_dropped_at is not None
    assert any_store.runs.add_measurements("run-1", many).known == len(many)
    assert finish_run(any_store, lab.run(), lab.plan) == table
    assert "of 0 finished runs" in run("vacuum", "--keep-days", "0")[1]


def widened(measurement):
    def repeat(values):
        return tuple(value * factor for value in values for factor in (1.3, 1.0, 1.1))

    rounds = [
        replace(
            round_,
            graph_ms=repeat(round_.graph_ms),
            canary_ms=repeat(round_.canary_ms),
            minus_ms=repeat(round_.minus_ms),
        )
        for round_ in measurement.rounds
    ]
    return replace(measurement, rounds=tuple(rounds))


@pytest.mark.parametrize("any_url", ["sqlite"], indirect=True)
def test_backup_of_a_database_in_use_is_whole_and_is_restored(run, profiled, lab, any_url, tmp_path):
    backup, stop = tmp_path / "backup.db", threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            profiled.devices.register(f"pi-{n}", {})
            n += 1

    writer = threading.Thread(target=write)
    writer.start()
    code, _, err = run("backup", str(backup))
    stop.set()
    writer.join()
    assert (code, err) == (0, "")
    devices, table = len(profiled.devices.list()), profiled.tables.list()
    code, _, err = run("restore", str(backup))
    assert (code, err.count("\n")) == (2, 1)
    assert "--force" in err
    profiled.close()
    assert run("restore", str(backup), "--force")[0] == 0
    assert 1 <= len(profiled.devices.list()) <= devices
    assert profiled.tables.list() == table
    with closing(sqlite3.connect(backup)) as other, other:
        other.execute("UPDATE alembic_version SET version_num = '0007'")
    profiled.close()
    code, _, err = run("restore", str(backup), "--force")
    assert (code, err.count("\n")) == (1, 1)
    assert f"the backup {backup} has schema 0007, this lutnas reads schema 0012" in err
    backup.write_bytes(backup.read_bytes()[:9000])
    profiled.close()
    code, _, err = run("restore", str(backup), "--force")
    assert (code, err.count("\n")) == (1, 1)
    assert profiled.tables.list() == table


@pytest.fixture
def backup(run, profiled, tmp_path):
    path = tmp_path / "backup.db"
    assert run("backup", str(path))[0] == 0
    profiled.close()
    return path


@pytest.mark.parametrize("any_url", ["sqlite"], indirect=True)
def test_database_is_not_copied_over_itself_and_a_backup_may_have_any_name(run, profiled, any_url, tmp_path):
    database = any_url.removeprefix("sqlite:///")
    for command in (("backup", database), ("restore", database, "--force")):
        code, _, err = run(*command)
        assert (code, err.count("\n"), "is both what is copied and where" in err) == (2, 1, True)
    profiled.devices.register("later", {})  # the file is still the one that is open
    assert run("backup", str(tmp_path / "a?mode=rw#%41.db"))[0] == 0
    profiled.close()
    assert run("restore", str(tmp_path / "a?mode=rw#%41.db"), "--force")[0] == 0
    assert profiled.devices.get("later")


@pytest.mark.parametrize("any_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("damage", [b"", b"no database " * 2000, None])
def test_damaged_database_is_replaced_by_a_backup_and_its_log_is_not_replayed(run, profiled, backup, tmp_path, damage):
    path = profiled.database.path
    with closing(sqlite3.connect(path)) as other, other:
        other.execute('UPDATE devices SET probe = \'{"changed": "yes"}\'')
        shutil.copy(f"{path}-wal", tmp_path / "log")
    path.write_bytes(path.read_bytes()[:9000] if damage is None else damage)
    shutil.copy(tmp_path / "log", f"{path}-wal")
    code, _, err = run("restore", str(backup), "--force")
    assert (code, err) == (0, "")
    assert profiled.devices.get("pi").probe == {}
    assert len(profiled.tables.list()) == 1


@pytest.mark.parametrize("any_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("damaged", [False, True])
def test_database_that_a_server_has_open_is_not_replaced(run, profiled, backup, any_url, damaged):
    path = profiled.database.path
    serve = [sys.executable, "-m", "lut_server.cli", "serve", "--port", "0", "--database-url", any_url]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        base = process.stdout.readline().split()[-1]
        assert httpx.get(f"{base}/readyz").status_code == 200
        if damaged:
            path.write_bytes(b"no database")
        before = path.read_bytes()
        code, _, err = run("restore", str(backup), "--force")
        process.terminate()
    assert (code, err.count("\n")) == (1, 1)
    assert "stop the server first" in err
    assert path.read_bytes() == before or not damaged


@pytest.mark.parametrize("any_url", ["sqlite"], indirect=True)
def test_database_of_something_else_at_the_right_revision_is_no_backup(run, profiled, backup, tmp_path):
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as other, other:
        other.execute("CREATE TABLE alembic_version (version_num TEXT)")
        other.execute("INSERT INTO alembic_version VALUES ('0012')")
    code, _, err = run("restore", str(foreign), "--force")
    assert (code, err.count("\n")) == (1, 1)
    assert "is no backup of lut-server: its table devices lacks created_at" in err
    assert len(profiled.tables.list()) == 1


@pytest.mark.parametrize("any_url", ["sqlite"], indirect=True)
def test_database_and_backup_are_for_their_owner_alone(profiled, backup):
    profiled.devices.register("other", {})
    path = profiled.database.path
    for file in (path, backup, path.with_name(f"{path.name}-wal")):
        assert file.stat().st_mode & 0o777 == 0o600, file


@pytest.mark.parametrize("any_url", ["sqlite"], indirect=True)
def test_backup_by_a_wrong_path_leaves_the_good_backup_and_makes_no_database(profiled, backup, tmp_path, capsys):
    before, wrong = backup.read_bytes(), tmp_path / "wrong.db"
    assert main(["backup", str(backup), "--database-url", f"sqlite:///{wrong}"], {}) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"lut-server: there is no database {wrong}; name the server's with --database-url"
    ]
    assert backup.read_bytes() == before
    assert list(tmp_path.glob("wrong*")) == []


@pytest.mark.parametrize(
    "words",
    [
        "devices",
        "profile --all-missing",
        "table show --device pi",
        "table list",
        "predict --device pi",
        "export --all ALL",
        "jobs list",
        "jobs cancel ID",
        "jobs requeue ID",
        "vacuum --keep-days 0",
        "token list",
        "token revoke ID",
        "pair --list",
        "pair --revoke pi",
    ],
)
def test_what_needs_a_database_makes_none(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words.split(), {}) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"there is no database {tmp_path}/lutnas.db" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("any_url", ["postgresql"], indirect=True)
def test_backup_of_postgresql_names_the_tools_for_it(run, any_url, tmp_path):
    code, _, err = run("backup", str(tmp_path / "x"))
    assert code == 2
    assert "pg_dump" in err
    assert "export --all" in err


# --- kill -9 --------------------------------------------------------------------------------------


def test_killed_server_has_every_acknowledged_measurement_once(any_url, any_store, lab):
    any_store.devices.register("pi", {})
    any_store.runs.put(lab.run())
    token = {"Authorization": f"Bearer {create_token(any_store.tokens, 'agent')}"}
    waiting, acknowledged, rng = lab.measure_all(), set(), random.Random(1)
    for _ in range(3):
        serve = [sys.executable, "-m", "lut_server.cli", "serve", "--port", "0", "--database-url", any_url]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            base = process.stdout.readline().split()[-1]
            killer = threading.Timer(rng.uniform(0.05, 0.3), process.send_signal, [signal.SIGKILL])
            try:
                for measurement in waiting * 50:
                    batch = {"measurements": [to_wire(measurement)]}
                    httpx.post(f"{base}/v1/runs/run-1/measurements", json=batch, headers=token).raise_for_status()
                    acknowledged.add(measurement.id)
                    if killer.ident is None:
                        killer.start()
            except httpx.TransportError:
                pass
            finally:
                process.kill()
    found = [measurement.id for measurement in any_store.runs.measurements("run-1")]
    assert acknowledged
    assert acknowledged <= set(found)
    assert len(found) == len(set(found))
    if any_store.database.is_sqlite:
        with any_store.database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
