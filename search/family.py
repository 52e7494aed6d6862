"""The family of each device: from one hypernetwork to networks whose latency rises and whose rank improves with it.

    alphas on a grid of trade-offs at the device's simplex point
      -> for each, the most probable networks between each two of a series of budgets (`search.decoding`); the best one
         under a budget is always among them
      -> one pool of candidates for all devices, about as many for each budget of each (`search.pooling`); of a small
         space every network instead
      -> scored and ranked (`search.scoring`, `search.ranking`)
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
import torch

from search.choices import best_choices, choice_probabilities, to_genotype
from search.condition import Condition, device_simplex, space_primitives
from search.decoder import Decoder
from search.decoding import make_decoder
from search.hypernetwork import Hypernetwork
from search.latency_model import LatencyModel
from search.members import Member, Ranker, select_members
from search.pooling import DeviceQueues, bands_between, decode_queues, draw_pool_of_all, led_by, serve_alike
from search.progress import Progress
from search.run_directory import RunDirectory
from search.scoring import Scorer, open_scorer
from search.torch_files import write_atomically
from shared.errors import CorruptFile, InvalidValue, SchemaTooNew, WrongUse
from shared.spaces import Genotype
from shared.table import LatencyTable
from shared.wire import from_wire, to_wire

Floats = npt.NDArray[np.float64]

FAMILY_SCHEMA = 1
SKIPS = ("skip_connect", "skip")
"""What spaces call an op that hands its input on."""
INHERITED = "inherited from the supernet, batch-norm statistics of the ranking images"


@dataclass(frozen=True)
class FamilySettings:
    """How far the families are searched for.

    Attributes:
        trade_offs: grid points along each of u_lambda and u_kappa.
        budgets: between the fastest network's bound and the slowest's, as a geometric series.
        per_budget: most probable networks taken for one alpha between two budgets.
        candidates: most networks to score, for the family and for the baseline each.
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

    def pool_size(self, devices: int) -> int:
        """Most networks to score for so many devices together."""
        return self.candidates + (devices - 1) * self.per_further_device


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


@dataclass(frozen=True, eq=False)
class _Proposals:
    """What the alphas propose for the device of a view."""

    view: RunDirectory
    model: LatencyModel
    decoder: Decoder
    budgets_ms: Sequence[float]
    alphas: Mapping[tuple[float, float], Floats]
    queues: DeviceQueues


def build_families(run: RunDirectory, progress: Progress, settings: FamilySettings | None = None) -> list[Family]:
    """Build family and baseline of each device of a trained run, from one pool of candidates, and write them.

    Raises:
        WrongUse, CorruptFile: the run has no checkpoint, or a damaged one.
    """
    return _build(run.views(), progress, settings or default_settings(run))


def build_family(view: RunDirectory, progress: Progress, settings: FamilySettings | None = None) -> Family:
    """Likewise for the device of one view alone."""
    return _build([view], progress, settings or default_settings(view))[0]


def default_settings(run: RunDirectory) -> FamilySettings:
    """As far as the run's config goes."""
    return FamilySettings(whole_space=run.config.whole_space)


def build_unseen_family(view: RunDirectory, progress: Progress) -> Family:
    """Build and write the family of a device that was not in the search, from its table alone.

    Its condition, its alphas and their candidates are its own; the candidates of the run's devices, which were scored
    already, join them. The baseline is that of the run: nothing random is drawn anew.

    Raises:
        WrongUse, CorruptFile: the run is not finished, or damaged.
    """
    known = load_family(view.views()[0])
    return _build([view], progress, known.settings, known)[0]


def _build(
    views: Sequence[RunDirectory], progress: Progress, settings: FamilySettings, known: Family | None = None
) -> list[Family]:
    started = time.monotonic()
    hypernetwork, scorer, space = views[0].hypernetwork(), open_scorer(views[0]), views[0].space
    devices = [_propose(view, hypernetwork, settings) for view in views]
    fastest = [one.decoder.fastest for one in devices]
    count = settings.pool_size(len(devices))
    pool = led_by(fastest, serve_alike([one.queues for one in devices], count))[:count]
    everything = devices[0].decoder.find_all(settings.whole_space)
    if known is None:
        seed = random.Random(views[0].config.seed)
        drawn = draw_pool_of_all([(one.decoder, one.budgets_ms) for one in devices], len(pool), seed)
        drawn = led_by(fastest, drawn)[: len(pool)]
    else:
        pool = led_by(pool, [space.parse(one.genotype) for one in known.candidates])
        drawn = led_by(fastest, [space.parse(one.genotype) for one in known.random_candidates])
    for name, networks in (("ranking candidates", everything or pool), ("ranking random networks", drawn)):
        with progress.phase(name, len(networks)) as phase:
            scorer.score(networks, phase.advance)
    families = [_chosen(one, settings, scorer, pool, drawn, time.monotonic() - started) for one in devices]
    for one, family in zip(devices, families, strict=True):
        one.view.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(one.view.family_path, json.dumps(to_wire(family), indent=1).encode() + b"\n")
    return families


def _propose(view: RunDirectory, hypernetwork: Hypernetwork, settings: FamilySettings) -> _Proposals:
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
        seconds=seconds,
    )


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
def trade_off_log_probabilities(
    hypernetwork: Hypernetwork, table: LatencyTable, count: int
) -> dict[tuple[float, float], Floats]:
    """log p(slot, primitive) on a grid over (u_lambda, u_kappa) at the prices of a table's device."""
    prices, grid = device_simplex(table), np.linspace(0, 1, count).tolist()
    return {
        (u_lambda, u_kappa): torch.log_softmax(
            hypernetwork(Condition(prices, u_lambda, u_kappa).vector()).double(), dim=1
        ).numpy()
        for u_lambda in grid
        for u_kappa in grid
    }


def describe_trade_off(model: LatencyModel, trade_off: tuple[float, float], log_probabilities: Floats) -> TradeOff:
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
