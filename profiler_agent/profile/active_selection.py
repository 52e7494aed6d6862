"""Chooses whole networks while a campaign runs: a first part of the plan's, then those that the server knows least of.

The first part is a third of the plan's calibration networks. After a few rounds of them and of all ops, what there is
goes to the server, which calibrates on it and names the next ones; those join the same rounds. That goes on until its
bound is narrow enough or there are as many networks as the plan has, and then all are measured to the end, side by
side: batches that were measured one after the other differed by what the machine did meanwhile. Without a server that
can choose, the rest of the plan is measured instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from profiler_agent.kernels.count_jobs import count_graphs
from profiler_agent.server.server_client import ServerClient
from profiler_agent.server.upload import Uploader
from profiler_agent.spool.run_spool import RunSpool
from shared.errors import LutnasError, ServerAway
from shared.measurements.active_selection import Choice, ChoiceRequest
from shared.measurements.plan import Plan, Task

FEWEST_FIRST = 20
"""With fewer networks a bound is not to be trusted, however narrow."""
FIRST_SHARE = 1 / 3
BATCHES = 6
"""A batch is the plan's number of calibration networks over this."""


def first_part(plan: Plan) -> int | None:
    """How many of a plan's calibration networks come first; None where there is nothing left to choose."""
    calibration = _calibration(plan)
    first = max(math.ceil(FIRST_SHARE * len(calibration)), FEWEST_FIRST)
    return first if first < len(calibration) else None


@dataclass
class NetworkChooser:
    """Says what else a run measures, once a few rounds of what it was to measure so far are there.

    Attributes:
        locate: puts a graph on the disk.
    """

    client: ServerClient
    uploader: Uploader
    spooled: RunSpool
    bound_percent: float
    locate: Callable[[str], object]
    say: Callable[[str], None]

    def next_tasks(self) -> Sequence[Task]:
        """More tasks; none when the run is complete."""
        if self.spooled.settled:
            return ()
        try:
            choice = self._ask()
            if not choice.tasks or (choice.enough and self.spooled.chosen_tasks()):
                self.spooled.settle()
                self.say(self._at_the_end(choice))
                return ()
            for task in choice.tasks:
                self.locate(task.graph)
        except LutnasError as error:
            self.say(f"{error}; measuring the plan's own calibration networks, all of them")
            self.spooled.choose_all()
            return self.spooled.missing_tasks()
        self.spooled.keep_choice(choice.tasks)
        width = "" if choice.half_width_percent is None else f", the bound is {choice.half_width_percent:.1f} % wide"
        self.say(f"{len(choice.tasks)} more networks{width}")
        return choice.tasks

    def _ask(self) -> Choice:
        run, plan = self.spooled.run, self.spooled.plan
        self.uploader.upload_run(self.spooled)
        most = len(_calibration(plan))
        batch = math.ceil(most / BATCHES)
        so_far = tuple(measurement.without_raw() for measurement in self.spooled.read_begun())
        request = ChoiceRequest(plan, most, batch, self.bound_percent, so_far=so_far)
        choice = self._checked(self.client.choose(run.id, request))
        if choice.count:
            self._count(choice.count)
            choice = self._checked(self.client.choose(run.id, replace(request, counted=True)))
        return choice

    def _count(self, graphs: Sequence[str]) -> None:
        """Tell the server the kernels of networks, as far as they can be counted."""
        run = self.spooled.run
        try:
            counts = count_graphs(self.client, graphs, run.runtime)
        except ServerAway:
            raise
        except LutnasError:
            return
        self.client.put_kernels(run.id, counts)

    def _checked(self, choice: Choice) -> Choice:
        held_out = {task.graph for task in self.spooled.plan.tasks if task.role == "held_out"}
        if any(task.role != "calibration" or task.graph in held_out for task in choice.tasks):
            raise LutnasError("the server chose a network that is not for the fit")
        return choice

    def _at_the_end(self, choice: Choice) -> str:
        networks = sum(task.role == "calibration" for task in self.spooled.tasks)
        width = choice.half_width_percent
        return f"{networks} calibration networks" + (f": the bound is {width:.1f} % wide" if width is not None else "")


def _calibration(plan: Plan) -> list[Task]:
    return [task for task in plan.tasks if task.role == "calibration"]
