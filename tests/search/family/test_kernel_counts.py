"""Counts from a server that knows some, asks a device for others, or does not answer."""

import dataclasses
import json

import httpx
import pytest

from search.device.kernel_counts import KernelCounter
from search.device.lut_client import LutClient
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


def counter(server, table):
    clock = Clock()
    client = LutClient("http://lut", transport=httpx.MockTransport(server))
    return KernelCounter(client, table, clock, clock.sleep), clock


@pytest.fixture
def priced(table):
    return dataclasses.replace(table, kernels=PRICES)


def test_what_the_server_does_not_know_the_device_is_asked_for_once(priced) -> None:
    server = Server({"a": {ADD: 1}})
    count, _ = counter(server, priced)
    assert count(["a", "b"]) == {"a": {ADD: 1}, "b": {ADD: 2}}
    assert count(["b", "a"]) == {"a": {ADD: 1}, "b": {ADD: 2}}
    assert server.asked == [("b",)]


def test_without_an_agent_the_job_is_taken_back_after_seconds_and_nobody_is_asked_again(priced) -> None:
    server = Server({"a": {ADD: 1}}, agent=False)
    count, clock = counter(server, priced)
    assert count(["a", "b"]) == {"a": {ADD: 1}}
    assert 4 < clock.now < 10
    assert count(["a", "c"]) == {"a": {ADD: 1}}
    assert (len(server.asked), server.cancelled) == (1, 1)


def test_a_server_that_is_away_or_older_leaves_the_op_prices(priced) -> None:
    def away(request):
        raise httpx.ConnectError("no")

    for transport in (away, lambda request: httpx.Response(404, json={"error": {"code": "not_found", "message": "x"}})):
        count, _ = counter(transport, priced)
        assert count(["a"]) == {}


def test_a_table_without_kernel_prices_asks_nobody(table) -> None:
    def unexpected(request):
        raise AssertionError(request.url)

    count, _ = counter(unexpected, table)
    assert count(["a"]) == {}
