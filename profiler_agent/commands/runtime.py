"""Flags that say with what the agent measures: provider and optimisation level; both are part of a table's identity."""

from __future__ import annotations

import argparse

from shared.runtime import OPTIMISATION_LEVELS, PRECISIONS


def add_provider(parser: argparse.ArgumentParser) -> None:
    """--provider."""
    parser.add_argument(
        "--provider",
        default="cpu",
        metavar="P",
        help="execution provider: cpu, cuda, tensorrt, xnnpack, coreml, nnapi, qnn, ... or its full name (cpu);"
        " `profiler-agent probe` lists those that are here",
    )


def add_optimisation(parser: argparse.ArgumentParser) -> None:
    """--optimisation."""
    parser.add_argument(
        "--optimisation", choices=OPTIMISATION_LEVELS, default="all", help="of graphs, by ONNX Runtime (all)"
    )


def add_precision(parser: argparse.ArgumentParser, text: str) -> None:
    """Add `--precision`; `text` says of what."""
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help=f"{text} (fp32)")
