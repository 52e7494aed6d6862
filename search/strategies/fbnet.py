"""FBNet (Wu et al., 2019): a stochastic supernet, Gumbel-Softmax gates, and latency in the loss.

    m_l,i = exp((alpha_l,i + g_l,i) / tau) / sum over i of exp(...),   g ~ Gumbel(0, 1)       (8)
    LAT   = sum over layers l and blocks i of  m_l,i LAT(b_l,i)                               (9)
    loss  = CE(w, m) x scale x log(LAT)^beta                                                  (2)

(alpha is the paper's theta, the scale its alpha.) tau falls by a factor of exp(-0.045) in each of
90 epochs. The first ten epochs train the weights alone, the others train weights on four fifths of
the images and alphas on one fifth. At the end a network is sampled from softmax(alpha).

Decided here, because the paper does not say more:

* LAT is in microseconds, so that its logarithm is positive.
* A trial over beta reaches the budget (`search.strategies.budgets`). The scale does not trade
  latency for accuracy: Adam divides it out of the gradient.
* Weight gradients are clipped as in DARTS: in `darts` the paper's learning rate made them diverge.
* Where slots form groups (`darts`) m is the mean of the sample given what the groups allow. The
  final sample follows the same rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from search.alphas.path_sampling import draw_network
from search.genotypes.constrained_argmax import choice_probabilities
from search.latency.slot_costs import latency_costs
from search.process.randomness import generator, gumbel
from search.strategies.bilevel_loop import Learner, OptimizerSettings, copy_state, run_updates
from search.strategies.budgets import Attempt, make_attempt, search_for_budgets, trade_off_series
from search.strategies.context import Bench, Outcome
from shared.errors import InvalidValue
from shared.spaces import Space

EPOCHS = 90
WEIGHTS_ONLY_EPOCHS = 10
MICROSECONDS = 1000.0


@dataclass(frozen=True)
class FBNet(OptimizerSettings):
    """Options and the authors' settings.

    Attributes:
        scale, beta_low, beta_high: of the loss. beta is searched for between the bounds, whose
            geometric mean is the authors' 0.6. Powers far above 20 overflow single precision.
        rounds: halvings of that range; each is a whole search.
        weight_updates: for each update of the alphas.
    """

    weight_lr: float = 0.1
    last_weight_lr: float = 0.0
    weight_decay: float = 1e-4
    alpha_lr: float = 0.01
    alpha_weight_decay: float = 5e-4
    scale: float = 0.2
    beta_low: float = 0.018
    beta_high: float = 20.0
    rounds: int = 3
    weight_updates: int = 4
    first_temperature: float = 5.0
    temperature_decay: float = 0.045

    alpha_betas: ClassVar[tuple[float, float]] = (0.9, 0.999)

    def __post_init__(self) -> None:
        trade_off_series(self.beta_low, self.beta_high, self.rounds)
        if self.weight_updates < 1:
            raise InvalidValue("fbnet:weight_updates", f"{self.weight_updates} is not 1 or more")

    def search(self, bench: Bench) -> Outcome:
        steps = bench.config.total_steps
        weights_only = steps * WEIGHTS_ONLY_EPOCHS // EPOCHS
        common = FBNetUpdates(self, bench)
        run_updates(bench.part("weights-only"), "fbnet, weights", weights_only, common.state, common.train_weights)

        def search(beta: float) -> Attempt:
            part, updates = bench.part(f"beta-{beta:.4g}"), FBNetUpdates(self, bench, beta)
            copy_state(common.state, updates.state)

            def update(step: int) -> dict[str, float]:
                return updates.update(weights_only + step)

            run_updates(part, f"fbnet, beta {beta:.3g}", steps - weights_only, updates.state, update)
            random = generator(bench.config.seed, "fbnet's network", part.folder.name)
            return make_attempt(bench, updates.alphas(), draw_network(updates.alphas(), bench.space, random))

        series = trade_off_series(self.beta_low, self.beta_high, self.rounds)
        return search_for_budgets(bench, series, search, weights_only)


class FBNetUpdates(Learner):
    """Updates of an FBNet search; their numbers count from the first update of the weights."""

    settings: FBNet

    def __init__(self, settings: FBNet, bench: Bench, beta: float = 1.0) -> None:
        super().__init__(settings, bench, alpha_scale=0.0)
        self.latency, self._beta = latency_costs(bench.table), beta

    def update(self, step: int) -> dict[str, float]:
        """Update the weights, and every `weight_updates` steps the alphas."""
        losses = self.train_weights(step)
        if (step + 1) % self.settings.weight_updates == 0:
            losses |= self.train_alphas(step)
        return losses

    def train_weights(self, step: int) -> dict[str, float]:
        """By the cross-entropy alone: its factor in equation 2 would only scale the learning rate."""
        images, labels = self.bench.weight_batches.batch(step)
        loss = F.cross_entropy(self.supernet(images, self.gates(step, "weights").detach()), labels)
        return {"loss": self.update_weights(loss, self.weight_lr(step))}

    def train_alphas(self, step: int) -> dict[str, float]:
        """By equation 2."""
        images, labels = self.bench.alpha_batches.batch(step // self.settings.weight_updates)
        gates = self.gates(step, "thetas")
        cross_entropy = F.cross_entropy(self.supernet(images, gates), labels)
        loss = latency_aware_loss(cross_entropy, self.latency.expected(gates), self.settings.scale, self._beta)
        return {"alpha_loss": self.update_alphas(loss)}

    def gates(self, step: int, purpose: str) -> Tensor:
        """The gates of an update, (slots, primitives)."""
        random = generator(self.bench.config.seed, "fbnet", purpose, step)
        return gumbel_softmax(self.bench.space, self.alphas(), self.temperature(step), random)

    def temperature(self, step: int) -> float:
        epoch = step * EPOCHS // self.bench.config.total_steps
        return self.settings.first_temperature * math.exp(-self.settings.temperature_decay * epoch)


def gumbel_softmax(space: Space, alphas: Tensor, temperature: float, random: torch.Generator) -> Tensor:
    """Gates (slots, primitives); each row sums to 1 (equation 8)."""
    return choice_probabilities(space, (alphas + gumbel(alphas.shape, random)) / temperature)


def latency_aware_loss(cross_entropy: Tensor, latency_ms: Tensor, scale: float, beta: float) -> Tensor:
    """Equation 2, for latencies above a microsecond."""
    return cross_entropy * scale * torch.log(MICROSECONDS * latency_ms) ** beta
