"""A ladder of budgets: each pick is measured on the device, tuned, exported, and measured again.

Latency does not depend on the values of the weights. So a network is measured before it is tuned,
and a network that misses its budget costs no training. The next network then has to meet a budget
that is tightened by the factor of the miss. A network of several rungs is tuned once; several
networks are tuned side by side. If the shipped file misses, its budget starts again with the next
network. `ladder.json` is rewritten after every measurement.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch

from search.data import ImageSet
from search.deploy.export import ExportedModel, export, untuned_onnx
from search.device.kernel_counts import CountKernels, no_counts
from search.family.family import Member, Pick, Picker
from search.process.atomic_files import write_atomically
from search.process.progress import Progress
from search.retraining.finetune import TuningImages, TuningSettings, accuracy_on_test_images, tune, tuning_steps
from search.runs.run_directory import DeviceRun, find_value, write_value
from shared.errors import LutnasError
from shared.jobs import Promise, Verification
from shared.spaces import Genotype, Space

NOT_TUNED_YET = "not tuned yet"
LADDER_FILE = "ladder.json"
MOST_NETWORKS = 3
"""Networks tried for one budget."""
FINAL_MEASUREMENTS = 2
"""Of a shipped file whose network met its budget before: a single miss is measured once more."""

Measure = Callable[[bytes, Promise], Verification]
"""Have the device measure ONNX bytes (`search.device.verification.request_verification`)."""


@dataclass(frozen=True, kw_only=True)
class Attempt(Verification):
    """A measurement of a network for a budget.

    `step` is "before tuning", or "final" for the shipped file.
    """

    genotype: Genotype
    step: str
    predicted_ms: float
    upper_ms: float


@dataclass(frozen=True)
class Rung:
    """A budget. `onnx` is relative to `ladder.json`; accuracy in percent, over all test images.

    `accuracy` and `onnx` are None until the network is tuned.
    """

    target_ms: float
    predicted_ms: float
    upper_ms: float
    measured_ms: float
    met: bool
    genotype: Genotype
    accuracy: float | None
    accuracy_kind: str
    onnx: str | None
    raw_ms: float
    canary_drift: float
    parameters: int
    attempts: tuple[Attempt, ...]


def write_ladder(path: Path, rungs: Sequence[Rung], space: Space) -> None:
    write_value(path, list(rungs), {Genotype: space.format})


def find_ladder(path: Path, space: Space) -> list[Rung] | None:
    """Read a ladder; None where there is none. Raises CorruptFile if it is damaged."""
    rungs = find_value(tuple[Rung, ...], path, {Genotype: space.parse})
    return None if rungs is None else list(rungs)


class LadderBuilder:
    """Makes the ladder of rising budgets.

    Args:
        measure: has the device measure a file.
        progress: told of each step.
        confidence: of the bounds; the default is the run's.
        folder: for `ladder.json` and `models/*.onnx`; the default is the run's.
        count_kernels: knows the kernels of networks.
    """

    def __init__(
        self,
        run: DeviceRun,
        measure: Measure,
        tuning: TuningSettings,
        progress: Progress,
        confidence: float | None = None,
        folder: Path | None = None,
        count_kernels: CountKernels = no_counts,
    ) -> None:
        self._run = run
        self._folder = folder or run.folder
        self._measure = measure
        self._tuning = tuning
        self._progress = progress
        self._picker = Picker(run, confidence, count_kernels)
        self._supernet = run.supernet()
        self._models: dict[Genotype, ExportedModel] = {}
        self._names: dict[Genotype, str] = {}

    def build(self, budgets_ms: Sequence[float]) -> list[Rung]:
        """Pick, measure, tune and measure again, writing `ladder.json` and `models/*.onnx`.

        Raises:
            BudgetTooSmall: no network meets a budget; nothing was measured then.
            LutnasError: as `measure` says; measurements so far stay in `ladder.json`.
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
        """Measure untuned networks until the budget is met, or no try is left."""
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
        """Tune, export and check each distinct network once, on as many threads as the run has."""
        missing = {member.genotype: member for member in members if member.genotype not in self._models}
        if not missing:
            return
        steps = tuning_steps(images, self._tuning)
        prepared = TuningImages(images, self._tuning, self._run.loss)
        networks = {genotype: self._supernet.derive(genotype) for genotype in missing}

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
            # The largest first: otherwise a long one may run alone at the end.
            order = sorted(missing.values(), key=lambda member: -member.multiply_adds)
            waiting = {pool.submit(work, member, phase.advance): member.genotype for member in order}
            try:
                for done in as_completed(waiting):
                    self._models[waiting[done]] = done.result()
            finally:
                interrupted.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _verify(self, content: bytes, member: Member, step: _Step) -> Verification:
        name, table_hash = self._run.space.format(member.genotype), self._run.table.hash
        promise = Promise(table_hash, name, member.predicted_ms, member.upper_ms, step.pick.budget_ms)
        return self._measure(content, promise)

    def _write(self, steps: Sequence[_Step]) -> None:
        rungs = [step.rung() for step in steps if step.attempts]
        write_ladder(self._folder / LADDER_FILE, rungs, self._run.space)


class _Step:
    """A budget in progress: its attempts, and its present member."""

    def __init__(self, pick: Pick) -> None:
        self.pick = pick
        self.member = pick.best
        self.attempts: list[Attempt] = []
        self.model: ExportedModel | None = None
        self.onnx: str | None = None

    def add(self, member: Member, step: str, verification: Verification) -> None:
        """Add a measurement of a member, which is the present member from now on."""
        if member.genotype != self.member.genotype:
            self.model, self.onnx = None, None
        self.member = member
        known = {"genotype": member.genotype, "predicted_ms": member.predicted_ms, "upper_ms": member.upper_ms}
        self.attempts.append(Attempt(**vars(verification), **known, step=step))  # type: ignore[arg-type]

    def next_member(self) -> Member | None:
        """The best-ranked network not tried yet; None after the last try.

        After a miss by a factor f, networks with a bound within budget / f go first.
        """
        tried = {attempt.genotype for attempt in self.attempts}
        left = [member for member in (self.pick.best, *self.pick.runners_up) if member.genotype not in tried]
        if len(tried) >= MOST_NETWORKS or not left:
            return None
        excess = max((attempt.measured_ms / self.pick.budget_ms for attempt in self.attempts), default=1.0)
        tighter = [member for member in left if member.upper_ms * max(excess, 1.0) <= self.pick.budget_ms]
        return (tighter or left)[0]

    def rung(self) -> Rung:
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
