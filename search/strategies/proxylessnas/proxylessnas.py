"""ProxylessNAS (Cai, Zhu and Han, 2019): only sampled paths are computed, gated by binary gates g.

Each update of the weights trains a path drawn from p = softmax(alpha). Every few of them alpha is
updated, in either of the paper's two ways.

`latency="additive"` (sections 3.2.1 and 3.3.1): two paths of each slot are sampled, and p is the
softmax over these two. Both are computed, and the gate of the active path is 1:

    dL/dalpha_i ~ sum over the two j of  dL/dg_j p_j (delta_ij - p_i)                            (4)

After the update both alphas are shifted, so that the probabilities of the other paths stay as they
were. The loss is

    L = CE + lambda_2 E[latency],   E[latency] = sum over slots and paths of p_j F(path j)   (5-7)

Its gradient reaches the two sampled alphas alone, as in the authors' code.

`latency="reward"` (section 3.3.2): M networks are drawn and rewarded. The gradient is that of
REINFORCE (Williams, 1992):

    grad J = 1/M sum over networks of  (R - baseline) grad log p(network)
    R      = ACC x (latency / T)^w

R is MnasNet's reward (Tan et al., 2019), the baseline a running mean of earlier rewards, T the
budget.

Decided here, because the paper does not say more:

* E[latency] is divided by the latency of the slowest choices: lambda_2 then means the same on every
  device. A trial over lambda_2 reaches the budget (`search.strategies.budgets`). The reward needs
  one search per budget and does not guarantee that the network meets it.
* A slot of a group (`darts`) may also take "none", which costs nothing to compute. The two paths
  are sampled from its other ops, and the active paths always form a network.
* Weight gradients are clipped as in DARTS.
* A disconnected network gets reward 0; gates are drawn until they connect.
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
from search.strategies.bilevel_loop import Learner, OptimizerSettings, copy_state, cosine, run_updates
from search.strategies.budgets import Attempt, make_attempt, make_outcome, search_for_budgets, trade_off_series
from search.strategies.context import Bench, Outcome
from search.strategies.discretize import strongest
from search.strategies.proxylessnas.binary_gates import binary_gates, keep_unsampled_probabilities, sample_paths
from shared.errors import InvalidValue
from shared.spaces import Genotype

WARM_UP_SHARE = 40 / 160
"""Epochs of weights alone among all epochs."""
LATENCIES = ("additive", "reward")


@dataclass(frozen=True)
class ProxylessNAS(OptimizerSettings):
    """Options and the settings of the authors' code.

    Attributes:
        latency: enters the loss ("additive") or the reward ("reward").
        lambda_low, lambda_high: bounds of the search for lambda_2.
        rounds: halvings of that range; each is a whole search.
        exponent: w of the reward.
        samples: M of the reward.
        baseline_share: of the newest mean in the baseline.
        weight_updates: for each update of the alphas.
    """

    last_weight_lr: float = 0.0
    weight_decay: float = 4e-5
    alpha_lr: float = 1e-3
    alpha_weight_decay: float = 0.0
    latency: str = "additive"
    lambda_low: float = 0.01
    lambda_high: float = 10.0
    rounds: int = 3
    exponent: float = -0.07
    samples: int = 10
    baseline_share: float = 0.99
    weight_updates: int = 5
    warm_up_lr: float = 0.05
    label_smoothing: float = 0.1

    # Without a mean of past gradients, an alpha that was not sampled does not move.
    alpha_betas: ClassVar[tuple[float, float]] = (0.0, 0.999)
    nesterov: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.latency not in LATENCIES:
            raise InvalidValue("proxylessnas:latency", f"'{self.latency}' is neither {' nor '.join(LATENCIES)}")
        trade_off_series(self.lambda_low, self.lambda_high, self.rounds)
        if min(self.weight_updates, self.samples) < 1:
            raise InvalidValue("proxylessnas", "weight_updates and samples have to be 1 or more")

    def search(self, bench: Bench) -> Outcome:
        warm_up, steps = warm_up_updates(bench), bench.config.total_steps
        common = ProxylessUpdates(self, bench)
        run_updates(bench.part("warm-up"), "proxylessnas, warm-up", warm_up, common.state, common.warm_up)

        def attempt(name: str, alpha_step: AlphaStep, value: float) -> Attempt:
            """A search after the warm-up, for the most probable path of each slot."""
            updates = ProxylessUpdates(self, bench)
            copy_state(common.state, updates.state)

            def update(step: int) -> dict[str, float]:
                return updates.update(warm_up + step, alpha_step, value)

            run_updates(bench.part(name), f"proxylessnas, {name}", steps - warm_up, updates.state, update)
            return make_attempt(bench, updates.alphas(), strongest(bench.space, updates.alphas()))

        if self.latency == "additive":
            series = trade_off_series(self.lambda_low, self.lambda_high, self.rounds)
            return search_for_budgets(
                bench, series, lambda weight: attempt(f"lambda-{weight:.4g}", additive_step, weight), warm_up
            )
        attempts = [attempt(f"target-{ms:.9g}", reward_step, ms) for ms in bench.budgets_ms]
        return make_outcome(bench, attempts, warm_up + len(attempts) * (steps - warm_up))


def warm_up_updates(bench: Bench) -> int:
    """Updates of the weights before alphas move."""
    return round(WARM_UP_SHARE * bench.config.total_steps)


class ProxylessUpdates(Learner):
    """Updates of a ProxylessNAS search, numbered from the first update of the weights."""

    settings: ProxylessNAS

    def __init__(self, settings: ProxylessNAS, bench: Bench) -> None:
        super().__init__(settings, bench)
        self.latency, self.baseline = latency_costs(bench.table), Baseline()
        self.state["baseline"] = self.baseline

    def warm_up(self, step: int) -> dict[str, float]:
        """Update the weights, with a cosine of its own."""
        return self._train_weights(step, cosine(self.settings.warm_up_lr, 0, step, warm_up_updates(self.bench)))

    def update(self, step: int, alpha_step: AlphaStep, value: float) -> dict[str, float]:
        """Update the weights, and every `weight_updates` steps the alphas."""
        losses = self._train_weights(step, self.weight_lr(step - warm_up_updates(self.bench)))
        if (step + 1) % self.settings.weight_updates == 0:
            losses |= alpha_step(self, step, value)
        return losses

    def weight_lr(self, step: int) -> float:
        """A cosine over the updates after the warm-up."""
        count = self.bench.config.total_steps - warm_up_updates(self.bench)
        return cosine(self.settings.weight_lr, self.settings.last_weight_lr, step, count)

    def random(self, purpose: str, step: int) -> torch.Generator:
        """Of one purpose in one update."""
        return generator(self.bench.config.seed, "proxylessnas", purpose, step)

    def validation_batch(self, step: int) -> tuple[Tensor, Tensor]:
        return self.bench.alpha_batches.batch(step // self.settings.weight_updates)

    def _train_weights(self, step: int, learning_rate: float) -> dict[str, float]:
        path = draw_network(self.alphas().detach(), self.bench.space, self.random("path", step))
        images, labels = self.bench.weight_batches.batch(step)
        logits = self.supernet(images, path or self.bench.space.fastest())
        loss = F.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)
        return {"loss": self.update_weights(loss, learning_rate)}


AlphaStep = Callable[[ProxylessUpdates, int, float], dict[str, float]]
"""Performs an update of the alphas, given its number and lambda_2 or the target latency."""


def additive_step(updates: ProxylessUpdates, step: int, weight: float) -> dict[str, float]:
    """Update the alphas by CE + lambda_2 E[latency] over two paths of each slot."""
    space, alphas = updates.bench.space, updates.alphas.values
    paths = sample_paths(alphas, space, updates.random("two paths", step))
    images, labels = updates.validation_batch(step)
    columns = [row.nonzero().flatten().tolist() for row in paths.sampled]
    loss = F.cross_entropy(updates.supernet(images, binary_gates(paths), columns), labels)
    loss = loss + weight * updates.latency.expected(paths.probabilities) / updates.latency.largest
    before = alphas.detach().clone()
    alpha_loss = updates.update_alphas(loss)
    keep_unsampled_probabilities(alphas, before, paths.sampled)
    return {"alpha_loss": alpha_loss}


def reward_step(updates: ProxylessUpdates, step: int, target_ms: float) -> dict[str, float]:
    """Update the alphas by REINFORCE."""
    settings, space, alphas = updates.settings, updates.bench.space, updates.alphas.values
    images, labels = updates.validation_batch(step)
    random = updates.random("networks", step)
    drawn = [draw_choices(space, alphas.detach(), random) for _ in range(settings.samples)]
    rewards = torch.tensor(
        [reward(updates, to_genotype(space, columns), images, labels, target_ms) for columns in drawn]
    )
    baseline = updates.baseline.update(rewards.mean(), settings.baseline_share)
    scores = torch.stack([log_probability(space, alphas, columns) for columns in drawn])
    updates.update_alphas(-((rewards - baseline) * scores).mean())
    return {"reward": rewards.mean().item()}


@torch.no_grad()
def reward(updates: ProxylessUpdates, genotype: Genotype, images: Tensor, labels: Tensor, target_ms: float) -> float:
    """ACC x (latency / T)^w on a batch; 0 if the network does not connect input and output."""
    if not updates.bench.space.is_connected(genotype):
        return 0.0
    accuracy = (updates.supernet(images, genotype).argmax(dim=1) == labels).double().mean().item()
    return float(accuracy * (updates.latency.of_network(genotype) / target_ms) ** updates.settings.exponent)


class Baseline(nn.Module):
    """A running mean of rewards, the newest included."""

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(float("nan")))

    @torch.no_grad()
    def update(self, mean: Tensor, share: float) -> Tensor:
        """Include a new mean of rewards, and return the baseline."""
        before = mean if self.value.isnan() else self.value
        self.value.copy_(before + share * (mean - before))
        return self.value.clone()
