"""Votes over HTTP: whose are taken, what they amount to, and what is kept of who signs two roots."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import msgspec
import pytest
from coincurve import PrivateKey

from fallow.adapters.archive import StoreArchive, memory_archive
from fallow.adapters.memory.blobs import MemoryBlobs
from fallow.adapters.memory.bus import MemoryHub
from fallow.domain.epochs.ballots import evidence_name, read_evidence
from fallow.domain.epochs.quorum import Domain, Vote, equivocator, read_validators
from fallow.domain.errors import InvalidInput
from fallow.domain.views.network import NetworkView
from fallow.domain.views.votes import VotesView
from fallow.http.app import create_app
from fallow.http.gateway import Gateway
from fallow.ports.archive import whole
from tests.closed_epochs import ADDRESSES, VALIDATORS, ClosedEpoch
from tests.epoch_files import NET, NETWORK_KEY
from tests.unit.fake_network import HandClock
from tests.validators import NOTHING

NAMES = [f"0x{each.hex()}" for each in ADDRESSES]


@pytest.fixture
def closed() -> ClosedEpoch:
    return ClosedEpoch(epoch=7, leaves=[], validators=ADDRESSES, **NOTHING)


@pytest.fixture
def archive(closed: ClosedEpoch) -> StoreArchive:
    made = memory_archive()
    for epoch in (closed, ClosedEpoch(epoch=8, leaves=[], **NOTHING)):
        for name, data in epoch.files.items():
            made.put(f"epochs/{epoch.epoch}/{name}", data)
    return made


@pytest.fixture
async def http(archive: StoreArchive) -> AsyncIterator[httpx2.AsyncClient]:
    view = NetworkView(net=NET, public_key=NETWORK_KEY.hex(), bus_url="ws://x", preset="lab", version="1")
    gateway = Gateway(
        bus=MemoryHub().connect(), blobs=MemoryBlobs(), network=view, clock=HandClock(), verticals={}, archive=archive
    )
    transport = httpx2.ASGITransport(app=create_app(gateway), raise_app_exceptions=False)  # type: ignore[arg-type]
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


async def cast(http: httpx2.AsyncClient, data: bytes, epoch: int = 7) -> httpx2.Response:
    return await http.post(f"/v1/epochs/{epoch}/votes", content=data, headers={"Content-Type": "application/cbor"})


async def shown(http: httpx2.AsyncClient, epoch: int = 7) -> VotesView:
    return msgspec.json.decode((await http.get(f"/v1/epochs/{epoch}/votes")).content, type=VotesView)


async def test_three_of_four_decide(http: httpx2.AsyncClient, closed: ClosedEpoch) -> None:
    for number, key in enumerate(VALIDATORS[:3]):
        assert not (await shown(http)).decided
        answer = await cast(http, Vote.cast(key, closed.domain, closed.root).encode())
        assert answer.status_code == 201
        assert answer.json()["signed"] == NAMES[: number + 1]
    view = await shown(http)
    assert (view.decided, view.quorum, view.validators, view.signed) == (True, 3, NAMES, NAMES[:3])
    stored = await http.get(f"/v1/epochs/7/files/votes/{NAMES[0]}")
    assert Vote.decode(stored.content).signer == ADDRESSES[0]


async def test_the_same_again_changes_nothing(http: httpx2.AsyncClient, closed: ClosedEpoch) -> None:
    vote = Vote.cast(VALIDATORS[0], closed.domain, closed.root).encode()
    assert [(await cast(http, vote)).status_code for _ in range(2)] == [201, 201]
    assert (await shown(http)).signed == NAMES[:1]


async def test_a_wrong_root_is_kept_and_told_in_words(http: httpx2.AsyncClient, closed: ClosedEpoch) -> None:
    wrong = closed.root._replace(token_total=5)
    assert (await cast(http, Vote.cast(VALIDATORS[0], closed.domain, wrong).encode())).status_code == 201
    view = await shown(http)
    assert view.signed == []
    assert [(each.validator, each.differences) for each in view.wrong] == [
        (NAMES[0], ["token_total is 5 there, and 0 here"])
    ]


async def test_who_signs_two_roots_counts_for_neither_and_the_evidence_is_kept(
    http: httpx2.AsyncClient, closed: ClosedEpoch, archive: StoreArchive
) -> None:
    for key in VALIDATORS[:3]:
        await cast(http, Vote.cast(key, closed.domain, closed.root).encode())
    second = Vote.cast(VALIDATORS[0], closed.domain, closed.root._replace(token_total=5))
    answer = await cast(http, second.encode())
    assert (answer.status_code, answer.json()["code"]) == (409, "vote.twice")
    view = await shown(http)
    assert (view.decided, view.signed, view.equivocated) == (False, NAMES[1:3], NAMES[:1])
    kept = read_evidence(whole(archive, f"epochs/7/{evidence_name(ADDRESSES[0])}", 4096))
    assert equivocator(*kept) == ADDRESSES[0]
    await cast(http, Vote.cast(VALIDATORS[3], closed.domain, closed.root).encode())
    assert (await shown(http)).decided, "those who are left are enough"


@pytest.mark.parametrize(
    ("case", "status", "code"),
    [
        ("stranger", 403, "vote.not_listed"),
        ("elsewhere", 400, "vote.elsewhere"),
        ("revision", 400, "vote.elsewhere"),
        ("broken", 400, "encoding.malformed"),
        ("long", 413, "vote.too_large"),
    ],
)
async def test_what_is_no_vote_on_this_is_refused(
    http: httpx2.AsyncClient, closed: ClosedEpoch, case: str, status: int, code: str
) -> None:
    right = Vote.cast(VALIDATORS[0], closed.domain, closed.root)
    data = {
        "stranger": Vote.cast(PrivateKey(b"\x77" * 32), closed.domain, closed.root).encode(),
        "elsewhere": Vote.cast(VALIDATORS[0], Domain.without_chain("other"), closed.root).encode(),
        "revision": Vote.cast(VALIDATORS[0], closed.domain, closed.root._replace(revision=1)).encode(),
        "broken": right.encode()[:-1],
        "long": bytes(5000),
    }[case]
    answer = await cast(http, data)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await shown(http)).signed == []


async def test_an_epoch_that_nobody_validates_or_that_is_not_closed(http: httpx2.AsyncClient) -> None:
    view = await shown(http, 8)
    assert (view.decided, view.quorum, view.validators) == (False, 0, [])
    vote = Vote.cast(VALIDATORS[0], Domain.without_chain(NET), ClosedEpoch().root._replace(epoch=8)).encode()
    assert (await cast(http, vote, 8)).json()["code"] == "vote.not_listed"
    assert (await http.get("/v1/epochs/9/votes")).json()["code"] == "epoch.not_closed"


def test_validators_are_read_in_order_and_each_once() -> None:
    assert read_validators(f" {NAMES[1].upper().replace('0X', '0x')}, {NAMES[0]},") == ADDRESSES[:2]
    assert read_validators("") == []
    for wrong in (f"{NAMES[0]},{NAMES[0]}", "0x12", ",".join(f"0x{number:040x}" for number in range(32))):
        with pytest.raises(InvalidInput):
            read_validators(wrong)
