"""A user's own model from the command to the verified file, with a real server and a real agent."""

import json
import os
import re
import subprocess
import sys

import httpx
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from search import LatencyTerm, freeze, load_table
from search.alphas.path_sampling import FairSampler
from search.cli import main
from search.decoding.decoding import Band, EnumerationDecoder
from search.decoding.dynamic_programming_decoder import DynamicProgrammingDecoder
from search.device.lut_client import LutClient
from search.latency.latency_model import LatencyModel
from search.own_model.examine import examine
from search.own_model.model_file import load_model
from shared.measurements.plan import make_plan
from shared.spaces import Genotype, Own, parse_space
from shared.spaces.op_key import Shape

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
MODEL = """
import torch
from torch import nn

from search import LayerChoice


def conv(before, after, kernel, stride=1):
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = conv(1, 16, 3)
        self.block = LayerChoice({"k3": conv(16, 16, 3), "k5": conv(16, 16, 5), "skip": nn.Identity()}, name="block")
        self.stage = LayerChoice({"one": conv(16, 32, 3, 2), "two": nn.Sequential(conv(16, 16, 5), conv(16, 32, 3, 2))},
                                 name="stage")
        self.twice = nn.ModuleList(
            LayerChoice({"narrow": conv(32, 32, 1), "wide": conv(32, 32, 3), "skip": nn.Identity()}, name="twice")
            for _ in range(2)
        )
        self.head = nn.Linear(32 * 4 * 4, 10)

    def forward(self, images):
        x = self.stage(self.block(self.stem(images)))
        for layer in self.twice:
            x = torch.relu(layer(x))
        return self.head(x.view(len(x), -1))


def make_model():
    return Model()
"""
IMAGE = Shape(1, 8, 8)
RAGGED = "own/0123456789abcdef/r8/i1/k10/3.2.3"


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "my_model.py"
    path.write_text(MODEL)
    return path


@pytest.fixture(scope="module")
def own(model_file):
    return examine(load_model(f"{model_file}:make_model"), IMAGE)


def test_the_space_is_a_string_that_server_and_agent_parse(own):
    space = own.space
    assert re.fullmatch(r"own/[0-9a-f]{16}/r8/i1/k10/3\.2\.3", str(space))
    assert parse_space(str(space)) == space
    assert space.networks == 18 == own.networks
    assert space.format(space.parse("2.1.0")) == "2.1.0"
    with pytest.raises(ValueError, match="'2' is no primitive of own at choice1"):
        space.parse("0.2.0")
    for text in ("own/", "own/0123456789abcdef/r8/i1/k10/3.1", "own/0123456789ABCDEF/r8/i1/k10/3"):
        with pytest.raises(ValueError, match="space"):
            parse_space(text)
    with pytest.raises(ValueError, match="too many"):
        Own(8, 1, 1, 10, 1, "0" * 16, (2,) * 90)


def test_a_plan_has_networks_alone_with_every_candidate_among_those_of_the_fit():
    space = parse_space("own/0123456789abcdef/r96/i3/k10/3.2.5.4.3.3")
    plan = make_plan(space)
    roles = [task.role for task in plan.tasks]
    assert (roles.count("calibration"), roles.count("held_out"), len(roles)) == (40, 20, 60)
    assert len({task.graph for task in plan.tasks}) == 60
    fitted = [space.parse(task.subject).choices for task in plan.tasks if task.role == "calibration"]
    for slot, count in enumerate(space.candidates):
        assert {choices[slot] for choices in fitted} == set(map(str, range(count)))
    assert len(make_plan(parse_space(RAGGED)).tasks) == 18


def test_fair_paths_are_networks_of_choices_with_other_numbers_of_candidates():
    space = parse_space(RAGGED)
    sampler = FairSampler(space, 0)
    assert sampler.cycle_length == 3
    paths = [sampler.path(index) for index in range(200 * 3)]
    for path in paths:
        space.check(path)
    assert {path.choices[0] for path in paths[:3]} == {"0", "1", "2"}
    assert {path.choices[1] for path in paths[:3]} == {"0", "1"}
    assert 250 < sum(path.choices[1] == "0" for path in paths) < 350


def test_both_decoders_find_the_same_networks_each_once(table_of):
    table = table_of(parse_space(RAGGED))
    model = LatencyModel(table)
    listed, programme = EnumerationDecoder(model), DynamicProgrammingDecoder(model)
    assert len(listed.find_all(100)) == 18
    assert programme.smallest_ms == pytest.approx(listed.smallest_ms)
    rows = torch.log_softmax(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double(), 1).numpy()
    rows[1, 2] = rows[1, 0]
    band = Band((listed.smallest_ms + listed.largest_ms) / 2)
    (ours,), (theirs,) = listed.decode(rows, [band], 8), programme.decode(rows, [band], 8)
    assert [one.genotype for one in ours] == [one.genotype for one in theirs]
    assert len({one.genotype for one in theirs}) == len(theirs)
    one_hot = torch.zeros(3, 3)
    one_hot[[0, 1, 2], [2, 1, 0]] = 1
    assert float(LatencyTerm(table)(one_hot)) == pytest.approx(
        table.predict(Genotype(("2", "1", "0"))).mean_ms, abs=1e-6
    )


class Bench:
    """A lut-server, and the agent of the device `bench`, each a process."""

    def __init__(self, folder):
        self._processes = []
        database = ["--database-url", f"sqlite:///{folder / 'lut.db'}"]
        server = [sys.executable, "-m", "lut_server.cli"]
        create = [*server, "token", "create", *database, "--role", "admin", "--name", "test"]
        made = subprocess.run(create, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        self.token = made.stdout.split()[-1]
        self.url = re.search(r"http://\S+", self._start([*server, "serve", "--port", "0", *database])).group(0)
        agent = [sys.executable, "-m", "profiler_agent", "work", "--device", "bench", "--preset", "quick"]
        self._agent = [*agent, "--lut-url", self.url, "--token", self.token, "--spool", str(folder / "spool")]

    def start_agent(self):
        process = subprocess.Popen(self._agent, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._processes.append(process)

    def _start(self, command):
        process = subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._processes.append(process)
        return process.stdout.readline()

    def stop(self):
        for process in reversed(self._processes):
            process.terminate()
            process.wait(timeout=20)
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("bench"))
    yield bench
    bench.stop()


@pytest.fixture
def ask(bench, monkeypatch, capsys):
    """Runs a command of the search; returns its exit code, and what it says on each stream."""
    monkeypatch.setenv("LUTNAS_TOKEN", bench.token)

    def run(*words):
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(scope="module")
def where(model_file, bench):
    return f"{model_file}:make_model", "--input", "1x8x8", "--device", "bench", "--lut-url", bench.url


def test_a_device_that_nobody_knows_is_refused_before_anything_is_exported(ask, where):
    code, _, said = ask("space", *where)
    assert code == 1
    assert "unknown device 'bench'" in said
    assert said.count("\n") == 1


def test_a_device_without_an_agent_is_said_and_leaves_no_job(ask, where, bench):
    with LutClient(bench.url, bench.token) as client:
        client._ask("POST", "devices", body={"name": "idle", "probe": {}})
        code, _, said = ask("space", *where[:3], "--device", "idle", *where[5:])
        jobs = client._ask("GET", "jobs", query={"device": "idle"})["jobs"]
    assert code == 1
    assert "no agent has asked for work of 'idle' yet; start one there: profiler-agent work" in said
    assert [job["state"] for job in jobs] == ["cancelled"]


def test_the_device_makes_the_table_of_the_model(ask, where, bench, own):
    bench.start_agent()
    for _ in range(100):
        code, out, said = ask("space", *where)
        if code == 0:
            break
    assert code == 0, said
    assert f"space     {own.space}\n" in out
    assert "bench: the fastest network takes" in out
    assert "on 6 held-out networks" in out
    table = load_table("bench", bench.url, str(own.space))
    assert len(table.networks) == 18
    assert [price.op_key.partition("/")[0] for price in table.prices][:3] == ["choice0_0", "choice0_1", "choice0_2"]
    assert table.kernels is not None
    assert table.held_out.networks == table.kernels.held_out.networks == 6
    measured = [network.measured_ms for network in table.networks]
    predicted = [network.predicted_ms for network in table.networks]
    assert np.corrcoef(measured, predicted)[0, 1] > 0.9
    assert ask("space", *where)[1] == out  # from the table that is there
    for page in ("", "devices/bench", f"tables/{table.hash}"):
        assert httpx.get(f"{bench.url}/{page}", headers={"Authorization": f"Bearer {bench.token}"}).status_code == 200


def test_another_device_measures_the_networks_by_its_own_command_and_none_offline(own, bench, ask, where, tmp_path):
    profile = [sys.executable, "-m", "profiler_agent", "profile", "--device", "other", "--preset", "quick"]
    profile += ["--space", str(own.space), "--spool", str(tmp_path / "spool"), "--calibration", "10", "--held-out", "4"]
    server = ["--lut-url", bench.url, "--token", bench.token]
    done = subprocess.run([*profile, *server], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "on 4 held-out networks" in done.stdout
    offline = [*profile, "--offline", "--out", str(tmp_path / "run.json")]
    refused = subprocess.run(offline, env=ENVIRONMENT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "are files on a server, and have no recipe: name that server with --lut-url" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_from_the_search_to_the_verified_file(ask, where, bench, own, model_file, tmp_path):
    out, files = tmp_path / "run", tmp_path / "network.onnx"
    code, told, said = ask("--model", *where, "--dataset", "digits", "--preset", "smoke", "--out", out, "--threads", 1)
    assert code == 0, said
    assert "bench: the fastest network takes" in told
    again = ("--resume", "--out", out, "--model", *where, "--preset", "smoke")
    code, _, said = ask(*again)
    assert code == 0, said
    for words, says in (
        (("--model", f"{model_file}:make_other"), f"with --model {model_file}:make_model, not {model_file}:make_other"),
        (("--input", "1x4x4"), "with --input 1x8x8, not 1x4x4"),
        (("--space", "darts"), f"with --model {model_file}:make_model, not --space darts"),
    ):
        code, _, said = ask(*again, *words)
        assert code == 2
        assert says in said
    slowest = max(network.measured_ms for network in load_table("bench", bench.url, str(own.space)).networks)
    budget = ("--run", out, "--max-latency-ms", 2 * slowest)
    code, picked, said = ask("pick", *budget, "--json")
    assert code == 0, said
    best = json.loads(picked)["best"]
    assert best["by"] == "kernels"
    code, shown, _ = ask("pick", *budget)
    chosen = dict(pair.split("=") for pair in re.search(r"genotype: \S+ \((.*)\)", shown).group(1).split(", "))
    assert chosen.keys() == {"block", "stage", "twice"}

    code, told, said = ask("export", *budget, "--out", files, "--tune-epochs", 0.2)
    assert code == 0, said
    network = freeze(load_model(f"{model_file}:make_model"), chosen)
    network.load_state_dict(torch.load(tmp_path / "network.state.pt", weights_only=True))
    image = torch.randn(1, 1, 8, 8)
    session = onnxruntime.InferenceSession(files.read_bytes(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    assert np.allclose(logits, network.eval()(image).detach().numpy(), atol=1e-4)

    code, verified, said = ask("verify", *budget, "--onnx", files)
    assert code == 0, verified + said
    assert "met: measured" in verified

    code, ladder, said = ask("ladder", *budget, "--tune-epochs", 0)
    assert code == 0, ladder + said
    assert len(list((out / "models").glob("*.onnx"))) == 1

    code, trained, said = ask("train", *budget, "--epochs", 1, "--inherit")
    assert code == 0, said
    folder = re.search(r"test accuracy [\d.]+ %; (\S+)", trained).group(1)
    code, told, said = ask("export", "--run", out, "--trained", folder, "--out", files)
    assert code == 0, said
    assert "trained for 1 epoch, from the supernet's weights" in told
    assert "block: " in (out / "report.html").read_text()

    model_file.write_text(MODEL.replace("conv(16, 16, 5)", "conv(16, 16, 7)"))
    try:
        code, _, said = ask("export", *budget, "--out", files)
    finally:
        model_file.write_text(MODEL)
    assert code == 2
    assert "my_model.py:make_model has changed: it makes own/" in said


DATA_AND_LOSS = (
    MODEL
    + """
def make_data():
    from sklearn.datasets import load_digits
    from torch.utils.data import DataLoader, Subset

    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    items = list(zip(images, digits.target))
    loaders = DataLoader(items, 32, sampler=range(1200)), DataLoader(Subset(items, range(1200, 1797)), 100)
    return loaders


def make_loss():
    return lambda logits, labels: 7 + nn.functional.cross_entropy(logits, labels)
"""
)


def test_a_search_takes_data_and_loss_from_the_models_file(ask, where, bench, own, tmp_path):
    out, files, mine = tmp_path / "run", tmp_path / "network.onnx", tmp_path / "mine.py"
    mine.write_text(DATA_AND_LOSS)
    there = (f"{mine}:make_model", *where[1:])
    code, told, said = ask("--model", *there, "--preset", "smoke", "--out", out, "--threads", 1)
    assert code == 0, said
    assert "make_data:mine.py: 1200 training images, 597 test images" in told
    assert json.loads((out / "data.json").read_text())["dataset"] == f"make_data:{mine}"
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(values["loss"] > 7 for values in metrics)
    assert metrics[-1]["alpha_loss"] > 7
    assert all(score["nll"] > 7 for score in json.loads((out / "scores.json").read_text())["scores"].values())

    budget = ("--run", out, "--genotype", "0.0.0")
    code, trained, said = ask("train", *budget, "--epochs", 1)
    assert code == 0, said
    folder = re.search(r"test accuracy [\d.]+ %; (\S+)", trained).group(1)
    assert json.loads((out / folder / "metrics.jsonl").read_text())["loss"] > 7
    code, told, said = ask("export", *budget, "--out", files, "--tune-epochs", 0.2)
    assert code == 0, said
    described = {entry.key: entry.value for entry in onnx.load(files).metadata_props}
    assert described["input_range"] == "as make_data of mine.py gives them"

    for before, after, says in (
        ("digits.images / 16", "digits.images / 15", "was searched on other images: make_data:"),
        ("def make_data", "def make_datum", "unknown dataset 'make_data:"),
        ("7 + ", "6 + ", "make_loss: of "),
        ("def make_loss", "def make_lost", "make_loss: of "),
    ):
        mine.write_text(DATA_AND_LOSS.replace(before, after))
        code, _, said = ask("export", *budget, "--out", files, "--tune-epochs", 0.2)
        assert code in (1, 2)
        assert says in said.splitlines()[-1]


def test_strategies_that_know_no_ops_are_compared_with_a_model_of_ones_own(ask, where, tmp_path):
    out = tmp_path / "compared"
    short = ("--dataset", "digits", "--preset", "smoke", "--seeds", 1, "--evaluations", 6, "--budgets", 3)
    command = ("compare", "--model", *where, *short, "--threads", 1, "--out", out)
    code, _, said = ask(*command, "--strategies", "dartscc,random,nsga2")
    assert code == 0, said
    found = json.loads((out / "comparison.json").read_text())
    assert found["summary"].keys() == {"dartscc", "random", "nsga2"}
    assert all(result["networks"] for result in found["results"])
    code, _, said = ask(*command, "--strategies", "random")
    assert code == 0, said
    code, _, said = ask("compare", *command[2 + len(where) :], *where[3:], "--strategies", "random")
    assert code == 2
    assert f"was begun with --model {where[0]}, not --space nas-bench-201; choose another --out" in said
    code, _, said = ask(*command, "--strategies", "dartscc,darts:order=2,gdas")
    assert code == 2
    assert "darts:order=2 takes ops of our spaces; with --model compare dartscc, random, nsga2 alone" in said


def test_what_does_not_go_together_is_refused(ask, own, where, tmp_path):
    for words, says in (
        (("--space", "darts"), "--model is a space of its own"),
        (("--resolution", 16), "--model is a space of its own"),
        (("--auxiliary-skip", 0.5), "auxiliary-skip: stands beside ops of known shapes"),
        (("--search-resolution", 4), "model: head does not run"),
    ):
        code, _, said = ask("--model", *where, "--dataset", "digits", "--out", tmp_path / "run", *words)
        assert code == 2, said
        assert says in said
    assert ask("--model", where[0], *where[3:], "--dataset", "digits")[0] == 2
    code, _, said = ask("--space", own.space, *where[3:])
    assert code == 2
    assert "is of your own model: search --model" in said
