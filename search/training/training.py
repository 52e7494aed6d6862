"""The search itself, first order and bilevel, on a supernet:

    warm-up   weights only, by fairly sampled paths
    search    weights by fairly sampled paths and paths drawn from alpha(c); every few steps the
              hypernetwork, on the validation split, by
              L(w, gates) + kappa Latency(alpha(c)) + lambda Parameters(alpha(c))
              with straight-through Gumbel-Softmax gates and every op of every edge evaluated

A step averages the gradients of `paths_per_step` paths, each with its own batch and one torch
thread. `threads` of them run side by side: two small networks keep two cores busy, a network split
over two cores does not. A step follows from the seed and its number alone. No number depends on the
threads, the clock, or interruptions.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search.alphas.condition import sample_condition, space_primitives
from search.alphas.expected_cost import Objective, make_objective
from search.alphas.path_sampling import SAMPLER_BUILDERS, sample_path, straight_through_gates, with_floor
from search.data import ImageSet, splits
from search.data.stream import Stream
from search.own_model.model_file import Loss
from search.process.distributed import Ranks
from search.process.progress import Progress
from search.process.randomness import generator
from search.process.threads_and_memory import single_threaded_workers
from search.runs.run_directory import Checkpoint, RunDirectory, new_hypernetwork
from search.training.gradients import ALONE, set_mean_gradients
from search.training.tensorboard import TensorBoardLog
from shared.errors import LutnasError, WrongUse
from shared.spaces import Genotype

METRICS_EVERY = 50
CHECKPOINTED = ("supernet", "hypernetwork", "weight_optimizer", "alpha_optimizer")

Stopped = Callable[[], bool]


class Trainer:
    """Trains the supernet and the hypernetwork of a run.

    Args:
        run: its config, tables and checkpoint; an existing checkpoint is resumed.
        ranks: the processes that share the search.

    Raises:
        InvalidValue: the ranks do not divide the paths or conditions of a step.
    """

    def __init__(self, run: RunDirectory, images: ImageSet, ranks: Ranks = ALONE) -> None:
        config = run.config
        for name in ("paths_per_step", "conditions_per_step"):
            ranks.check_divides(name, getattr(config, name))
        self.ranks, self.place = ranks, place_of(config.processor)
        self._loss: Loss = run.loss or F.cross_entropy
        self.run, self.config, self.space = run, config, run.space
        self.supernet = run.new_supernet().to(self.place)
        self.hypernetwork = new_hypernetwork(config, run.tables)
        self.parameters = list(self.supernet.parameters())
        self.arch_parameters = list(self.hypernetwork.parameters())
        self.weight_optimizer = torch.optim.SGD(
            self.parameters,
            lr=config.weight_lr,
            momentum=config.weight_momentum,
            weight_decay=config.weight_decay,
            nesterov=config.weight_momentum > 0,
            fused=True,
        )
        if config.weight_momentum:
            for parameter in self.parameters:  # torch needs all; some ops have no path yet
                self.weight_optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self.alpha_optimizer = torch.optim.Adam(self.arch_parameters, lr=config.alpha_lr, fused=True)
        self.objectives = [make_objective(table) for table in run.tables]
        self.fixed_paths = SAMPLER_BUILDERS[config.path_sampler](self.space, config.seed)
        split, side = splits(images, config.seed), config.search_resolution
        self.train_stream = Stream(images, split.train, side, config.batch_size, config.seed, "weights")
        self.validation_stream = Stream(images, split.validation, side, config.alpha_batch_size, config.seed, "alpha")
        self.step = 0
        if ranks.any(run.checkpoint_path.exists()):  # all ranks ask before the first writes it
            self._restore(run.load_checkpoint())
        else:
            self.save()
        if ranks.is_first:
            run.drop_metrics_after(self.step)

    def train(self, progress: Progress, stopped: Stopped = lambda: False, log: TensorBoardLog | None = None) -> bool:
        """Train to the last step, or until `stopped()`. Either way a checkpoint has the last step.

        Args:
            progress: shows the phases.
            stopped: asked before each step.
            log: of metrics and alphas, beside the run's own.

        Returns:
            Whether the search is complete.

        Raises:
            LutnasError: the loss is not finite; the last good checkpoint stays.
        """
        begun = self.step
        with single_threaded_workers(self.config.threads) as pool:
            for name, end in (("warm-up", self.config.warmup_steps), ("search", self.config.total_steps)):
                if self.step < end and not self.ranks.any(stopped()):
                    self._train_phase(name, end, pool, progress, stopped, log)
        if self.step > begun:  # else the checkpoint is there, and scores belong to its bytes
            self.save()
        return self.step == self.config.total_steps

    def save(self) -> None:
        if self.ranks.is_first:
            states = {name: getattr(self, name).state_dict() for name in CHECKPOINTED}
            self.run.save_checkpoint(Checkpoint(step=self.step, **states))

    def _train_phase(
        self,
        name: str,
        end: int,
        pool: ThreadPoolExecutor,
        progress: Progress,
        stopped: Stopped,
        log: TensorBoardLog | None,
    ) -> None:
        meter = Meter(self.config.paths_per_step * self.train_stream.batch_size)
        with progress.phase(name, end - self.step) as phase:
            while self.step < end and not self.ranks.any(stopped()):
                meter.add(*self._weight_step(pool))
                if name == "search" and (self.step - self.config.warmup_steps + 1) % self.config.alpha_every == 0:
                    meter.alpha_losses.append(self._alpha_step(pool))
                self.step += 1
                phase.advance(1, **meter.shown)
                if (self.step % METRICS_EVERY == 0 or self.step == end) and self.ranks.is_first:
                    self._report(name, meter, log)
                if self.step % self.config.checkpoint_every == 0:
                    self.save()

    def _report(self, phase: str, meter: Meter, log: TensorBoardLog | None) -> None:
        values = {"step": self.step, "phase": phase, **meter.flush()}
        self.run.append_metrics(values)
        if log is not None:
            temperature = {"temperature": self._temperature()} if phase == "search" else {}
            log.metrics({**values, "learning_rate": self._learning_rate(), **temperature})
            for name, objective in zip(self.config.devices, self.objectives, strict=True):
                log.alphas(self.step, self.hypernetwork, name, objective.device, space_primitives(self.space))

    def _weight_step(self, pool: ThreadPoolExecutor) -> tuple[float, float]:
        """Update the weights. Returns mean loss and accuracy of the batches."""
        count = self.config.paths_per_step
        numbers = self.ranks.share(range(self.step * count, (self.step + 1) * count))
        for group in self.weight_optimizer.param_groups:
            group["lr"] = self._learning_rate()
        results = list(pool.map(self._path_gradients, map(self._path, numbers), numbers))
        losses, accuracies, gradients = zip(*results, strict=True)
        loss, accuracy = (total / count for total in self.ranks.sum([sum(losses), sum(accuracies)]))
        self._apply(self.weight_optimizer, self.parameters, gradients, loss)
        return loss, accuracy

    def _path(self, number: int) -> Genotype:
        """Path `number` of the run. After the warm-up a share `exploration` ignores alpha."""
        warm = self.config.warmup_steps * self.config.paths_per_step
        if number < warm:
            return self.fixed_paths.path(number)
        before, after = (math.floor((number - warm + i) * self.config.exploration) for i in (0, 1))
        if after > before:
            return self.fixed_paths.path(warm + before)
        random = generator(self.config.seed, "path", number)
        objective = self._drawn_objective("path", number)
        condition = sample_condition(objective.device, self.config.device_share, random)
        with torch.no_grad():
            alpha = with_floor(self.hypernetwork(condition.vector()), self.config.exploration_floor)
            return sample_path(alpha, self.space, random)

    def _path_gradients(self, path: Genotype, number: int) -> tuple[float, float, Sequence[Tensor | None]]:
        images, labels = self._placed(self.train_stream.batch(number))
        with self._autocast():
            logits = self.supernet(images, path, auxiliary_skip=self._auxiliary_skip()).float()
        loss = self._loss(logits, labels)
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        return loss.item(), (logits.argmax(dim=1) == labels).double().mean().item(), gradients

    def _alpha_step(self, pool: ThreadPoolExecutor) -> float:
        """Update the hypernetwork. Returns the mean loss with penalties."""
        count = self.config.conditions_per_step
        index = (self.step - self.config.warmup_steps) // self.config.alpha_every
        numbers = self.ranks.share(range(index * count, (index + 1) * count))
        losses, gradients = zip(*pool.map(self._condition_gradients, numbers), strict=True)
        loss = self.ranks.sum([sum(losses)])[0] / count
        self._apply(self.alpha_optimizer, self.arch_parameters, gradients, loss)
        return loss

    def _condition_gradients(self, number: int) -> tuple[float, Sequence[Tensor | None]]:
        random = generator(self.config.seed, "condition", number)
        objective = self._drawn_objective("condition", number)
        condition = sample_condition(objective.device, self.config.device_share, random)
        images, labels = self._placed(self.validation_stream.batch(number))
        alpha = self.hypernetwork(condition.vector())
        drawn_from = with_floor(alpha, self.config.exploration_floor)
        gates = straight_through_gates(drawn_from, self.space, self._temperature(), random)
        with self._autocast():
            logits = self.supernet.straight_through(images, gates.to(self.place), self._auxiliary_skip())
        loss = self._loss(logits.float(), labels).to(alpha.device) + objective.penalty(alpha, condition)
        # Without the supernet's weights: torch skips their gradients.
        return loss.item(), torch.autograd.grad(loss, self.arch_parameters, allow_unused=True)

    def _drawn_objective(self, what: str, number: int) -> Objective:
        """The objective of the device of path or condition `number`; devices are equally likely."""
        if len(self.objectives) == 1:
            return self.objectives[0]
        random = generator(self.config.seed, "device", what, number)
        return self.objectives[int(torch.randint(len(self.objectives), (1,), generator=random))]

    def _apply(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        gradients: Sequence[Sequence[Tensor | None]],
        loss: float,
    ) -> None:
        """Average in a fixed order, check, clip, update. Ops without a path keep their weights."""
        norm = set_mean_gradients(parameters, gradients, self.config.gradient_clip, self.ranks)
        if not (math.isfinite(norm) and math.isfinite(loss)):
            raise LutnasError(
                f"training diverged at step {self.step}: loss {loss:g}, gradient norm {norm:g};"
                f" the last good checkpoint stays in {self.run.path}, a smaller --weight-lr may help"
            )
        optimizer.step()

    def _learning_rate(self) -> float:
        return self.config.weight_lr * 0.5 * (1 + math.cos(math.pi * self.step / self.config.total_steps))

    def _temperature(self) -> float:
        """Of the gates: geometric from start to end of the search."""
        config = self.config
        done = (self.step - config.warmup_steps) / max(config.search_steps - 1, 1)
        return float(config.temperature_start * (config.temperature_end / config.temperature_start) ** done)

    def _auxiliary_skip(self) -> float:
        """Weight of the skip beside every op (DARTS-: Chu et al., 2021), falling to 0."""
        return self.config.auxiliary_skip * (1 - self.step / self.config.total_steps)

    def _autocast(self) -> AbstractContextManager[None]:
        # Without the cache, which would share casts and so parts of graphs between threads.
        bf16 = self.config.precision == "bf16"
        return torch.autocast(self.place.type, torch.bfloat16, enabled=bf16, cache_enabled=False)

    def _placed(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, labels = batch
        return images.to(self.place), labels.to(self.place)

    def _restore(self, checkpoint: Checkpoint) -> None:
        for name in CHECKPOINTED:
            getattr(self, name).load_state_dict(getattr(checkpoint, name))
        self.step = checkpoint.step


def place_of(processor: str) -> torch.device:
    """The device of the supernet; the hypernetwork stays on the CPU.

    Raises:
        WrongUse: there is no CUDA device.
    """
    if processor == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise WrongUse("--processor cuda: this torch sees no CUDA device")
    place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(place)
    return place


class Meter:
    """Means of what training reports, since the last flush.

    Args:
        images: per update of the weights.

    Attributes:
        shown: means of the last full interval, for the progress bar.
    """

    def __init__(self, images: int) -> None:
        self._images = images
        self.shown: dict[str, float] = {}
        self._begin()

    def add(self, loss: float, accuracy: float) -> None:
        """Add an update of the weights."""
        self._losses.append(loss)
        self._accuracies.append(accuracy)

    def flush(self) -> dict[str, float]:
        """Return the means, accuracy in percent, and begin again."""
        means = {"loss": fmean(self._losses), "accuracy": 100 * fmean(self._accuracies)}
        if self.alpha_losses:
            means["alpha_loss"] = fmean(self.alpha_losses)
        elapsed_s = time.monotonic() - self._since_s
        if elapsed_s > 0:
            means["images_per_second"] = round(self._images * len(self._losses) / elapsed_s, 1)
        self.shown = means
        self._begin()
        return {**means, "elapsed_s": round(elapsed_s, 3)}

    def _begin(self) -> None:
        self._since_s = time.monotonic()
        self._losses: list[float] = []
        self._accuracies: list[float] = []
        self.alpha_losses: list[float] = []
