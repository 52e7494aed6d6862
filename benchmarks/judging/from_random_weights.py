"""Networks trained from random weights by one recipe, that of `search ladder`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import torch
from torch import nn

from benchmarks import Progress
from benchmarks.judging.code_identity import identify
from search.data import ImageSet
from search.process.threads_and_memory import single_threaded_workers
from search.retraining.finetune import TuningImages, TuningSettings, accuracy_on_test_images, tune, tuning_steps
from search.runs.run_directory import find_value, write_value

Build = Callable[[], nn.Module]
TUNING = ("search.retraining.finetune", "search.supernet.network")
"""Modules that decide an accuracy, with all their imports."""


@dataclass(frozen=True)
class _Kept:
    """Accuracies by network, seed and recipe."""

    numbers: dict[str, float]


def train(
    images: ImageSet, builders: Mapping[str, Build], epochs: float, seeds: int, path: Path, progress: Progress
) -> dict[str, tuple[float, ...]]:
    """Accuracies of networks on all test images by seed, in percent.

    Args:
        builders: of each network, by name.
        epochs: of each training; may be a fraction.
        path: keeps accuracies. A network with the same layers, images and recipe is not trained again.
    """
    kept = find_value(_Kept, path)
    known = kept.numbers if kept else {}
    settings = [TuningSettings(epochs, seed=seed) for seed in range(seeds)]
    prepared = [TuningImages(images, each) for each in settings]
    steps, drawing = tuning_steps(images, settings[0]), Lock()

    def accuracy(job: tuple[str, int]) -> float:
        name, seed = job
        with drawing:  # torch has one generator for all threads
            torch.manual_seed(seed)
            network = builders[name]()
        tune(network, prepared[seed], settings[seed], steps)
        return accuracy_on_test_images(network, images)

    code = identify(TUNING, repr(settings[0]).encode(), images.fingerprint.encode())
    recipes = {name: hashlib.sha256(f"{code} {build()}".encode()).hexdigest()[:12] for name, build in builders.items()}
    keys = {(name, seed): f"{name}, seed {seed}, recipe {recipes[name]}" for name in builders for seed in range(seeds)}
    missing = [job for job, key in keys.items() if key not in known]
    with single_threaded_workers(2) as pool:
        for job, found in zip(missing, pool.map(accuracy, missing), strict=True):
            known[keys[job]] = found
            write_value(path, _Kept(known))
            progress(f"{keys[job]}: {found:.2f} %")
    return {name: tuple(known[keys[name, seed]] for seed in range(seeds)) for name in builders}
