"""Measures the kernels of a user's own files that the device's table lacks, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from profiler_agent.kernels.model_files import count_files
from profiler_agent.kernels.predict import FilePrediction, predict_counted
from profiler_agent.profile.profile import Outcome, Profiler
from profiler_agent.timing.stopping import PRESETS, Preset
from shared.errors import LutnasError
from shared.measurements.measurement import check_device_name
from shared.runtime import Runtime


@dataclass(frozen=True)
class KernelRequest:
    """Whose kernels to measure.

    Attributes:
        space: of the table that the prices are added to, or its first parts; "" takes the newest.
        new: measure although there is an unfinished run of the same kernels.
    """

    device: str
    files: tuple[Path, ...]
    runtime: Runtime
    space: str = ""
    preset: Preset = PRESETS["standard"]
    new: bool = False

    def __post_init__(self) -> None:
        check_device_name(self.device)


@dataclass(frozen=True)
class KernelOutcome:
    """What became of it.

    Attributes:
        predictions: of the files, by the prices that there are now.
        refused: kernels that cannot be measured alone, with the reason.
        measured: number of kernels measured for it.
        run: None where nothing was left to measure.
    """

    predictions: tuple[FilePrediction, ...]
    refused: Mapping[str, str]
    measured: int
    run: Outcome | None


def measure_kernels(profiler: Profiler, request: KernelRequest) -> KernelOutcome:
    """Ask what is lacking, measure it, have the server add it to the table, and predict.

    Raises:
        NotFound: the device has no table of this runtime yet; the message says what makes one.
        LutnasError: none of the files has kernels that could be counted.
    """
    files = count_files(request.files, request.runtime)
    networks: Sequence[Sequence[str]] = [sorted(file.counts) for file in files if file.counts]
    if not networks:
        raise LutnasError("; ".join(f"{file.path}: {file.problem}" for file in files))
    client, runtime = profiler.client, str(request.runtime)
    plan, refused = client.plan_kernels(request.device, networks, request.space, runtime)
    run, space = None, request.space
    if plan is not None:
        profiler.progress.say(f"{len(plan.tasks)} kernels are to be measured for the table of {plan.space}")
        run = profiler.carry_out(plan, request.device, request.runtime, request.preset, request.new)
        space = plan.space
    found = tuple(predict_counted(client, request.device, file, space, runtime) for file in files)
    return KernelOutcome(found, refused, 0 if plan is None else len(plan.tasks), run)
