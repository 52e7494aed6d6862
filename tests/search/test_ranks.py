import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from search.process.distributed import Ranks
from search.process.progress import SilentProgress
from search.runs.run_directory import Checkpoint, RunDirectory
from search.training.training import Trainer
from shared.errors import InvalidValue, WrongUse

WORKER = """
import sys
from pathlib import Path
import torch
from search.process.progress import SilentProgress
from search.process.distributed import joined_ranks
from search.runs.run_directory import RunDirectory
from search.training.training import Trainer

torch.set_num_threads(1)
with joined_ranks() as ranks:
    for path in map(Path, sys.argv[1:]):
        run = RunDirectory.open(path)
        images = run.load_images()
        for stop in (9, 1000):  # the second process asks to stop before step 9; then they go on to the end
            trainer = Trainer(run, images, ranks)
            trainer.train(SilentProgress(), lambda: trainer.step >= stop and ranks.index == 1)
            assert trainer.step == min(stop, run.config.total_steps)
"""


def train_in_two_processes(*runs: RunDirectory) -> None:
    for code, errors in run_two_processes(*[["-c", WORKER, *(str(run.path) for run in runs)]] * 2):
        assert code == 0, errors


def run_two_processes(*commands: list[str]) -> list[tuple[int, str]]:
    """Exit codes and stderr of both, started as torchrun starts them, without its launcher's seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **places, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, command in enumerate(commands)
    ]
    said = [process.communicate(timeout=100)[1] for process in processes]
    return [(process.returncode, errors) for process, errors in zip(processes, said, strict=True)]


def tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    states = {"a": checkpoint.alpha_optimizer["state"], "w": checkpoint.weight_optimizer["state"]}
    momenta = {f"{k}{i}.{n}": v for k, state in states.items() for i, one in state.items() for n, v in one.items()}
    return {**checkpoint.supernet, **checkpoint.hypernetwork, **momenta}


def test_two_processes_find_what_one_finds_to_the_bit_where_each_has_one_path_and_else_up_to_the_order_of_sums(
    tmp_path, config, table, digits
):
    several = replace(config, paths_per_step=4, conditions_per_step=4, warmup_steps=8, search_steps=3)
    runs = {}
    for name, one in (("one path", config), ("two paths", several)):
        runs[name] = (
            RunDirectory.create(tmp_path / name, one, table),
            RunDirectory.create(tmp_path / name / "2", one, table),
        )
        Trainer(runs[name][0], digits).train(SilentProgress())
    train_in_two_processes(*(shared for _, shared in runs.values()))

    one, two = (tensors(run.load_checkpoint()) for run in runs["one path"])
    assert one.keys() == two.keys()
    assert [name for name, value in one.items() if not torch.equal(value, two[name])] == []
    lines = [json.loads(run.metrics_path.read_text().splitlines()[-1]) for run in runs["one path"]]
    assert [line["step"] for line in lines] == [config.total_steps] * 2

    one, two = (run.load_checkpoint().supernet for run in runs["two paths"])
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_the_family_is_built_where_another_process_was_the_first_to_be_out_of_time(tmp_path, config, table):
    run = RunDirectory.create(tmp_path / "run", replace(config, warmup_steps=100_000), table)
    resume = ["-m", "search.cli", "--resume", "--out", str(run.path), "--candidates", "8", "--seconds"]
    for code, errors in run_two_processes([*resume, "1000"], [*resume, "0.5"]):
        assert code == 0, errors
    assert 0 < run.load_checkpoint().step < 100_000
    assert (run.path / "family.json").exists()


def test_a_step_that_cannot_be_shared_evenly_is_refused_by_name(tmp_path, config, table, digits):
    run = RunDirectory.create(tmp_path / "run", config, table)
    with pytest.raises(InvalidValue, match="paths_per_step: 2 cannot be shared evenly by 3 processes"):
        Trainer(run, digits, Ranks(0, 3))
    assert not run.checkpoint_path.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_a_processor_that_is_not_there_is_one_clear_line(tmp_path, config, table, digits):
    run = RunDirectory.create(tmp_path / "run", replace(config, processor="cuda"), table)
    with pytest.raises(WrongUse, match="sees no CUDA device"):
        Trainer(run, digits)


def test_the_parts_of_a_step_are_dealt_out_completely():
    assert [list(Ranks(rank, 2).share(range(6, 12))) for rank in (0, 1)] == [[6, 8, 10], [7, 9, 11]]
