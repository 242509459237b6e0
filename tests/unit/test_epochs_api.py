"""The archive over HTTP, and the client and commands on it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from fallow.cli import main, profiles
from fallow.domain import calls
from fallow.domain.epochs.ballots import evidence_name
from fallow.domain.epochs.keeping import HELD, Holding, Pot, holding_rows
from fallow.domain.epochs.lines import INCENTIVE, USAGE
from fallow.domain.epochs.manifest import path_of
from fallow.domain.epochs.state import State, amount, write_state
from fallow.domain.errors import InvalidInput, NotAllowed, NotFound
from fallow.domain.facts import LeaseAccepted
from fallow.domain.identity import address_text
from fallow.ports.ingest_store import EpochEnd
from fallow.ports.rpc import serve
from fallow.sdk.epochs import HeldPay
from tests.closed_epochs import ADDRESSES, VALIDATORS, ClosedEpoch
from tests.epoch_files import NETWORK_KEY, EpochFiles, Node
from tests.unit.fake_network import OPERATOR_KEY, FakeNetwork, fake_network
from tests.unit.sdk_world import URL, connected
from tests.validators import NOTHING
from tools import verify_epoch


@pytest.fixture
async def network() -> AsyncIterator[FakeNetwork]:
    async with fake_network() as made:
        assert bytes(made.signer.verify_key) == NETWORK_KEY
        yield made


def epoch(number: int, leases: int = 2) -> EpochFiles:
    node = Node(number)
    return EpochFiles(number, [node.batch(LeaseAccepted(lease=bytes([n]) * 16)) for n in range(leases)])


async def get(network: FakeNetwork, path: str, **headers: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=network.app)  # type: ignore[arg-type]
    async with httpx2.AsyncClient(transport=transport, base_url=URL) as client:
        return await client.get(path, headers=headers)


async def test_closed_epochs_are_listed_the_latest_first(network: FakeNetwork) -> None:
    async with connected(network) as client:
        assert await client.epochs() == []
        for number in (9, 10, 8):
            epoch(number).put(network.archive)
        network.archive.put("epochs/11/batches", b"its closing is not over")
        assert [view.epoch for view in await client.epochs()] == [10, 9, 8]
        assert [view.epoch for view in await client.epochs(before=10, limit=1)] == [9]
        view = await client.epoch(9)
        assert (view.batches, view.records, [file.name for file in view.files]) == (
            2,
            2,
            ["batches", "records/lease.accepted"],
        )
        with pytest.raises(NotFound, match=r"epoch\.not_closed"):
            await client.epoch(11)


async def test_files_are_served_whole_and_from_a_byte_on(network: FakeNetwork) -> None:
    made = epoch(9)
    made.put(network.archive)
    whole = bytes(made.files["records/lease.accepted"])
    answer = await get(network, "/v1/epochs/9/files/records/lease.accepted")
    assert (answer.status_code, answer.content) == (200, whole)
    assert "immutable" in answer.headers["Cache-Control"]
    rest = await get(network, "/v1/epochs/9/files/records/lease.accepted", Range="bytes=7-")
    assert (rest.status_code, rest.content) == (206, whole[7:])
    assert rest.headers["Content-Range"] == f"bytes 7-{len(whole) - 1}/{len(whole)}"
    beyond = await get(network, "/v1/epochs/9/files/batches", Range="bytes=99999-")
    assert (beyond.status_code, beyond.json()["code"]) == (416, "archive.range")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("9/files/nothing", 404),
        ("9/files/records/nothing.here", 404),
        ("10/files/batches", 404),
        ("9/files/..%2f..%2fsecrets", 404),
        ("9/files/Batches", 400),
        ("-1", 400),
    ],
)
async def test_what_is_not_there_or_no_name_is_not_served(network: FakeNetwork, path: str, status: int) -> None:
    epoch(9).put(network.archive)
    network.archive.put("epochs/10/batches", b"its closing is not over")
    assert (await get(network, f"/v1/epochs/{path}")).status_code == status


async def test_a_stranger_fetches_and_verifies_an_epoch(network: FakeNetwork, tmp_path: Path) -> None:
    epoch(9).put(network.archive)
    async with connected(network, key="") as client:
        found = await client.fetch_epoch(9, tmp_path)
        assert (found.records, found.nodes, found.key) == (2, 1, NETWORK_KEY.hex())
        again = await client.fetch_epoch(9, tmp_path, key=NETWORK_KEY.hex())
        assert again == found
        with pytest.raises(NotAllowed, match=r"signing\.signature"):
            await client.fetch_epoch(9, tmp_path, key="ab" * 32)
        with pytest.raises(InvalidInput, match=r"sdk\.network_key"):
            await client.fetch_epoch(9, tmp_path, key="ab")


async def test_votes_and_evidence_come_along_as_far_as_they_are_there(network: FakeNetwork, tmp_path: Path) -> None:
    closed = ClosedEpoch(epoch=9, leaves=[], validators=ADDRESSES, **NOTHING)
    for name, data in closed.files.items():
        network.archive.put(path_of(9, name), data)
    async with connected(network, key="") as client:
        assert (await client.fetch_epoch(9, tmp_path)).votes == []
        closed.vote(VALIDATORS[:3])
        closed.files[evidence_name(ADDRESSES[3])] = b"two votes"
        for name, data in closed.files.items():
            network.archive.put(path_of(9, name), data)
        found = await client.fetch_epoch(9, tmp_path)
    names = [address_text(each) for each in ADDRESSES]
    assert (found.votes, found.evidence) == (names[:3], names[3:])
    assert (tmp_path / path_of(9, evidence_name(ADDRESSES[3]))).read_bytes() == b"two votes"
    words = [str(tmp_path), "9", "--key", NETWORK_KEY.hex(), "--validators", ",".join(names)]
    assert verify_epoch.main(words) == 0


async def test_an_archive_that_is_damaged_says_so(network: FakeNetwork) -> None:
    made = epoch(9)
    made.put(network.archive)
    network.archive.put(path_of(9, "manifest"), epoch(10).manifest.encode())
    answer = await get(network, "/v1/epochs/9")
    assert (answer.status_code, json.loads(answer.content)["code"]) == (503, "archive.unreadable")


async def test_a_damaged_epoch_is_named_in_the_list_and_hides_no_other(
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (6, 7, 8, 9):
        epoch(number).put(network.archive)
    network.archive.put(path_of(6, "statement"), epoch(7).sealed())
    network.archive.put(path_of(7, "statement"), b"no statement")
    network.archive.put(path_of(8, "manifest"), epoch(9).manifest.encode())
    async with connected(network) as client:
        views = await client.epochs()
    assert [(view.epoch, bool(view.damaged)) for view in views] == [(9, False), (8, True), (7, True), (6, True)]

    @contextmanager
    def connect(*_: Any, **__: Any) -> Iterator[Any]:
        yield SimpleNamespace(epochs=lambda **_: views)

    monkeypatch.setattr(profiles, "connect", connect)
    monkeypatch.setenv("COLUMNS", "300")
    assert main.run(["epoch", "ls"]) == 1
    printed = capsys.readouterr().out
    assert "DAMAGED" in printed
    assert (
        "Epoch 8: The archive of epoch 8 is damaged: This is not the manifest that epoch 8 was closed with." in printed
    )


async def test_the_operator_ends_an_epoch_and_nobody_else(network: FakeNetwork) -> None:
    asked: list[int | None] = []

    async def end(request: calls.epochs.EndNow) -> EpochEnd:
        asked.append(request.after)
        epoch(9).put(network.archive)
        return EpochEnd(9, 0, 1)

    async with serve(network.bus, calls.epochs.END_NOW, calls.epochs.EndNow, end, queue="q"):
        async with connected(network) as buyer:
            with pytest.raises(NotAllowed):
                await buyer.end_epoch()
        async with connected(network, key=OPERATOR_KEY) as operator:
            ended = await operator.end_epoch()
            assert (await operator.closed_epoch(ended.epoch)).epoch == 9
            await operator.end_epoch(after=8)
    assert asked == [None, 8]


async def test_what_is_held_of_an_accounts_pay_is_read_from_the_latest_closed_epoch(
    network: FakeNetwork, tmp_path: Path
) -> None:
    mine, other = b"\1" * 20, b"\2" * 20
    holdings = {
        ("", NETWORK_KEY, mine): Holding(3, {USAGE: Pot(900, 100)}),
        ("compute", bytes(32), mine): Holding(4, {USAGE: Pot(50, 0), INCENTIVE: Pot(7, 0)}),
        ("", NETWORK_KEY, other): Holding(3, {USAGE: Pot(10_000, 0)}),
    }
    state = write_state(State(9, 0, {}, {}, {}, {HELD: holding_rows(holdings)}))

    def put(number: int, more: dict[str, bytes], held: int) -> None:
        totals = {"held.usage": amount(held)}
        closed = ClosedEpoch(epoch=number, more=more, totals=totals)
        for name, data in closed.files.items():
            network.archive.put(path_of(number, name), data)

    async with connected(network, key="") as client:
        assert await client.held_pay(address_text(mine), tmp_path, NETWORK_KEY) is None
        put(9, {"state": state}, 10_850)
        held = await client.held_pay(address_text(mine), tmp_path, NETWORK_KEY)
        assert held == HeldPay(epoch=9, usage_microusd=850, incentive="7", nodes={bytes(32).hex(): 50})
        with pytest.raises(NotAllowed):
            await client.held_pay(address_text(mine), tmp_path / "other", b"\3" * 32)
        put(10, {}, 0)
        held = await client.held_pay(address_text(mine), tmp_path, NETWORK_KEY)
        assert held == HeldPay(epoch=10, usage_microusd=0, incentive="0")
