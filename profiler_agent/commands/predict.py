"""`predict` and `measure-kernels`: how long a user's own ONNX files take, and what that needs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler_agent.commands.options import (
    add_device,
    add_preset,
    add_runtime,
    add_spool,
    make_progress,
    open_client,
    open_spool,
    say,
    wanted_runtime,
)
from profiler_agent.timing.stopping import PRESETS
from shared.command_line import Commands, Parser, add_command, add_server
from shared.errors import WrongUse

if TYPE_CHECKING:
    from profiler_agent.kernels.predict import FilePrediction

SHOWN = 10


def add(commands: Commands[Parser]) -> None:
    predict = add_command(commands, "predict", predict_files)
    predict.add_argument("files", type=Path, nargs="*", metavar="FILE.onnx", help="models")
    predict.add_argument(
        "--genotype", nargs="+", default=[], metavar="G", help="networks of the table's space, in its own form"
    )
    _add_table(predict)
    add_runtime(predict.add_argument_group("runtime"), "the table and of the files", batch=False)
    predict.add_argument("--json", action="store_true", help="as one JSON object")
    # It keeps nothing; accepted because every other command that asks a server has it.
    predict.add_argument("--spool", help=argparse.SUPPRESS)

    measure = add_command(commands, "measure-kernels", measure_missing)
    measure.add_argument("files", type=Path, nargs="+", metavar="FILE.onnx", help="models")
    _add_table(measure)
    add_preset(measure)
    measure.add_argument("--new", action="store_true", help="begin anew: resume nothing")
    add_runtime(measure.add_argument_group("runtime"), precision_of="", batch=False)
    add_spool(measure)


def predict_files(arguments: argparse.Namespace) -> int:
    """Say how long ONNX files and genotypes take, without timing them.

    profiler-agent predict model.onnx --device rpi4 --lut-url http://server:8700
    """
    from profiler_agent.kernels import predict

    if not arguments.files and not arguments.genotype:
        raise WrongUse("predict: give an ONNX file, or --genotype with a network of the table's space")
    device, space, runtime = arguments.device, arguments.space, wanted_runtime(arguments)
    with open_client(arguments) as client:
        files = predict.predict_files(client, device, arguments.files, space, runtime)
        networks = predict.predict_genotypes(client, device, arguments.genotype, space, runtime)
    if arguments.json:
        told = {"files": [_as_json("path", prediction) for prediction in files]}
        told |= {"genotypes": [_as_json("genotype", prediction) for prediction in networks]} if networks else {}
        print(json.dumps(told, indent=2))
    else:
        _print(files, arguments.files, arguments)
        _print(networks, (), arguments)
    return 1 if any(prediction.answer is None for prediction in [*files, *networks]) else 0


def measure_missing(arguments: argparse.Namespace) -> int:
    """Measure the kernels of ONNX files that the table lacks, then predict.

    profiler-agent measure-kernels model.onnx --device rpi4 --lut-url http://server:8700
    """
    from profiler_agent.profile.measure_kernels import KernelRequest, measure_kernels
    from profiler_agent.profile.profile import Profiler

    request = KernelRequest(
        arguments.device,
        tuple(arguments.files),
        wanted_runtime(arguments),
        arguments.space,
        PRESETS[arguments.preset],
        arguments.new,
    )
    with open_client(arguments) as client:
        outcome = measure_kernels(Profiler(client, open_spool(arguments), make_progress()), request)
    if outcome.run is None:
        print("nothing was left to measure")
    elif outcome.run.table is not None:
        print(f"measured   {outcome.measured} kernels; table {outcome.run.table['hash']}")
    for kernel, problem in outcome.refused.items():
        say(f"{kernel}: {problem}")
    for problem in () if outcome.run is None else outcome.run.refused:
        say(problem)
    _print(outcome.predictions, (), arguments)
    failed = outcome.run is not None and (outcome.run.refused or outcome.run.table is None)
    return 1 if failed or outcome.refused or any(prediction.answer is None for prediction in outcome.predictions) else 0


def _as_json(kind: str, prediction: FilePrediction) -> dict[str, Any]:
    answer = prediction.answer or {}
    names = ("mean_ms", "sd_ms", "upper_ms", "confidence", "table")
    return {
        kind: str(prediction.path),
        **{name: answer[name] for name in names if name in answer},
        "missing": [*prediction.missing, *(answer.get("guessed") or ())],
        "note": prediction.note,
        "problem": prediction.problem,
    }


def _print(found: Sequence[FilePrediction], files: Sequence[Path], arguments: argparse.Namespace) -> None:
    lacking = False
    for prediction in found:
        if prediction.answer is None:
            say(f"{prediction.path}: {prediction.problem}")
            lacking = lacking or bool(prediction.missing)
            _list(prediction.missing)
            continue
        mean, sd, upper = (prediction.answer[name] for name in ("mean_ms", "sd_ms", "upper_ms"))
        bound = f"{100 * prediction.answer['confidence']:g} % bound {upper:.4g}"
        note = f"; {prediction.note}" if prediction.note else ""
        print(f"{prediction.path}: {mean:.4g} ms (standard deviation {sd:.2g}, {bound}{note})")
        guessed = prediction.answer.get("guessed") or []
        if guessed:
            lacking = True
            say(f"{prediction.path}: {len(guessed)} kernels were never measured here and are guessed from their like:")
            _list(guessed)
    if lacking and files:
        space = f" --space {arguments.space}" if arguments.space else ""
        usual = {"threads": 1, "provider": "cpu", "optimisation": "all"}
        runtime = "".join(
            f" --{name} {getattr(arguments, name)}"
            for name, value in usual.items()
            if getattr(arguments, name) != value
        )
        say(
            f"measure them with: profiler-agent measure-kernels --lut-url {arguments.lut_url}"
            f" --device {arguments.device}{space}{runtime} {' '.join(map(str, files))}"
        )


def _list(kernels: Sequence[str]) -> None:
    for kernel in kernels[:SHOWN]:
        say(f"  {kernel}")
    if len(kernels) > SHOWN:
        say(f"  and {len(kernels) - SHOWN} more")


def _add_table(parser: Parser) -> None:
    add_device(parser, "whose table to use")
    parser.add_argument("--space", default="", metavar="SPACE", help="of the table (default: the newest)")
    add_server(parser, "agent")
