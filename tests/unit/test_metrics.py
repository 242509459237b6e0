"""`/metrics`: who may read it, what of it is bounded, and how several processes stand side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx2
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fallow.adapters.memory.bus import MemoryHub
from fallow.adapters.postgres.measuring import SILENT_MS as SILENT_FOR_MS
from fallow.adapters.postgres.measuring import PostgresMeasures
from fallow.bootstrap import telling
from fallow.bootstrap.lag import LoopLag
from fallow.bootstrap.latency import METHODS, Latency
from fallow.bootstrap.telling import Teller
from fallow.domain.errors import Unavailable
from fallow.domain.metrics import (
    SAMPLES_MAX,
    TELL_S,
    TOLD,
    Family,
    Sample,
    Told,
    bounded,
    counter,
    counters,
    gauge,
    gauges,
    histogram,
)
from fallow.http.processes import EVERY_MS, KEPT, PROCESSES_MAX, SILENT_MS, Processes, running_view
from fallow.ports.bus import MESSAGE_BYTES_MAX
from fallow.ports.counting import OTHER, REASONS_MAX, Counts
from tests.network import until_async
from tests.unit.fake_network import BUYER_KEY, METRICS_SECRET, OPERATOR_KEY, FakeNetwork, HandClock, fake_network

OPERATES = {"Authorization": f"Bearer {OPERATOR_KEY}"}
SECRET = {"Authorization": f"Bearer {METRICS_SECRET}"}


@pytest.fixture
async def client(network: FakeNetwork) -> AsyncIterator[httpx2.AsyncClient]:
    async with browser(network.app) as client, network.app.state.gateway.processes.hearing():
        yield client


def browser(app: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1")


def told(process: str, number: int, *families: Family, roles: tuple[str, ...] = ()) -> Told:
    return Told(process=process, roles=list(roles or (process,)), id=f"{number:016x}", families=list(families))


async def heard(client: httpx2.AsyncClient, name: str, **labels: str) -> float | None:
    """What `/metrics` says of one sample."""
    text = (await client.get("/metrics", headers=SECRET)).text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": f"Bearer {METRICS_SECRET[:-1]}"}, 401),
        ({"Authorization": f"Bearer {BUYER_KEY}"}, 403),
        ({"Authorization": f"Bearer {OPERATOR_KEY}"}, 200),
        (SECRET, 200),
    ],
)
async def test_who_may_read_it(client: httpx2.AsyncClient, headers: dict[str, str], status: int) -> None:
    answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == status, answer.text
    assert ("fallow_role_processes" in answer.text) is (status == 200)


async def test_a_gateway_without_a_secret_takes_no_empty_one() -> None:
    async with fake_network() as network:
        network.app.state.gateway.metrics_secret = ""
        async with browser(network.app) as client:
            assert (await client.get("/metrics", headers={"Authorization": "Bearer "})).status_code == 401


async def test_the_secret_holds_while_nobody_else_answers() -> None:
    network = FakeNetwork(MemoryHub())  # its services do not run
    async with browser(network.app) as client:
        answer = await client.get("/metrics", headers=SECRET)
        assert answer.status_code == 200
        assert 'fallow_role_processes{role="registry"} 0.0' in answer.text


async def test_what_processes_tell_stands_side_by_side(network: FakeNetwork, client: httpx2.AsyncClient) -> None:
    jobs = gauge("fallow_jobs_open", "Jobs.", 3)
    late = histogram("fallow_late_seconds", "Late.", [0.001, 0.01], [5, 2, 1])
    lost = counters("fallow_bus_lost", "Lost.", "why", {"dropped": 7})
    for one in (told("core", 1, jobs, late, roles=("market", "settle")), told("core", 2, lost, roles=("market",))):
        await network.bus.publish(TOLD, msgspec.msgpack.encode(one))
    await network.bus.publish(TOLD, b"not a message of ours")
    await network.bus.publish(TOLD, msgspec.msgpack.encode(told("s3", 3, counter("fallow_hits", "Hits.", 1))))

    async def is_there() -> bool:
        return await heard(client, "fallow_hits_total", process="s3", copy="0") is not None

    await until_async(is_there, "all is heard", every=0)
    assert await heard(client, "fallow_jobs_open", process="core", copy="0") == 3
    assert await heard(client, "fallow_bus_lost_total", process="core", copy="1", why="dropped") == 7
    assert await heard(client, "fallow_late_seconds_bucket", process="core", copy="0", le="0.01") == 7
    assert await heard(client, "fallow_late_seconds_count", process="core", copy="0") == 8
    assert await heard(client, "fallow_role_processes", role="market") == 2
    assert await heard(client, "fallow_role_processes", role="settle") == 1
    assert await heard(client, "fallow_role_processes", role="epochs") == 0


async def test_the_operators_page_has_the_same_numbers(network: FakeNetwork, client: httpx2.AsyncClient) -> None:
    late = histogram("fallow_late_seconds", "Late.", [0.001], [5, 2])
    nodes = gauges("fallow_nodes", "Nodes.", "state", {"idle": 3})
    network.app.state.gateway.processes.hear(told("core", 1, nodes, late, roles=("market",)))
    network.clock.advance(1000)
    shown = (await client.get("/v1/operator/running", headers=OPERATES)).json()
    assert (shown["roles"]["market"], shown["roles"]["settle"]) == (1, 0)
    assert shown["processes"] == [{"name": "core", "copy": 0, "roles": ["market"], "silent_ms": 1000, "late_ms": None}]
    assert shown["numbers"] == [
        {"name": "fallow_nodes", "process": "core/0", "labels": {"state": "idle"}, "value": 3.0}
    ]


async def test_who_has_no_chain_has_no_changes_that_wait(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/v1/operator/governance", headers=OPERATES)
    assert (answer.status_code, answer.json()["code"]) == (404, "chain.none")


def processes(clock: HandClock) -> Processes:
    return Processes(MemoryHub().connect(), clock, ["market"])


def test_who_is_silent_is_gone_and_who_comes_for_him_has_his_place() -> None:
    clock = HandClock()
    known = processes(clock)
    known.hear(told("market", 1))
    clock.advance(SILENT_MS // 2)
    known.hear(told("market", 2))
    clock.advance(SILENT_MS // 2)
    assert [(one.name, one.copy) for one in known.there()] == [("market", 1)]
    known.hear(told("market", 3))
    assert [one.copy for one in known.there()] == [0, 1]
    clock.advance(SILENT_MS)
    assert known.running() == {"market": 0}


def test_no_more_processes_are_held_than_there_can_be() -> None:
    known = processes(HandClock())
    for number in range(PROCESSES_MAX + 5):
        known.hear(told("market", number))
    assert len(known.there()) == PROCESSES_MAX


def test_what_is_told_at_once_is_bounded() -> None:
    large = Family("fallow_a", "gauge", "A.", [Sample("fallow_a", {}, 1)] * (SAMPLES_MAX - 1))
    two = Family("fallow_b", "gauge", "B.", [Sample("fallow_b", {}, 1)] * 2)
    one = gauge("fallow_c", "C.", 1)
    assert list(bounded([large, two, one])) == [large, one]


def test_reasons_that_strangers_think_of_are_counted_together() -> None:
    counts = Counts()
    for number in range(REASONS_MAX):
        counts.add("ingest", f"code.{number}")
    counts.add("ingest", "code.new")
    counts.add("ingest", "code.1")
    counts.add("market", 'Ha"}\n')
    found = counts.counts()
    assert (len(found["ingest"]), found["ingest"][OTHER], found["ingest"]["code.1"]) == (REASONS_MAX + 1, 1, 2)
    assert found["market"] == {OTHER: 1}


async def test_what_is_too_much_to_be_told_is_counted_as_not_measured() -> None:
    sent: list[Told] = []

    class Bus:
        dropped = replies_lost = replies_refused = violations = 0

        async def publish(self, _: str, data: bytes) -> None:
            sent.append(msgspec.msgpack.decode(data, type=Told))

    async def large() -> list[Family]:
        return [
            Family("fallow_a", "gauge", "A.", [Sample("fallow_a", {}, 1)] * SAMPLES_MAX),
            gauge("fallow_b", "B.", 1),
        ]

    async with asyncio.TaskGroup() as group:
        teller = Teller(cast("Any", Bus()), LoopLag(HandClock()), group)
        teller.measures.append(large)
        await teller.tell(told("core", 1))
    found = {one.name: one.value for family in sent[0].families for one in family.samples}
    assert "fallow_a" not in found
    assert (found["fallow_b"], found["fallow_unmeasured_parts"]) == (1, 1)


async def test_what_hangs_is_left_out_until_it_answers_and_the_process_tells_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telling, "ANSWER_S", 0.01)
    sent: list[Told] = []
    answer: asyncio.Future[list[Family]] = asyncio.get_running_loop().create_future()
    asked = 0

    class Bus:
        dropped = replies_lost = replies_refused = violations = 0

        async def publish(self, _: str, data: bytes) -> None:
            sent.append(msgspec.msgpack.decode(data, type=Told))

    async def hanging() -> list[Family]:
        nonlocal asked
        asked += 1
        return await answer

    async def well() -> list[Family]:
        return [gauge("fallow_b", "B.", 1)]

    async with asyncio.TaskGroup() as group:
        teller = Teller(cast("Any", Bus()), LoopLag(HandClock()), group)
        teller.measures += [hanging, well]
        await teller.tell(told("core", 1))
        await teller.tell(told("core", 1))
        assert asked == 1
        answer.set_result([gauge("fallow_a", "A.", 1)])
        await teller.tell(told("core", 1))
        answer = asyncio.get_running_loop().create_future()
        await teller.tell(told("core", 1))
        teller.end()  # else the group would wait for ever
    found = [{one.name: one.value for family in each.families for one in family.samples} for each in sent]
    assert [each["fallow_unmeasured_parts"] for each in found] == [1, 1, 0, 1]
    assert [each["fallow_b"] for each in found] == [1, 1, 1, 1]
    assert ["fallow_a" in each for each in found] == [False, False, True, False]


async def test_a_database_that_is_silent_or_away_is_told_to_be_so() -> None:
    answers, away, clock = asyncio.Event(), False, HandClock()

    class Slow:
        async def fetch(self, *_: object) -> list[dict[str, int]]:
            await answers.wait()
            if away:
                raise Unavailable("database.away", "")
            return [{"one": 1}]

        @asynccontextmanager
        async def transaction(self) -> AsyncIterator[Any]:
            yield self

    measures = PostgresMeasures(cast("Any", Slow()), clock)

    async def up() -> float:
        (family,) = await measures.up()
        return family.samples[0].value

    async with asyncio.TaskGroup() as group:
        asked = group.create_task(measures.reach())
        await asyncio.sleep(0)
        assert await up() == 1
        clock.advance(SILENT_FOR_MS)
        assert await up() == 0
        answers.set()
        assert [one.samples[0].value for one in await asked] == [SILENT_FOR_MS / 1000]
    assert await up() == 1
    away = True
    assert await measures.reach() == []
    assert await up() == 0


async def test_all_answers_of_all_routes_can_be_told(network: FakeNetwork) -> None:
    latency = Latency(network.clock)
    routes = [(route.path, method) for route in network.app.routes for method in getattr(route, "methods", ())]
    kept = [(path, method) for path, method in routes if method != "OPTIONS"]

    async def answering(scope: Any, _: Any, send: Any) -> None:
        scope["path_template"] = scope["path"]
        await send({"type": "http.response.start", "status": scope["status"], "headers": []})

    async def send(_: Any) -> None:
        pass

    app = latency.of(answering)
    for path in {path for path, _ in kept}:
        for method, status in ((method, status) for method in METHODS for status in (200, 204, 405)):
            if status == 405 or method == "OPTIONS":
                await app({"type": "http", "path": path, "method": method, "status": status}, send, send)
    for path, method in kept:
        for status in (200, 404, 503):
            await app({"type": "http", "path": path, "method": method, "status": status}, send, send)
    (family,) = await latency.measure()
    assert len(family.samples) < 0.95 * SAMPLES_MAX
    assert len(msgspec.msgpack.encode(family)) < 0.7 * MESSAGE_BYTES_MAX


async def test_requests_are_timed_by_route_and_not_by_path(network: FakeNetwork) -> None:
    latency = Latency(network.clock)
    async with browser(latency.of(network.app)) as client:
        for path in ("/v1/epochs/1", "/v1/epochs/2", "/nothing/here"):
            await client.get(path)
        await client.request("BREW", "/v1/network")
    (family,) = await latency.measure()
    counted = {
        (one.labels["route"], one.labels["method"], one.labels["status"]): one.value
        for one in family.samples
        if one.name.endswith("_count")
    }
    assert counted["", "GET", "4xx"] == 1
    assert {method for _, method, _ in counted} == {"GET", "other"}
    assert [(route, many) for (route, _, _), many in counted.items() if "epochs" in route] == [
        ("/v1/epochs/{epoch}", 2)
    ]


@pytest.mark.parametrize(
    ("counts", "late_ms"), [([990, 5, 5], 5), ([985, 5, 10], 10), ([980, 5, 15], None), ([0, 0, 0], None)]
)
def test_how_late_a_process_is_is_what_99_of_100_looks_found(counts: list[int], late_ms: int | None) -> None:
    processes = Processes(MemoryHub().connect(), HandClock(), ())
    late = histogram("fallow_event_loop_late_seconds", "Late.", [0.005, 0.01], counts)
    processes.hear(Told("core", ["market"], "0" * 16, [late]))
    assert running_view(processes).processes[0].late_ms == late_ms


def test_nodes_by_state_are_kept_every_few_minutes_of_a_day() -> None:
    clock = HandClock()
    processes = Processes(MemoryHub().connect(), clock, ())

    def tell(busy: float, *more: Family) -> None:
        nodes = gauges("fallow_nodes", "Nodes.", "state", {"busy": busy, "idle": 1})
        processes.hear(Told("market", ["market"], "0" * 16, [nodes, *more]))

    processes.hear(Told("settle", ["settle"], "1" * 16, [gauge("fallow_other", "Other.", 1)]))
    assert not processes.nodes
    clock.advance(-clock.now_ms() % EVERY_MS)
    tell(2)
    clock.advance(EVERY_MS - 1)
    tell(3)
    assert [one.states for one in processes.nodes] == [{"busy": 2, "idle": 1}]
    for at in range(KEPT):
        clock.advance(EVERY_MS)
        tell(at)
    assert [one.states["busy"] for one in processes.nodes] == list(range(KEPT))
    assert processes.nodes[-1].at == clock.now_ms()


def test_whoever_tells_a_little_late_each_time_leaves_no_gap() -> None:
    """Kept 300 seconds after the last one or later, they would lie behind by a whole step after some hours."""
    clock = HandClock()
    processes = Processes(MemoryHub().connect(), clock, ())
    told = Told("market", ["market"], "0" * 16, [gauges("fallow_nodes", "Nodes.", "state", {"busy": 1})])
    for _ in range(5000):
        clock.advance(int(TELL_S * 1000) + 70)
        processes.hear(told)
    steps = [one.at // EVERY_MS for one in processes.nodes]
    assert steps == list(range(steps[0], clock.now_ms() // EVERY_MS + 1))
