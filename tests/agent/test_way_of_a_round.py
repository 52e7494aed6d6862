"""How many files a round passes on its way from the agent's clock to a price in the table.

Agent and server run in this process, and every call of the project is watched. The test marks the
first round of a convolution and follows its values: as they are, as text, as a ratio to the canary,
as a marginal cost, as a price. A file is on the way when the round comes to it and goes on from it
to the table. A file that only looks at rounds (are there enough, is the machine itself) hands none
on and does not count.
"""

import dataclasses
import gzip
import math
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import uvicorn

pytest.importorskip("lut_server.app", reason="the server is not installed")

from lut_server.app import create_app
from lut_server.auth import create_token
from lut_server.settings import Settings
from profiler_agent.profile.profile import Profiler, ProfileRequest
from profiler_agent.progress import Progress
from profiler_agent.server.server_client import ServerClient
from profiler_agent.spool.spool import Spool
from profiler_agent.timing.stopping import Preset
from shared.spaces import make_space

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tuple(str(ROOT / name) + os.sep for name in ("profiler_agent", "lut_server", "shared"))
CARRIERS = {"httpx": "network", "fastapi": "network", "starlette": "network", "sqlalchemy": "database"}
"""Packages to which a round is handed, and from which it comes again."""
ONE_ROUND = Preset("one round", 1.0, 1, 1, 0.0, most_redos=0)
"""With a single round the estimate of a task is the ratio of that round, which can be followed into
the fit.
"""
MARKED, COPIES = "chain:8:nor_conv_3x3/16x16x16/", 6
"""The convolution that is followed, and by how many of it its two chains differ."""
FORMS = {"measurement", "wire"}
"""What a round is, and how it is written: files on the way call them, and they call none."""
MOST_FILES = 16


class Way:
    """Who handed the round to whom.

    Attributes:
        steps: (from, to): files of the project, or carriers.
        numbers: what the round has become.
    """

    def __init__(self) -> None:
        self.steps: set[tuple[str, str]] = set()
        self.numbers: list[float] = []
        self._values: tuple[float, ...] = ()
        self._text = ""
        self._has_arrived = False
        self._watching = threading.local()

    def watch(self, frame, event, returned) -> None:
        """What `sys.setprofile` takes."""
        if event not in ("call", "return") or self._has_arrived or getattr(self._watching, "busy", False):
            return
        here = _place(frame)
        caller = None if here is None else _caller(frame)
        if here is None or caller is None or here == caller:
            return
        self._watching.busy = True
        try:
            if event == "return":
                self._follow(frame, returned, here, caller)
            elif self._values and any(self._is_in(frame.f_locals[name]) for name in _arguments(frame)):
                self.steps.add((caller, here))
                self._has_arrived = _is_table(here)
        finally:
            self._watching.busy = False

    def _follow(self, frame, returned, here: str, caller: str) -> None:
        if not self._values and here.endswith("round_timer.py") and returned is not None:
            graph = frame.f_locals.get("graph")
            if graph is not None and graph.name.startswith(MARKED) and frame.f_locals["minus"] is not None:
                self._values, self.numbers = returned.round.graph_ms, [returned.round.ratio(COPIES)]
                self._text = ",".join(map(str, self._values))
        if self._values and self._is_in(returned):
            self.steps.add((here, caller))

    def files(self) -> set[str]:
        """Files from which the round reaches the table, among those that it reaches from the clock."""
        handing, taking = ({step[side] for step in self.steps} for side in (0, 1))
        (clock,) = (place for place in handing if place.endswith("/round_timer.py"))
        (table,) = filter(_is_table, taking)
        # The server reads a body from an asynchronous generator, whose values nobody sees returned.
        readers = {place for place in handing - taking if place.startswith("lut_server/")}
        steps = self.steps | {("network", place) for place in readers}
        on_the_way = _reach(clock, steps) & _reach(table, {(there, here) for here, there in steps})
        forms = {there for here, there in self.steps if here in on_the_way and Path(there).stem in FORMS}
        return (on_the_way | forms) - set(CARRIERS.values())

    def _is_in(self, value: object, depth: int = 0) -> bool:
        if depth > 6:
            return False
        match value:
            case float():
                return any(math.isclose(value, number, rel_tol=1e-9) for number in self.numbers)
            case str():
                return self._text in value
            case bytes():
                return self._text.encode() in (gzip.decompress(value) if value[:2] == b"\x1f\x8b" else value)
            case np.ndarray():
                return value.dtype == np.float64 and any(np.isclose(value, n, 1e-9, 0.0).any() for n in self.numbers)
            case list() | tuple():
                same = len(value) == len(self._values) and isinstance(value[0], float)
                return (same and tuple(value) == self._values) or any(self._is_in(item, depth + 1) for item in value)
            case dict():
                return any(self._is_in(item, depth + 1) for item in value.values())
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            return False
        return any(self._is_in(getattr(value, field.name, None), depth + 1) for field in dataclasses.fields(value))


def _is_table(place: str) -> bool:
    return place.startswith("shared/") and place.endswith("/table.py")


def _reach(start: str, steps: set[tuple[str, str]]) -> set[str]:
    found, waiting = set(), [start]
    while waiting:
        place = waiting.pop()
        if place not in found and (Path(place).stem not in FORMS):
            found.add(place)
            waiting += [there for here, there in steps if here == place]
    return found


def _place(frame) -> str | None:
    """The file of the project, or the carrier, that a frame belongs to."""
    name = frame.f_code.co_filename
    if name.startswith(PROJECT):
        return Path(name).relative_to(ROOT).as_posix()
    return CARRIERS.get(str(frame.f_globals.get("__name__")).partition(".")[0])


def _caller(frame) -> str | None:
    """The place that called, whatever stands between."""
    while (frame := frame.f_back) is not None:
        if (place := _place(frame)) is not None:
            return place
    return None


def _arguments(frame) -> tuple[str, ...]:
    code = frame.f_code
    names = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    return code.co_varnames[:names]


@pytest.fixture
def watched(tmp_path):
    """A way, and the URL of a server in this process whose threads it watches."""
    way = Way()
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path / 'lut.db'}", audit_log=str(tmp_path / "audit.jsonl")))
    token = create_token(app.state.services.store.tokens, "admin")
    threading.setprofile(way.watch)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield way, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", token
    threading.setprofile(None)
    server.should_exit = True
    thread.join(20)


def test_a_round_passes_few_files_from_the_clock_to_a_price(watched, tmp_path):
    way, url, token = watched
    space = make_space("nas-bench-201", resolution=16, channels=16, depth=1)
    request = ProfileRequest("bench", (space,), 3, 2, preset=ONE_ROUND)
    with ServerClient(url, token) as client:
        profiler = Profiler(client, Spool(tmp_path / "spool"), Progress(lambda line: None))
        sys.setprofile(way.watch)
        try:
            (outcome,) = profiler.profile(request)
        finally:
            sys.setprofile(None)
        # The table says what the round became; the server fits a finished run again, and the rest
        # can be followed.
        prices = client.fetch_table(outcome.table["hash"]).prices
        (price,) = (price for price in prices if price.op_key.startswith(MARKED.partition(":8:")[2]))
        way.numbers += [price.marginal_ms, price.price_ms]
        client.finish_run(outcome.run_id, profiler.spool.runs()[0].plan)
    files = way.files()
    assert {Path(file).stem for file in files} >= {"round_timer", "run_spool", "server_client", "table_builder"}
    assert len(files) <= MOST_FILES, "\n".join(sorted(files))
