"""Shows the progress of a campaign: a bar on a terminal with rich, plain lines elsewhere.

The bar is drawn between rounds only. A thread that redraws would be timed along with the graphs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from profiler_agent.timing.campaign import Subject

DRAW_EVERY_S = 0.5
LINE_EVERY_S = 5.0


class Progress:
    """Says lines through `say`, and draws a bar if `terminal` is true and rich is installed."""

    def __init__(
        self, say: Callable[[str], None], terminal: bool = False, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._terminal = terminal
        self._clock_s = clock_s
        self._bar: RichProgress | None = None
        self._bar_task: TaskID | None = None
        self._title = ""
        self._next_s = 0.0

    def say(self, line: str) -> None:
        """One line for the user."""
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            self._say(line)

    @contextmanager
    def bar(self, title: str) -> Iterator[None]:
        """Show the progress of what is done inside."""
        self._title = title
        self._next_s = self._clock_s() + (0 if self._terminal else LINE_EVERY_S)
        self._bar = _rich_progress() if self._terminal else None
        if self._bar is None:
            yield
            return
        with self._bar:
            self._bar_task = self._bar.add_task(title, total=1.0)
            try:
                yield
            finally:
                self._bar.refresh()
                self._bar = None

    def counted(self, done: int, total: int) -> None:
        """Show how many are done."""
        self._show(done / max(total, 1), f"{self._title}: {done} of {total}", last=done == total)

    def measured(self, subjects: Sequence[Subject], max_rounds: int) -> None:
        """Show how far a campaign is. A precise task skips the rest of its rounds."""
        if self._clock_s() < self._next_s:
            return
        done = sum(subject.done for subject in subjects)
        share = sum(1.0 if s.done else min(len(s.rounds) / max_rounds, 1.0) for s in subjects) / len(subjects)
        rounds = max(len(subject.rounds) for subject in subjects)
        self._show(share, f"{self._title}: round {rounds}, {done} of {len(subjects)} tasks done")

    def _show(self, share: float, line: str, last: bool = False) -> None:
        if self._clock_s() < self._next_s and not (last and self._bar is not None):
            return
        if self._bar is None or self._bar_task is None:
            self._next_s = self._clock_s() + LINE_EVERY_S
            self._say(line)
        else:
            self._next_s = self._clock_s() + DRAW_EVERY_S
            self._bar.update(self._bar_task, completed=share, description=line)
            self._bar.refresh()


def _rich_progress() -> RichProgress | None:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), auto_refresh=False)
