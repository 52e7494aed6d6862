"""Constrained decoding of spaces that nobody can enumerate, by dynamic programming over the latency bound.

The bound of a network, mean + k sd, couples the slots, but it is convex in the op counts and grows in proportion to
them. Its tangent at one network is therefore a sum over slots that lies nowhere above it, and close to it everywhere,
as most of a bound is the mean. The programme runs over slots and `STEPS` steps of that sum, and keeps for every value
of it the `count` most probable networks; each of those is then judged by its true bound. So what comes out always meets
the budget, and it is the best that does, unless the bound's curvature or the rounding of a cost decides between
networks of nearly the same cost (`tests/search/spaces` holds it against brute force).

Random networks under a budget come from the same programme with numbers of networks in the place of probabilities.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from search.decoding.decoding import Band, Decoded, require_budget
from search.genotypes.constrained_argmax import NONE, best_choices
from search.latency.latency_model import LatencyModel, deviations
from shared.spaces import Genotype
from shared.tables.table import CONFIDENCE

Floats = npt.NDArray[np.float64]
Columns = npt.NDArray[np.int64]

STEPS = 1000
"""Of cost between the cheapest and the dearest network."""
MOST_TANGENTS = 30
ROUNDS_OF_DRAWS = 40
DRAWN_AT_ONCE = 512
"""Near the smallest budget most of what the programme draws lies just above it."""
ALPHAS_IN_MEMORY = 64


@dataclass(frozen=True)
class Move:
    """One choice of a slot: its column, what it costs in steps, and whether it is one of those that a group keeps."""

    column: int
    steps: int
    counts: bool


@dataclass(frozen=True)
class Stage:
    """One slot. `kept` choices of its group have to have been made when it `closes` the group.

    A slot of no group closes what it is, with 0 kept.
    """

    slot: int
    moves: tuple[Move, ...]
    kept: int
    closes: bool

    @property
    def chosen(self) -> int:
        """Choices that cost something in the group or the slot that ends here."""
        return max(self.kept, 1)


@dataclass(frozen=True, eq=False)
class Found:
    """Networks of one alpha, the most probable first: columns (networks, slots), and what is known of each."""

    columns: Columns
    log_probability: Floats
    mean_ms: Floats
    upper_ms: Floats


class KnapsackDecoder:
    """`search.decoding.decoding.Decoder` for spaces whose chosen ops all reach the output."""

    def __init__(self, model: LatencyModel, confidence: float = CONFIDENCE) -> None:
        self._model = model
        self._confidence = confidence
        self._space = model.space
        low, self.smallest_ms = self._extreme(-1)
        high, self.largest_ms = self._extreme(1)
        self.fastest = self._genotype(low)
        middle = (self._features(low[None])[0] + self._features(high[None])[0]) / 2
        self._gradient = model.upper_gradient(middle, confidence)
        self._costs = model.choice_features @ self._gradient
        ends = [self._costs[np.arange(len(one)), one].sum() for one in (low, high)]
        self._step_ms = max(float(ends[1] - ends[0]), 1e-12) / STEPS
        self._stages, self._offset_ms = self._make_stages()
        self._most_steps = self._count_most_steps()
        self._known: dict[tuple[bytes, int], Found] = {}

    def decode(self, log_probabilities: Floats, bands: Sequence[Band], count: int = 1) -> list[list[Decoded]]:
        """See `search.decoding.decoding.Decoder.decode`."""
        for band in bands:
            require_budget(band.budget_ms, self.smallest_ms, self._model.table.device)
        found = self._find(log_probabilities, count)
        decoded = []
        for band in bands:
            within = np.flatnonzero((found.upper_ms > band.floor_ms) & (found.upper_ms <= band.budget_ms))[:count]
            decoded.append([self._decoded(found, index) for index in within])
        return decoded

    def find_all(self, most: int) -> None:
        """See `Decoder.find_all`: these spaces are never listed."""

    def draw(self, budget_ms: float, count: int, draws: random.Random) -> list[Genotype]:
        """See `search.decoding.decoding.Decoder.draw`: uniform over the networks that meet the budget."""
        require_budget(budget_ms, self.smallest_ms, self._model.table.device)
        generator = np.random.default_rng(draws.getrandbits(64))
        drawn: dict[tuple[int, ...], None] = {}
        for _ in range(ROUNDS_OF_DRAWS):
            columns = self._draw_columns(self._limit(budget_ms), DRAWN_AT_ONCE, generator)
            _, upper_ms = self._judge(columns)
            drawn |= dict.fromkeys(map(tuple, columns[upper_ms <= budget_ms].tolist()))
            if len(drawn) >= count:
                break
        return [self._genotype(one) for one in list(drawn)[:count]] or [self.fastest]

    def _extreme(self, sign: int) -> tuple[Columns, float]:
        """The network with the smallest (-1) or a largest (1) bound: the end of the tangent's sum, again and again.

        Downwards, a network that is the end of its own tangent has the smallest bound of all.
        """
        gradient = self._model.upper_gradient(self._model.fixed_features, self._confidence)
        best: tuple[Columns, float] | None = None
        for _ in range(MOST_TANGENTS):
            costs = torch.from_numpy(sign * (self._model.choice_features @ gradient))
            columns = best_choices(self._space, costs).numpy()
            upper_ms = float(self._judge(columns[None])[1][0])
            if best is not None and sign * (upper_ms - best[1]) <= 0:
                break
            best = columns, upper_ms
            gradient = self._model.upper_gradient(self._features(columns[None])[0], self._confidence)
        assert best is not None
        return best

    def _make_stages(self) -> tuple[tuple[Stage, ...], float]:
        """The slots, and what a network of no steps costs. Steps count from the cheapest op of a slot or a group."""
        groups = {slot: group for group in self._space.groups for slot in group.slots}
        stages, offset_ms = [], float(self._model.fixed_features @ self._gradient)
        for index, slot in enumerate(self._space.slots):
            group = groups.get(index)
            beside = group.slots if group else (index,)
            columns = [i for i, name in enumerate(slot.primitives) if not group or name != NONE]
            cheapest = float(self._costs[np.ix_(beside, columns)].min())
            steps = np.rint((self._costs[index] - cheapest) / self._step_ms).astype(int).tolist()
            moves = [Move(i, steps[i], group is not None) for i in columns]
            if group:
                moves.append(Move(slot.primitives.index(NONE), 0, False))
            closes = group is None or index == group.slots[-1]
            stages.append(Stage(index, tuple(moves), group.kept if group else 0, closes))
            offset_ms += cheapest * (stages[-1].chosen if closes else 0)
        return tuple(stages), offset_ms

    def _count_most_steps(self) -> int:
        total, largest = 0, 0
        for stage in self._stages:
            largest = max(largest, *(move.steps for move in stage.moves))
            if stage.closes:
                total, largest = total + stage.chosen * largest, 0
        return total

    def _find(self, log_probabilities: Floats, count: int) -> Found:
        """For every number of steps the `count` most probable networks, all of them judged by their bound."""
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

        Forwards, `scores[kept, steps, place]` are the best sums so far; backwards, each is traced to its choices.
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
                arriving = np.full((size, len(stage.moves), count), -np.inf)
                for number, move in enumerate(stage.moves):
                    before = state - move.counts
                    if before >= 0:
                        gain = log_probabilities[stage.slot, move.column]
                        arriving[move.steps :, number] = scores[before, : size - move.steps] + gain
                flat = arriving.reshape(size, -1)
                best = np.argpartition(-flat, count - 1, axis=1)[:, :count]
                after[state], trace[state] = np.take_along_axis(flat, best, axis=1), best
            traces.append(trace)
            scores = after[stage.kept :] if stage.closes else after
        steps, place = np.nonzero(np.isfinite(scores[0]))
        return self._traced(traces, steps, place), scores[0, steps, place]

    def _traced(self, traces: Sequence[npt.NDArray[np.int32]], steps: Columns, place: Columns) -> Columns:
        columns = np.zeros((len(steps), len(self._stages)), np.int64)
        kept = np.zeros(len(steps), np.int64)
        for stage, trace in zip(reversed(self._stages), reversed(traces), strict=True):
            if stage.closes:
                kept = np.full(len(steps), stage.kept)
            number, place = np.divmod(trace[kept, steps, place], trace.shape[2])
            columns[:, stage.slot] = np.array([move.column for move in stage.moves])[number]
            steps = steps - np.array([move.steps for move in stage.moves])[number]
            kept = kept - np.array([move.counts for move in stage.moves])[number]
        return columns

    @cached_property
    def _completions(self) -> list[Floats]:
        """For each slot (kept, steps left): how many ways there are to go on with at most so many steps."""
        size = self._most_steps + 1
        after = np.ones((1, size))
        tables = [after]
        for stage in reversed(self._stages):
            if stage.closes:  # what comes after begins with nothing kept
                ways = np.zeros((stage.kept + 1, size))
                ways[stage.kept] = after[0]
                after = ways
            before = np.zeros((stage.kept + 1, size))
            for move in stage.moves:
                for kept in range(stage.kept + 1 - move.counts):
                    before[kept, move.steps :] += after[kept + move.counts, : size - move.steps]
            after = before
            tables.append(after)
        return tables[::-1]

    def _draw_columns(self, limit: int, count: int, generator: np.random.Generator) -> Columns:
        """Uniform over the networks of at most `limit` steps, (count, slots)."""
        columns = np.zeros((count, len(self._stages)), np.int64)
        left, kept = np.full(count, limit), np.zeros(count, np.int64)
        for place, stage in enumerate(self._stages):
            ways = np.zeros((count, len(stage.moves)))
            following = self._completions[place + 1]
            for number, move in enumerate(stage.moves):
                next_kept, next_left = kept + move.counts, left - move.steps
                allowed = (next_left >= 0) & (next_kept <= stage.kept)
                if stage.closes:
                    allowed &= next_kept == stage.kept
                    next_kept = np.zeros_like(next_kept)
                ways[allowed, number] = following[next_kept[allowed], next_left[allowed]]
            share = np.cumsum(ways, axis=1) / ways.sum(axis=1, keepdims=True)
            number = (generator.random((count, 1)) >= share).sum(axis=1)
            columns[:, stage.slot] = np.array([move.column for move in stage.moves])[number]
            left = left - np.array([move.steps for move in stage.moves])[number]
            kept = kept + np.array([move.counts for move in stage.moves])[number]
            if stage.closes:
                kept = np.zeros_like(kept)
        return columns

    def _limit(self, budget_ms: float) -> int:
        """Most steps of any network that meets the budget: the tangent is below the bound, a cost rounded by half."""
        chosen = sum(stage.chosen for stage in self._stages if stage.closes)
        steps = math.floor((budget_ms - self._offset_ms) / self._step_ms + chosen / 2)
        return min(max(steps, 0), self._most_steps)

    def _features(self, columns: Columns) -> Floats:
        features = np.tile(self._model.fixed_features, (len(columns), 1))
        for slot in range(columns.shape[1]):
            features += self._model.choice_features[slot, columns[:, slot]]
        return features

    def _judge(self, columns: Columns) -> tuple[Floats, Floats]:
        """Mean and upper bound in ms."""
        mean_ms, sd_ms = self._model.mean_and_sd_of(self._features(columns))
        return mean_ms, mean_ms + deviations(self._confidence) * sd_ms

    def _genotype(self, columns: Sequence[int] | Columns) -> Genotype:
        return Genotype(tuple(s.primitives[i] for s, i in zip(self._space.slots, columns, strict=True)))

    def _decoded(self, found: Found, index: int) -> Decoded:
        known = (found.log_probability, found.mean_ms, found.upper_ms)
        return Decoded(self._genotype(found.columns[index]), *(float(values[index]) for values in known))
