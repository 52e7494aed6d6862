"""The family: from one hypernetwork to networks whose latency rises and whose rank improves with it.

    alphas on a grid of trade-offs at the device's simplex point
      -> for each, the most probable networks between each two of a series of budgets (`search.decoding`); the best one
         under a budget is always among them
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
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from search.choices import best_choices, choice_probabilities, to_genotype
from search.condition import Condition, device_simplex, space_primitives
from search.decoder import Band, Decoder
from search.decoding import make_decoder
from search.latency_model import LatencyModel
from search.members import Member, Ranker, select_members
from search.progress import Progress
from search.run_directory import RunDirectory
from search.scoring import open_scorer
from search.torch_files import write_atomically
from shared.errors import CorruptFile, InvalidValue, SchemaTooNew, WrongUse
from shared.spaces import Genotype
from shared.wire import from_wire, to_wire

FAMILY_SCHEMA = 1
SKIPS = ("skip_connect", "skip")
"""What spaces call an op that hands its input on."""
INHERITED = "inherited from the supernet, batch-norm statistics recomputed"


@dataclass(frozen=True)
class FamilySettings:
    """How far the family is searched for.

    Attributes:
        trade_offs: grid points along each of u_lambda and u_kappa.
        budgets: between the fastest network's bound and the slowest's, as a geometric series.
        per_budget: most probable networks taken for one alpha between two budgets.
        candidates: most networks to score, for the family and for the baseline each.
        members: most networks in the family.
    """

    trade_offs: int = 5
    budgets: int = 24
    per_budget: int = 5
    candidates: int = 120
    members: int = 24


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


def build_families(run: RunDirectory, progress: Progress, settings: FamilySettings | None = None) -> list[Family]:
    """Build the family of each device of a trained run, in the order of the devices."""
    return [build_family(view, progress, settings) for view in run.views()]


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

    bands = [Band(high, low) for low, high in pairwise([0.0, *budgets_ms])]
    decoded = decode_pool(decoder, list(alphas.values()), bands, settings.per_budget, settings.candidates)
    pool = with_fastest(decoded, decoder.fastest)[: settings.candidates]
    with progress.phase("ranking candidates", len(pool)) as phase:
        candidates = ranker.rank(pool, phase.advance)
    draws = random.Random(run.config.seed)
    drawn = with_fastest(draw_pool(decoder, budgets_ms, len(pool), draws), decoder.fastest)[: len(pool)]
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
    run.folder.mkdir(parents=True, exist_ok=True)
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
    bands: Sequence[Band],
    per_band: int,
    most: int,
) -> list[Genotype]:
    """Distinct networks, taken from the bands in turn: those first that most alphas and best places agree on.

    Args:
        decoder: of the device.
        log_probabilities: one (slots, primitives) for each alpha.
        bands: of budgets.
        per_band: most probable networks taken for one alpha in one band.
        most: networks to return.
    """
    votes: list[Counter[Genotype]] = [Counter() for _ in bands]
    for one in log_probabilities:
        for ballot, decoded in zip(votes, decoder.decode(one, bands, per_band), strict=True):
            for place, network in enumerate(decoded):
                ballot[network.genotype] += per_band - place
    return _in_turn([[genotype for genotype, _ in ballot.most_common()] for ballot in votes], most)


def draw_pool(decoder: Decoder, budgets_ms: Sequence[float], count: int, draws: random.Random) -> list[Genotype]:
    """Distinct random networks under the budgets in turn, uniform over those that meet the budget."""
    return _in_turn([decoder.draw(budget_ms, count, draws) for budget_ms in budgets_ms], count)


def with_fastest(pool: Sequence[Genotype], fastest: Genotype) -> list[Genotype]:
    """The pool, led by the fastest network: a missing cheap one costs most accuracy at the low end."""
    return [fastest, *(genotype for genotype in pool if genotype != fastest)]


def describe_trade_off(
    model: LatencyModel, trade_off: tuple[float, float], log_probabilities: npt.NDArray[np.float64]
) -> TradeOff:
    """Expected against derived latency at one condition, and the share of skip in it."""
    space, alpha = model.space, torch.from_numpy(log_probabilities)
    most_probable = to_genotype(space, best_choices(space, alpha))
    connected = space.is_connected(most_probable)
    probabilities = choice_probabilities(space, alpha).numpy()
    skip = probabilities[:, [name in SKIPS for name in space_primitives(space)]].sum(axis=1)
    return TradeOff(
        u_lambda=trade_off[0],
        u_kappa=trade_off[1],
        expected_ms=model.expected_ms(probabilities),
        genotype=space.format(most_probable),
        derived_ms=float(model.mean_and_sd_ms([most_probable])[0][0]) if connected else None,
        skip_share=float(skip.mean()),
    )


def _in_turn(queues: Sequence[Sequence[Genotype]], count: int) -> list[Genotype]:
    """The first of each queue, then the second of each, and so on: distinct ones until there are enough."""
    taken: dict[Genotype, None] = {}
    for place in range(max(map(len, queues), default=0)):
        for queue in queues:
            if place < len(queue) and len(taken) < count:
                taken.setdefault(queue[place])
    return list(taken)
