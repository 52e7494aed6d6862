"""`predict` and `measure-kernels`: how long a user's own ONNX files take, and what that needs."""

from __future__ import annotations

import argparse
import json
import re
import shlex
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
from shared.errors import WrongUse, in_one_line

if TYPE_CHECKING:
    from profiler_agent.kernels.predict import FilePrediction

SHOWN = 10
MOST_SIDE = 1 << 31


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
    add_runtime(measure.add_argument_group("runtime"), "the table and of the files", batch=False)
    add_spool(measure)


def predict_files(arguments: argparse.Namespace) -> int:
    """Say how long ONNX files and genotypes take, without timing them.

    profiler-agent predict model.onnx --device rpi4 --lut-url http://server:8700
    """
    from profiler_agent.kernels.model_files import count_file
    from profiler_agent.kernels.predict import predict_counted, predict_genotype

    if not arguments.files and not arguments.genotype:
        raise WrongUse("predict: give an ONNX file, or --genotype with a network of the table's space")
    device, space, runtime = arguments.device, arguments.space, wanted_runtime(arguments)
    shapes = _shapes(arguments)
    with open_client(arguments) as client:
        counted = [count_file(path, runtime, shapes) for path in arguments.files]
        files = [predict_counted(client, device, file, space, str(runtime)) for file in counted]
        networks = [predict_genotype(client, device, genotype, space, runtime) for genotype in arguments.genotype]
    if arguments.json:
        told = {"files": [_as_json("path", prediction) for prediction in files]}
        told |= {"genotypes": [_as_json("genotype", prediction) for prediction in networks]} if networks else {}
        print(json.dumps(told, indent=2))
    else:
        _print([*files, *networks], arguments)
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
        _shapes(arguments),
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
    for problem in (*outcome.refused, *(() if outcome.run is None else outcome.run.refused)):
        say(problem)
    _print(outcome.predictions, arguments)
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


def _print(found: Sequence[FilePrediction], arguments: argparse.Namespace) -> None:
    """Predictions, and how to measure what `predict` guessed or lacks; `measure-kernels` has just tried."""
    lacking = []
    for prediction in found:
        note = f"; {prediction.note}" if prediction.note else ""
        if prediction.answer is None:
            say(f"{in_one_line(prediction.path)}: {prediction.problem}{note}")
            _list(prediction.missing)
            continue
        mean, sd, upper = (prediction.answer[name] for name in ("mean_ms", "sd_ms", "upper_ms"))
        bound = f"{100 * prediction.answer['confidence']:g} % bound {upper:.4g}"
        print(f"{prediction.path}: {mean:.4g} ms (standard deviation {sd:.2g}, {bound}{note})")
        guessed = prediction.answer.get("guessed") or []
        if guessed:
            say(f"{prediction.path}: {len(guessed)} kernels were never measured here and are guessed from their like:")
            _list(guessed)
        if isinstance(prediction.path, Path) and (guessed or prediction.missing):
            lacking.append(re.sub("^-", "./-", str(prediction.path)))
    if lacking and arguments.command is predict_files:
        flags = ["--lut-url", arguments.lut_url, "--device", arguments.device]
        flags += ["--space", arguments.space] if arguments.space else []
        for name in ("ca_file", "token_file"):
            flags += [f"--{name.replace('_', '-')}", given] if (given := getattr(arguments, name)) else []
        usual = {"threads": 1, "provider": "cpu", "optimisation": "all", "precision": "fp32"}
        for name, value in usual.items():
            given = getattr(arguments, name)
            flags += [f"--{name}", str(given)] if given != value else []
        flags += [part for shape in arguments.shape for part in ("--shape", shape)]
        say(f"measure them with: {shlex.join(['profiler-agent', 'measure-kernels', *flags, *lacking])}")


def _list(kernels: Sequence[str]) -> None:
    for kernel in kernels[:SHOWN]:
        say(f"  {kernel}")
    if len(kernels) > SHOWN:
        say(f"  and {len(kernels) - SHOWN} more")


def _add_table(parser: Parser) -> None:
    add_device(parser, "whose table to use")
    parser.add_argument("--space", default="", metavar="SPACE", help="of the table (default: the newest)")
    parser.add_argument(
        "--shape", action="append", default=[], metavar="INPUT=1,3,224,224", help="sides of an input that has free ones"
    )
    add_server(parser, "agent")


def _shapes(arguments: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    """Sides by input, of all `--shape`.

    Raises:
        WrongUse: an argument is no shape.
    """
    shapes = {}
    for text in arguments.shape:
        name, _, sides = text.rpartition("=")
        numbers = sides.split(",")
        if not name or not all(number.isdecimal() and 0 < int(number) < MOST_SIDE for number in numbers):
            raise WrongUse(f"--shape {text[:120]}: does not read INPUT=SIDE,SIDE,... with sides from 1 on")
        shapes[name] = tuple(map(int, numbers))
    return shapes
