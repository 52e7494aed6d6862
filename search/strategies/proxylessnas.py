"""ProxylessNAS (Cai, Zhu and Han, 2019): only sampled paths are computed, gated by binary gates g.

Weights: one path, drawn from p = softmax(alpha), is trained at a time. Alphas, in turn with the weights, in one of the
two ways of the paper:

`latency="additive"` (sections 3.2.1 and 3.3.1): of each slot two paths are sampled. p is taken between these two alone,
one of them is active (its gate is 1), and both are computed:

    dL/dalpha_i ~ sum over the two j of  dL/dg_j p_j (delta_ij - p_i)                                            (4)

After the update the two alphas are shifted so that the sum of their exponentials is what it was: the probabilities of
the paths that were not sampled stay as they are. The loss is

    L = CE + lambda_2 E[latency],   E[latency] = sum over slots and paths of p_j F(path j)                 (5, 6, 7)

whose gradient also goes to the two sampled alphas alone, as in the authors' code.

`latency="reward"` (section 3.3.2): M networks are drawn and rewarded, and the gradient is REINFORCE's (Williams, 1992)

    grad J = 1/M sum over networks of  (R - baseline) grad log p(network),   R = ACC x (latency / T)^w

with MnasNet's reward (Tan et al., 2019), a running mean of earlier rewards as baseline and the budget for T.

Decided here, as the paper has no more to say:

* E[latency] is divided by the latency of the slowest choices, so that lambda_2 means the same on every device. The
  budget is reached by trial over lambda_2 (`search.strategies.budgets`). A reward needs one search per budget, and
  nothing makes its network meet it.
* A slot of a group (`darts`) may also take "none", which costs nothing to compute: the two paths are sampled from its
  other ops, and the active ones are always a network.
* Gradients of the weights are clipped as DARTS clips them.
* A network that does not connect input and output is rewarded with 0, and sampled gates are drawn until they connect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search.alphas.path_sampling import draw_network
from search.genotypes.constrained_argmax import draw_choices, log_probability, to_genotype
from search.latency.slot_costs import latency_costs
from search.process.randomness import generator
from search.strategies.bilevel_loop import Stateful, copy_state, cosine, descend, run_updates, set_learning_rate
from search.strategies.binary_gates import binary_gates, keep_unsampled_probabilities, sample_paths
from search.strategies.budgets import (
    Attempt,
    describe,
    make_attempt,
    proposals_for,
    propose_by_trade_off,
    trade_off_series,
)
from search.strategies.context import Bench, Outcome
from search.strategies.discretize import strongest
from shared.errors import InvalidValue
from shared.spaces import Genotype

WARM_UP_SHARE = 40 / 160
"""Epochs of weights alone among all epochs."""
LATENCIES = ("additive", "reward")


@dataclass(frozen=True)
class ProxylessNAS:
    """Options and the settings of the authors' code.

    Attributes:
        latency: how latency enters: "additive" or "reward".
        lambda_low, lambda_high: of lambda_2, which is searched for between the two.
        rounds: halvings of that range, each of which is a whole search.
        exponent: w of the reward.
        samples: M of the reward.
        baseline_decay: share of the old baseline in the new one.
        weight_updates: for each update of the alphas.
    """

    latency: str = "additive"
    lambda_low: float = 0.01
    lambda_high: float = 10.0
    rounds: int = 3
    exponent: float = -0.07
    samples: int = 10
    baseline_decay: float = 0.99
    weight_updates: int = 5
    warm_up_lr: float = 0.05
    weight_lr: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 4e-5
    gradient_clip: float = 5.0
    label_smoothing: float = 0.1
    alpha_lr: float = 1e-3

    uses_one_shot: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.latency not in LATENCIES:
            raise InvalidValue("proxylessnas:latency", f"'{self.latency}' is neither {' nor '.join(LATENCIES)}")
        trade_off_series(self.lambda_low, self.lambda_high, self.rounds)
        if min(self.weight_updates, self.samples) < 1:
            raise InvalidValue("proxylessnas", "weight_updates and samples have to be 1 or more")

    def search(self, bench: Bench) -> Outcome:
        """See `Strategy.search`."""
        warm_up = warm_up_updates(bench)
        common = ProxylessUpdates(self, bench)
        run_updates(bench.part("warm-up"), "proxylessnas, warm-up", warm_up, common.state, common.warm_up)
        if self.latency == "additive":
            proposals, notes, searches = propose_by_trade_off(
                bench,
                trade_off_series(self.lambda_low, self.lambda_high, self.rounds),
                lambda weight: self._attempt(bench, common, f"lambda-{weight:.4g}", additive_step(weight)),
            )
        else:
            proposals, notes, searches = [], [], len(bench.budgets_ms)
            for budget_ms in bench.budgets_ms:
                attempt = self._attempt(bench, common, f"target-{budget_ms:.9g}", reward_step(budget_ms))
                proposals += proposals_for(bench, budget_ms, attempt)
                notes.append(describe(budget_ms, attempt))
        updates = warm_up + searches * (bench.config.total_steps - warm_up)
        return Outcome(tuple(proposals), updates * bench.weight_batches.batch_size, notes=tuple(notes))

    def _attempt(self, bench: Bench, common: ProxylessUpdates, name: str, alpha_step: AlphaStep) -> Attempt:
        """A whole search after the warm-up; its network takes the most probable path of each slot."""
        warm_up, updates = warm_up_updates(bench), ProxylessUpdates(self, bench)
        copy_state(common.state, updates.state)
        run_updates(
            bench.part(name),
            f"proxylessnas, {name}",
            bench.config.total_steps - warm_up,
            updates.state,
            lambda step: updates.update(warm_up + step, alpha_step),
        )
        return make_attempt(bench, updates.alphas(), strongest(bench.space, updates.alphas()))


def warm_up_updates(bench: Bench) -> int:
    """Updates of the weights before alphas move."""
    return round(WARM_UP_SHARE * bench.config.total_steps)


class ProxylessUpdates:
    """Supernet, alphas, baseline and optimisers; update numbers count from the first update of the weights."""

    def __init__(self, settings: ProxylessNAS, bench: Bench) -> None:
        self.settings, self.bench = settings, bench
        self.latency = latency_costs(bench.table)
        self.supernet, self.alphas, self.baseline = bench.new_supernet(), bench.new_alphas(), Baseline()
        self.weights = list(self.supernet.parameters())
        self.weight_optimizer = torch.optim.SGD(
            self.weights,
            settings.weight_lr,
            settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=True,
            foreach=True,
        )
        # Without a mean of past gradients, an alpha that was not sampled does not move.
        self.alpha_optimizer = torch.optim.Adam(self.alphas.parameters(), settings.alpha_lr, (0.0, 0.999))
        self.state: dict[str, Stateful] = {
            "supernet": self.supernet,
            "alphas": self.alphas,
            "baseline": self.baseline,
            "weight_optimizer": self.weight_optimizer,
            "alpha_optimizer": self.alpha_optimizer,
        }

    def warm_up(self, step: int) -> dict[str, float]:
        """One update of the weights, with a cosine of its own."""
        return self._update_weights(step, cosine(self.settings.warm_up_lr, 0, step, warm_up_updates(self.bench)))

    def update(self, step: int, alpha_step: AlphaStep) -> dict[str, float]:
        """One update of the weights, and one of alpha where it is its turn."""
        losses = self._update_weights(step, cosine(self.settings.weight_lr, 0, step, self.bench.config.total_steps))
        if (step + 1) % self.settings.weight_updates == 0:
            losses |= alpha_step(self, step)
        return losses

    def random(self, purpose: str, step: int) -> torch.Generator:
        """Of one purpose in one update."""
        return generator(self.bench.config.seed, "proxylessnas", purpose, step)

    def validation_batch(self, step: int) -> tuple[Tensor, Tensor]:
        """For the alphas."""
        return self.bench.alpha_batches.batch(step // self.settings.weight_updates)

    def _update_weights(self, step: int, learning_rate: float) -> dict[str, float]:
        """By one path."""
        set_learning_rate(self.weight_optimizer, learning_rate)
        path = draw_network(self.alphas().detach(), self.bench.space, self.random("path", step))
        images, labels = self.bench.weight_batches.batch(step)
        logits = self.supernet(images, path or self.bench.space.fastest())
        loss = F.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)
        gradients = torch.autograd.grad(loss, self.weights, allow_unused=True)
        descend(self.weight_optimizer, self.weights, gradients, self.settings.gradient_clip)
        return {"loss": loss.item()}


AlphaStep = Callable[[ProxylessUpdates, int], dict[str, float]]
"""Performs one update of the alphas."""


def additive_step(weight: float) -> AlphaStep:
    """By CE + lambda_2 E[latency] over two paths of each slot."""

    def perform(updates: ProxylessUpdates, step: int) -> dict[str, float]:
        space, alphas = updates.bench.space, updates.alphas.values
        paths = sample_paths(alphas, space, updates.random("two paths", step))
        gates = binary_gates(paths)
        images, labels = updates.validation_batch(step)
        columns = [row.nonzero().flatten().tolist() for row in paths.sampled]
        loss = F.cross_entropy(updates.supernet(images, gates, columns), labels)
        loss = loss + weight * updates.latency.expected(paths.probabilities) / updates.latency.largest
        before = alphas.detach().clone()
        descend(updates.alpha_optimizer, [alphas], torch.autograd.grad(loss, alphas))
        keep_unsampled_probabilities(alphas, before, paths.sampled)
        return {"alpha_loss": loss.item()}

    return perform


def reward_step(target_ms: float) -> AlphaStep:
    """By REINFORCE."""

    def perform(updates: ProxylessUpdates, step: int) -> dict[str, float]:
        settings, space, alphas = updates.settings, updates.bench.space, updates.alphas.values
        images, labels = updates.validation_batch(step)
        random = updates.random("networks", step)
        drawn = [draw_choices(space, alphas.detach(), random) for _ in range(settings.samples)]
        rewards = torch.tensor([
            reward(updates, to_genotype(space, columns), images, labels, target_ms) for columns in drawn
        ])  # fmt: skip
        baseline = updates.baseline.update(rewards.mean(), settings.baseline_decay)
        scores = torch.stack([log_probability(space, alphas, columns) for columns in drawn])
        loss = -((rewards - baseline) * scores).mean()
        descend(updates.alpha_optimizer, [alphas], torch.autograd.grad(loss, alphas))
        return {"reward": rewards.mean().item()}

    return perform


@torch.no_grad()
def reward(updates: ProxylessUpdates, genotype: Genotype, images: Tensor, labels: Tensor, target_ms: float) -> float:
    """ACC x (latency / T)^w on a batch; 0 of what does not connect input and output."""
    if not updates.bench.space.is_connected(genotype):
        return 0.0
    accuracy = (updates.supernet(images, genotype).argmax(dim=1) == labels).double().mean().item()
    return float(accuracy * (updates.latency.of_network(genotype) / target_ms) ** updates.settings.exponent)


class Baseline(nn.Module):
    """A running mean of earlier rewards, so that it does not depend on what is drawn; the first is its own baseline."""

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(float("nan")))

    @torch.no_grad()
    def update(self, mean: Tensor, decay: float) -> Tensor:
        """The baseline for a new mean of rewards, which then enters it."""
        before = mean if self.value.isnan() else self.value.clone()
        self.value.copy_(decay * before + (1 - decay) * mean)
        return before
