"""Uploads the result of a search to the table server, for its pages. A search never fails by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search.data.image_set import title_of
from search.deploy.ladder import Rung
from search.device.lut_client import LutClient
from search.family.family import load_family
from search.runs.run_directory import DeviceRun
from shared.errors import LutnasError
from shared.search_result import ClimbedRung, FoundNetwork, SearchResult
from shared.spaces import Genotype
from shared.wire import content_hash, from_wire, to_wire


def post_result(client: LutClient, run: DeviceRun, rungs: Sequence[Rung], say: Callable[[str], None]) -> bool:
    """Post the family and the ladder of a run, and say where they are, or why it failed.

    Returns:
        Whether the server has them now.
    """
    try:
        result = make_result(run, rungs)
        client.post_search(result)
    except LutnasError as error:
        say(f"not posted to the server, everything is in {run.folder}: {error}")
        return False
    say(f"on the server's pages: {client.url}/searches/{result.search}")
    return True


def make_result(run: DeviceRun, rungs: Sequence[Rung] = ()) -> SearchResult:
    """Family and ladder for the device of the run; without paths of this machine.

    `search` is the hash of the settings, with the table's where the run has several.

    Raises:
        WrongUse, CorruptFile: the run has no family, or a damaged one.
    """
    family, config, table = load_family(run), run.config, run.table
    # A posted network has some of the fields of a kept one.
    texts: dict[type, Callable[[Genotype], str]] = {Genotype: run.space.format}
    return SearchResult(
        search=run.config_hash if run.folder == run.path else content_hash([run.config_hash, table.hash]),
        device=table.device,
        space=config.space,
        table_hash=table.hash,
        dataset=title_of(config.dataset),
        accuracy_kind=family.accuracy_kind,
        seconds=family.seconds,
        members=tuple(from_wire(FoundNetwork, to_wire(member, texts)) for member in family.members),
        random=tuple(from_wire(FoundNetwork, to_wire(member, texts)) for member in family.random),
        ladder=tuple(from_wire(ClimbedRung, to_wire(rung, texts)) for rung in rungs),
    )
