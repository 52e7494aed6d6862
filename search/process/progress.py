"""How far a long piece of work is: bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichBars

PLAIN_INTERVAL_S = 10.0


@dataclass(frozen=True)
class Phase:
    """Work of a known length. `advance(n=1, **fields)`: `n` units more are done; shows fields."""

    advance: Callable[..., None]


class Progress:
    """Lines: at the beginning and the end of a phase, and every ten seconds between.

    Args:
        line: takes a line that stays.
        clock: seconds.
    """

    def __init__(self, line: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.line = line
        self._clock = clock

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Phase]:
        """A phase that ends with the context; phases follow one another."""
        done, shown, begun_s = 0, dict[str, object](), self._clock()
        last_s = begun_s

        def report(state: str) -> None:
            nonlocal last_s
            last_s = self._clock()
            words = (f"{name}: {done}/{total}", state, f"{last_s - begun_s:.0f} s", format_fields(shown))
            self.line("  ".join(word for word in words if word))

        def advance(n: int = 1, **fields: object) -> None:
            nonlocal done
            done += n
            shown.update(fields)
            if self._clock() - last_s >= PLAIN_INTERVAL_S:
                report("")

        self.line(f"{name}: {total}")
        yield Phase(advance)
        report("done")


class SilentProgress(Progress):
    """Says nothing."""

    def __init__(self) -> None:
        super().__init__(lambda line: None)


class BarProgress(Progress):
    """Bars on a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))
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
            task = bars.add_task(name, total=total, shown="")

            def advance(n: int = 1, **fields: object) -> None:
                if fields:
                    bars.update(task, shown=format_fields(fields))
                bars.advance(task, n)

            yield Phase(advance)


def working_progress() -> Progress:
    """On stderr; stdout is for the result."""
    return make_progress(Console(stderr=True))


def make_progress(console: Console) -> Progress:
    """Bars if the console is a terminal, lines otherwise."""
    if console.is_terminal:
        return BarProgress(console)
    return Progress(lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))


def format_fields(fields: dict[str, object]) -> str:
    """name value, name value: numbers with three digits."""
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in fields.items())
