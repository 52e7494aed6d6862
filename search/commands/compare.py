"""Compare strategies on a device, each with several seeds.

    search compare --device rpi4 --lut-url http://server:8700 --strategies darts,gdas --seeds 5

All have the same images, table, budgets and numbers of updates. Writes comparison.json,
comparison.csv and comparison.html. After an interruption the same command goes on. The same command
with other strategies or more seeds adds them; any other setting needs another --out. A strategy may
have options: darts:order=2,momentum=0.8
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from search.commands.asked import require_kept
from search.commands.ladder import add_budgets
from search.commands.run import add_arguments as add_search_arguments
from search.commands.run import begin_run, default_title
from search.compare.comparison import Comparison
from search.compare.comparison_figures import Result, Spread, summarise
from search.config import Config
from search.decoding.decoding import make_decoder
from search.family.build import spread
from search.family.family import FamilySettings
from search.latency.latency_model import LatencyModel
from search.process.interruption import stop_on_signals
from search.process.progress import working_progress
from search.report.comparison import build_comparison_page
from search.runs.run_directory import RunDirectory, write_value
from search.strategies import STRATEGIES, NamedStrategy, SearchStopped, parse_strategy, split_strategies
from shared.atomic_files import write_atomically
from shared.command_line import Commands, Parser, add_command
from shared.errors import BudgetTooSmall, InvalidValue, Stopped, WrongUse
from shared.spaces import Genotype
from shared.wire import COMPARISON_SCHEMA, to_wire

SEEDS = 5
OWN_MODELS = ("dartscc", "random", "nsga2")
"""Strategies that know no ops, and so take a user's own model. The trainer of `search` runs them; the
others compute in fp32 on the CPU."""
FILE_WIDTH = 160
"""Of the table where there is no terminal."""
COLUMNS = (
    ("hypervolume", "hypervolume", "{:.3f}"),
    ("under_budget", "score under budget", "{:.3f}"),
    ("distinct", "distinct", "{:.1f}"),
    ("budgets_met", "budgets met", "{:.0%}"),
    ("derived_met", "as derived", "{:.0%}"),
    ("seconds", "seconds", "{:.0f}"),
    ("images_per_s", "images/s", "{:.0f}"),
)
"""Field of a result, heading, format."""


def add(commands: Commands[Parser]) -> None:
    parser = add_command(commands, "compare", run, __doc__)
    add_search_arguments(parser, with_budgets=False)
    parser.add_argument(
        "--strategies",
        required=True,
        metavar="A,B,...",
        help=f"of: {', '.join(STRATEGIES)}; an option is NAME:option=value",
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="0 to N-1 (default: %(default)d)")
    add_budgets(parser, "a geometric series over the bounds of the space")
    parser.add_argument(
        "--evaluations",
        type=int,
        default=FamilySettings.candidates,
        metavar="N",
        help="networks that a search may score on a supernet (default: %(default)d)",
    )


def run(args: argparse.Namespace) -> None:
    """Search with every strategy and seed, judge, write, and print the table."""
    console = Console()
    strategies = [parse_strategy(text) for text in split_strategies(args.strategies)]
    check_arguments(args, strategies)
    progress = working_progress()
    out = args.out or Path("runs") / f"compare-{args.device[0]}-{default_title(args)}"
    precision = "fp32" if with_loops_of_their_own(strategies) else args.precision
    setup = argparse.Namespace(**{**vars(args), "out": out / "setup", "precision": precision})
    if (setup.out / "config.json").exists():
        directory = RunDirectory.open(setup.out)
        check_precision(directory.config, strategies, out)
        require_kept(argparse.Namespace(**{**vars(args), "out": out}), directory, progress, whole=True)
        images = directory.load_images()
    else:
        directory, images = begin_run(setup, progress)
    (table,) = directory.tables
    decoder = make_decoder(LatencyModel(table), directory.config.confidence)
    budgets_ms = tuple(sorted(args.max_latency_ms or spread(decoder.smallest_ms, decoder.largest_ms, args.budgets)))
    if budgets_ms[0] < decoder.smallest_ms:
        raise BudgetTooSmall(budgets_ms[0], decoder.smallest_ms, table.device)
    with stop_on_signals() as stopped:
        comparison = Comparison(out, directory.config, table, images, budgets_ms, args.evaluations, progress, stopped)
        comparison.claim()
        try:
            units = [comparison.run_unit(strategy, seed) for seed in range(args.seeds) for strategy in strategies]
            results = comparison.judged(comparison.with_earlier(units))
        except SearchStopped as stop:
            raise Stopped(f"{stop}; the same command goes on (--out {out})") from stop
    write_results(comparison, results)
    wide = console if console.is_terminal else Console(width=FILE_WIDTH)
    wide.print(results_table(results))
    for result in results:
        for note in result.notes:
            print(f"{result.strategy}, seed {result.seed}: {note}")
    print(f"{out / 'comparison.html'}, comparison.json, comparison.csv")


def check_arguments(args: argparse.Namespace, strategies: Sequence[NamedStrategy]) -> None:
    """Raise InvalidValue or WrongUse for wrong arguments, before anything is fetched."""
    for name, least in (("seeds", 1), ("budgets", 1), ("evaluations", 4)):
        if not least <= getattr(args, name) <= 100_000:
            raise InvalidValue(name, f"{getattr(args, name)} is not within {least} to 100000")
    if not strategies:
        raise InvalidValue("strategies", f"names none (known: {', '.join(STRATEGIES)})")
    texts = [strategy.text for strategy in strategies]
    if len(set(texts)) < len(texts):
        raise WrongUse(f"--strategies {args.strategies} names a strategy twice")
    if others := with_loops_of_their_own(strategies):
        alone = f"compare {', '.join(OWN_MODELS)} alone"
        if args.model:
            raise WrongUse(f"{others[0]} takes ops of our spaces; with --model {alone}")
        for name, value in (("processor", "cuda"), ("precision", "bf16")):
            if getattr(args, name) == value:
                raise WrongUse(f"{others[0]} computes in fp32 on the CPU; with --{name} {value} {alone}")
    if not args.device or len(args.device) > 1:
        raise WrongUse("a comparison needs one --device")
    if args.seed is not None:
        raise WrongUse("--seed: a comparison has --seeds N, from 0 to N-1")


def check_precision(config: Config, strategies: Sequence[NamedStrategy], out: Path) -> None:
    """Raise WrongUse if a comparison was begun with what a strategy that is added to it cannot do."""
    if (others := with_loops_of_their_own(strategies)) and (config.precision, config.processor) != ("fp32", "cpu"):
        begun = f"{out} was begun in {config.precision} on {config.processor}"
        raise WrongUse(f"{begun}, and {others[0]} computes in fp32 on the CPU; choose another --out")


def with_loops_of_their_own(strategies: Sequence[NamedStrategy]) -> list[str]:
    """The strategies that the trainer of `search` does not run."""
    return [strategy.text for strategy in strategies if strategy.text.partition(":")[0] not in OWN_MODELS]


def results_table(results: Sequence[Result]) -> Table:
    """One row per strategy: mean and standard deviation over seeds."""
    table = Table()
    table.add_column("strategy")
    for _, heading, _ in COLUMNS:
        table.add_column(heading, justify="right")
    for name, summary in summaries(results).items():
        table.add_row(name, *(_shown(summary[field], form) for field, _, form in COLUMNS))
    return table


def summaries(results: Sequence[Result]) -> dict[str, dict[str, Spread | None]]:
    """By strategy, best hypervolume first; None where no seed has a value."""
    found: dict[str, dict[str, Spread | None]] = {}
    for name in dict.fromkeys(result.strategy for result in results):
        own = [result for result in results if result.strategy == name]
        found[name] = {}
        for field, _, _ in COLUMNS:
            values = [getattr(result, field) for result in own if getattr(result, field) is not None]
            found[name][field] = summarise(values) if values else None
    volumes = {name: own["hypervolume"] for name, own in found.items()}
    return dict(sorted(found.items(), key=lambda item: -(volumes[item[0]] or Spread(0.0, None)).mean))


def write_results(comparison: Comparison, results: Sequence[Result]) -> None:
    """comparison.json with every network, comparison.csv by unit, comparison.html with plots."""
    content: dict[str, Any] = {
        "schema": COMPARISON_SCHEMA,
        "config": to_wire(comparison.config),
        "budgets_ms": list(comparison.budgets_ms),
        "evaluations": comparison.evaluations,
        "summary": {
            name: {field: to_wire(value) for field, value in summary.items()}
            for name, summary in summaries(results).items()
        },
        "results": to_wire(list(results), {Genotype: comparison.table.parsed_space.format}),
    }
    path = comparison.path
    write_value(path / "comparison.json", content)
    write_atomically(path / "comparison.csv", _csv(results).encode())
    page = build_comparison_page(comparison, results, summaries(results))
    write_atomically(path / "comparison.html", page.encode())


def _csv(results: Sequence[Result]) -> str:
    buffer = io.StringIO()
    fields = [field for field, _, _ in COLUMNS]
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["strategy", "seed", *fields, "evaluations"])
    for result in results:
        values = [getattr(result, field) for field in fields]
        writer.writerow([result.strategy, result.seed, *("" if v is None else v for v in values), result.evaluations])
    return buffer.getvalue()


def _shown(value: Spread | None, form: str) -> str:
    if value is None:
        return ""
    deviation = "" if value.deviation is None else f" ± {form.format(value.deviation)}"
    return form.format(value.mean) + deviation
