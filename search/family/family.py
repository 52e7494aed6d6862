"""The family of each device: from one hypernetwork to networks whose latency rises and whose rank improves with it.

    alphas on a grid of trade-offs at the device's simplex point
      -> for each, the most probable networks between each two of a series of budgets
         (`search.decoding.decoding`); the best under a budget is always among them
      -> one pool of candidates for all devices, about as many for each budget of each
         (`search.family.candidate_pool`), scored and ranked (`search.ranking.scoring`), and
         neighbours of its fronts (`search.family.local_search`); of a small space every network
      -> the members that no other one beats in both predicted latency and rank, the fastest network always among them

The baseline `random` is the same with random networks under the same budgets in the place of decoded ones, and with as
many evaluations as decoding takes. Both are written to `family.json`.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.alphas.hypernetwork import Hypernetwork
from search.alphas.trade_offs import TradeOff, describe_trade_off, trade_off_log_probabilities
from search.decoding.decoding import Decoder, decode_queues, make_decoder
from search.family.candidate_pool import DeviceQueues, bands_between, draw_pool_of_all, led_by, serve_alike
from search.family.candidates import Member, Ranker
from search.family.local_search import score_with_neighbours
from search.family.pareto import select_members
from search.latency.latency_model import LatencyModel
from search.process.atomic_files import write_atomically
from search.process.progress import Progress
from search.ranking.scoring import Scorer, ScoringSettings, open_scorer
from search.runs.device_run import DeviceRun, on_every_device
from search.runs.run_directory import RunDirectory
from shared.errors import CorruptFile, InvalidValue, WrongUse
from shared.spaces import Genotype
from shared.wire import from_wire, to_wire

Floats = npt.NDArray[np.float64]

INHERITED = "inherited from the supernet, batch-norm statistics of the ranking images"


@dataclass(frozen=True)
class FamilySettings:
    """How far the families are searched for.

    Attributes:
        trade_offs: grid points along each of u_lambda and u_kappa.
        budgets: between the fastest network's bound and the slowest's, as a geometric series.
        per_budget: most probable networks taken for one alpha between two budgets.
        candidates: most networks to score, for the family and for the baseline each.
        refined: share of them that are neighbours of the fronts of what was scored before.
        per_further_device: that many more for each device beyond the first.
        whole_space: a space of at most so many distinct networks is scored whole, and no alpha is asked.
        members: most networks in the family.
    """

    trade_offs: int = 5
    budgets: int = 24
    per_budget: int = 5
    candidates: int = 120
    members: int = 24
    per_further_device: int = 1
    whole_space: int = 0
    refined: float = 0.5

    def pool_size(self, devices: int) -> int:
        """Most networks to score for so many devices together."""
        return self.candidates + (devices - 1) * self.per_further_device


@dataclass(frozen=True)
class Family:
    """What `family.json` holds. `is_whole`: the candidates are all networks of the space."""

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
    is_whole: bool
    seconds: float


@dataclass(frozen=True, eq=False)
class _Proposals:
    """What the alphas propose for the device of a view."""

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
    """Build family and baseline of each device of a trained run, from one pool of candidates, and write them.

    Raises:
        WrongUse, CorruptFile: the run has no checkpoint, or a damaged one.
    """
    return _build(on_every_device(run), progress, settings or default_settings(run), scoring=scoring)


def build_family(view: DeviceRun, progress: Progress, settings: FamilySettings | None = None) -> Family:
    """Likewise for the device of one view alone."""
    return _build([view], progress, settings or default_settings(view))[0]


def default_settings(run: RunDirectory) -> FamilySettings:
    """As far as the run's config goes."""
    return FamilySettings(whole_space=run.config.whole_space)


def build_unseen_family(view: DeviceRun, progress: Progress, scoring: ScoringSettings | None = None) -> Family:
    """Build and write the family of a device that was not in the search, from its table alone.

    Its condition, its alphas and their candidates are its own; the candidates of the run's devices, which were scored
    already, join them. The baseline is that of the run: nothing random is drawn anew.

    Raises:
        WrongUse, CorruptFile: the run is not finished, or damaged.
    """
    known = load_family(on_every_device(view)[0])
    return _build([view], progress, known.settings, known, scoring)[0]


def _build(
    views: Sequence[DeviceRun],
    progress: Progress,
    settings: FamilySettings,
    known: Family | None = None,
    scoring: ScoringSettings | None = None,
) -> list[Family]:
    started = time.monotonic()
    hypernetwork, scorer = views[0].hypernetwork(), open_scorer(views[0], scoring)
    devices = [_propose(view, hypernetwork, settings) for view in views]
    fastest = [one.decoder.fastest for one in devices]
    everything = devices[0].decoder.find_all(settings.whole_space)
    pool = _scored_whole(everything, scorer, progress) or _pool(devices, settings, scorer, known, progress)
    if known is None:
        seed, count = random.Random(views[0].config.seed), settings.pool_size(len(devices))
        drawn = draw_pool_of_all([(one.decoder, one.budgets_ms) for one in devices], min(count, len(pool)), seed)
        drawn = led_by(fastest, drawn)[: len(pool)]
    else:
        drawn = led_by(fastest, [candidate.genotype for candidate in known.random_candidates])
    with progress.phase("ranking random networks", len(drawn)) as phase:
        scorer.score(drawn, phase.advance)
    families = [_chosen(one, settings, scorer, pool, drawn, time.monotonic() - started) for one in devices]
    for one, family in zip(devices, families, strict=True):
        _write_family(one.view, family)
    return families


def _scored_whole(
    everything: Sequence[Genotype] | None, scorer: Scorer, progress: Progress
) -> Sequence[Genotype] | None:
    if everything is not None:
        with progress.phase("ranking candidates", len(everything)) as phase:
            scorer.score(everything, phase.advance)
    return everything


def _pool(
    devices: Sequence[_Proposals],
    settings: FamilySettings,
    scorer: Scorer,
    known: Family | None,
    progress: Progress,
) -> list[Genotype]:
    """What alphas propose, and neighbours of the devices' fronts; all scored, with what the run knew before."""
    space, config = devices[0].view.space, devices[0].view.config
    count = settings.pool_size(len(devices))
    refined = round(settings.refined * count)
    fastest = [one.decoder.fastest for one in devices]
    pool = led_by(fastest, serve_alike([one.queues for one in devices], count - refined))[: count - refined]
    if known is not None:
        pool = led_by(pool, [candidate.genotype for candidate in known.candidates])
    rankers = [Ranker(one.model, scorer, config.confidence) for one in devices]
    with progress.phase("ranking candidates", len(pool) + refined) as phase:
        return score_with_neighbours(space, pool, refined, rankers, config.seed, phase.advance)


def _propose(view: DeviceRun, hypernetwork: Hypernetwork, settings: FamilySettings) -> _Proposals:
    model, confidence = LatencyModel(view.table), view.config.confidence
    decoder = make_decoder(model, confidence)
    budgets_ms = spread(decoder.smallest_ms, decoder.largest_ms, settings.budgets)
    alphas = trade_off_log_probabilities(hypernetwork, view.table, settings.trade_offs)
    queues = decode_queues(decoder, list(alphas.values()), bands_between(budgets_ms), settings.per_budget)
    return _Proposals(view, model, decoder, budgets_ms, alphas, DeviceQueues(model, confidence, budgets_ms, queues))


def _chosen(
    device: _Proposals,
    settings: FamilySettings,
    scorer: Scorer,
    pool: Sequence[Genotype],
    drawn: Sequence[Genotype],
    seconds: float,
) -> Family:
    """The device's family and baseline, by its own bounds; everything is scored already."""
    table, confidence = device.view.table, device.view.config.confidence
    ranker = Ranker(device.model, scorer, confidence)
    everything = device.decoder.find_all(settings.whole_space)  # in the forms that are cheapest on this device
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


def _write_family(run: DeviceRun, family: Family) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(to_wire(family, {Genotype: run.space.format}), indent=1)
    write_atomically(run.family_path, content.encode() + b"\n")


def load_family(run: DeviceRun) -> Family:
    """Read `family.json`.

    Raises:
        WrongUse: it has not been built.
        CorruptFile: it is damaged, or was built from another table.
    """
    try:
        family = from_wire(Family, json.loads(run.family_path.read_bytes()), texts={Genotype: run.space.parse})
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
