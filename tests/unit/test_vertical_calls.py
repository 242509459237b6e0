"""Calls of a vertical by HTTP: they come as whoever asks, and what is no call is refused at the door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fallow.domain.calls.base import Person
from fallow.domain.errors import NotAllowed, Unavailable
from fallow.ports.rpc import serve
from fallow.sdk.client import AsyncClient
from fallow.verticals.storage.client.asking import HttpAsker
from fallow.verticals.storage.core.billing import BUYERS_CALLS
from fallow.verticals.storage.core.calls.buckets import Bucket, GetBucket
from fallow.verticals.storage.core.upkeep import Inspect, Inspection
from fallow.verticals.storage.plugin import VERTICAL
from tests.unit.fake_network import (
    BUYER,
    BUYER_KEY,
    OPERATOR,
    OPERATOR_KEY,
    OTHER,
    OTHER_KEY,
    FakeNetwork,
    fake_network,
)

THEIRS = GetBucket(account=OTHER, bucket="photos")
BODY = msgspec.msgpack.encode(THEIRS)


class Side:
    """The network's side of storage: it owns buckets to the account that asks, and says no to some."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.away = 0

    async def get(self, call: GetBucket) -> Bucket:
        """Answer."""
        self.asked.append(call)
        if call.bucket == "theirs":
            raise NotAllowed("storage.not_yours", "It is another's.", "Take yours.")
        if call.bucket == "full":
            raise Unavailable("storage.too_few_nodes", "There are too few nodes.")
        if self.away:
            self.away -= 1
            raise Unavailable("bus.timeout", "It was lost.")
        return Bucket(name=call.bucket, account=call.account, made_ms=1, profile="lab")


class World(NamedTuple):
    """A control API, and what it asks."""

    network: FakeNetwork
    side: Side

    def client(self, key: str = BUYER_KEY) -> AsyncClient:
        """A client with a key, which does not wait."""

        async def at_once(_: float) -> None:
            return None

        transport = httpx2.ASGITransport(self.network.app)  # type: ignore[arg-type]
        return AsyncClient("http://127.0.0.1", key, transport=transport, sleep=at_once)

    async def post(self, path: str, body: bytes, key: str = BUYER_KEY) -> httpx2.Response:
        """Ask as somebody who knows HTTP."""
        transport = httpx2.ASGITransport(self.network.app, raise_app_exceptions=False)  # type: ignore[arg-type]
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return await http.post(path, content=body, headers={"Authorization": f"Bearer {key}"} if key else {})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A network whose storage answers `bucket.get` alone."""
    side = Side()
    async with fake_network() as network:
        answering = serve(network.bus, "vertical.storage.bucket.get", GetBucket, side.get, queue="storage")
        async with answering:
            yield World(network, side)


async def test_whoever_asks_asks_for_his_own_account(world: World) -> None:
    for key, account in ((BUYER_KEY, BUYER), (OTHER_KEY, OTHER)):
        async with world.client(key) as client:
            bucket = await HttpAsker(partial(client.ask_vertical, "storage")).ask(THEIRS)
        assert bucket.account == world.side.asked[-1].account == account


async def test_what_storage_says_no_to_arrives_as_it_said_it_and_is_not_asked_again(world: World) -> None:
    async with world.client() as client:
        asker = HttpAsker(partial(client.ask_vertical, "storage"))
        with pytest.raises(NotAllowed, match=r"not_yours"):
            await asker.ask(GetBucket(account="", bucket="theirs"))
        with pytest.raises(Unavailable, match=r"too_few_nodes"):
            await asker.ask(GetBucket(account="", bucket="full"))
    assert len(world.side.asked) == 2


async def test_what_was_lost_is_asked_again_where_that_changes_nothing(world: World) -> None:
    world.side.away = 2
    async with world.client() as client:
        assert (await HttpAsker(partial(client.ask_vertical, "storage")).ask(THEIRS)).name == "photos"
        world.side.away = 1
        with pytest.raises(Unavailable, match=r"bus\.timeout"):
            await client.ask_vertical("storage", "bucket.get", BODY)


@pytest.mark.parametrize(
    "path",
    [
        "storage/bucket.burn",
        "storage/bucket.get.more",
        "storage/*",
        "storage/>",
        "compute/bucket.get",
        "node/x",
        "%00/a",
    ],
)
async def test_what_is_no_call_is_not_forwarded(world: World, path: str) -> None:
    answer = await world.post(f"/v1/verticals/{path}", BODY)
    assert (answer.status_code, answer.json()["code"]) == (404, "vertical.no_call")


async def test_without_a_key_that_buys_nothing_is_asked(world: World) -> None:
    for key, status in (("", 401), ("fk_wrong", 401), (OPERATOR_KEY, 403)):
        assert (await world.post("/v1/verticals/storage/bucket.get", BODY, key)).status_code == status
    assert not world.side.asked


async def test_a_body_that_is_too_large_is_refused(world: World) -> None:
    answer = await world.post("/v1/verticals/storage/bucket.get", bytes((1 << 20) + 1))
    assert answer.status_code == 413


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([call.name for call in BUYERS_CALLS]),
    body=st.one_of(st.binary(), st.binary().map(lambda b: BODY + b)),
)
async def test_nonsense_is_never_a_fault_of_the_server(world: World, name: str, body: bytes) -> None:
    answer = await world.post(f"/v1/verticals/storage/{name}", body)
    # What happens to be a call goes on, to those of whom only one is here.
    if answer.status_code != HTTPStatus.OK:
        assert answer.json()["code"] in {"vertical.malformed", "bus.no_responders"}


async def test_days_that_no_database_takes_are_refused_at_the_door(world: World) -> None:
    far = msgspec.msgpack.encode({"account": "", "from_day": 2**40, "to_day": 2**40})
    answer = await world.post("/v1/verticals/storage/usage", far)
    assert (answer.status_code, answer.json()["code"]) == (400, "vertical.malformed")


async def test_the_calls_are_those_of_storage() -> None:
    assert set(VERTICAL.calls) == {call.name for call in BUYERS_CALLS}
    assert all("account" in call.__struct_fields__ for call in VERTICAL.calls.values())


async def test_what_operators_alone_may_ask_is_no_call_of_buyers(world: World) -> None:
    body = msgspec.msgpack.encode(Inspect(account="", by=Person(account=BUYER, key_id="another")))
    path = "verticals/storage/inspect"
    assert (await world.post(f"/v1/{path}", body)).status_code == HTTPStatus.NOT_FOUND
    assert (await world.post(f"/v1/operator/{path}", body)).status_code == HTTPStatus.FORBIDDEN
    assert (await world.post("/v1/operator/verticals/storage/bucket.due", body, OPERATOR_KEY)).status_code == (
        HTTPStatus.NOT_FOUND
    )
    asked: list[Inspect] = []

    async def inspect(call: Inspect) -> Inspection:
        asked.append(call)
        return Inspection(state="asked")

    answering = serve(world.network.bus, "vertical.storage.inspect", Inspect, inspect, queue="storage")
    async with answering, world.client(OPERATOR_KEY) as client:
        answer = await client.ask_vertical("storage", "inspect", body, operator=True)
    assert msgspec.msgpack.decode(answer, type=Inspection).state == "asked"
    (one,) = asked
    assert one.by is not None
    assert (one.account, one.by.account) == (OPERATOR, OPERATOR)
