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

from search.process.interruption import stop_on_signals
from search.process.progress import SilentProgress
from search.runs.run_directory import RunDirectory
from search.training.training import Trainer

MOST_CHECKPOINTS, MOST_MS = 3, 40
"""A life ends at most so many checkpoints after its start, and a moment later."""


def live(path: Path) -> None:
    torch.set_num_threads(1)
    run = RunDirectory.open(path)
    with stop_on_signals() as stopped:
        Trainer(run, run.load_images()).train(SilentProgress(), stopped)


def end(child: int, path: Path, sent: signal.Signals, draws: random.Random) -> None:
    """Wait for some checkpoints and a moment, then send the signal."""
    seen: set[int] = set()
    wanted = draws.randint(1, MOST_CHECKPOINTS) + 1  # the one that was there counts
    while len(seen) < wanted and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.001)
    time.sleep(draws.uniform(0, MOST_MS) / 1000)
    os.kill(child, sent)


def main(path: Path, seed: int, lives: int) -> None:
    """Prints for each life its exit code (0: stopped and saved, or complete; -9: killed) and the checkpoint's step."""
    draws = random.Random(seed)
    for number in range(lives):
        child = os.fork()
        if not child:
            live(path)
            os._exit(0)
        run = RunDirectory(path)
        if number < lives - 1:
            end(child, run.checkpoint_path, (signal.SIGKILL, signal.SIGTERM)[number % 2], draws)
        _, status = os.waitpid(child, 0)
        if (code := os.waitstatus_to_exitcode(status)) not in (0, -signal.SIGKILL):
            sys.exit(f"life {number} ended with {code}")
        print(code, run.load_checkpoint().step, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
