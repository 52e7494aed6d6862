"""A search that is killed over and over: `python killed_search.py RUN SEED LIVES` forks, kills, and lets the last live.

Forking makes a life cost milliseconds instead of an interpreter's start; the parent never computes with torch.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from search.interruption import stop_on_signals
from search.progress import SilentProgress
from search.run_directory import RunDirectory
from search.training import Trainer

MOST_MS = 700


def live(path: Path) -> None:
    torch.set_num_threads(1)
    run = RunDirectory.open(path)
    with stop_on_signals() as stopped:
        Trainer(run, run.load_images()).train(SilentProgress(), stopped)


def main(path: Path, seed: int, lives: int) -> None:
    """Prints for each life its exit code (0: stopped and saved, or complete; -9: killed) and the checkpoint's step."""
    draws = random.Random(seed)
    for number in range(lives):
        child = os.fork()
        if not child:
            live(path)
            os._exit(0)
        if number < lives - 1:
            time.sleep(draws.uniform(50, MOST_MS) / 1000)
            os.kill(child, draws.choice((signal.SIGKILL, signal.SIGTERM)))
        _, status = os.waitpid(child, 0)
        if (code := os.waitstatus_to_exitcode(status)) not in (0, -signal.SIGKILL, -signal.SIGTERM):
            sys.exit(f"life {number} ended with {code}")
        run = RunDirectory(path)
        step = run.load_checkpoint().step if run.checkpoint_path.exists() else "none"
        print(code, step, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
