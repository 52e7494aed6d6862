"""The family: from one hypernetwork to networks whose latency rises and whose rank improves with it.

    alphas on a grid of trade-offs at the device's simplex point
      -> for each, the most probable networks under each of a series of budgets (`search.decoding`)
      -> a pool of candidates, as many for each budget
      -> scored and ranked (`search.scoring`, `search.ranking`)
      -> the members that no other one beats in both latency bound and rank, the fastest network always among them

The baseline `random` is the same with random networks under the same budgets in the place of decoded ones, and with as
many evaluations. Both are written to `family.json`.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from search.condition import Condition, device_simplex
from search.decoding import Decoder, make_decoder
from search.latency_model import LatencyModel
from search.progress import Progress
from search.ranking import mean_ranks
from search.run_directory import RunDirectory, write_atomically
from search.scoring import Score, Scorer, open_scorer
from shared.errors import CorruptFile, InvalidValue, SchemaTooNew, WrongUse
from shared.spaces import Genotype, Space
from shared.wire import from_wire, to_wire

FAMILY_SCHEMA = 1
INHERITED = "inherited from the supernet, batch-norm statistics recomputed"


@dataclass(frozen=True)
class FamilySettings:
    """How far the family is searched for.

    Attributes:
        trade_offs: grid points along each of u_lambda and u_kappa.
        budgets: between the fastest network's bound and the slowest's, as a geometric series.
        per_budget: most probable networks taken for one alpha and one budget.
        candidates: most networks to score, for the family and for the baseline each.
        members: most networks in the family.
    """

    trade_offs: int = 5
    budgets: int = 24
    per_budget: int = 3
    candidates: int = 120
    members: int = 24


@dataclass(frozen=True)
class Member:
    """A ranked network: what the table says of it and what its rank is made of (`search.scoring.Score`).

    `rank` is the mean of its three ranks among the candidates that it was ranked with, 1 is best. `accuracy` is
    inherited, in percent, on the ranking images at the search's resolution.
    """

    genotype: str
    predicted_ms: float
    upper_ms: float
    parameters: int
    multiply_adds: int
    nll: float
    naswot: float
    rank: float
    accuracy: float


@dataclass(frozen=True)
class TradeOff:
    """What alpha says at one condition: the latency that the search expected, and that of the most probable choices.

    `derived_ms` is None where these do not connect input and output.
    """

    u_lambda: float
    u_kappa: float
    expected_ms: float
    genotype: str
    derived_ms: float | None
    skip_share: float


@dataclass(frozen=True)
class Family:
    """What `family.json` holds."""

    device: str
    space: str
    table_hash: str
    confidence: float
    accuracy_kind: str
    settings: FamilySettings
    budgets_ms: tuple[float, ...]
    members: tuple[Member, ...]
    random: tuple[Member, ...]
    candidates: tuple[Member, ...]
    random_candidates: tuple[Member, ...]
    trade_offs: tuple[TradeOff, ...]
    seconds: float
    schema: int = FAMILY_SCHEMA


class Ranker:
    """Turns genotypes into ranked members."""

    def __init__(self, model: LatencyModel, scorer: Scorer, confidence: float) -> None:
        self._model = model
        self._scorer = scorer
        self._confidence = confidence

    def rank(self, genotypes: Sequence[Genotype], advance: Callable[[int], None] = lambda n: None) -> list[Member]:
        """Members in the order of the genotypes, ranked among one another."""
        scores = self._scorer.score(genotypes, advance)
        mean_ms, _ = self._model.mean_and_sd_ms(genotypes)
        upper_ms = self._model.upper_ms(genotypes, self._confidence)
        rows = zip(genotypes, scores, mean_ms.tolist(), upper_ms.tolist(), mean_ranks(scores).tolist(), strict=True)
        return [_member(self._model.space, *row) for row in rows]


def build_family(run: RunDirectory, progress: Progress, settings: FamilySettings | None = None) -> Family:
    """Build the family and the baseline of a trained run and write `family.json`.

    Raises:
        WrongUse, CorruptFile: the run has no checkpoint, or a damaged one.
    """
    started, settings = time.monotonic(), settings or FamilySettings()
    model, confidence = LatencyModel(run.table), run.config.confidence
    decoder, ranker = make_decoder(model, confidence), Ranker(model, open_scorer(run), confidence)
    budgets_ms = spread(decoder.smallest_ms, decoder.largest_ms, settings.budgets)
    alphas = trade_off_log_probabilities(run, settings.trade_offs)

    pool = with_fastest(decode_pool(decoder, list(alphas.values()), budgets_ms, settings), model.space)
    pool = pool[: settings.candidates]
    with progress.phase("ranking candidates", len(pool)) as phase:
        candidates = ranker.rank(pool, phase.advance)
    draws = random.Random(run.config.seed)
    drawn = with_fastest(draw_pool(decoder, budgets_ms, len(pool), draws), model.space)[: len(pool)]
    with progress.phase("ranking random networks", len(drawn)) as phase:
        random_candidates = ranker.rank(drawn, phase.advance)

    family = Family(
        device=run.table.device,
        space=run.table.space,
        table_hash=run.table.hash,
        confidence=confidence,
        accuracy_kind=INHERITED,
        settings=settings,
        budgets_ms=tuple(budgets_ms),
        members=tuple(select_members(candidates, settings.members)),
        random=tuple(select_members(random_candidates, settings.members)),
        candidates=tuple(candidates),
        random_candidates=tuple(random_candidates),
        trade_offs=tuple(describe_trade_off(model, *item) for item in alphas.items()),
        seconds=time.monotonic() - started,
    )
    write_atomically(run.family_path, json.dumps(to_wire(family), indent=1).encode() + b"\n")
    return family


def load_family(run: RunDirectory) -> Family:
    """Read `family.json`.

    Raises:
        WrongUse: it has not been built.
        CorruptFile: it is damaged, or was built from another table.
        SchemaTooNew: a newer lutnas wrote it.
    """
    try:
        data = json.loads(run.family_path.read_bytes())
        if isinstance(data, dict) and isinstance(data.get("schema"), int) and data["schema"] > FAMILY_SCHEMA:
            raise SchemaTooNew(str(run.family_path), data["schema"], FAMILY_SCHEMA)
        family = from_wire(Family, data)
    except FileNotFoundError as error:
        raise WrongUse(f"{run.path} has no family yet: the search has to finish first (--resume)") from error
    except (InvalidValue, ValueError) as error:
        raise CorruptFile(f"{run.family_path} is damaged: {error}") from error
    if family.table_hash != run.table.hash:
        raise CorruptFile(f"{run.family_path} was built from another table ({family.table_hash[:12]}…)")
    return family


def spread(low_ms: float, high_ms: float, count: int) -> list[float]:
    """A geometric series from low to high, both included exactly."""
    if count == 1:
        return [high_ms]
    return [low_ms, *np.geomspace(low_ms, high_ms, count)[1:-1].tolist(), high_ms]


@torch.no_grad()
def trade_off_log_probabilities(run: RunDirectory, count: int) -> dict[tuple[float, float], npt.NDArray[np.float64]]:
    """log p(slot, primitive) on a grid over (u_lambda, u_kappa) at the device's simplex point."""
    hypernetwork, prices = run.hypernetwork(), device_simplex(run.table)
    grid = np.linspace(0, 1, count).tolist()
    return {
        (u_lambda, u_kappa): torch.log_softmax(
            hypernetwork(Condition(prices, u_lambda, u_kappa).vector()).double(), dim=1
        ).numpy()
        for u_lambda in grid
        for u_kappa in grid
    }


def decode_pool(
    decoder: Decoder,
    log_probabilities: Sequence[npt.NDArray[np.float64]],
    budgets_ms: Sequence[float],
    settings: FamilySettings,
) -> list[Genotype]:
    """Distinct networks, taken from the budgets in turn: those first that most alphas and best places agree on."""
    votes: list[Counter[Genotype]] = [Counter() for _ in budgets_ms]
    for one in log_probabilities:
        for ballot, decoded in zip(votes, decoder.decode(one, budgets_ms, settings.per_budget), strict=True):
            for place, network in enumerate(decoded):
                ballot[network.genotype] += settings.per_budget - place
    queues = [[genotype for genotype, _ in ballot.most_common()] for ballot in votes]
    return _in_turn(queues, settings.candidates)


def draw_pool(decoder: Decoder, budgets_ms: Sequence[float], count: int, draws: random.Random) -> list[Genotype]:
    """Distinct random networks under the budgets in turn, uniform over those that meet the budget."""
    queues = []
    for budget_ms in budgets_ms:
        feasible = decoder.feasible(budget_ms)
        queues.append(draws.sample(feasible, min(count, len(feasible))))
    return _in_turn(queues, count)


def with_fastest(pool: Sequence[Genotype], space: Space) -> list[Genotype]:
    """The pool, led by the fastest network: a missing cheap one costs most accuracy at the low end."""
    fastest = space.canonical(space.fastest())
    return [fastest, *(genotype for genotype in pool if genotype != fastest)]


def select_members(candidates: Sequence[Member], most: int) -> list[Member]:
    """Those that no other candidate beats in both bound and rank, latency rising; thinned evenly to `most`."""
    front: list[Member] = []
    for candidate in sorted(candidates, key=lambda member: (member.upper_ms, member.rank)):
        if not front or (candidate.rank < front[-1].rank and candidate.predicted_ms > front[-1].predicted_ms):
            front.append(candidate)
    if len(front) <= most:
        return front
    return [front[index] for index in np.linspace(0, len(front) - 1, most).round().astype(int)]


def describe_trade_off(
    model: LatencyModel, trade_off: tuple[float, float], log_probabilities: npt.NDArray[np.float64]
) -> TradeOff:
    """Expected against derived latency at one condition, and the share of skip in it."""
    space, probabilities = model.space, np.exp(log_probabilities)
    most_probable = Genotype(
        tuple(slot.primitives[int(row.argmax())] for slot, row in zip(space.slots, probabilities, strict=True))
    )
    connected = space.is_connected(most_probable)
    skip = [
        float(row[slot.primitives.index("skip_connect")]) for slot, row in zip(space.slots, probabilities, strict=True)
    ]
    return TradeOff(
        u_lambda=trade_off[0],
        u_kappa=trade_off[1],
        expected_ms=model.expected_ms(probabilities),
        genotype=space.format(most_probable),
        derived_ms=float(model.mean_and_sd_ms([most_probable])[0][0]) if connected else None,
        skip_share=float(np.mean(skip)),
    )


def _in_turn(queues: Sequence[Sequence[Genotype]], count: int) -> list[Genotype]:
    """The first of each queue, then the second of each, and so on: distinct ones until there are enough."""
    taken: dict[Genotype, None] = {}
    for place in range(max(map(len, queues), default=0)):
        for queue in queues:
            if place < len(queue) and len(taken) < count:
                taken.setdefault(queue[place])
    return list(taken)


def _member(
    space: Space, genotype: Genotype, score: Score, predicted_ms: float, upper_ms: float, rank: float
) -> Member:
    return Member(
        genotype=space.format(genotype),
        predicted_ms=predicted_ms,
        upper_ms=upper_ms,
        parameters=score.parameters,
        multiply_adds=space.multiply_adds(genotype),
        nll=score.nll,
        naswot=score.naswot,
        rank=rank,
        accuracy=score.accuracy,
    )
