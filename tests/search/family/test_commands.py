import gzip
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import onnx
import pytest

from search.cli import main
from search.commands.ladder import default_budgets
from search.deploy.export import build_onnx, export, onnx_accuracy
from search.family.build import build_unseen_family
from search.family.family import load_family
from search.process.progress import SilentProgress
from search.runs.run_directory import DeviceRun, write_table, write_value
from shared.errors import LutnasError
from shared.jobs import Job, NewJob, Verification
from shared.search_result import SearchResult
from shared.spaces import Genotype
from shared.wire import from_wire, to_wire


class Desk(BaseHTTPRequestHandler):
    """A table server with a device behind it that measures what was predicted, or `server.slow` times that."""

    def log_message(self, *_):
        pass

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.models.append(content)
        self._answer({"model": {"sha256": self.path.rpartition("/")[2], "bytes": len(content)}})

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        packed = self.headers["Content-Encoding"] == "gzip"
        body = json.loads(gzip.decompress(content) if packed else content)
        if self.path == "/v1/searches" and self.server.searches is None:
            self._answer({"error": {"code": "not_found", "message": "no such route", "detail": {}}}, 404)
            return
        if self.path == "/v1/searches":
            self.server.searches.append(from_wire(SearchResult, body))
            self._answer({"created_at": "2026-01-31T12:00:00Z", "result": body}, 201)
            return
        job = from_wire(NewJob, body)
        if self.headers["Authorization"] != "Bearer good":
            refusal = {"error": {"code": "unauthorized", "message": "this needs a token", "detail": {}}}
            self._answer(refusal, 401)
            return
        self.server.job = job
        self._answer({"job": to_wire(Job("job-1", job, "queued", 0, 3, "2026-01-31T12:00:00Z"))})

    def do_GET(self):
        job = self.server.job
        measured_ms = job.promise.predicted_ms * self.server.slow
        met = measured_ms <= job.promise.target_ms
        found = Verification(measured_ms, measured_ms, measured_ms, measured_ms, 1.0, met, True, ())
        self._answer({"job": to_wire(Job("job-1", job, "done", 1, 3, "2026-01-31T12:00:00Z", verification=found))})

    def _answer(self, value, status=200):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def desk():
    with ThreadingHTTPServer(("127.0.0.1", 0), Desk) as server:
        server.models, server.searches, server.job, server.slow = [], [], None, 1.0
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def at_desk(desk):
    return ["--lut-url", f"http://127.0.0.1:{desk.server_port}", "--token", "good"]


@pytest.fixture
def budget_ms(reading):
    return load_family(reading).members[4].upper_ms


def test_pick_prints_the_network_for_a_budget(reading, budget_ms, capsys):
    assert main(["pick", "--run", str(reading.path), "--max-latency-ms", str(budget_ms)]) == 0
    printed = capsys.readouterr().out
    assert "genotype: |" in printed
    assert "testbed" in printed


def test_pick_as_json_is_nothing_but_json(reading, budget_ms, capsys):
    assert main(["pick", "--run", str(reading.path), "--max-latency-ms", str(budget_ms), "--json"]) == 0
    picked = json.loads(capsys.readouterr().out)
    assert picked["best"]["upper_ms"] <= budget_ms
    assert picked["runners_up"]


def test_budget_below_the_fastest_network_is_one_line_and_exit_code_2(reading, capsys):
    assert main(["pick", "--run", str(reading.path), "--max-latency-ms", "0.001"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the fastest needs" in error


def test_folder_without_a_run_is_wrong_use(tmp_path, capsys):
    assert main(["pick", "--run", str(tmp_path), "--max-latency-ms", "1"]) == 2
    assert "holds no run" in capsys.readouterr().err


@pytest.mark.parametrize("form", [(), ("--int8", "--calibration-images", "32")])
def test_exported_file_is_verified_by_the_device(run, budget_ms, desk, at_desk, tmp_path, capsys, form):
    out = tmp_path / "member.onnx"
    asked = ["--run", str(run.path), "--max-latency-ms", str(budget_ms)]
    assert main(["export", *asked, "--tune-epochs", "0.1", "--out", str(out), *form]) == 0
    assert "test accuracy" in capsys.readouterr().out
    assert onnx.load(out).metadata_props
    assert main(["verify", "--run", str(run.path), "--onnx", str(out), *at_desk]) == 0
    assert capsys.readouterr().out.startswith("met: measured")
    assert desk.models == [out.read_bytes()]
    assert desk.job.promise.target_ms == desk.job.promise.upper_ms


def test_network_that_misses_its_budget_is_exit_code_1(run, budget_ms, desk, at_desk, capsys):
    desk.slow = 5.0
    asked = ["--run", str(run.path), "--max-latency-ms", str(budget_ms), *at_desk]
    assert main(["verify", *asked]) == 1
    assert capsys.readouterr().out.startswith("NOT MET")
    assert main(["verify", *asked, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verification"]["met"] is False


def test_ladder_and_report_land_where_they_were_asked_for(run, desk, at_desk, tmp_path, capsys):
    asked = ["--run", str(run.path), "--budgets", "3", "--tune-epochs", "0.1", "--out", str(tmp_path), *at_desk]
    assert main(["ladder", *asked]) == 0
    assert "3 of 3 met" in capsys.readouterr().out
    rungs = json.loads((tmp_path / "ladder.json").read_bytes())
    assert all((tmp_path / rung["onnx"]).is_file() for rung in rungs)
    page = tmp_path / "page.html"
    ladder = ["--ladder", str(tmp_path / "ladder.json")]
    assert main(["report", "--run", str(run.path), *ladder, "--out", str(page)]) == 0
    assert "3 of 3" in page.read_text()
    (posted,) = desk.searches
    assert [rung.target_ms for rung in posted.ladder] == [rung["target_ms"] for rung in rungs]
    assert len(posted.members) == len(load_family(run).members)


def test_what_is_measured_for_another_device_is_measured_there_and_kept_beside_its_family(
    run, budget_ms, desk, at_desk
):
    view = DeviceRun(run, replace(run.table, device="elsewhere"))
    write_table(run.path, view.table)
    build_unseen_family(view, SilentProgress())
    asked = ["--run", str(run.path), "--device", "elsewhere", "--max-latency-ms", str(budget_ms)]
    assert main(["verify", *asked, *at_desk]) == 0
    assert (desk.job.device, desk.job.promise.table_hash) == ("elsewhere", view.table.hash)
    assert main(["ladder", *asked, "--tune-epochs", "0", *at_desk]) == 0
    (rung,) = json.loads((view.folder / "ladder.json").read_bytes())
    assert (view.folder / rung["onnx"]).is_file()
    assert not (run.path / "ladder.json").exists()
    (posted,) = desk.searches
    assert (posted.device, posted.table_hash) == ("elsewhere", view.table.hash)
    assert posted.search != run.config_hash


def test_ladder_with_a_budget_not_met_is_exit_code_1(run, desk, at_desk, budget_ms, capsys):
    desk.slow, desk.searches = 50.0, None  # an older server, which takes no searches
    asked = ["--run", str(run.path), "--max-latency-ms", str(budget_ms), "--tune-epochs", "0", *at_desk]
    assert main(["ladder", *asked]) == 1
    said = capsys.readouterr()
    assert "0 of 1 met" in said.out
    assert "not posted to the server" in said.err


def test_wrong_token_is_one_line_and_exit_code_1(run, budget_ms, at_desk, capsys):
    asked = ["--run", str(run.path), "--max-latency-ms", str(budget_ms), *at_desk[:3], "bad"]
    assert main(["verify", *asked]) == 1
    assert "LUTNAS_TOKEN" in capsys.readouterr().err


def test_server_that_is_away_is_one_line_and_exit_code_1(run, budget_ms, capsys):
    asked = ["--run", str(run.path), "--max-latency-ms", str(budget_ms), "--lut-url", "http://127.0.0.1:9"]
    assert main(["verify", *asked]) == 1
    assert "no answer from http://127.0.0.1:9" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify"],
        ["verify", "--genotype", "|nonsense|"],
        ["verify", "--genotype", "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"],
        ["verify", "--max-latency-ms", "nan"],
        ["verify", "--max-latency-ms", "5", "--timeout-s", "0"],
        ["export", "--max-latency-ms", "5", "--out", "no/such/folder/x.onnx"],
        ["export", "--max-latency-ms", "5", "--tune-epochs", "-1", "--out", "x.onnx"],
        ["ladder", "--budgets", "0"],
        ["ladder", "--out", "no/such/folder"],
        ["report", "--ladder", "no-such-file.json"],
        ["report", "--out", "no/such/folder/x.html"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_wrong_use_is_one_line_and_exit_code_2(reading, arguments, capsys):
    command, *options = arguments
    assert main([command, "--run", str(reading.path), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("search: ")
    assert "Traceback" not in error


@pytest.mark.parametrize("content", [b"", b"no onnx at all", None], ids=["empty", "text", "not ours"])
def test_file_that_is_no_network_of_ours_is_named(reading, tmp_path, content, capsys):
    path = tmp_path / "file.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=8).SerializeToString() if content is None else content)
    assert main(["verify", "--run", str(reading.path), "--onnx", str(path)]) == 1
    assert "file.onnx" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 2, 5])
def test_budgets_are_bounds_of_distinct_members_with_both_ends_among_them(reading, count):
    bounds_ms = sorted(member.upper_ms for member in load_family(reading).members)
    budgets_ms = default_budgets(reading, count)
    assert len(set(budgets_ms)) == count
    assert budgets_ms == sorted(budgets_ms)
    assert all(min(abs(budget_ms / bound_ms - 1) for bound_ms in bounds_ms) < 1e-9 for budget_ms in budgets_ms)
    assert budgets_ms[-1] == pytest.approx(bounds_ms[-1])
    assert count == 1 or budgets_ms[0] == pytest.approx(bounds_ms[0])


def test_more_budgets_than_members_are_a_series(reading):
    bounds_ms = sorted(member.upper_ms for member in load_family(reading).members)
    budgets_ms = default_budgets(reading, 40)
    assert len(set(budgets_ms)) == 40
    assert (budgets_ms[0], budgets_ms[-1]) == pytest.approx((bounds_ms[0], bounds_ms[-1]))


@pytest.mark.parametrize(("places", "count"), [((0, 0, -1), 2), ((0, 0, -1), 3), ((0, -1, -1), 3), ((0, 0, 0), 2)])
def test_members_that_share_a_bound_count_as_one_budget(run, places, count):
    family = load_family(run)
    members = tuple(family.members[place] for place in places)
    write_value(run.family_path, replace(family, members=members), {Genotype: run.space.format})
    budgets_ms = default_budgets(run, count)
    assert len(budgets_ms) == count
    assert budgets_ms == sorted(budgets_ms)
    assert (budgets_ms[0], budgets_ms[-1]) == pytest.approx((members[0].upper_ms, members[-1].upper_ms))


@pytest.mark.parametrize("apart", [-2, -1, 1, 2])
def test_an_exported_file_may_tip_one_image_over_and_no_more_however_few_there_are(reading, digits, monkeypatch, apart):
    few = replace(digits, test_images=digits.test_images[:90], test_labels=digits.test_labels[:90])
    member = load_family(reading).members[-1]
    network = reading.supernet().derive(member.genotype)

    def of_torch(network, images):
        content = build_onnx(network)
        return onnx_accuracy(content, images) + 100 * apart / len(images.test_labels)

    monkeypatch.setattr("search.deploy.export.accuracy_on_test_images", of_torch)
    if abs(apart) == 1:
        assert export(network, member, reading.table, few, "inherited").content
        return
    with pytest.raises(LutnasError, match="% where torch gives"):
        export(network, member, reading.table, few, "inherited")
