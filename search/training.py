"""The search itself, first order and bilevel, on one supernet:

    warm-up   weights only, by fairly sampled paths
    search    weights by paths drawn from alpha(c) and by fairly sampled ones; every few steps the hypernetwork, on the
              validation split:   L(w, gates) + kappa Latency(alpha(c)) + lambda Parameters(alpha(c))
              with straight-through Gumbel-Softmax gates and every op of every edge evaluated

One step averages the gradients of `paths_per_step` paths, each with a batch of its own and one torch thread; `threads`
of them run side by side. (Two small networks beside each other keep two cores busy, one network spread over two does
not.) What a step does follows from the seed and its number alone: no number depends on the threads, on the clock, or on
how often the search was interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search.condition import sample_condition
from search.config import Config
from search.data import ImageSet, splits
from search.data.stream import Stream
from search.gradients import set_mean_gradients
from search.meter import Meter
from search.objective import Objective, make_objective
from search.progress import Progress
from search.randomness import generator
from search.run_directory import Checkpoint, RunDirectory, new_hypernetwork
from search.sampling import FairSampler, sample_path, straight_through_gates
from search.supernet import Supernet
from shared.errors import LutnasError
from shared.spaces import Genotype, Space

METRICS_EVERY = 50

Stopped = Callable[[], bool]


class Trainer:
    """Trains the supernet and the hypernetwork of a run.

    Args:
        run: its config, tables and checkpoint; a checkpoint that is there is gone on with.
        images: of the config's data set.
    """

    def __init__(self, run: RunDirectory, images: ImageSet) -> None:
        config = run.config
        self.run, self.config, self.space = run, config, run.space
        self.supernet, self.hypernetwork = new_supernet(config, run.space), new_hypernetwork(config, run.tables)
        self.parameters = list(self.supernet.parameters())
        self.references = list(self.hypernetwork.parameters())
        self.weight_optimizer = torch.optim.SGD(
            self.parameters,
            lr=config.weight_lr,
            momentum=config.weight_momentum,
            weight_decay=config.weight_decay,
            nesterov=config.weight_momentum > 0,
            foreach=True,
        )
        self.alpha_optimizer = torch.optim.Adam(self.references, lr=config.alpha_lr, foreach=True)
        self.objectives = [make_objective(table) for table in run.tables]
        self.fair = FairSampler(self.space, config.seed)
        split, side = splits(images, config.seed), config.search_resolution
        self.train_stream = Stream(images, split.train, side, config.batch_size, config.seed, "weights")
        self.validation_stream = Stream(images, split.validation, side, config.alpha_batch_size, config.seed, "alpha")
        self.step = 0
        if run.checkpoint_path.exists():
            self._restore(run.load_checkpoint())
        else:
            self.save()
        run.drop_metrics_after(self.step)

    def train(self, progress: Progress, stopped: Stopped = lambda: False) -> bool:
        """Go on to the last step, or until `stopped()`; a checkpoint is written in either case.

        Returns:
            Whether the search is complete.

        Raises:
            LutnasError: the loss is no longer finite; the last good checkpoint stays.
        """
        threads_before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(self.config.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                for name, end in (("warm-up", self.config.warmup_steps), ("search", self.config.total_steps)):
                    if self.step < end and not stopped():
                        self._train_phase(name, end, pool, progress, stopped)
        finally:
            torch.set_num_threads(threads_before)
        self.save()
        return self.step == self.config.total_steps

    def save(self) -> None:
        """Write the checkpoint."""
        self.run.save_checkpoint(
            Checkpoint(
                self.step,
                self.supernet.state_dict(),
                self.hypernetwork.state_dict(),
                self.weight_optimizer.state_dict(),
                self.alpha_optimizer.state_dict(),
            )
        )

    def _train_phase(self, name: str, end: int, pool: ThreadPoolExecutor, progress: Progress, stopped: Stopped) -> None:
        meter = Meter(time.monotonic())
        with progress.phase(name, end - self.step) as phase:
            while self.step < end and not stopped():
                meter.add(*self._weight_step(pool))
                if name == "search" and (self.step - self.config.warmup_steps + 1) % self.config.alpha_every == 0:
                    meter.alpha_losses.append(self._alpha_step(pool))
                self.step += 1
                phase.advance(1, **meter.shown())
                if self.step % METRICS_EVERY == 0 or self.step == end:
                    self.run.append_metrics({"step": self.step, "phase": name, **meter.flush(time.monotonic())})
                if self.step % self.config.checkpoint_every == 0:
                    self.save()

    def _weight_step(self, pool: ThreadPoolExecutor) -> tuple[float, float]:
        """One update of the weights; mean loss and accuracy of its batches."""
        count = self.config.paths_per_step
        numbers = range(self.step * count, (self.step + 1) * count)
        for group in self.weight_optimizer.param_groups:
            group["lr"] = self._learning_rate()
        paths = [self._path(number) for number in numbers]
        results = list(pool.map(self._path_gradients, paths, numbers))
        losses, accuracies, gradients = zip(*results, strict=True)
        self._apply(self.weight_optimizer, self.parameters, gradients, losses)
        return sum(losses) / count, sum(accuracies) / count

    def _path(self, number: int) -> Genotype:
        """Path number `number` of the whole search. In the search, `exploration` of them go on in the fair order."""
        warm = self.config.warmup_steps * self.config.paths_per_step
        if number < warm:
            return self.fair.path(number)
        before, after = (math.floor((number - warm + i) * self.config.exploration) for i in (0, 1))
        if after > before:
            return self.fair.path(warm + before)
        random = generator(self.config.seed, "path", number)
        objective = self._drawn_objective("path", number)
        condition = sample_condition(objective.device, self.config.device_share, random)
        with torch.no_grad():
            return sample_path(self.hypernetwork(condition.vector()), self.space, random)

    def _path_gradients(self, path: Genotype, number: int) -> tuple[float, float, Sequence[Tensor | None]]:
        images, labels = self.train_stream.batch(number)
        with self._autocast():
            logits = self.supernet(images, path).float()
        loss = F.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        return loss.item(), (logits.argmax(dim=1) == labels).double().mean().item(), gradients

    def _alpha_step(self, pool: ThreadPoolExecutor) -> float:
        """One update of the hypernetwork; mean loss, penalties included."""
        count = self.config.conditions_per_step
        index = (self.step - self.config.warmup_steps) // self.config.alpha_every
        results = list(pool.map(self._condition_gradients, range(index * count, (index + 1) * count)))
        losses, gradients = zip(*results, strict=True)
        self._apply(self.alpha_optimizer, self.references, gradients, losses)
        return float(sum(losses) / count)

    def _condition_gradients(self, number: int) -> tuple[float, Sequence[Tensor | None]]:
        random = generator(self.config.seed, "condition", number)
        objective = self._drawn_objective("condition", number)
        condition = sample_condition(objective.device, self.config.device_share, random)
        images, labels = self.validation_stream.batch(number)
        alpha = self.hypernetwork(condition.vector())
        gates = straight_through_gates(alpha, self.space, self._temperature(), random)
        with self._autocast():
            logits = self.supernet(images, gates).float()
        loss = F.cross_entropy(logits, labels) + objective.penalty(alpha, condition)
        # Only the hypernetwork's gradient is asked for: torch then skips those of the supernet's weights.
        return loss.item(), torch.autograd.grad(loss, self.references, allow_unused=True)

    def _drawn_objective(self, what: str, number: int) -> Objective:
        """That of the device that path or condition `number` is for: each is equally likely."""
        if len(self.objectives) == 1:
            return self.objectives[0]
        random = generator(self.config.seed, "device", what, number)
        return self.objectives[int(torch.randint(len(self.objectives), (1,), generator=random))]

    def _apply(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        gradients: Sequence[Sequence[Tensor | None]],
        losses: Sequence[float],
    ) -> None:
        """Average in a fixed order, check, clip, update. Weights of ops that no path ran stay as they are."""
        norm = set_mean_gradients(parameters, gradients, self.config.gradient_clip)
        if not (math.isfinite(norm) and all(map(math.isfinite, losses))):
            raise LutnasError(
                f"training diverged at step {self.step}: loss {sum(losses) / len(losses):g}, gradient norm {norm:g};"
                f" the last good checkpoint stays in {self.run.path}, a smaller --weight-lr may help"
            )
        optimizer.step()

    def _learning_rate(self) -> float:
        return self.config.weight_lr * 0.5 * (1 + math.cos(math.pi * self.step / self.config.total_steps))

    def _temperature(self) -> float:
        """Of the gates: from the start's to the end's, geometrically over the search."""
        config = self.config
        done = (self.step - config.warmup_steps) / max(config.search_steps - 1, 1)
        return float(config.temperature_start * (config.temperature_end / config.temperature_start) ** done)

    def _autocast(self) -> AbstractContextManager[None]:
        # Without the cache: threads would share casts, and with them parts of each other's graph.
        return torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bf16", cache_enabled=False)

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.supernet.load_state_dict(checkpoint.supernet)
        self.hypernetwork.load_state_dict(checkpoint.hypernetwork)
        self.weight_optimizer.load_state_dict(checkpoint.weight_optimizer)
        self.alpha_optimizer.load_state_dict(checkpoint.alpha_optimizer)
        self.step = checkpoint.step


def new_supernet(config: Config, space: Space) -> Supernet:
    """A supernet in training mode, its weights drawn from the config's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Supernet(space).train()
