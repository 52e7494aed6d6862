"""Posts what a search found to the table server, for people to look at. A search never fails for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search.deploy.ladder import Rung
from search.device.lut_client import LutClient
from search.family.family import load_family
from search.runs.device_run import DeviceRun
from shared.errors import LutnasError
from shared.search_result import ClimbedRung, FoundNetwork, SearchResult
from shared.spaces import Genotype
from shared.wire import content_hash, from_wire, to_wire


def post_result(client: LutClient, run: DeviceRun, rungs: Sequence[Rung], say: Callable[[str], None]) -> bool:
    """Post the family of a run, with a ladder where there is one, and say where to look, or why it failed.

    Returns:
        Whether the server has it now.
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
    """What the run found for the view's device. No path of this machine is in it.

    The hash of the settings tells searches apart, with the table's where a run has several.

    Raises:
        WrongUse, CorruptFile: the run has no family, or a damaged one.
    """
    family, config, table = load_family(run), run.config, run.table
    # What is posted has some of the fields of what is kept.
    texts: dict[type, Callable[[Genotype], str]] = {Genotype: run.space.format}
    return SearchResult(
        search=run.config_hash if run.folder == run.path else content_hash([run.config_hash, table.hash]),
        device=table.device,
        space=config.space,
        table_hash=table.hash,
        dataset=config.dataset,
        accuracy_kind=family.accuracy_kind,
        seconds=family.seconds,
        members=tuple(from_wire(FoundNetwork, to_wire(member, texts)) for member in family.members),
        random=tuple(from_wire(FoundNetwork, to_wire(member, texts)) for member in family.random),
        ladder=tuple(from_wire(ClimbedRung, to_wire(rung, texts)) for rung in rungs),
    )
