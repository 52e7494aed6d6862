"""Killed at any moment, out of space, gone on with elsewhere: what is there stays good, and the end is the same."""

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from search.cli import main
from search.process.progress import SilentProgress
from search.runs.environment import FILE_NAME, load_environments, record_environment
from search.runs.run_directory import Checkpoint, RunDirectory
from search.training.training import Trainer
from shared.errors import CorruptFile, LutnasError

KILLER = Path(__file__).with_name("killed_search.py")
LIVES = 5


def tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    states = {"a": checkpoint.alpha_optimizer["state"], "w": checkpoint.weight_optimizer["state"]}
    momenta = {f"{k}{i}.{n}": v for k, state in states.items() for i, one in state.items() for n, v in one.items()}
    return {**checkpoint.supernet, **checkpoint.hypernetwork, **momenta}


def test_a_search_that_is_killed_at_random_moments_ends_bit_equal_to_one_that_was_not(tmp_path, config, table, digits):
    config = replace(config, warmup_steps=40, search_steps=60, checkpoint_every=4, threads=2)
    whole = RunDirectory.create(tmp_path / "whole", config, table)
    Trainer(whole, digits).train(SilentProgress())
    killed = RunDirectory.create(tmp_path / "killed", config, table)
    lived = subprocess.run(
        [sys.executable, str(KILLER), str(killed.path), "0", str(LIVES)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert lived.returncode == 0, lived.stderr
    lives = [line.split() for line in lived.stdout.splitlines()]
    assert len(lives) == LIVES
    assert [code for code, _ in lives] == ["-9", "0", "-9", "0", "0"]
    reached = [int(step) for _, step in lives]
    assert reached == sorted(set(reached))
    assert reached[-2] < reached[-1] == config.total_steps
    one, other = tensors(whole.load_checkpoint()), tensors(killed.load_checkpoint())
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []
    steps = [json.loads(line)["step"] for line in killed.metrics_path.read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == config.total_steps


@pytest.fixture
def begun(tmp_path, config, table, digits) -> RunDirectory:
    run = RunDirectory.create(tmp_path / "run", config, table)
    trainer = Trainer(run, digits)
    trainer.train(SilentProgress(), lambda: trainer.step >= 5)
    return run


def test_a_disk_that_fills_up_is_one_line_and_the_last_checkpoint_stays_good(begun, capfd):
    before = begun.checkpoint_path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        code = main(["--resume", "--out", str(begun.path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capfd.readouterr().err
    assert code == 1
    assert said.startswith(f"search: no space left for {begun.checkpoint_path}: free some and run the same again")
    assert said.count("\n") == 1
    assert begun.checkpoint_path.read_bytes() == before
    assert begun.load_checkpoint().step == 5


def test_metrics_that_find_no_room_are_one_line(begun):
    begun.metrics_path.unlink(missing_ok=True)
    begun.metrics_path.symlink_to("/dev/full")
    with pytest.raises(LutnasError, match=r"no space left for .*metrics\.jsonl: free some"):
        begun.append_metrics({"step": 7})


def test_a_start_elsewhere_is_written_down_and_its_changes_are_told(begun):
    assert record_environment(begun.path, 0) == []
    assert record_environment(begun.path, 3) == []
    path = begun.path / FILE_NAME
    entries = json.loads(path.read_text())
    assert [one["step"] for one in entries] == [0]
    entries[0]["libraries"]["torch"] = "1.0"
    path.write_text(json.dumps(entries))
    assert record_environment(begun.path, 5, processes=2) == [
        "processes was 1, is 2",
        f"torch was 1.0, is {version('torch')}",
    ]
    assert [one.step for one in load_environments(begun.path)] == [0, 5]


@pytest.mark.parametrize("content", ["{", "[3]", '[{"step": 0}]'])
def test_a_damaged_record_of_starts_is_named(begun, content):
    (begun.path / FILE_NAME).write_text(content)
    with pytest.raises(CorruptFile, match=r"environment\.json is damaged"):
        load_environments(begun.path)
