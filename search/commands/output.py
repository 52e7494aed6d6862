"""Results on stdout: a line, or JSON."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console


def print_json(console: Console, value: Any) -> None:
    """A JSON value, neither coloured nor wrapped."""
    console.out(json.dumps(value, indent=1), highlight=False)


def print_line(console: Console, line: str) -> None:
    """A line, neither coloured nor wrapped."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
