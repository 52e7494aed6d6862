"""`python -m benchmarks NAME [--json FILE]` runs a benchmark; NAME `all` runs all of them.

A benchmark prints its table, and writes its figures into FILE. `--page` writes
benchmarks/results/NAME.json and the table in docs/results.md; `all` does so for each benchmark. If
a benchmark fails, the others go on, and the exit code is 1. A figure below its bar is a result: the
exit code is 0.
"""

import argparse
import importlib
import inspect
import sys
from pathlib import Path

from benchmarks import COMPOSED, REGISTRY, DataMissing, report
from benchmarks.stack import StackError
from shared.errors import LutnasError, WrongUse

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"


def main(argv: list[str] | None = None) -> int:
    """Returns the process's exit code."""
    arguments = parse(argv)
    if arguments.name == "all":
        return run_all()
    try:
        if arguments.page:
            measured = run_into_page(arguments.name, RESULTS, PAGE, arguments.seeds)
        else:
            measured = run(arguments.name, arguments.seeds)
    except (DataMissing, LutnasError, StackError) as problem:
        print(f"{arguments.name}: {problem}", file=sys.stderr)
        return getattr(problem, "exit_code", 1)
    if arguments.json is not None:
        report.write(measured, arguments.json)
    print(report.render(measured))
    return 0


def run_all() -> int:
    """Run every benchmark; returns 1 if one failed. What lacks its data is left out."""
    failed = 0
    for name in REGISTRY:
        try:
            run_into_page(name, RESULTS, PAGE)
        except DataMissing as missing:
            print(f"{name}: left out: {missing}", file=sys.stderr)
        except (LutnasError, StackError) as problem:
            print(f"{name}: failed: {problem}", file=sys.stderr)
            failed = 1
    return failed


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The parsed arguments. Wrong use exits with code 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Runs benchmarks.")
    names = [*REGISTRY, *COMPOSED, "all"]
    parser.add_argument("name", metavar="NAME", choices=names, help=", ".join(names))
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures into FILE (not with `all`)")
    parser.add_argument("--seeds", metavar="N", type=int, help="number of seeds, where a benchmark has several")
    parser.add_argument("--page", action="store_true", help="keep its figures and rewrite its table in docs/results.md")
    arguments = parser.parse_args(argv)
    if arguments.page and arguments.name in COMPOSED:
        parser.error(f"{arguments.name} has no table of its own; its parts have: {', '.join(REGISTRY)}")
    if arguments.seeds is not None and (arguments.name == "all" or arguments.seeds < 1):
        parser.error("--seeds is 1 or more, and of a single benchmark")
    if arguments.name == "all" and arguments.json is not None:
        parser.error(f"`all` writes a file per benchmark into {RESULTS.relative_to(ROOT)}: leave --json out")
    return arguments


def run(name: str, seeds: int | None = None) -> report.Report:
    """Runs a benchmark, or all parts of a composed benchmark; progress goes to stderr.

    Raises:
        WrongUse: seeds for a benchmark without.
    """
    begun = report.describe_commit()
    figures: dict[str, report.Figure] = {}
    for part in COMPOSED.get(name, (name,)):
        module, _, function = REGISTRY[part].partition(":")
        measure = getattr(importlib.import_module(module), function)
        if seeds is not None and "seeds" not in inspect.signature(measure).parameters:
            raise WrongUse(f"{part} has no seeds: leave --seeds out")
        options = {} if seeds is None else {"seeds": seeds}
        figures |= measure(lambda line: print(f"{name}: {line}", file=sys.stderr, flush=True), **options)
    return report.measured_here(name, figures, begun)


def run_into_page(name: str, results: Path, page: Path, seeds: int | None = None) -> report.Report:
    """Runs a benchmark, writes its figures into `results` and its table into `page`."""
    measured = run(name, seeds)
    report.write(measured, results / f"{name}.json")
    page.write_text(report.replace_table(page.read_text(encoding="utf-8"), measured), encoding="utf-8")
    return measured


if __name__ == "__main__":
    sys.exit(main())
