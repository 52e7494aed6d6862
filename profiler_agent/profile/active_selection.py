"""Active selection: chooses the networks of the fit while a campaign runs.

First come a third of the plan's calibration networks. After a few rounds of them and of all ops the
server calibrates and names the networks that it knows least of; they join the rounds. That goes on
until the server's bound is narrow enough, or there are as many networks as in the plan. Then all
are measured to the end, side by side: batches measured one after the other differed by what the
machine did meanwhile. If the server cannot choose, the rest of the plan is measured.
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
"""With fewer networks no bound is to be trusted."""
FIRST_SHARE = 1 / 3
BATCHES = 6
"""Batches of the plan's calibration networks."""


def first_part(plan: Plan) -> int | None:
    """Calibration networks to begin with; None if that leaves none to choose."""
    calibration = _calibration(plan)
    first = max(math.ceil(FIRST_SHARE * len(calibration)), FEWEST_FIRST)
    return first if first < len(calibration) else None


@dataclass
class ActiveSelection:
    """Says what else a run measures, once there are a few rounds of its tasks so far.

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
            half_width = choice.half_width_percent
            width = "" if half_width is None else f" the bound is {half_width:.1f} % wide"
            if not choice.tasks or (choice.enough and self.spooled.chosen_tasks()):
                self.spooled.settle()
                networks = sum(task.role == "calibration" for task in self.spooled.tasks)
                self.say(f"{networks} calibration networks{width and ':'}{width}")
                return ()
            for task in choice.tasks:
                self.locate(task.graph)
        except LutnasError as error:
            self.say(f"{error}; measuring the plan's own calibration networks, all of them")
            known = set(self.spooled.tasks)
            self.spooled.choose_all()
            return [task for task in self.spooled.missing_tasks() if task not in known]
        self.spooled.keep_choice(choice.tasks)
        self.say(f"{len(choice.tasks)} more networks{width and ','}{width}")
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
        """Hand in the kernels of networks, as far as they can be counted."""
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


def _calibration(plan: Plan) -> list[Task]:
    return [task for task in plan.tasks if task.role == "calibration"]
