"""From a phone at the end of a cable to a table on the server. Every step may be repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from profiler_agent.android.bridge import PhoneAway
from profiler_agent.android.bundle import spool_files, unpack_runs
from profiler_agent.android.phone import PhoneAgent
from profiler_agent.profile.profile import ProfileRequest, get_plan
from profiler_agent.server.graph_store import GraphStore
from profiler_agent.server.server_client import ServerClient
from profiler_agent.server.upload import Uploader, upload_everything
from profiler_agent.spool.spool import Spool
from shared.command_line import Interrupted
from shared.errors import LutnasError

T = TypeVar("T")
ASK_EVERY_S = 10.0
"""Each question wakes a core of the phone. The phone trusts a sensor file for a minute."""
COME_BACK_S = 2.0


@dataclass
class PhoneCampaign:
    """A profile on a phone.

    Attributes:
        agent: on the phone.
        client: of the server for the table. The phone needs no way to it.
        spool: of this phone, on this machine.
        say: takes lines for people.
        pause_at: the thermal level from which nothing is measured.
        wait_s: longest wait for a phone that went away.
    """

    agent: PhoneAgent
    client: ServerClient
    spool: Spool
    say: Callable[[str], None]
    pause_at: int
    wait_s: float
    sleep: Callable[[float], None] = time.sleep
    clock_s: Callable[[], float] = time.monotonic

    def run(self, request: ProfileRequest, flags: Sequence[str], cores: Sequence[int]) -> int:
        """Measure and hand in; returns the exit code.

        Args:
            request: what to measure; the phone finds its runtime.
            flags: the same for the agent on the phone.
            cores: to run on; none leaves it to Android.
        """
        self._stock(request)
        if self.agent.install():
            self.say("put the agent on the phone")
        graphs = self.agent.stock(spool_files(self.spool.folder, ("known", "graphs")))
        self.say(f"{graphs} graphs put on the phone")
        self._start(self.agent.command(flags, cores))
        code = self._follow()
        unpack_runs(self._again(self.agent.fetch_runs), self.spool.folder)
        self._again(self.agent.forget_campaign)
        return max(code, self._upload())

    def _stock(self, request: ProfileRequest) -> None:
        """Have plans and graphs in this machine's spool, from the server or from before."""
        for space in request.spaces:
            plan = get_plan(self.client, self.spool, space, request, self.say)
            store = GraphStore(self.client, self.spool, request.batch, self.sleep, precision=request.precision)
            for graph in dict.fromkeys((plan.canary, *plan.graphs())):
                store.locate(graph)

    def _start(self, command: str) -> None:
        found, known = self.agent.find_campaign()
        running, measured = found.state == "running", found.state == "ended" and found.code == 0
        if running and known != command:
            raise LutnasError(f"the phone is measuring something else ({known}): wait until it is done")
        if (running or measured) and known == command:
            self.say(f"the phone {'is measuring' if running else 'has measured'} this already")
        else:
            self.agent.start(command, self.agent.health(), self.pause_at)

    def _follow(self) -> int:
        """Watch the campaign; returns its exit code. An interruption stops it on the phone too."""
        seen, hot, lost = 0, False, False
        try:
            while True:
                health = self._again(self.agent.health)
                if health.level is not None and (health.level >= self.pause_at) != hot:
                    hot = not hot
                    self.say(f"{health}: {'pausing until it has cooled down' if hot else 'going on'}")
                progress, seen = self._again(lambda: self.agent.watch(health, self.pause_at, seen))  # noqa: B023
                for line in progress.output.splitlines():
                    self.say(f"phone: {line}")
                if progress.state == "ended":
                    return progress.code
                if progress.state != "running" and lost:
                    raise LutnasError(
                        "the agent on the phone is gone without a word (restarted, or ended by Android): nothing"
                        " measured is lost, run the same again; keep Termux open, and the battery unrestricted for it"
                    )
                lost = progress.state != "running"  # it may be about to write its exit code
                self.sleep(COME_BACK_S if lost else ASK_EVERY_S)
        except Interrupted:
            with suppress(LutnasError):
                self.agent.stop()
            raise

    def _again(self, action: Callable[[], T]) -> T:
        """Do it, and wait for the phone while it is away."""
        start_s, said = self.clock_s(), False
        while True:
            try:
                found = action()
            except PhoneAway as error:
                waited_s = self.clock_s() - start_s
                if waited_s >= self.wait_s:
                    raise PhoneAway(
                        f"{error} and did not come back within {self.wait_s:g} s: it goes on measuring by itself;"
                        " plug it in again and run the same command, nothing is lost"
                    ) from error
                if not said:
                    self.say(f"{error}: it goes on measuring by itself; waiting for it")
                said = True
                self.sleep(COME_BACK_S)
                continue
            if said:
                self.say("the phone is back")
            return found

    def _upload(self) -> int:
        before = {spooled.run.id for spooled in self.spool.runs() if spooled.finished}
        complete = upload_everything(self.spool, Uploader(self.client, self.sleep), "adb", self.say)
        fresh = [spooled for spooled in self.spool.runs() if spooled.finished and spooled.run.id not in before]
        answers = [(f"runs/{run.run.id}/finished.json", (run.folder / "finished.json").read_bytes()) for run in fresh]
        self._again(lambda: self.agent.keep_finished(answers))
        return 0 if complete else 1
