"""The report of a benchmark: figures, place and date, as JSON and as a table of docs/results.md.

The JSON form:

    {"benchmark": "profiling", "date": "2026-01-31T12:00:00+00:00", "commit": "1a2b3c4d5e6f",
     "hardware": "...", "python": "3.11.7", "onnxruntime": "1.31.1", "torch": "2.13.0", "figures":
     {"profiling.nb201.kendall_tau": {"value": 0.95, "n": 40, "spread": 0.01, "bar": ">= 0.90"}}}
"""

import dataclasses
import importlib.metadata
import json
import math
import operator
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

COMPARISONS = {"<=": operator.le, ">=": operator.ge}


class ReportError(ValueError):
    """A result file or a results page has another form than this module writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number.

    Attributes:
        n: number of runs, networks or seeds behind it.
        spread: of these, a standard deviation in the figure's unit, or words ("1.9 to 2.4").
        bar: "<= 3" or ">= 0.9".
    """

    value: float
    unit: str | None = None
    n: int | None = None
    spread: float | str | None = None
    bar: str | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ReportError(f"a figure must be a finite number, not {self.value}")
        if self.bar is not None:
            parse_bar(self.bar)

    @property
    def reached(self) -> bool | None:
        """Whether the value reaches the bar; None without a bar."""
        if self.bar is None:
            return None
        comparison, limit = parse_bar(self.bar)
        return bool(COMPARISONS[comparison](self.value, limit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The figures of a run of a benchmark, with its circumstances."""

    benchmark: str
    date: str  # ISO 8601, UTC
    commit: str
    hardware: str
    python: str
    onnxruntime: str
    torch: str | None = None
    figures: Mapping[str, Figure]


def parse_bar(bar: str) -> tuple[str, float]:
    """`"<= 3"` as `("<=", 3.0)`."""
    match = re.fullmatch(r"(<=|>=)\s*(\S+)", bar)
    try:
        if match is None:
            raise ValueError
        return match[1], float(match[2])
    except ValueError:
        raise ReportError(f"a bar reads '<= 3' or '>= 0.9', not {bar!r}") from None


# --- where and when


def measured_here(benchmark: str, figures: Mapping[str, Figure], begun: str) -> Report:
    """The report of figures that this machine measured just now.

    Args:
        begun: commit at the start, when the code was read. Another one now is told by a "+".
    """
    commit = begun if begun.endswith("+") or begun == describe_commit() else f"{begun}+"
    return Report(
        benchmark=benchmark,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit,
        hardware=describe_hardware(),
        python=platform.python_version(),
        onnxruntime=find_version("onnxruntime") or "not installed",
        torch=find_version("torch"),
        figures=dict(figures),
    )


def find_version(distribution: str) -> str | None:
    """The installed version, without an import (that of torch takes seconds)."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe_commit() -> str:
    """The commit of the sources, with "+" if tracked files differ; "unknown" outside of git."""
    here = Path(__file__).parent
    try:
        commit = _git("rev-parse", "--short=12", "HEAD", cwd=here)
        # `all` rewrites its results as it goes. They do not change the measured code.
        results = (":(top,exclude)docs/results.md", ":(top,exclude)benchmarks/results")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", *results, cwd=here)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+" if changed else commit


def _git(*arguments: str, cwd: Path) -> str:
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


def describe_hardware() -> str:
    """Processor, usable cores, memory."""
    parts = [_cpu_model() or platform.processor() or platform.machine(), f"{len(os.sched_getaffinity(0))} cores"]
    if "SC_PHYS_PAGES" in os.sysconf_names:
        parts.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB")
    return ", ".join(parts)


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    fields = [[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]
    # Boards without a "model name" (Raspberry Pi) have their name in "Model".
    return next((value for wanted in ("model name", "Model") for key, value in fields if key == wanted), None)


# --- JSON


def to_json(report: Report) -> str:
    """The report as text, without fields that are None."""
    return json.dumps(_without_none(dataclasses.asdict(report)), indent=2, allow_nan=False) + "\n"


def _without_none(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_none(value) for key, value in node.items() if value is not None}
    return node


def from_json(text: str) -> Report:
    """The inverse of `to_json`; raises ReportError on any other form."""
    try:
        fields = json.loads(text)
        figures = {name: Figure(**figure) for name, figure in fields.pop("figures").items()}
        return Report(**fields, figures=figures)
    except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ReportError(f"not a benchmark's result: {error}") from error


def write(report: Report, path: Path) -> None:
    """Writes the JSON form; makes a missing folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(report), encoding="utf-8")


def read(path: Path) -> Report:
    """Reads the JSON form."""
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except ReportError as error:
        raise ReportError(f"{path}: {error}") from error


# --- markdown


def render(report: Report) -> str:
    """The circumstances of the report in two lines, and a markdown table."""
    versions = [f"Python {report.python}", f"ONNX Runtime {report.onnxruntime}"]
    if report.torch is not None:
        versions.append(f"torch {report.torch}")
    rows = [
        (
            f"`{name}`",
            f"{format_number(figure.value)} {figure.unit or ''}".rstrip(),
            "" if figure.n is None else str(figure.n),
            figure.spread if isinstance(figure.spread, str) else format_number(figure.spread),
            figure.bar or "",
            {True: "yes", False: "**no**", None: ""}[figure.reached],
        )
        for name, figure in report.figures.items()
    ]
    return "\n".join(
        [
            f"{report.date}, commit `{report.commit}`, {report.hardware};",
            f"{', '.join(versions)}.",
            "",
            *_table(("figure", "value", "n", "spread", "bar", "reached"), rows),
        ]
    )


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
        for row in (header, ("---",) * len(header), *rows)
    ]


def format_number(value: float | None) -> str:
    """Four significant digits, thousands in full; "" for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def replace_table(page: str, report: Report) -> str:
    """The page with the report's table between its two markers."""
    begin, end = f"<!-- benchmark:{report.benchmark} -->", f"<!-- /benchmark:{report.benchmark} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ReportError(f"the page lacks the lines {begin} and {end}")
    return f"{before}{begin}\n\n{render(report)}\n\n{end}{after}"
