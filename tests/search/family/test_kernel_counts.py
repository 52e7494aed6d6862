"""Kernel counts: kept in the run's folder, known to the server, or counted by the device."""

import dataclasses
import json

import httpx
import pytest

from search.device.kernel_counts import COUNTS_FILE, KernelCounter
from search.device.lut_client import LutClient
from search.runs.run_directory import DeviceRun, RunDirectory, on_device
from shared.jobs import Job, NewJob
from shared.tables.kernel_prices import FamilyCost, KernelPrice, KernelPrices
from shared.wire import from_wire, to_wire

ADD = "Add/1x4x8x8/1x4x8x8"
PRICES = KernelPrices(
    1.0, (FamilyCost("Add", 0.1, 0.0, 0.0),), (KernelPrice(ADD, 0.5),), (0.1,) * 5, ((0.5,),) * 5, 0.01, 0.5
)


class Server:
    """Answers /v1/kernels and count jobs; `agent` says whether somebody does them."""

    def __init__(self, known, agent=True):
        self.known, self.agent, self.asked, self.cancelled = dict(known), agent, [], 0

    def __call__(self, request):
        path = request.url.path
        if path == "/v1/kernels":
            return httpx.Response(200, json={"counts": self.known})
        if path.endswith("/cancel"):
            self.cancelled += 1
        elif request.method == "POST":
            new = from_wire(NewJob, json.loads(request.content))
            self.job = Job("j", new, "queued", 0, 3, "2026-01-01T00:00:00+00:00")
            self.asked.append(new.genotypes)
        elif self.agent:
            self.known.update({genotype: {ADD: 2} for genotype in self.job.job.genotypes})
            self.job = dataclasses.replace(self.job, state="done")
        return httpx.Response(200, json={"job": to_wire(self.job)})


class Clock:
    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def counter(server, run, said, clock=None):
    clock = clock or Clock()

    def connect():
        return LutClient("http://lut", transport=httpx.MockTransport(server))

    return KernelCounter(run, connect, said.append, clock, clock.sleep)


def unexpected(request):
    raise AssertionError(request.url)


def away(request):
    raise httpx.ConnectError("no")


@pytest.fixture
def priced(run):
    view = DeviceRun(run, dataclasses.replace(run.table, device="elsewhere", kernels=PRICES))
    view.folder.mkdir(parents=True)
    return view


@pytest.fixture
def networks(space):
    fastest = space.fastest()
    other = space.parse("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
    third = space.parse("|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|")
    return fastest, other, third


def test_what_the_server_does_not_know_the_device_is_asked_for_once(priced, networks, space) -> None:
    a, b, _ = networks
    server, said = Server({space.format(a): {ADD: 1}}), []
    count = counter(server, priced, said)
    assert count([a, b]) == {a: {ADD: 1}, b: {ADD: 2}}
    assert count([b, a]) == {a: {ADD: 1}, b: {ADD: 2}}
    assert server.asked == [(space.format(b),)]
    assert said == []


def test_what_was_fetched_is_known_with_the_server_away(priced, networks, space) -> None:
    a, b, c = networks
    said = []
    before = counter(Server({space.format(a): {ADD: 1}}), priced, said)([a, b])
    assert counter(unexpected, priced, said)([b, a]) == before
    assert said == []
    assert counter(away, priced, said)([a, b, c]) == before
    (line,) = said
    assert line.startswith("kernels of 1 of 3 networks are unknown, op prices bound them: no answer from http://lut")
    assert "\n" not in line


def test_counts_of_another_table_or_a_damaged_file_are_fetched_anew(priced, networks, space) -> None:
    a, _, _ = networks
    counter(Server({space.format(a): {ADD: 1}}), priced, [])([a])
    other = DeviceRun(priced, dataclasses.replace(priced.table, base_ms=0.3))
    assert counter(away, other, [])([a]) == {}
    (priced.folder / COUNTS_FILE).write_text("{")
    assert counter(Server({space.format(a): {ADD: 3}}), priced, [])([a]) == {a: {ADD: 3}}


def test_an_interrupted_wait_takes_the_job_back(priced, networks) -> None:
    def interrupt(seconds):
        raise KeyboardInterrupt

    server, clock = Server({}, agent=False), Clock()
    clock.sleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        counter(server, priced, [], clock)(networks[:1])
    assert server.cancelled == 1


def test_without_an_agent_the_job_is_taken_back_after_seconds_and_nobody_is_asked_again(
    priced, networks, space
) -> None:
    a, b, c = networks
    server, said, clock = Server({space.format(a): {ADD: 1}}, agent=False), [], Clock()
    count = counter(server, priced, said, clock)
    assert count([a, b]) == {a: {ADD: 1}}
    assert 4 < clock.now < 10
    assert count([a, c]) == {a: {ADD: 1}}
    assert (len(server.asked), server.cancelled) == (1, 1)
    (line,) = said
    assert "no agent of elsewhere answered within 5 s" in line


def test_a_server_that_is_away_or_older_leaves_the_op_prices(priced, networks) -> None:
    for transport in (away, lambda request: httpx.Response(404, json={"error": {"code": "not_found", "message": "x"}})):
        said = []
        assert counter(transport, priced, said)(networks) == {}
        assert len(said) == 1


def test_counts_lie_beside_the_family_of_their_device(finished) -> None:
    run = on_device(RunDirectory.open(finished))
    assert run.folder == run.path
    assert DeviceRun(run, dataclasses.replace(run.table, device="x")).folder == run.path / "devices" / "x"
