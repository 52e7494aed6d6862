"""Profiling without a server: plan and graphs are made here, and each run ends in a file.

They go into the spool, from where a campaign takes them as if a server had sent them before. So an
interrupted campaign is resumed, and all of it is spooled.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from profiler_agent.profile.profile import NOBODY, Outcome, Profiler, ProfileRequest, plan_key
from profiler_agent.progress import Progress
from profiler_agent.server.graph_store import WITH_PRECISION
from profiler_agent.server.server_client import ServerClient
from profiler_agent.server.upload import Uploader
from profiler_agent.spool.run_file import RecordedRun, known_ids, read_run_file, write_run_file
from profiler_agent.spool.run_spool import RunSpool
from profiler_agent.spool.spool import Spool
from shared import __version__
from shared.errors import InvalidValue, LutnasError
from shared.http.retry import retry
from shared.measurements.graph_spec import parse_graph_spec
from shared.measurements.plan import make_plan
from shared.spaces import Own, Space
from shared.wire import to_wire


def profile_offline(
    request: ProfileRequest, spool: Spool, out: Path, progress: Progress, most_bytes: int = 0
) -> tuple[Outcome, ...]:
    """Measure what is missing, and write a file for each run; returns what became of each.

    An incomplete run gets a file too, and its outcome names what was refused. A file with the whole
    run is left as it is.

    Args:
        out: the file; for several spaces the folder of the files.
        most_bytes: memory for graphs that stay open between their rounds.

    Raises:
        LutnasError: onnx is not here, or a file holds something else.
    """
    if own := [space for space in request.spaces if isinstance(space, Own)]:
        problem = f"networks of {own[0]} are files on a server, and have no recipe"
        raise InvalidValue("--offline", f"{problem}: name that server with --lut-url instead")
    _require_onnx()
    files = run_files(request.spaces, out)
    outcomes: dict[str, Outcome] = {}
    for space in request.spaces:
        existing = None if request.new else _find_recorded(request, space, files[str(space)])
        if existing is not None and not existing.missing_tasks():
            outcomes[str(space)] = Outcome(existing.run.id, str(space), {}, measured=False)
    spaces = tuple(space for space in request.spaces if str(space) not in outcomes)
    if spaces:
        # bound_percent 0: nobody is there to choose networks on the way
        wanted = dataclasses.replace(request, spaces=spaces, bound_percent=0.0)
        wanted.runtime()  # one that is not here is named before graphs are made
        _stock(wanted, spool, progress)
        with ServerClient(NOBODY) as client:
            profiler = Profiler(client, spool, progress, most_bytes=most_bytes, asks_server=False, takes_finished=False)
            measured = profiler.profile(wanted)
        outcomes |= {outcome.space: _write_run(outcome, spool, files[outcome.space]) for outcome in measured}
    return tuple(outcomes[str(space)] for space in request.spaces)


def run_files(spaces: Sequence[Space], out: Path) -> dict[str, Path]:
    """The file of each space's run: `out`, or `out`/SPACE.json for several, with - for / in the
    space.

    Raises:
        InvalidValue: one run and a folder, or several and a file.
    """
    if len(spaces) == 1:
        if out.is_dir():
            raise InvalidValue("--out", f"{out} is a folder: name the file to write, for example {out / 'run.json'}")
        return {str(spaces[0]): out}
    if out.is_file() or out.suffix == ".json":
        raise InvalidValue("--out", f"{out} is one file, and {len(spaces)} runs need one each: name a folder")
    return {str(space): out / f"{str(space).replace('/', '-')}.json" for space in spaces}


def _stock(request: ProfileRequest, spool: Spool, progress: Progress) -> None:
    """Put plans and graphs into the spool."""
    from shared.graphs import build_graph

    with progress.bar("building graphs"):
        for space in request.spaces:
            plan = make_plan(space, request.calibration, request.held_out, request.seed, isolated=True)
            spool.keep_known(plan_key(space, request), to_wire(plan))
            graphs = plan.graphs()
            for index, graph in enumerate(graphs):
                precision = request.precision if graph.startswith(WITH_PRECISION) else "fp32"
                model = build_graph(parse_graph_spec(graph), request.batch, precision)
                spool.keep_model(graph, request.batch, model, precision)
                progress.counted(index + 1, len(graphs))


def _write_run(outcome: Outcome, spool: Spool, out: Path) -> Outcome:
    """Write the file of a run. A whole run is over with that, and waits for no server."""
    spooled = get_spooled(spool, outcome.run_id)
    known = known_ids(spooled.run, spooled.plan)
    measurements = [measurement for id_, measurement in spooled.read_measurements().items() if id_ in known]
    table = {"hash": write_run_file(out, spooled.run, spooled.plan, measurements, spooled.read_kernels())}
    if spooled.missing_tasks():
        return outcome
    spooled.finish(table)
    return dataclasses.replace(outcome, table=table)


def _find_recorded(request: ProfileRequest, space: Space, out: Path) -> RecordedRun | None:
    if not out.exists():
        return None
    recorded = read_run_file(out)
    run = recorded.run
    plan = make_plan(space, request.calibration, request.held_out, request.seed, isolated=True)
    same = (request.device, request.runtime(), plan.id, __version__)
    if (run.device, run.runtime, run.plan_id, run.agent_version) != same:
        raise LutnasError(f"{out} holds another run (of {run.device}, {run.runtime}); take another --out, or --new")
    return recorded


def get_spooled(spool: Spool, run_id: str) -> RunSpool:
    """A run by its id.

    Raises:
        LutnasError: it is not in the spool.
    """
    for spooled in spool.runs():
        if spooled.run.id == run_id:
            return spooled
    raise LutnasError(f"run {run_id} is not in {spool.folder} any more")


def upload_file(
    client: ServerClient, recorded: RecordedRun, force: bool = False, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any] | None:
    """Hand in a recorded run, once or again. Returns what the server says of its table.

    Args:
        force: ask for the table although tasks are not measured.

    Raises:
        LutnasError: the server is away or refuses.
    """
    uploader = Uploader(client, sleep)
    uploader.upload(recorded.run, lambda stored: map(to_wire, recorded.measurements), recorded.kernels)
    if recorded.missing_tasks() and not force:
        return None
    return retry(lambda: client.finish_run(recorded.run.id, recorded.plan), sleep=sleep)


def _require_onnx() -> None:
    try:
        import shared.graphs  # noqa: F401 - onnx comes with it, which the agent needs for this alone
    except ImportError as error:
        raise LutnasError(
            f"without a server the graphs are made here, which needs onnx ({error}): pip install 'lutnas[offline]'"
        ) from error
