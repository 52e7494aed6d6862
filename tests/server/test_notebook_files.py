"""CSV and Parquet say the same as the table and its runs, value for value."""

import csv
import io
import json
import subprocess
import sys

import pyarrow.parquet
import pytest

from lut_server.calibration.table_builder import build_table
from lut_server.cli import main
from lut_server.store.sql import open_store
from shared.tables.table import read_table


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/t.db"


@pytest.fixture
def table(url, lab):
    store = open_store(url)
    store.devices.register("pi", {})
    store.runs.put(lab.run())
    store.runs.add_measurements("run-1", lab.measure_all())
    table = build_table(lab.run(), lab.plan, lab.measure_all(), 2.0)
    store.runs.finish("run-1", table)
    store.close()
    return table


def export(url, *arguments):
    return main(["export", "--device", "pi", *arguments, "--database-url", url], environment={})


def parquet_of(url, path, what):
    assert export(url, "--format", "parquet", "--what", what, "--out", str(path)) == 0
    return pyarrow.parquet.read_table(path)


def test_prices_come_back_exactly_with_the_base_first(url, table, tmp_path):
    read = parquet_of(url, tmp_path / "p.parquet", "prices")
    rows = read.to_pylist()
    assert (rows[0]["op_key"], rows[0]["price_ms"], rows[0]["stable"]) == ("base", table.base_ms, None)
    assert [(row["op_key"], row["price_ms"], row["stable"]) for row in rows[1:]] == [
        (price.op_key, price.price_ms, price.stable) for price in table.prices
    ]
    about = {key.decode(): value.decode() for key, value in read.schema.metadata.items()}
    assert (about["device"], about["table"]) == ("pi", table.hash)


def test_networks_stand_measured_beside_predicted(url, table, tmp_path):
    rows = parquet_of(url, tmp_path / "n.parquet", "networks").to_pylist()
    assert [(row["genotype"], row["role"], row["measured_ms"], row["upper_ms"]) for row in rows] == [
        (network.genotype, network.role, network.measured_ms, network.upper_ms) for network in table.networks
    ]
    assert rows[0]["error_percent"] == pytest.approx(100 * (rows[0]["predicted_ms"] / rows[0]["measured_ms"] - 1))


def test_raw_holds_every_single_time_once(url, table, lab, tmp_path):
    rows = parquet_of(url, tmp_path / "r.parquet", "raw").to_pylist()
    expected = [
        (measurement.id, part, number, repeat, ms)
        for measurement in lab.measure_all()
        for number, round_ in enumerate(measurement.rounds)
        for part in ("graph", "minus", "canary")
        for repeat, ms in enumerate(getattr(round_, f"{part}_ms"))
    ]
    assert [tuple(row[name] for name in ("measurement", "part", "round", "repeat", "ms")) for row in rows] == expected


@pytest.mark.parametrize("what", ["prices", "networks", "raw"])
def test_csv_has_the_columns_and_values_of_parquet(url, table, tmp_path, capsys, what):
    read = parquet_of(url, tmp_path / "x.parquet", what)
    assert export(url, "--format", "csv", "--what", what) == 0
    header, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header == read.column_names
    written = [["" if value is None else str(value) for value in row.values()] for row in read.to_pylist()]
    assert rows == written


def test_json_is_the_whole_table_as_it_is_served(url, table, tmp_path):
    assert export(url, "--out", str(tmp_path / "t.json")) == 0
    assert read_table(json.loads((tmp_path / "t.json").read_bytes())) == table


def test_parquet_without_a_file_or_a_folder_to_put_it_into_fails_in_one_line(url, table, tmp_path, capsys):
    assert export(url, "--format", "parquet") == 2
    assert "name a file with --out" in capsys.readouterr().err
    assert export(url, "--format", "parquet", "--out", str(tmp_path / "no" / "where.parquet")) == 1
    assert "cannot write" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.part"))


def test_parquet_without_pyarrow_says_what_installs_it(url, table, tmp_path):
    program = "import sys; sys.modules['pyarrow'] = None; from lut_server.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = f"export --device pi --format parquet --out {tmp_path}/x.parquet --database-url {url}".split()
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "lut-server: Parquet needs pyarrow, which is not installed: pip install 'lutnas[parquet]'\n",
    )
