"""A ladder of budgets: each pick is measured on the device, tuned, exported, and measured again.

Latency does not depend on the values of the weights. So a network is measured before it is tuned,
and a network that misses its budget costs no training. The next network then has to meet a budget
that is tightened by the factor of the miss. A network of several rungs is tuned once; several
networks are tuned side by side. If the shipped file misses, its budget starts again with the next
network. `ladder.json` is rewritten after every measurement.

A ladder may be bounded in time. All networks are then tuned for as many updates as fit between the
measurements; if even that is late, part of the test images gives the accuracies. What cannot be
cut is a measurement of each file.

Networks made by hand may stand beside it: measured once, and those that a budget allows trained
with the same images, for as many updates as the members are tuned.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from search.data import ImageSet
from search.deploy.export import COMPARED, ExportedModel, build_onnx, export, onnx_accuracy, untuned_onnx
from search.deploy.hand_made import HandMade, write_hand_made
from search.device.kernel_counts import CountKernels, no_counts
from search.family.family import Member, Pick, Picker
from search.process.progress import Progress
from search.process.threads_and_memory import single_threaded_workers
from search.retraining.finetune import TuningImages, TuningSettings, tuning_steps
from search.retraining.side_by_side import tune_side_by_side
from search.runs.run_directory import DeviceRun, find_value, write_value
from shared.atomic_files import write_atomically
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
    """A budget. `onnx` is relative to `ladder.json`; accuracy in percent, over all test images or those
    that `accuracy_kind` names.

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


def in_ms(value_ms: float) -> str:
    """Milliseconds as tables show them."""
    return f"{value_ms:.3f}" if value_ms >= 1 else f"{value_ms:.4f}"


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
        seconds: that the ladder may take, from now on.
        hand_made: networks of the user's own, by name.
        clock: seconds.
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
        seconds: float = math.inf,
        hand_made: Mapping[str, nn.Module] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._ends_s = clock, clock() + seconds
        self._run = run
        self._folder = folder or run.folder
        self._measure = measure
        self._tuning = tuning
        self._progress = progress
        self._picker = Picker(run, confidence, count_kernels)
        self._supernet = run.supernet()
        self._models: dict[Genotype, ExportedModel] = {}
        self._names: dict[Genotype, str] = {}
        self._hand_made = dict(hand_made or {})
        self.hand_made: list[HandMade] = []

    def build(self, budgets_ms: Sequence[float]) -> list[Rung]:
        """Pick, measure, tune and measure again, writing `ladder.json`, `hand_made.json` and `models/*.onnx`.

        Raises:
            BudgetTooSmall: no network meets a budget; nothing was measured then.
            LutnasError: as `measure` says; measurements so far stay in `ladder.json`.
        """
        with self._progress.phase("picking members", len(budgets_ms)) as phase:
            steps = []
            for budget_ms in budgets_ms:
                steps.append(_Step(self._picker.pick(budget_ms)))
                phase.advance(1)
        self._measure_hand_made(max(budgets_ms))
        images: ImageSet | None = None
        pending = steps
        while pending:
            each_s = 0.0
            with self._progress.phase("measuring members", len(pending)) as phase:
                for done, step in enumerate(pending):
                    begun_s = self._clock()
                    # The first may take longer: the agent then looks whether the table still holds.
                    if done > 1 and begun_s + (2 * len(pending) - done) * each_s > self._ends_s:
                        left = len(pending) - done
                        self._progress.line(f"time is short: {left} networks are measured at the end alone")
                        break
                    self._settle(step, steps)
                    each_s = self._clock() - begun_s
                    phase.advance(1, target_ms=step.pick.budget_ms, measured_ms=step.attempts[-1].measured_ms)
            images = images or self._run.load_images()
            self._tune([step.member for step in pending], images, self._ends_s - len(pending) * each_s)
            with self._progress.phase("measuring files", len(pending)) as phase:
                for step in pending:
                    self._ship(step, steps)
                    phase.advance(1, target_ms=step.pick.budget_ms, measured_ms=step.attempts[-1].measured_ms)
            pending = [step for step in pending if not step.attempts[-1].met and step.next_member() is not None]
            if pending and self._clock() + 2 * len(pending) * each_s > self._ends_s:
                self._progress.line(f"time is up: {len(pending)} of the missed budgets get no other network")
                break
        return [step.rung() for step in steps]

    @property
    def _is_late(self) -> bool:
        return self._clock() >= self._ends_s

    def _measure_hand_made(self, most_ms: float) -> None:
        """Measure the networks made by hand; those beyond the largest budget are not trained."""
        table, image = self._run.table, self._run.space.input_shape
        if not self._hand_made:
            write_hand_made(self._folder, ())
            return
        with self._progress.phase("measuring networks made by hand", len(self._hand_made)) as phase:
            for name, network in list(self._hand_made.items()):
                if self._is_late:
                    self._progress.line(f"time is short: {name} is left out")
                    del self._hand_made[name]
                    continue
                promise = Promise(table.hash, name, most_ms, most_ms, most_ms)
                measured_ms = self._measure(build_onnx(network, image=image), promise).measured_ms
                parameters = sum(weight.numel() for weight in network.parameters())
                self.hand_made.append(HandMade(name, measured_ms, parameters))
                if measured_ms > most_ms:
                    del self._hand_made[name]
                phase.advance(1, measured_ms=measured_ms)
        write_hand_made(self._folder, self.hand_made)

    def _settle(self, step: _Step, steps: Sequence[_Step]) -> None:
        """Measure untuned networks until the budget is met, or no try or no time is left."""
        while (member := step.next_member()) is not None:
            content = untuned_onnx(self._supernet, member.genotype)
            step.add(member, "before tuning", self._verify(content, member, step))
            self._write(steps)
            if step.attempts[-1].met or self._is_late:
                return

    def _ship(self, step: _Step, steps: Sequence[_Step]) -> None:
        """Write the file of the step's member and measure it."""
        member = step.member
        step.model = self._models[member.genotype]
        step.onnx = self._names.setdefault(member.genotype, f"models/member-{len(self._names) + 1:02d}.onnx")
        self._write_model(step.onnx, step.model.content)
        hopeful = not step.attempts or step.attempts[-1].met
        for _ in range(FINAL_MEASUREMENTS):
            step.add(member, "final", self._verify(step.model.content, member, step))
            self._write(steps)
            if step.attempts[-1].met or not hopeful or self._is_late:
                break

    def _tune(self, members: Sequence[Member], images: ImageSet, ends_s: float) -> None:
        """Tune, export and check each distinct network once, on as many threads as the run has.

        Args:
            ends_s: when all of it is to be over.
        """
        # The largest first: otherwise a long one may run alone at the end.
        order = sorted({each.genotype: each for each in members}.values(), key=lambda each: -each.multiply_adds)
        missing = [member for member in order if member.genotype not in self._models]
        if not missing:
            return
        settings, steps = self._tuning, tuning_steps(images, self._tuning)
        prepared = TuningImages(images, settings, self._run.loss)
        networks = [self._supernet.derive(member.genotype) for member in missing]
        hand_made, self._hand_made = self._hand_made, {}  # once: later passes are for budgets that were missed
        trained = [*reversed(hand_made.values()), *networks]
        passes = (len(images.test_labels) + 2 * COMPARED) / len(prepared.recalibration)

        def finish(member: Member, network: nn.Module) -> ExportedModel:
            model = export(network.eval(), member, self._run.table, images, kind)
            phase.advance(steps + 1 - done)
            return model

        def judge(network: nn.Module) -> tuple[bytes, float]:
            content = build_onnx(network.eval(), image=self._run.space.input_shape)
            accuracy = onnx_accuracy(content, images, batch=1)
            phase.advance(steps + 1 - done)
            return content, accuracy

        with (
            self._progress.phase("tuning members", len(trained) * (steps + 1)) as phase,
            single_threaded_workers(self._run.config.threads) as pool,
        ):
            done, passes_s = tune_side_by_side(
                trained, prepared, settings, steps, pool, ends_s, passes, phase.advance, self._clock
            )
            if done < steps:
                settings = replace(settings, epochs=settings.epochs * done / steps)
                self._progress.line(f"time is up: each network had {done} of {steps} updates")
            kind, nth = settings.accuracy_kind, choose_nth(passes_s, ends_s - self._clock(), len(images.test_labels))
            if nth > 1:
                images = replace(images, test_images=images.test_images[::nth], test_labels=images.test_labels[::nth])
                kind += f", judged by 1 in {nth} test images"
                self._progress.line(f"time is short: accuracies are those of 1 in {nth} test images")
            for member, model in zip(missing, pool.map(finish, missing, networks), strict=True):
                self._models[member.genotype] = model
            judged = dict(zip(hand_made, pool.map(judge, hand_made.values()), strict=True))
        self._ship_hand_made(judged)

    def _ship_hand_made(self, judged: Mapping[str, tuple[bytes, float]]) -> None:
        for place, network in enumerate(self.hand_made):
            if network.name in judged:
                content, accuracy = judged[network.name]
                onnx = f"models/by-hand-{network.name}.onnx"
                self._write_model(onnx, content)
                self.hand_made[place] = replace(network, accuracy=accuracy, onnx=onnx)
        write_hand_made(self._folder, self.hand_made)

    def _write_model(self, onnx: str, content: bytes) -> None:
        (self._folder / "models").mkdir(exist_ok=True)
        write_atomically(self._folder / onnx, content)

    def _verify(self, content: bytes, member: Member, step: _Step) -> Verification:
        name, table_hash = self._run.space.format(member.genotype), self._run.table.hash
        promise = Promise(table_hash, name, member.predicted_ms, member.upper_ms, step.pick.budget_ms)
        return self._measure(content, promise)

    def _write(self, steps: Sequence[_Step]) -> None:
        rungs = [step.rung() for step in steps if step.attempts]
        write_ladder(self._folder / LADDER_FILE, rungs, self._run.space)


def choose_nth(needed_s: float, left_s: float, images: int) -> int:
    """n, so that every nth test image takes about the time that is left; at least 1,000 images stay."""
    return max(1, min(int(needed_s / max(left_s, 0.001)), images // COMPARED))


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
