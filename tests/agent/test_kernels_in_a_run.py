"""Agent and lut-server together: kernels are counted, handed in once, and used."""

import pytest

pytest.importorskip("lut_server.app", reason="the server is not installed")

import threading

import httpx
import uvicorn

from lut_server.app import create_app
from lut_server.auth import create_token
from lut_server.settings import Settings
from lut_server.store.sql import open_store
from profiler_agent.cli import main
from profiler_agent.ort.sessions import local_runtime
from profiler_agent.spool.spool import Spool
from shared.graphs import build_network
from shared.jobs import NewJob
from shared.spaces import make_space
from shared.tables.table import read_table
from shared.wire import to_wire

DARTS = make_space("darts", resolution=8, channels=4, depth=3, classes=3)
SIZES = "--resolution 8 --channels 4 --depth 3 --classes 3 --calibration 6 --held-out 2 --preset quick"


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A server, and a device that was profiled for darts; what its commands need."""
    folder = tmp_path_factory.mktemp("there")
    settings = Settings(database_url=f"sqlite:///{folder}/lut.db")
    store = open_store(settings.database_url)
    server = uvicorn.Server(uvicorn.Config(create_app(settings, store=store), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    connection = ["--server", url, "--token", create_token(store.tokens, "admin"), "--device", "bench"]
    connection += ["--spool", str(folder / "spool")]
    assert main(["profile", *connection, "--space", "darts", *SIZES.split()]) == 0
    yield url, connection, folder
    server.should_exit = True
    thread.join()


def test_a_plan_of_darts_works_from_end_to_end_and_every_graph_is_counted(there) -> None:
    url, _, folder = there
    table = read_table(httpx.get(f"{url}/v1/devices/bench/table").json())
    assert {price.op_key for price in table.prices} == {str(key) for key in DARTS.op_keys()}
    (spooled,) = Spool(folder / "spool").runs()
    counted = spooled.read_kernels()
    of_fits = [graph for task in spooled.plan.tasks if task.role != "isolated" for graph in task.graphs]
    assert set(counted) == {spooled.plan.canary, *of_fits}
    assert table.kernels.held_out.networks == 2
    genotype = DARTS.fastest()
    answer = httpx.get(
        f"{url}/v1/kernels", params={"device": "bench", "space": str(DARTS), "runtime": str(local_runtime())}
    ).json()["counts"]
    assert answer[DARTS.format(genotype)] == counted[f"network:{DARTS}:{DARTS.format(genotype)}"]


def test_predict_says_how_long_a_file_takes_and_names_one_that_is_no_model(there, capsys, tmp_path) -> None:
    _, connection, _ = there
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    good.write_bytes(build_network(DARTS, DARTS.fastest()))
    bad.write_bytes(b"no model")
    assert main(["predict", *connection, str(good)]) == 0
    printed = capsys.readouterr()
    assert "good.onnx: " in printed.out
    assert ", 99 % bound " in printed.out
    assert main(["predict", *connection, str(bad), str(tmp_path / "none.onnx"), str(good)]) == 1
    printed = capsys.readouterr()
    assert "bad.onnx" in printed.err
    assert "none.onnx" in printed.err
    assert "good.onnx: " in printed.out


def test_a_count_job_is_done_by_the_agent(there) -> None:
    import random

    url, connection, _ = there
    genotype = DARTS.format(DARTS.sample(random.Random(99)))
    job = NewJob("bench", "count", local_runtime(), "canary:conv-v1", str(DARTS), genotypes=(genotype,))
    headers = {"Authorization": f"Bearer {connection[3]}"}
    queued = httpx.post(f"{url}/v1/jobs", json=to_wire(job), headers=headers).json()["job"]
    assert main(["work", *connection, "--once"]) == 0
    assert httpx.get(f"{url}/v1/jobs/{queued['id']}").json()["job"]["state"] == "done"
    answer = httpx.post(f"{url}/v1/devices/bench/predict", json={"genotype": genotype, "space": "darts"}).json()
    assert answer["by"] == "kernels"
