"""Have the device measure a network, and say whether it meets its budget.

    search verify --run runs/rpi4 --max-latency-ms 20

Exit code 0 if it met its budget, 1 if not. Without a budget the promise is the network's own upper
bound. A network given by budget or genotype is measured with inherited weights: its latency does
not depend on them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from search.commands.pick import add_picking, add_run, choose_network, open_run, parse_genotype
from search.commands.server import add_patience, measure_with, open_client
from search.deploy.export import read_metadata, untuned_onnx
from search.process.progress import working_progress
from shared.command_line import Commands, Parser, add_command
from shared.errors import CorruptFile, WrongUse
from shared.jobs import Promise
from shared.wire import to_wire


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "verify", run, __doc__)
    add_run(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--genotype", metavar="G", help="measure this network")
    which.add_argument("--onnx", type=Path, metavar="FILE", help="measure this file, made by `search export`")
    parser.add_argument(
        "--max-latency-ms", type=float, metavar="X", help="the budget; alone: measure the best network for it"
    )
    add_picking(parser)
    add_patience(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    if args.genotype is None and args.onnx is None and args.max_latency_ms is None:
        raise WrongUse("what shall be measured? give --max-latency-ms, --genotype or --onnx")
    run = open_run(args)
    progress = working_progress()
    with open_client(args, run) as client:
        measure = measure_with(client, run, args)
        name, content = (args.genotype, None) if args.onnx is None else read_exported(args.onnx, run.table.space)
        named = parse_genotype(run.space, name) if name else None
        chosen = choose_network(args, run, named, progress)
        name = run.space.format(chosen.genotype)
        target_ms = chosen.upper_ms if args.max_latency_ms is None else args.max_latency_ms
        promise = Promise(run.table.hash, name, chosen.predicted_ms, chosen.upper_ms, target_ms)
        content = content or untuned_onnx(run.supernet(), chosen.genotype)
        progress.line(f"waiting for {run.table.device} to measure {name}")
        found = measure(content, promise)
    if args.json:
        print(json.dumps({"promise": to_wire(promise), "verification": to_wire(found)}, indent=1))
        return 0 if found.met else 1
    print(
        f"{'met' if found.met else 'NOT MET'}: measured {found.measured_ms:.3f} ms"
        f" ({found.low_ms:.3f} to {found.high_ms:.3f}) for a target of {target_ms:.3f} ms;"
        f" predicted {chosen.predicted_ms:.3f}, bound {chosen.upper_ms:.3f}"
    )
    print(f"raw {found.raw_ms:.3f} ms at a machine speed of {found.canary_drift:.3f} canaries")
    if found.state is not None:
        verdict = "met" if found.as_timed_ms <= target_ms else "not met"
        print(
            f"state {found.state:.3f}: so much slower than in the table its own networks were in the same rounds;"
            f" without that correction {found.as_timed_ms:.3f} ms, {verdict}"
        )
    for reason in found.reasons:
        print(f"unstable: {reason}")
    return 0 if found.met else 1


def read_exported(path: Path, space: str) -> tuple[str, bytes]:
    """Genotype and bytes of an exported file.

    Raises:
        CorruptFile: it cannot be read, or `search export` did not write it.
        WrongUse: it is a network of another space.
    """
    try:
        content = path.read_bytes()
        metadata = read_metadata(content)
    except OSError as error:
        raise CorruptFile(f"{path} cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise CorruptFile(f"{path} is no ONNX file") from error
    if not {"genotype", "space"} <= metadata.keys():
        raise CorruptFile(f"{path} does not say which network it is: `search export` writes files that do")
    if metadata["space"] != space:
        raise WrongUse(f"{path} is of the space {metadata['space']}, the run is of {space}")
    return metadata["genotype"], content
