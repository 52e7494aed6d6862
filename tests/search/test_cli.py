import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from search.cli import COMMANDS, main, parser
from search.commands.run import begin_run, require_pixels
from search.process.distributed import Ranks
from search.process.progress import SilentProgress
from search.runs.run_directory import RunDirectory
from search.training.training import Trainer
from shared.errors import InvalidValue, LutnasError
from shared.spaces import make_space
from shared.wire import canonical_json

SHORT = (
    "--dataset",
    "digits",
    "--search-resolution",
    "8",
    "--threads",
    "1",
    "--precision",
    "fp32",
    "--batch-size",
    "8",
)
SHORT += ("--alpha-batch-size", "4", "--alpha-every", "4", "--checkpoint-every", "10", "--whole-space", "0")


@pytest.fixture
def server(serve, table):
    return serve(table)


def arguments(server, out: Path, *more: str) -> list[str]:
    return ["--device", "bench", "--lut-url", server.url, "--out", str(out), *SHORT, *more]


def test_a_search_from_the_command_line_writes_the_whole_run_directory(server, table, tmp_path, capfd):
    out = tmp_path / "run"
    assert main(arguments(server, out, "--warmup-steps", "4", "--search-steps", "4")) == 0
    assert (out / "tables" / f"{table.hash}.json").read_bytes() == canonical_json(table)
    config = json.loads((out / "config.json").read_text())
    assert (config["tables"], config["dataset"]) == ([{"device": "bench", "hash": table.hash}], "digits")
    assert config["warmup_steps"] == 4
    assert json.loads((out / "family.json").read_text())["members"]
    assert "<html" in (out / "report.html").read_text()
    lines = capfd.readouterr().out
    assert "bench: the fastest network takes " in lines.partition("warm-up: 4/4")[0]
    assert "search: 4/4" in lines


AS_ON_WINDOWS = """
import os, signal, sys
import httpx, msgspec, onnx, onnxruntime, plotly, torch  # these look for the system that they run on
for name in ("fcntl", "resource", "pwd", "grp", "termios", "syslog"):
    sys.modules[name] = None
for name in ("fork", "getuid", "geteuid", "killpg", "sched_getaffinity", "statvfs", "sysconf", "uname", "fchmod"):
    delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGALRM", "setitimer"):
    delattr(signal, name)
from search.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_search_pick_and_export_need_nothing_that_windows_lacks(server, tmp_path):
    out = tmp_path / "run"
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "cp1252"}
    variables["PYTHONPATH"] = str(Path(__file__).parents[2])

    def run(*words):
        command = [sys.executable, "-c", AS_ON_WINDOWS, *map(str, words)]
        ended = subprocess.run(command, capture_output=True, encoding="cp1252", cwd=tmp_path, env=variables)
        assert ended.returncode == 0, ended.stderr

    run(*arguments(server, out, "--warmup-steps", "2", "--search-steps", "2"))
    run("pick", "--run", out, "--max-latency-ms", "1000")
    run("export", "--run", out, "--max-latency-ms", "1000", "--out", tmp_path / "picked.onnx")
    assert (tmp_path / "picked.onnx").stat().st_size > 0
    assert "<html" in (out / "report.html").read_text()


def test_search_that_is_out_of_time_builds_the_family_of_what_is_trained_and_can_go_on(server, tmp_path, capfd):
    out = tmp_path / "run"
    asked = arguments(server, out, "--warmup-steps", "3000", "--search-steps", "3")
    assert main([*asked, "--seconds", "0.5"]) == 0
    trained = RunDirectory.open(out).load_checkpoint().step
    assert 0 < trained < 3000
    assert json.loads((out / "family.json").read_text())["members"]
    assert f"time is up after step {trained} of 3003, everything is saved;" in capfd.readouterr().out
    assert main(["--resume", "--out", str(out), "--seconds", "0.5"]) == 0
    assert RunDirectory.open(out).load_checkpoint().step > trained


def test_sigterm_saves_the_state_and_a_resumed_search_is_bit_equal(server, tmp_path):
    out, steps = tmp_path / "run", ("--warmup-steps", "30", "--search-steps", "30")
    process = subprocess.Popen(
        [sys.executable, "-m", "search.cli", *arguments(server, out, *steps)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    deadline_s = time.monotonic() + 60
    while not (out / "checkpoint.pt").exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert b"--resume" in errors
    assert b"Traceback" not in errors
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] < 60
    assert main(["--resume", "--out", str(out)]) == 0
    assert (out / "family.json").exists()

    resumed = RunDirectory.open(out)
    whole = RunDirectory.create(tmp_path / "whole", resumed.config, *resumed.tables)
    Trainer(whole, resumed.load_images()).train(SilentProgress())
    one, other = (torch.load(path / "checkpoint.pt", weights_only=True) for path in (whole.path, out))
    assert one["step"] == other["step"] == 60
    for part in ("supernet", "hypernetwork"):
        assert all(torch.equal(value, other[part][name]) for name, value in one[part].items())
    for part in ("weight_optimizer", "alpha_optimizer"):
        for index, values in one[part]["state"].items():
            for name, value in values.items():
                assert not isinstance(value, torch.Tensor) or torch.equal(value, other[part]["state"][index][name])


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (("--device", "rpi4"), 1, "unknown device (known: bench)"),
        (("--resolution", "32"), 2, "asked for 32, the table of bench has 16"),
        (("--channels", "16"), 2, "channels: asked for 16"),
        (("--space", "darts"), 2, "space: asked for darts, the table of bench has nas-bench-201"),
        (("--space", "nas"), 2, "unknown space 'nas' (known: darts, fbnet, mobile, nas-bench-201, nas-bench-macro)"),
        (("--space", "nas-bench-201/r16/c4/n5/k10/i3"), 2, "depth: asked for 5"),
        (("--dataset", "imagenet"), 2, "unknown dataset 'imagenet'"),
        (("--search-resolution", "7"), 2, "search-resolution: 7"),
        (("--search-resolution", "4", "--batch-size", "1"), 2, "batch-size: 1 is too few at 4 pixels"),
        (("--seed", str(2**32)), 2, "seed: 4294967296 is not from 0 to 4294967295"),
        (("--weight-lr", "-1"), 2, "weight-lr: -1.0 is not above 0"),
        (("--max-latency-ms", "90", "0.01"), 2, "no network meets 0.01 ms on bench: the fastest needs"),
        (("--lut-url", "http://127.0.0.1:9"), 1, "127.0.0.1:9"),
    ],
)
def test_a_search_that_cannot_be_says_so_in_one_line_and_writes_nothing(server, tmp_path, capfd, change, code, said):
    out = tmp_path / "run"
    assert main(arguments(server, out, *change)) == code
    errors = capfd.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(("side", "fits"), [(4, False), (8, True), (16, True)])
def test_images_that_a_space_halves_to_nothing_are_refused(config, side, fits):
    small = replace(config, search_resolution=side)
    with nullcontext() if fits else pytest.raises(InvalidValue, match=f"search-resolution: {side} pixels are too few"):
        require_pixels(small, make_space("mobile", resolution=32))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--paths-per-step", "3"), "paths-per-step: 3 cannot be shared evenly by 2 processes"),
        (("--conditions-per-step", "5"), "conditions-per-step: 5 cannot be shared evenly by 2 processes"),
        (("--tensorboard",), "pip install 'lutnas[tensorboard]'"),
        pytest.param(
            ("--processor", "cuda"),
            "sees no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there"),
        ),
    ],
)
def test_what_the_training_would_refuse_is_refused_before_anything_is_written(
    server, tmp_path, monkeypatch, change, said
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    out = tmp_path / "run"
    words = ["run", *arguments(server, out, *change)]
    args = parser(["run"]).parse_args(words, argparse.Namespace(environment={}))
    with pytest.raises(LutnasError, match=re.escape(said)):
        begin_run(args, SilentProgress(), Ranks(0, 2))
    assert not out.exists()


def test_a_second_search_into_the_same_folder_is_refused_and_a_resume_keeps_its_settings(
    server, tmp_path, config, table, capfd
):
    out = tmp_path / "run"
    RunDirectory.create(out, config, table)
    assert main(arguments(server, out)) == 2
    assert "--resume" in capfd.readouterr().err
    for change, said in (
        (("--seed", "5"), "with --seed 0, not 5; a resumed run keeps its settings"),
        (("--precision", "bf16"), "with --precision fp32, not bf16"),
        (("--preset", "smoke"), "with --warmup-steps 6, not 40 of --preset smoke"),
        (("--dataset", "cifar-10"), "with --dataset digits, not cifar-10"),
        (("--data-dir", str(tmp_path)), "without --data-dir"),
        (("--model", "mine.py:make"), "without --model"),
        (("--space", "darts"), f"with --space {table.space}, not darts"),
        (("--space", "nas-bench-201/r16/c4/n5/k10/i3"), "not nas-bench-201/r16/c4/n5/k10/i3"),
        (("--resolution", "32"), f"with --space {table.space}, not --resolution 32"),
        (("--search-resolution", "16"), "with --search-resolution 8, not 16"),
        (("--runtime", "threads=4"), f"with --runtime {table.runtime}, not threads=4"),
        (("--lut-url", server.url), f"with --lut-url {config.lut_url}, not {server.url}"),
    ):
        assert main(["--resume", "--out", str(out), *change]) == 2
        errors = capfd.readouterr().err
        assert f"{out} was begun " in errors
        assert said in errors
        assert errors.count("\n") == 1


def test_the_same_command_goes_on_and_another_number_of_threads_is_said_to_be_kept(server, tmp_path, capfd):
    steps = ("--preset", "smoke", "--warmup-steps", "2", "--search-steps", "2", "--candidates", "8")
    asked = [*arguments(server, tmp_path / "run", *steps), "--space", "nas-bench-201", "--runtime", "onnxruntime"]
    assert main(asked) == 0
    assert main([*asked, "--resume"]) == 0
    assert "keeps" not in capfd.readouterr().out
    assert main([*asked, "--resume", "--threads", "3", "--precision", "auto"]) == 0
    assert "the run keeps its --threads 1" in capfd.readouterr().out


def test_a_folder_of_images_is_the_same_by_any_name(server, tmp_path, config, table, monkeypatch, capfd):
    out = tmp_path / "run"
    images = write_folder(tmp_path / "things", 2, 1)
    RunDirectory.create(out, replace(config, dataset=f"folder:{images}"), table)
    monkeypatch.chdir(tmp_path)
    assert main(["--resume", "--out", str(out), "--dataset", "folder:other"]) == 2
    assert f"with --dataset folder:{images}, not folder:{tmp_path / 'other'}" in capfd.readouterr().err
    assert main(["--resume", "--out", str(out), "--dataset", "folder:things"]) != 0
    assert "was begun" not in capfd.readouterr().err


def test_digits_that_stand_in_for_another_set_are_kept(tmp_path, config, table, digits, capfd):
    out = tmp_path / "run"
    Trainer(RunDirectory.create(out, config, table), digits)
    assert main(["--resume", "--out", str(out), "--dataset", "fashion-mnist", "--seconds", "0"]) == 0
    assert "the run keeps its --dataset digits" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--device and --lut-url"),
        (["--resume"], "--out"),
        (["--resume", "--out", "nowhere-at-all"], "holds no run"),
    ],
)
def test_wrong_use_exits_with_2_and_one_line(argv, said, capfd):
    assert main(argv) == 2
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capfd):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert "usage: search" in capfd.readouterr().out


def write_folder(root: Path, classes: int, images: int) -> Path:
    random = np.random.default_rng(0)
    for label in range(classes):
        (root / f"class-{label}").mkdir(parents=True)
        for index in range(images):
            pixels = random.integers(0, 256, (12, 10 + index, 3), np.uint8)
            Image.fromarray(pixels).save(root / f"class-{label}" / f"{index}.png")
    return root


def test_a_search_on_a_folder_of_images_is_resumed_with_the_very_same_images(server, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("LUTNAS_CACHE_DIR", str(tmp_path / "cache"))
    images, out = write_folder(tmp_path / "things", 10, 6), tmp_path / "run"
    (images / "class-3" / "0.png").write_bytes(b"broken")
    asked = [*arguments(server, out, "--warmup-steps", "3", "--search-steps", "3"), "--dataset", f"folder:{images}"]
    assert main(asked) == 2
    assert "0.png cannot be decoded: no image in it" in capfd.readouterr().err
    assert main([*asked, "--skip-broken"]) == 0
    assert "folder:things: 49 training images, 10 test images" in capfd.readouterr().out
    assert json.loads((out / "data.json").read_text())["skipped"] == ["class-3/0.png"]
    members = json.loads((out / "family.json").read_text())["members"]
    (out / "family.json").unlink()
    assert main(["--resume", "--out", str(out)]) == 0
    assert json.loads((out / "family.json").read_text())["members"] == members
    (images / "class-4" / "1.png").unlink()
    assert main(["--resume", "--out", str(out)]) == 1
    assert "was searched on other images" in capfd.readouterr().err


def test_images_that_the_table_does_not_fit_are_named_with_the_command_that_measures_one(
    server, table, tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv("LUTNAS_CACHE_DIR", str(tmp_path / "cache"))
    images = write_folder(tmp_path / "things", 3, 20)
    assert main([*arguments(server, tmp_path / "run"), "--dataset", f"folder:{images}"]) == 2
    said = capfd.readouterr().err
    assert f"folder:things has 3 classes, the table's space {table.space} has 10" in said
    assert "profiler-agent profile --lut-url URL --device bench --space nas-bench-201 --resolution 16" in said
    assert "--classes 3 --image-channels 3" in said
    assert main([*arguments(server, tmp_path / "run"), "--resolution", "64"]) == 2
    assert "asked for 64, the table of bench has 16" in (said := capfd.readouterr().err)
    assert "--resolution 64 --channels 4" in said
