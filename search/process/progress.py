"""How far a long piece of work is: bars on a terminal, the same phases as plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichBars

PLAIN_INTERVAL_S = 10.0


class Phase(Protocol):
    """One piece of work of a known length."""

    def advance(self, n: int = 1, **fields: object) -> None:
        """`n` more units are done; fields are shown beside the bar."""


class Progress(Protocol):
    """Phases one after another."""

    def phase(self, name: str, total: int) -> AbstractContextManager[Phase]:
        """Begin a phase; it ends with the context."""

    def line(self, text: str) -> None:
        """Say something that stays."""


class BarProgress:
    """Bars on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Phase]:
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}"),
        )
        with RichBars(*columns, console=self._console) as bars:
            yield _BarPhase(bars, name, total)

    def line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class _BarPhase:
    def __init__(self, bars: RichBars, name: str, total: int) -> None:
        self._bars = bars
        self._task = bars.add_task(name, total=total, shown="")

    def advance(self, n: int = 1, **fields: object) -> None:
        if fields:
            self._bars.update(self._task, shown=format_fields(fields))
        self._bars.advance(self._task, n)


class PlainProgress:
    """Lines: at the beginning and the end of a phase, and every ten seconds between.

    Args:
        write: takes one line.
        clock: seconds.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Phase]:
        self._write(f"{name}: {total}")
        phase = _PlainPhase(name, total, self._write, self._clock)
        yield phase
        phase.report("done")

    def line(self, text: str) -> None:
        self._write(text)


class _PlainPhase:
    def __init__(self, name: str, total: int, write: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._name, self._total, self._write, self._clock = name, total, write, clock
        self._done = 0
        self._fields: dict[str, object] = {}
        self._begun_s = self._last_s = clock()

    def advance(self, n: int = 1, **fields: object) -> None:
        self._done += n
        self._fields.update(fields)
        if self._clock() - self._last_s >= PLAIN_INTERVAL_S:
            self.report("")

    def report(self, state: str) -> None:
        self._last_s = self._clock()
        elapsed = f"{self._last_s - self._begun_s:.0f} s"
        words = (f"{self._name}: {self._done}/{self._total}", state, elapsed, format_fields(self._fields))
        self._write("  ".join(word for word in words if word))


class SilentProgress:
    """Says nothing."""

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Phase]:
        yield self

    def advance(self, n: int = 1, **fields: object) -> None:
        pass

    def line(self, text: str) -> None:
        pass


def make_progress(console: Console) -> Progress:
    """Bars if the console is a terminal, lines otherwise."""
    if console.is_terminal:
        return BarProgress(console)
    return PlainProgress(lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))


def format_fields(fields: dict[str, object]) -> str:
    """name value, name value: numbers with three digits."""
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in fields.items())
