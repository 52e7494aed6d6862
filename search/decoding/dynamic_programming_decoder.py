"""Constrained decoding of large spaces, by dynamic programming over the latency bound.

The bound of a network, mean + k sd, couples the slots. It is convex in the op counts and
proportional to them, so its tangent at a network is a sum over slots and nowhere above the bound.
It is close to the bound everywhere, as most of a bound is the mean. The programme runs over slots
and `STEPS` steps of that sum. For every value it keeps the `count` most probable networks, and each
is judged by its true bound. The result always meets the budget. It is the most probable such
network, unless curvature or rounding decides between networks of nearly the same cost
(`tests/search/spaces` compares with brute force).

Random networks come from the same programme, with numbers of networks for probabilities.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from search.decoding.decoding import Band, Decoded, require_budget
from search.genotypes.constrained_argmax import NONE, best_choices, to_genotype
from search.latency.latency_model import LatencyModel, deviations
from shared.spaces import Genotype
from shared.tables.table import CONFIDENCE

Floats = npt.NDArray[np.float64]
Columns = npt.NDArray[np.int64]

STEPS = 1000
"""Of cost, from the cheapest network to the dearest."""
MOST_TANGENTS = 30
ROUNDS_OF_DRAWS = 40
DRAWN_AT_ONCE = 512
"""Near the smallest budget most draws lie just above it."""
ALPHAS_IN_MEMORY = 64


@dataclass(frozen=True, eq=False)
class Stage:
    """A slot and its moves. A slot outside all groups `closes` with 0 `kept` choices.

    Attributes:
        columns, steps, counts: of each move: its op, its cost, whether a group keeps it.
        kept: choices of the slot's group that must be kept when the group closes.
        closes: whether the group ends here.
    """

    slot: int
    columns: Columns
    steps: Columns
    counts: Columns
    kept: int
    closes: bool

    @property
    def chosen(self) -> int:
        """Choices with a cost in the group or slot that ends here."""
        return max(self.kept, 1)

    def moves(self) -> Iterator[tuple[int, int, int]]:
        """Column, steps and count of each move."""
        return zip(self.columns.tolist(), self.steps.tolist(), self.counts.tolist(), strict=True)


@dataclass(frozen=True, eq=False)
class Found:
    """Networks of an alpha, most probable first: columns (networks, slots)."""

    columns: Columns
    log_probability: Floats
    mean_ms: Floats
    upper_ms: Floats


class DynamicProgrammingDecoder:
    """`search.decoding.decoding.Decoder` for spaces in which all chosen ops reach the output."""

    def __init__(self, model: LatencyModel, confidence: float = CONFIDENCE) -> None:
        self._model = model
        self._confidence = confidence
        self._space = model.space
        low, self.smallest_ms = self._extreme(-1)
        high, self.largest_ms = self._extreme(1)
        self.fastest, self.slowest = (to_genotype(self._space, columns) for columns in (low, high))
        middle = (self._features(low[None])[0] + self._features(high[None])[0]) / 2
        self._gradient = model.upper_gradient(middle, confidence)
        self._costs = model.choice_features @ self._gradient
        ends = [self._costs[np.arange(len(columns)), columns].sum() for columns in (low, high)]
        self._step_ms = max(float(ends[1] - ends[0]), 1e-12) / STEPS
        self._stages, self._offset_ms = self._make_stages()
        self._most_steps = self._count_most_steps()
        self._known: dict[tuple[bytes, int], Found] = {}

    def decode(self, log_probabilities: Floats, bands: Sequence[Band], count: int = 1) -> list[list[Decoded]]:
        for band in bands:
            require_budget(band.budget_ms, self.smallest_ms, self._model.table.device)
        found = self._find(log_probabilities, count)
        return [
            [self._decoded(found, index) for index in np.flatnonzero(band.contains(found.upper_ms))[:count]]
            for band in bands
        ]

    def decode_worth(self, worth: Floats, bands: Sequence[Band], count: int = 1) -> list[list[Genotype]]:
        """See `Decoder.decode_worth`: no slot is dead in these spaces."""
        return [[decoded.genotype for decoded in best] for best in self.decode(worth, bands, count)]

    def find_all(self, most: int) -> None:
        """See `Decoder.find_all`: these spaces are too large."""

    def draw(self, budget_ms: float, count: int, draws: random.Random) -> list[Genotype]:
        require_budget(budget_ms, self.smallest_ms, self._model.table.device)
        generator = np.random.default_rng(draws.getrandbits(64))
        drawn: dict[tuple[int, ...], None] = {}
        for _ in range(ROUNDS_OF_DRAWS):
            batch = self._draw_columns(self._limit(budget_ms), DRAWN_AT_ONCE, generator)
            _, upper_ms = self._judge(batch)
            drawn |= dict.fromkeys(map(tuple, batch[upper_ms <= budget_ms].tolist()))
            if len(drawn) >= count:
                break
        return [to_genotype(self._space, columns) for columns in list(drawn)[:count]] or [self.fastest]

    def _extreme(self, sign: int) -> tuple[Columns, float]:
        """The network with the smallest (-1) or a largest (1) bound, by tangent after tangent.

        A network that minimises its own tangent has the smallest bound of all. Where none does, the
        minima of tangents alternate: tangents at the mean of those so far (Frank and Wolfe, 1956)
        lead to the smallest. Upwards every step is a gain.
        """
        point, seen = self._model.fixed_features, []
        for count in range(MOST_TANGENTS):
            gradient = self._model.upper_gradient(point, self._confidence)
            costs = torch.from_numpy(sign * (self._model.choice_features @ gradient))
            columns = best_choices(self._space, costs).numpy()
            features = self._features(columns[None])[0]
            if count and np.array_equal(features, point):
                break
            seen.append((columns, float(self._judge(columns[None])[1][0])))
            point = features if sign > 0 or not count else point + (features - point) / (count + 1)
        return max(seen, key=lambda found: sign * found[1])

    def _make_stages(self) -> tuple[tuple[Stage, ...], float]:
        """The slots, and the cost of a network of no steps: the cheapest ops."""
        groups = {slot: group for group in self._space.groups for slot in group.slots}
        stages, offset_ms = [], float(self._model.fixed_features @ self._gradient)
        for index, slot in enumerate(self._space.slots):
            group = groups.get(index)
            beside, none = (group.slots, slot.primitives.index(NONE)) if group else ((index,), None)
            # Columns that repeat a candidate of a user's own model stand for the same networks.
            columns = np.array(
                [i for i, name in enumerate(slot.primitives) if slot.primitives.index(name) == i != none]
            )
            cheapest = float(self._costs[list(beside)][:, columns].min())
            steps = np.rint((self._costs[index, columns] - cheapest) / self._step_ms).astype(np.int64)
            counts = np.full(len(columns), group is not None, dtype=np.int64)
            if none is not None:
                columns, steps, counts = np.append(columns, none), np.append(steps, 0), np.append(counts, 0)
            closes = group is None or index == group.slots[-1]
            stages.append(Stage(index, columns, steps, counts, group.kept if group else 0, closes))
            offset_ms += cheapest * (stages[-1].chosen if closes else 0)
        return tuple(stages), offset_ms

    def _count_most_steps(self) -> int:
        total, largest = 0, 0
        for stage in self._stages:
            largest = max(largest, int(stage.steps.max()))
            if stage.closes:
                total, largest = total + stage.chosen * largest, 0
        return total

    def _find(self, log_probabilities: Floats, count: int) -> Found:
        """For every number of steps the `count` most probable networks, with their bounds."""
        key = log_probabilities.tobytes(), count
        if key not in self._known:
            if len(self._known) >= ALPHAS_IN_MEMORY:
                self._known.clear()
            columns, scores = self._most_probable(log_probabilities, count)
            order = np.argsort(-scores, kind="stable")
            columns = columns[order]
            self._known[key] = Found(columns, scores[order], *self._judge(columns))
        return self._known[key]

    def _most_probable(self, log_probabilities: Floats, count: int) -> tuple[Columns, Floats]:
        """Columns (networks, slots) and sums of log p, (networks,).

        Forwards, `scores[kept, steps, place]` are the best sums. Backwards, they are traced.
        """
        size = self._most_steps + 1
        scores = np.full((1, size, count), -np.inf)
        scores[0, 0, 0] = 0.0
        traces = []
        for stage in self._stages:
            states = stage.kept + 1
            if len(scores) < states:
                scores = np.concatenate([scores, np.full((states - len(scores), size, count), -np.inf)])
            after = np.full((states, size, count), -np.inf)
            trace = np.zeros((states, size, count), np.int32)
            for state in range(states):
                arriving = np.full((size, len(stage.columns), count), -np.inf)
                for number, (column, steps, counts) in enumerate(stage.moves()):
                    if state >= counts:
                        gain = log_probabilities[stage.slot, column]
                        arriving[steps:, number] = scores[state - counts, : size - steps] + gain
                flat = arriving.reshape(size, -1)
                best = np.argpartition(-flat, count - 1, axis=1)[:, :count]
                after[state], trace[state] = np.take_along_axis(flat, best, axis=1), best
            traces.append(trace)
            scores = after[stage.kept :] if stage.closes else after
        found = np.nonzero(np.isfinite(scores[0]))
        return self._traced(traces, *found), scores[0][found]

    def _traced(self, traces: Sequence[npt.NDArray[np.int32]], steps: Columns, place: Columns) -> Columns:
        columns = np.zeros((len(steps), len(self._stages)), np.int64)
        kept = np.zeros(len(steps), np.int64)
        for stage, trace in zip(reversed(self._stages), reversed(traces), strict=True):
            if stage.closes:
                kept = np.full(len(steps), stage.kept)
            number, place = np.divmod(trace[kept, steps, place], trace.shape[2])
            columns[:, stage.slot] = stage.columns[number]
            steps = steps - stage.steps[number]
            kept = kept - stage.counts[number]
        return columns

    @cached_property
    def _completions(self) -> list[Floats]:
        """For each slot (kept, steps left): the number of ways to complete a network."""
        size = self._most_steps + 1
        after = np.ones((1, size))
        tables = [after]
        for stage in reversed(self._stages):
            if stage.closes:  # the next group begins with nothing kept
                ways = np.zeros((stage.kept + 1, size))
                ways[stage.kept] = after[0]
                after = ways
            before = np.zeros((stage.kept + 1, size))
            for _, steps, counts in stage.moves():
                for kept in range(stage.kept + 1 - counts):
                    before[kept, steps:] += after[kept + counts, : size - steps]
            after = before
            tables.append(after)
        return tables[::-1]

    def _draw_columns(self, limit: int, count: int, generator: np.random.Generator) -> Columns:
        """Uniform over the networks of at most `limit` steps, (count, slots)."""
        columns = np.zeros((count, len(self._stages)), np.int64)
        left, kept = np.full(count, limit), np.zeros(count, np.int64)
        for place, stage in enumerate(self._stages):
            ways = np.zeros((count, len(stage.columns)))
            following = self._completions[place + 1]
            for number, (_, steps, counts) in enumerate(stage.moves()):
                next_kept, next_left = kept + counts, left - steps
                allowed = (next_left >= 0) & (next_kept <= stage.kept)
                if stage.closes:
                    allowed &= next_kept == stage.kept
                    next_kept = np.zeros_like(next_kept)
                ways[allowed, number] = following[next_kept[allowed], next_left[allowed]]
            share = np.cumsum(ways, axis=1) / ways.sum(axis=1, keepdims=True)
            number = (generator.random((count, 1)) >= share).sum(axis=1)
            columns[:, stage.slot] = stage.columns[number]
            left = left - stage.steps[number]
            kept = np.zeros_like(kept) if stage.closes else kept + stage.counts[number]
        return columns

    def _limit(self, budget_ms: float) -> int:
        """Most steps within the budget: the tangent is below the bound, costs are rounded."""
        chosen = sum(stage.chosen for stage in self._stages if stage.closes)
        steps = math.floor((budget_ms - self._offset_ms) / self._step_ms + chosen / 2)
        return min(max(steps, 0), self._most_steps)

    def _features(self, columns: Columns) -> Floats:
        features = np.tile(self._model.fixed_features, (len(columns), 1))
        for slot in range(columns.shape[1]):
            features += self._model.choice_features[slot, columns[:, slot]]
        return features

    def _judge(self, columns: Columns) -> tuple[Floats, Floats]:
        mean_ms, sd_ms = self._model.mean_and_sd_of(self._features(columns))
        return mean_ms, mean_ms + deviations(self._confidence) * sd_ms

    def _decoded(self, found: Found, index: int) -> Decoded:
        known = (found.log_probability, found.mean_ms, found.upper_ms)
        return Decoded(to_genotype(self._space, found.columns[index]), *(float(values[index]) for values in known))
