"""`profiler-agent predict` and `measure-kernels`: how long a user's own ONNX files take, and what that needs."""

from __future__ import annotations

import argparse
import io
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler_agent.commands.runtime import add_optimisation, add_precision, add_provider
from profiler_agent.commands.server import add_access, open_client
from profiler_agent.spool.spool import Spool, default_spool
from profiler_agent.timing.stopping import PRESETS
from shared.errors import WrongUse

if TYPE_CHECKING:
    from profiler_agent.kernels.predict import FilePrediction
    from shared.runtime import Runtime

SHOWN = 10
MOST_SIDE = 1 << 31


def add_own_files(commands: Any) -> None:
    """Add both commands to the parser's commands."""
    predict = commands.add_parser("predict", help="say how long ONNX files and genotypes take, without timing them")
    _add_table(predict)
    predict.add_argument("files", type=Path, nargs="*", metavar="FILE.onnx", help="models")
    predict.add_argument(
        "--genotype", nargs="+", default=[], metavar="G", help="networks of the table's space, in its own form"
    )
    predict.add_argument("--json", action="store_true", help="as one JSON object")
    # It keeps nothing; accepted because every other command that asks a server has it.
    predict.add_argument("--spool", help=argparse.SUPPRESS)
    predict.set_defaults(command=run_predict, stateless=True)

    measure = commands.add_parser("measure-kernels", help="measure the kernels of ONNX files that the table lacks")
    _add_table(measure)
    measure.add_argument("files", type=Path, nargs="+", metavar="FILE.onnx", help="models")
    measure.add_argument(
        "--spool", metavar="DIR", help="where measurements are kept (or LUTNAS_SPOOL; ~/.local/state/lutnas)"
    )
    measure.add_argument(
        "--preset", choices=sorted(PRESETS), default="standard", help="how precise, how long (standard)"
    )
    measure.add_argument("--new", action="store_true", help="begin anew: resume nothing")
    measure.set_defaults(command=run_measure_kernels)


def run_predict(arguments: argparse.Namespace) -> int:
    """`predict`: what the device's table says of ONNX files and of genotypes."""
    from profiler_agent.kernels.predict import predict_files, predict_genotypes

    if not arguments.files and not arguments.genotype:
        raise WrongUse("predict: give an ONNX file, or --genotype with a network of the table's space")
    device, space, runtime = arguments.device, arguments.space, _runtime(arguments)
    with open_client(arguments) as client:
        files = predict_files(client, device, arguments.files, space, runtime, _shapes(arguments))
        networks = predict_genotypes(client, device, arguments.genotype, space, runtime)
    if arguments.json:
        told = {"files": [_as_json("path", one) for one in files]}
        told |= {"genotypes": [_as_json("genotype", one) for one in networks]} if networks else {}
        print(json.dumps(told, indent=2))
    else:
        _print([*files, *networks], arguments)
    return 1 if any(one.answer is None for one in [*files, *networks]) else 0


def run_measure_kernels(arguments: argparse.Namespace) -> int:
    """`measure-kernels`: measure what is lacking, then predict; 1 if a file or a kernel was left out."""
    from profiler_agent.profile.measure_kernels import KernelRequest, measure_kernels
    from profiler_agent.profile.profile import Profiler
    from profiler_agent.progress import Progress

    request = KernelRequest(
        arguments.device,
        tuple(arguments.files),
        _runtime(arguments),
        _shapes(arguments),
        arguments.space,
        PRESETS[arguments.preset],
        arguments.new,
    )
    spool = Spool(Path(arguments.spool) if arguments.spool else default_spool())
    with open_client(arguments) as client:
        outcome = measure_kernels(Profiler(client, spool, Progress(_say, sys.stderr.isatty())), request)
    if outcome.run is None:
        print("nothing was left to measure")
    elif outcome.run.table is not None:
        print(f"measured   {outcome.measured} kernels; table {outcome.run.table['hash']}")
    for problem in (*outcome.refused, *(() if outcome.run is None else outcome.run.refused)):
        _say(problem)
    _print(outcome.predictions, arguments)
    failed = outcome.run is not None and (outcome.run.refused or outcome.run.table is None)
    return 1 if failed or outcome.refused or any(one.answer is None for one in outcome.predictions) else 0


def _as_json(kind: str, one: FilePrediction) -> dict[str, Any]:
    answer = one.answer or {}
    names = ("mean_ms", "sd_ms", "upper_ms", "confidence", "table")
    return {
        kind: str(one.path),
        **{name: answer[name] for name in names if name in answer},
        "missing": [*one.missing, *(answer.get("guessed") or ())],
        "note": one.note,
        "problem": one.problem,
    }


def _print(found: Sequence[FilePrediction], arguments: argparse.Namespace) -> None:
    """Predictions, and how to measure what `predict` guessed or lacks; `measure-kernels` has just tried."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file may have a name that the terminal cannot show
    lacking = []
    for one in found:
        if one.answer is None:
            _say(f"{one.path}: {one.problem}")
            _list(one.missing)
        else:
            mean, sd, upper = (one.answer[name] for name in ("mean_ms", "sd_ms", "upper_ms"))
            note = f"; {one.note}" if one.note else ""
            print(f"{one.path}: {mean:.4g} ms (standard deviation {sd:.2g}, 99 % bound {upper:.4g}{note})")
        guessed = (one.answer or {}).get("guessed") or []
        if guessed:
            _say(f"{one.path}: {len(guessed)} kernels were never measured here and are guessed from their like:")
            _list(guessed)
        if isinstance(one.path, Path) and (guessed or one.missing):
            lacking.append(str(one.path))
    if lacking and arguments.command is run_predict:
        flags = ["--server", arguments.server, "--device", arguments.device]
        flags += ["--space", arguments.space] if arguments.space else []
        usual = {"threads": 1, "provider": "cpu", "optimisation": "all", "precision": "fp32"}
        for name, value in usual.items():
            given = getattr(arguments, name)
            flags += [f"--{name}", str(given)] if given != value else []
        flags += [part for shape in arguments.shape for part in ("--shape", shape)]
        _say(f"measure them with: {shlex.join(['profiler-agent', 'measure-kernels', *flags, *lacking])}")


def _list(kernels: Sequence[str]) -> None:
    for kernel in kernels[:SHOWN]:
        _say(f"  {kernel}")
    if len(kernels) > SHOWN:
        _say(f"  and {len(kernels) - SHOWN} more")


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", required=True, metavar="URL", help="the lut-server, for example http://host:8000")
    add_access(parser)
    parser.add_argument("--device", required=True, metavar="NAME", help="whose table to use")
    parser.add_argument("--space", default="", metavar="SPACE", help="of the table (default: the newest)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of one inference (1)")
    add_provider(parser)
    add_optimisation(parser)
    add_precision(parser, "of the table and of the files")
    parser.add_argument(
        "--shape", action="append", default=[], metavar="INPUT=1,3,224,224", help="sides of an input that has free ones"
    )


def _shapes(arguments: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    """Sides by input, of all `--shape`.

    Raises:
        WrongUse: one of them is no shape.
    """
    shapes = {}
    for text in arguments.shape:
        name, _, sides = text.rpartition("=")
        numbers = sides.split(",")
        if not name or not all(one.isdecimal() and 0 < int(one) < MOST_SIDE for one in numbers):
            raise WrongUse(f"--shape {text[:120]}: does not read INPUT=SIDE,SIDE,... with sides from 1 on")
        shapes[name] = tuple(map(int, numbers))
    return shapes


def _runtime(arguments: argparse.Namespace) -> Runtime:
    from profiler_agent.ort.sessions import local_runtime

    return local_runtime(
        arguments.threads,
        provider=arguments.provider,
        optimisation=arguments.optimisation,
        precision=arguments.precision,
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
