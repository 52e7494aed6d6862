"""A ladder of budgets: for each the best member, measured on the device, tuned, exported, and measured again.

Latency does not depend on the values of the weights, so a member is measured before it is tuned: one that misses its
budget costs no training. If it does, the next one that fits a bound tightened by what it exceeded is taken. Members
that several rungs share are tuned once, several members side by side. Should the shipped file miss, its budget goes
round again with the next network. `ladder.json` is rewritten after every measurement.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import torch

from search.data import ImageSet
from search.deploy.export import ExportedModel, export, untuned_onnx
from search.deploy.ladder import LADDER_FILE, NOT_TUNED_YET, Attempt, Rung, write_ladder
from search.device.kernel_counts import Counter, no_counts
from search.family.candidates import Member
from search.family.picking import Pick, Picker
from search.process.atomic_files import write_atomically
from search.process.progress import Progress
from search.retraining.finetune import TuningImages, TuningSettings, accuracy_on_test_images, tune, tuning_steps
from search.runs.run_directory import RunDirectory
from shared.errors import LutnasError
from shared.jobs import Promise, Verification

MOST_NETWORKS = 3
"""Networks tried for one budget."""
FINAL_MEASUREMENTS = 2
"""Of a shipped file that met its budget before it was tuned: a single miss is measured once more."""

Measure = Callable[[bytes, Promise], Verification]
"""Have the device measure ONNX bytes: `search.device.verification.request_verification`, bound to a
server and a table.
"""


class Climb:
    """One climb through rising budgets.

    Args:
        run: finished.
        measure: asks the device.
        tuning: of each distinct member.
        progress: told of each step.
        confidence: of the bounds; None takes the run's.
        folder: for `ladder.json` and `models/*.onnx`; None takes the run's.
        counter: says which kernels networks consist of, for better predictions.
    """

    def __init__(
        self,
        run: RunDirectory,
        measure: Measure,
        tuning: TuningSettings,
        progress: Progress,
        confidence: float | None = None,
        folder: Path | None = None,
        counter: Counter = no_counts,
    ) -> None:
        self._run = run
        self._folder = folder or run.folder
        self._measure = measure
        self._tuning = tuning
        self._progress = progress
        self._picker = Picker(run, confidence, counter)
        self._supernet = run.supernet()
        self._models: dict[str, ExportedModel] = {}
        self._names: dict[str, str] = {}

    def climb(self, budgets_ms: Sequence[float]) -> list[Rung]:
        """Climb, writing `ladder.json` and `models/*.onnx`.

        Raises:
            BudgetTooSmall: no network meets a budget; nothing was measured then.
            LutnasError: as `measure` says; what was climbed so far stays in `ladder.json`.
        """
        with self._progress.phase("picking members", len(budgets_ms)) as phase:
            steps = []
            for budget_ms in budgets_ms:
                steps.append(_Step(self._picker.pick(budget_ms)))
                phase.advance(1)
        images: ImageSet | None = None
        pending = steps
        while pending:
            with self._progress.phase("measuring members", len(pending)) as phase:
                for step in pending:
                    self._settle(step, steps)
                    phase.advance(1, target_ms=step.pick.budget_ms, measured_ms=step.attempts[-1].measured_ms)
            images = images or self._run.load_images()
            self._tune([step.member for step in pending], images)
            with self._progress.phase("measuring files", len(pending)) as phase:
                for step in pending:
                    self._ship(step, steps)
                    phase.advance(1, target_ms=step.pick.budget_ms, measured_ms=step.attempts[-1].measured_ms)
            pending = [step for step in pending if not step.attempts[-1].met and step.next_member() is not None]
        return [step.rung() for step in steps]

    def _settle(self, step: _Step, steps: Sequence[_Step]) -> None:
        """Measure untuned networks until one meets the budget, or there are no more tries."""
        while (member := step.next_member()) is not None:
            content = untuned_onnx(self._supernet, member.genotype)
            step.add(member, "before tuning", self._verify(content, member, step))
            self._write(steps)
            if step.attempts[-1].met:
                return

    def _ship(self, step: _Step, steps: Sequence[_Step]) -> None:
        """Write the file of the step's member and measure it."""
        member = step.member
        step.model = self._models[member.genotype]
        step.onnx = self._names.setdefault(member.genotype, f"models/member-{len(self._names) + 1:02d}.onnx")
        (self._folder / "models").mkdir(exist_ok=True)
        write_atomically(self._folder / step.onnx, step.model.content)
        hopeful = step.attempts[-1].met
        for _ in range(FINAL_MEASUREMENTS):
            step.add(member, "final", self._verify(step.model.content, member, step))
            self._write(steps)
            if step.attempts[-1].met or not hopeful:
                break

    def _tune(self, members: Sequence[Member], images: ImageSet) -> None:
        """Tune, export and check each distinct network once, as many side by side as the run has threads."""
        missing = {member.genotype: member for member in members if member.genotype not in self._models}
        if not missing:
            return
        steps = tuning_steps(images, self._tuning)
        prepared = TuningImages(images, self._tuning)
        networks = {name: self._supernet.derive(self._supernet.space.parse(name)) for name in missing}

        interrupted = threading.Event()

        def work(member: Member, advance: Callable[[int], None]) -> ExportedModel:
            def go_on(count: int) -> None:
                advance(count)
                if interrupted.is_set():
                    raise LutnasError("the tuning was interrupted")

            torch.set_num_threads(1)
            network = networks[member.genotype]
            tune(network, prepared, self._tuning, steps, go_on)
            accuracy = accuracy_on_test_images(network, images)
            model = export(network, member, self._run.table, images, accuracy, self._tuning.accuracy_kind)
            advance(1)
            return model

        with (
            self._progress.phase("tuning members", len(missing) * (steps + 1)) as phase,
            ThreadPoolExecutor(self._run.config.threads) as pool,
        ):
            # The largest first: two that take long side by side, not one of them alone at the end.
            order = sorted(missing.values(), key=lambda member: -member.multiply_adds)
            waiting = {pool.submit(work, member, phase.advance): member.genotype for member in order}
            try:
                for done in as_completed(waiting):
                    self._models[waiting[done]] = done.result()
            finally:
                interrupted.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _verify(self, content: bytes, member: Member, step: _Step) -> Verification:
        promise = Promise(
            self._run.table.hash, member.genotype, member.predicted_ms, member.upper_ms, step.pick.budget_ms
        )
        return self._measure(content, promise)

    def _write(self, steps: Sequence[_Step]) -> None:
        write_ladder(self._folder / LADDER_FILE, [step.rung() for step in steps if step.attempts])


class _Step:
    """One budget on its way: what was tried, and the member that stands for it."""

    def __init__(self, pick: Pick) -> None:
        self.pick = pick
        self.member = pick.best
        self.attempts: list[Attempt] = []
        self.model: ExportedModel | None = None
        self.onnx: str | None = None

    def add(self, member: Member, step: str, verification: Verification) -> None:
        """Note a measurement; from now on the member is the one that stands for the budget."""
        if member.genotype != self.member.genotype:
            self.model, self.onnx = None, None
        self.member = member
        self.attempts.append(Attempt(member.genotype, step, member.predicted_ms, member.upper_ms, **vars(verification)))

    def next_member(self) -> Member | None:
        """The best-ranked network not tried yet.

        After a miss by a factor f only those count whose bound lies within budget / f, as long as there is one.
        """
        tried = {attempt.genotype for attempt in self.attempts}
        left = [member for member in (self.pick.best, *self.pick.runners_up) if member.genotype not in tried]
        if len(tried) >= MOST_NETWORKS or not left:
            return None
        excess = max((attempt.measured_ms / self.pick.budget_ms for attempt in self.attempts), default=1.0)
        tighter = [member for member in left if member.upper_ms * max(excess, 1.0) <= self.pick.budget_ms]
        return (tighter or left)[0]

    def rung(self) -> Rung:
        """As `ladder.json` has it."""
        last = self.attempts[-1]
        return Rung(
            target_ms=self.pick.budget_ms,
            predicted_ms=last.predicted_ms,
            upper_ms=last.upper_ms,
            measured_ms=last.measured_ms,
            met=last.met,
            genotype=last.genotype,
            accuracy=self.model.accuracy if self.model else None,
            accuracy_kind=self.model.accuracy_kind if self.model else NOT_TUNED_YET,
            onnx=self.onnx,
            raw_ms=last.raw_ms,
            canary_drift=last.canary_drift,
            parameters=self.member.parameters,
            attempts=tuple(self.attempts),
        )
