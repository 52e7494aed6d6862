"""FBNet (Wu et al., 2019): a stochastic supernet, its blocks weighed by Gumbel-Softmax, and latency in the loss.

    m_l,i = exp((theta_l,i + g_l,i) / tau) / sum over i of exp((theta_l,i + g_l,i) / tau),   g ~ Gumbel(0, 1)       (8)
    LAT   = sum over layers l and blocks i of  m_l,i LAT(b_l,i)                                                     (9)
    loss  = CE(w, m) x alpha x log(LAT)^beta                                                                        (2)

tau falls by a factor of exp(-0.045) in each of 90 epochs. In the first ten of them only weights are trained, after that
weights on four fifths of the images and thetas on one: an update of theta for four of the weights. At the end a network
is sampled from softmax(theta).

Decided here, as the paper has no more to say:

* LAT is in microseconds, so that its logarithm is positive.
* The budget is reached by trial over beta (`search.strategies.budgets`). alpha scales the whole loss and with it its
  gradient, which Adam divides out again: beta alone trades latency for accuracy.
* Gradients of the weights are clipped as DARTS clips them: in `darts` the paper's learning rate made them diverge.
* Where slots form groups (`darts`) m is the mean of the sample given what the groups allow, and so is the last sample.
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
from search.strategies.bilevel_loop import Stateful, copy_state, cosine, descend, run_updates, set_learning_rate
from search.strategies.budgets import Attempt, make_attempt, propose_by_trade_off, trade_off_series
from search.strategies.context import Bench, Outcome
from shared.errors import InvalidValue
from shared.spaces import Space

EPOCHS = 90
WEIGHTS_ONLY_EPOCHS = 10
MICROSECONDS = 1000.0


@dataclass(frozen=True)
class FBNet:
    """Options and the authors' settings.

    Attributes:
        alpha, beta_low, beta_high: of the loss; beta is searched for between the two, whose geometric mean is the
            authors' 0.6. Powers far above 20 leave the range of single precision.
        rounds: halvings of that range, each of which is a whole search.
        weight_updates: for each update of theta.
    """

    alpha: float = 0.2
    beta_low: float = 0.018
    beta_high: float = 20.0
    rounds: int = 3
    weight_updates: int = 4
    first_temperature: float = 5.0
    temperature_decay: float = 0.045
    weight_lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    gradient_clip: float = 5.0
    theta_lr: float = 0.01
    theta_weight_decay: float = 5e-4

    uses_one_shot: ClassVar[bool] = False

    def __post_init__(self) -> None:
        trade_off_series(self.beta_low, self.beta_high, self.rounds)
        if self.weight_updates < 1:
            raise InvalidValue("fbnet:weight_updates", f"{self.weight_updates} is not 1 or more")

    def search(self, bench: Bench) -> Outcome:
        """See `Strategy.search`."""
        steps = bench.config.total_steps
        weights_only = steps * WEIGHTS_ONLY_EPOCHS // EPOCHS
        common = FBNetUpdates(self, bench)
        run_updates(bench.part("weights-only"), "fbnet, weights", weights_only, common.state, common.update_weights)

        def search(beta: float) -> Attempt:
            part, updates = bench.part(f"beta-{beta:.4g}"), FBNetUpdates(self, bench, beta)
            copy_state(common.state, updates.state)
            run_updates(
                part,
                f"fbnet, beta {beta:.3g}",
                steps - weights_only,
                updates.state,
                lambda step: updates.update(weights_only + step),
            )
            random = generator(bench.config.seed, "fbnet's network", part.folder.name)
            return make_attempt(bench, updates.thetas(), draw_network(updates.thetas(), bench.space, random))

        series = trade_off_series(self.beta_low, self.beta_high, self.rounds)
        proposals, notes, searches = propose_by_trade_off(bench, series, search)
        weight_updates = weights_only + searches * (steps - weights_only)
        return Outcome(tuple(proposals), weight_updates * bench.weight_batches.batch_size, notes=tuple(notes))


class FBNetUpdates:
    """Supernet, thetas and their optimisers; update numbers count from the first update of the weights."""

    def __init__(self, settings: FBNet, bench: Bench, beta: float = 1.0) -> None:
        self._settings, self._bench, self._beta = settings, bench, beta
        self._latency = latency_costs(bench.table)
        self.supernet, self.thetas = bench.new_supernet(), bench.new_alphas(scale=0.0)
        self.weights = list(self.supernet.parameters())
        self.weight_optimizer = torch.optim.SGD(
            self.weights, settings.weight_lr, settings.momentum, weight_decay=settings.weight_decay, foreach=True
        )
        self.theta_optimizer = torch.optim.Adam(
            self.thetas.parameters(), settings.theta_lr, weight_decay=settings.theta_weight_decay
        )
        self.state: dict[str, Stateful] = {
            "supernet": self.supernet,
            "thetas": self.thetas,
            "weight_optimizer": self.weight_optimizer,
            "theta_optimizer": self.theta_optimizer,
        }

    def update(self, step: int) -> dict[str, float]:
        """One of the weights, and one of theta where it is its turn."""
        losses = self.update_weights(step)
        if (step + 1) % self._settings.weight_updates == 0:
            losses |= self.update_thetas(step)
        return losses

    def update_weights(self, step: int) -> dict[str, float]:
        """By the loss without its latency, which does not depend on the weights."""
        settings = self._settings
        set_learning_rate(self.weight_optimizer, cosine(settings.weight_lr, 0, step, self._bench.config.total_steps))
        images, labels = self._bench.weight_batches.batch(step)
        loss = F.cross_entropy(self.supernet(images, self._gates(step, "weights").detach()), labels)
        descend(self.weight_optimizer, self.weights, torch.autograd.grad(loss, self.weights), settings.gradient_clip)
        return {"loss": loss.item()}

    def update_thetas(self, step: int) -> dict[str, float]:
        """By equation 2."""
        settings, thetas = self._settings, self.thetas.values
        images, labels = self._bench.alpha_batches.batch(step // settings.weight_updates)
        gates = self._gates(step, "thetas")
        cross_entropy = F.cross_entropy(self.supernet(images, gates), labels)
        loss = latency_aware_loss(cross_entropy, self._latency.expected(gates), settings.alpha, self._beta)
        descend(self.theta_optimizer, [thetas], torch.autograd.grad(loss, thetas))
        return {"theta_loss": loss.item()}

    def _gates(self, step: int, purpose: str) -> Tensor:
        random = generator(self._bench.config.seed, "fbnet", purpose, step)
        return gumbel_softmax(self._bench.space, self.thetas(), self._temperature(step), random)

    def _temperature(self, step: int) -> float:
        epoch = step * EPOCHS // self._bench.config.total_steps
        return self._settings.first_temperature * math.exp(-self._settings.temperature_decay * epoch)


def gumbel_softmax(space: Space, thetas: Tensor, temperature: float, random: torch.Generator) -> Tensor:
    """Gates (slots, primitives), each row of which sums to 1 (equation 8)."""
    return choice_probabilities(space, (thetas + gumbel(thetas.shape, random)) / temperature)


def latency_aware_loss(cross_entropy: Tensor, latency_ms: Tensor, alpha: float, beta: float) -> Tensor:
    """Equation 2, for latencies above a microsecond."""
    return cross_entropy * alpha * torch.log(MICROSECONDS * latency_ms) ** beta
