"""Results on stdout: a line, JSON, or a ladder as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from search.deploy.ladder import Rung


def print_json(console: Console, value: Any) -> None:
    """A JSON value, neither coloured nor wrapped."""
    console.out(json.dumps(value, indent=1), highlight=False)


def print_line(console: Console, line: str) -> None:
    """A line, neither coloured nor wrapped."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def ladder_table(rungs: Sequence[Rung]) -> Table:
    """A row per budget."""
    table = Table()
    for name in ("target ms", "predicted", "bound", "measured", "met", "accuracy", "parameters"):
        table.add_column(name, justify="right")
    for rung in rungs:
        table.add_row(
            *(f"{value:.3f}" for value in (rung.target_ms, rung.predicted_ms, rung.upper_ms, rung.measured_ms)),
            "yes" if rung.met else "NO",
            "" if rung.accuracy is None else f"{rung.accuracy:.2f} %",
            f"{rung.parameters:,}",
        )
    return table
