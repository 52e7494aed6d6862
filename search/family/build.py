"""Build the family of each device: networks of rising latency and improving rank, from the hypernetwork.

    alphas on a grid of trade-offs at the device's simplex point
      -> the most probable networks of each alpha in each band of a series of budgets
         (`search.decoding.decoding`)
      -> a pool of candidates for all devices, about as many for each budget of each
         (`search.family.candidate_pool`), scored and ranked (`search.ranking.scoring`); the rest follow
         from scores: decoded from a fit to the ranks in chains, neighbours of the fronts in cells
         (`search.family.local_search`); a small space is scored whole
      -> the members: the front of predicted latency and rank (`search.family.pareto`)

The baseline `random` has random networks under the same budgets instead of decoded networks, with
as many evaluations. Both are written to `family.json`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.alphas.hypernetwork import Hypernetwork
from search.alphas.trade_offs import describe_trade_off, trade_off_log_probabilities
from search.decoding.decoding import Decoder, decode_queues, make_decoder
from search.family.candidate_pool import (
    DeviceQueues,
    bands_between,
    draw_pool_of_all,
    fill_evenly,
    merge_distinct,
    score_with_fitted,
)
from search.family.family import Family, FamilySettings, Ranker, load_family
from search.family.local_search import score_with_neighbours
from search.family.pareto import select_members
from search.latency.latency_model import LatencyModel
from search.process.progress import Progress
from search.ranking.scoring import Scorer, ScoringSettings, open_scorer
from search.runs.run_directory import DeviceRun, RunDirectory, on_every_device, write_value
from shared.spaces import Genotype, IndependentSlots

Floats = npt.NDArray[np.float64]

INHERITED = "inherited from the supernet, batch-norm statistics of the ranking images"


@dataclass(frozen=True, eq=False)
class Proposals:
    """The networks decoded for the device of a view."""

    view: DeviceRun
    model: LatencyModel
    decoder: Decoder
    budgets_ms: Sequence[float]
    alphas: Mapping[tuple[float, float], Floats]
    queues: DeviceQueues


def build_families(
    run: RunDirectory,
    progress: Progress,
    settings: FamilySettings | None = None,
    scoring: ScoringSettings | None = None,
) -> list[Family]:
    """Build and write family and baseline of each device of a trained run.

    Raises:
        WrongUse, CorruptFile: the run has no checkpoint, or a damaged one.
    """
    return _build(on_every_device(run), progress, settings, scoring=scoring)


def build_family(view: DeviceRun, progress: Progress, settings: FamilySettings | None = None) -> Family:
    return _build([view], progress, settings)[0]


def build_unseen_family(view: DeviceRun, progress: Progress, scoring: ScoringSettings | None = None) -> Family:
    """Build and write the family of a device that was not in the search, from its table alone.

    Condition, alphas and their candidates are the device's own. The run's scored candidates join
    them. The baseline has the run's random networks.

    Raises:
        WrongUse, CorruptFile: the run is not finished, or damaged.
    """
    known = load_family(on_every_device(view)[0])
    return _build([view], progress, known.settings, known, scoring)[0]


def _build(
    views: Sequence[DeviceRun],
    progress: Progress,
    settings: FamilySettings | None,
    known: Family | None = None,
    scoring: ScoringSettings | None = None,
) -> list[Family]:
    started = time.monotonic()
    settings = settings or FamilySettings(whole_space=views[0].config.whole_space)
    hypernetwork, scorer = views[0].hypernetwork(), open_scorer(views[0], scoring)
    devices = [propose(view, hypernetwork, settings) for view in views]
    fastest = [device.decoder.fastest for device in devices]
    pool = devices[0].decoder.find_all(settings.whole_space)
    if pool is None:
        with progress.phase("ranking candidates", settings.pool_size(len(views))) as phase:
            pool = search_pool(devices, settings, scorer, phase.advance, known)
    else:
        _score(pool, scorer, progress, "ranking candidates")
    if known is None:
        seed, count = random.Random(views[0].config.seed), settings.pool_size(len(devices))
        drawn = draw_pool_of_all(
            [(device.decoder, device.budgets_ms) for device in devices], min(count, len(pool)), seed
        )
        drawn = merge_distinct(fastest, drawn)[: len(pool)]
    else:
        drawn = merge_distinct(fastest, [candidate.genotype for candidate in known.random_candidates])
    _score(drawn, scorer, progress, "ranking random networks")
    families = [_select(device, settings, scorer, pool, drawn, time.monotonic() - started) for device in devices]
    for device, family in zip(devices, families, strict=True):
        device.view.folder.mkdir(parents=True, exist_ok=True)
        write_value(device.view.family_path, family, {Genotype: device.view.space.format})
    return families


def _score(networks: Sequence[Genotype], scorer: Scorer, progress: Progress, name: str) -> None:
    with progress.phase(name, len(networks)) as phase:
        scorer.score(networks, phase.advance)


def search_pool(
    devices: Sequence[Proposals],
    settings: FamilySettings,
    scorer: Scorer,
    advance: Callable[[int], None],
    known: Family | None = None,
) -> list[Genotype]:
    """Networks decoded from alphas, known candidates, and networks that follow from scores; all scored."""
    space, config = devices[0].view.space, devices[0].view.config
    is_additive = isinstance(space, IndependentSlots)
    count = settings.pool_size(len(devices))
    fastest = [device.decoder.fastest for device in devices]
    share = settings.fitted if is_additive else settings.refined
    first = max(count - round(share * count), len(set(fastest)))
    pool = merge_distinct(fastest, fill_evenly([device.queues for device in devices], first))[:first]
    if known is not None:
        pool = merge_distinct(pool, [candidate.genotype for candidate in known.candidates])
    if not is_additive:
        rankers = [Ranker(device.model, scorer, config.confidence) for device in devices]
        return score_with_neighbours(space, pool, count - first, rankers, config.seed, advance)
    places = [(device.decoder, device.queues) for device in devices]
    per_band = settings.per_budget + count // settings.budgets  # known networks count
    return score_with_fitted(space, pool, count - first, places, per_band, scorer, advance)


def propose(view: DeviceRun, hypernetwork: Hypernetwork, settings: FamilySettings) -> Proposals:
    model, confidence = LatencyModel(view.table), view.config.confidence
    decoder = make_decoder(model, confidence)
    budgets_ms = spread(decoder.smallest_ms, decoder.largest_ms, settings.budgets)
    alphas = trade_off_log_probabilities(hypernetwork, view.table, settings.trade_offs)
    queues = decode_queues(decoder, list(alphas.values()), bands_between(budgets_ms), settings.per_budget)
    return Proposals(view, model, decoder, budgets_ms, alphas, DeviceQueues(model, confidence, budgets_ms, queues))


def _select(
    device: Proposals,
    settings: FamilySettings,
    scorer: Scorer,
    pool: Sequence[Genotype],
    drawn: Sequence[Genotype],
    seconds: float,
) -> Family:
    """The device's family and baseline, by its own bounds, from scored networks."""
    table, confidence = device.view.table, device.view.config.confidence
    ranker = Ranker(device.model, scorer, confidence)
    everything = device.decoder.find_all(settings.whole_space)  # in forms cheapest on this device
    candidates, random_candidates = ranker.rank(everything or pool), ranker.rank(drawn)
    return Family(
        device=table.device,
        space=table.space,
        table_hash=table.hash,
        confidence=confidence,
        accuracy_kind=INHERITED,
        settings=settings,
        budgets_ms=tuple(device.budgets_ms),
        members=tuple(select_members(candidates, settings.members)),
        random=tuple(select_members(random_candidates, settings.members)),
        candidates=tuple(candidates),
        random_candidates=tuple(random_candidates),
        trade_offs=tuple(describe_trade_off(device.model, *item) for item in device.alphas.items()),
        is_whole=everything is not None,
        seconds=seconds,
    )


def spread(low_ms: float, high_ms: float, count: int) -> list[float]:
    """A geometric series with exactly these ends."""
    if count == 1:
        return [high_ms]
    return [low_ms, *np.geomspace(low_ms, high_ms, count)[1:-1].tolist(), high_ms]
