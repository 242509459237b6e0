"""A node moves pieces under limits and orders, whatever a client does, and is paid for what it moved and no more."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotAllowed, NotFound, TooMuch, Unavailable
from fallow.verticals.storage.core import wire
from fallow.verticals.storage.core.orders import LIMIT_MS, ORDER_BYTES, STEP_BYTES
from fallow.verticals.storage.core.proofs import verify
from fallow.verticals.storage.core.questions import Held, Page, Proof, Prove, Purge, Stock, TakeBack, Trash
from fallow.verticals.storage.worker.answers import REST_S
from fallow.verticals.storage.worker.clock import OFF_MS_MAX
from fallow.verticals.storage.worker.moving import GET_STALLS, STALL_S
from fallow.verticals.storage.worker.worker import HAND_IN_S, SWEEP_S
from tests.storage_node import CHUNK_BYTES, CLIENT, PIECE, STRANGER, Client, Node, claim_of, node, order, sealed
from tests.streams_world import NETWORK, OTHER, node_of
from tests.unit.agent_fakes import FakeClock, eventually, settle
from tests.unit.test_storage_overview import statement, tell

DATA = random.Random(3).randbytes(700_000)


async def test_a_receipt_says_where_the_node_does_not_wait_for_its_disk(tmp_path: Path) -> None:
    async with node(tmp_path, size="64MiB:cached") as (made, client):
        assert not (await client.put(made.terms.limit(1), DATA)).durable
        assert await client.get(made.terms.limit(2, "get"), 0, len(DATA)) == DATA
        assert made.errors == []


async def test_a_piece_goes_to_the_disk_and_comes_back(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        receipt = await client.put(made.terms.limit(1), DATA)
        assert (receipt.piece, receipt.length, receipt.hash) == (PIECE, len(DATA), blake3(DATA).digest())
        assert receipt.durable
        assert await client.get(made.terms.limit(2, "get"), 0, len(DATA)) == DATA
        assert await client.get(made.terms.limit(3, "repair_get"), 1000, 300_000) == DATA[1000:300_000]
        assert await client.get(made.terms.limit(4, "get"), 5, 5) == b""
        await client.put(made.terms.limit(5, piece=b"e" * 32), b"")
        assert await client.get(made.terms.limit(6, "get", piece=b"e" * 32), 0, 0) == b""
        assert made.errors == []


Attack = Callable[[Node, Client], Awaitable[object]]


async def put(made: Node, client: Client, /, data: bytes = DATA, **changes: Any) -> object:
    how = {name: changes.pop(name) for name in ("length", "claim", "signer", "step") if name in changes}
    return await client.put(made.terms.limit(1, **changes), data, **how)


async def forged_limit(made: Node, client: Client) -> object:
    talk = client.open(wire.Put(sealed(OTHER, made.terms.limit(1)), 3))
    return await talk.hear()


async def forged_order(made: Node, client: Client) -> object:
    limit = made.terms.limit(1)
    talk = client.open(wire.Put(sealed(NETWORK, limit), len(DATA)))
    await talk.hear()
    await talk.pay(limit, 1000, STRANGER)
    return await talk.hear()


async def order_of_another_limit(made: Node, client: Client) -> object:
    talk = client.open(wire.Put(sealed(NETWORK, made.terms.limit(1)), len(DATA)))
    await talk.hear()
    await talk.pay(made.terms.limit(9), 1000)
    return await talk.hear()


async def order_that_shrinks(made: Node, client: Client) -> object:
    limit = made.terms.limit(1)
    talk = client.open(wire.Put(sealed(NETWORK, limit), len(DATA)))
    await talk.hear()
    await talk.pay(limit, 1000)
    await talk.pay(limit, 999)
    return await talk.hear()


async def order_beyond_the_limit(made: Node, client: Client) -> object:
    limit = made.terms.limit(1, bytes_max=len(DATA))
    talk = client.open(wire.Put(sealed(NETWORK, limit), len(DATA)))
    await talk.hear()
    await talk.pay(limit, len(DATA) + 1)
    return await talk.hear()


async def unpaid_end(made: Node, client: Client) -> object:
    limit = made.terms.limit(1)
    talk = client.open(wire.Put(sealed(NETWORK, limit), 3))
    await talk.hear()
    await talk.send(b"abc")
    await talk.say(wire.Done(sealed(CLIENT, claim_of(b"abc")), order(limit, 2)))
    return await talk.hear()


async def out_of_turn(made: Node, client: Client) -> object:
    talk = client.open(wire.Put(sealed(NETWORK, made.terms.limit(1)), 3))
    await talk.hear()
    await talk.say(wire.Sent())
    return await talk.hear()


async def endless_message(made: Node, client: Client) -> object:
    talk = client.open(wire.Put(sealed(NETWORK, made.terms.limit(1)), 3))
    await talk.hear()
    await talk.stream.write(b"\xff\xff\xff\xff")
    return await talk.hear()


async def cut_in_the_middle(made: Node, client: Client) -> object:
    talk = client.open(wire.Put(sealed(NETWORK, made.terms.limit(1)), 3))
    await talk.hear()
    await talk.send(b"ab")
    talk.stream.end()
    return await talk.hear()


@pytest.mark.parametrize(
    ("attack", "error", "code"),
    [
        (lambda n, c: put(n, c, step=STEP_BYTES), NotAllowed, "storage.unpaid"),
        (lambda n, c: put(n, c, length=len(DATA) + 1), InvalidInput, "storage.piece_length"),
        (lambda n, c: put(n, c, length=len(DATA) - 1), InvalidInput, "storage.piece_length"),
        (lambda n, c: put(n, c, claim=claim_of(DATA[:-1] + b"?")), InvalidInput, "storage.piece_hash"),
        (lambda n, c: put(n, c, claim=claim_of(DATA[:-1])), InvalidInput, "storage.claim"),
        (lambda n, c: put(n, c, claim=claim_of(DATA, b"q" * 32)), InvalidInput, "storage.claim"),
        (lambda n, c: put(n, c, signer=STRANGER), NotAllowed, "signing.signature"),
        (lambda n, c: put(n, c, bytes_max=len(DATA) - 1), InvalidInput, "storage.order"),
        (lambda n, c: put(n, c, action="get"), NotAllowed, "storage.limit"),
        (lambda n, c: put(n, c, node=node_of(OTHER)), NotAllowed, "storage.limit"),
        (lambda n, c: put(n, c, net="lab-2"), NotAllowed, "storage.limit"),
        (lambda n, c: put(n, c, client=node_of(STRANGER)), NotAllowed, "storage.limit"),
        (lambda n, c: put(n, c, expires_ms=n.clock.now_ms()), NotAllowed, "storage.limit"),
        (lambda n, c: put(n, c, expires_ms=2**60), NotAllowed, "storage.limit"),
        (lambda n, c: put(n, c, length=1 << 29), TooMuch, "storage.full"),
        (lambda n, c: c.get(n.terms.limit(1, "get"), 0, 1), NotFound, "storage.no_piece"),
        (lambda _, c: c.open(b"\xc1").hear(), InvalidInput, "storage.message"),
        (lambda _, c: c.open(wire.Sent()).hear(), InvalidInput, "storage.message"),
        (forged_limit, NotAllowed, "signing.signature"),
        (forged_order, NotAllowed, "signing.signature"),
        (order_of_another_limit, NotAllowed, "storage.order"),
        (order_that_shrinks, Conflict, "storage.order"),
        (order_beyond_the_limit, InvalidInput, "storage.order"),
        (unpaid_end, NotAllowed, "storage.unpaid"),
        (out_of_turn, InvalidInput, "storage.message"),
        (endless_message, InvalidInput, "storage.message"),
        (cut_in_the_middle, InvalidInput, "storage.cut"),
    ],
)
async def test_what_a_client_may_not_do_leaves_nothing_on_the_disk(
    tmp_path: Path, attack: Attack, error: type[FallowError], code: str
) -> None:
    async with node(tmp_path) as (made, client):
        before = await stock(made)
        with pytest.raises(error) as caught:
            await attack(made, client)
        assert caught.value.code == code
        assert (await stock(made)).pieces == 0
        assert (await stock(made)).room_bytes == before.room_bytes
        assert (await client.put(made.terms.limit(100), DATA)).length == len(DATA), "others are served as before"


@pytest.mark.parametrize(
    ("off_ms", "says"), [(125 * 60_000, "2 h 5 min ahead of"), (-49 * 3_600_000, "2 d 1 h behind")]
)
async def test_a_node_whose_clock_is_wrong_says_so_to_its_owner_to_the_network_and_to_clients(
    tmp_path: Path, off_ms: int, says: str
) -> None:
    async with node(tmp_path) as (made, client):
        now_ms = made.clock.now_ms() - off_ms
        limit = made.terms.limit(1, made_ms=now_ms, expires_ms=now_ms + LIMIT_MS)
        with pytest.raises(NotAllowed):
            await client.put(limit, DATA)
        await made.worker.answer(tell(statement(at_ms=now_ms)))
        with pytest.raises(Unavailable) as caught:
            await client.put(limit, DATA)
        assert caught.value.code == "storage.clock"
        assert says in caught.value.message
        lent = await made.worker.lent()
        assert lent is not None
        assert lent.trouble.startswith(f"storage.clock: This machine's clock is {says} the network's")
        assert (await stock(made)).trouble == lent.trouble
        for at_ms in (now_ms + off_ms - OFF_MS_MAX, now_ms + off_ms + OFF_MS_MAX):
            await made.worker.answer(tell(statement(at_ms=at_ms)))
        assert (await stock(made)).trouble == ""
        with pytest.raises(NotAllowed):
            await client.put(limit, DATA)


async def test_reads_stay_within_the_range_the_limit_and_the_piece(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        await client.put(made.terms.limit(1), DATA)
        twins: list[tuple[Any, int, int, str]] = [
            (made.terms.limit(2, "put"), 0, 1, "storage.limit"),
            (made.terms.limit(3, "get", bytes_max=9), 0, 10, "storage.order"),
            (made.terms.limit(4, "get"), 0, len(DATA) + 1, "storage.range"),
            (made.terms.limit(5, "get"), 2, 1, "storage.range"),
            (made.terms.limit(6, "get", piece=b"x" * 32), 0, 1, "storage.no_piece"),
        ]
        for limit, start, stop, code in twins:
            with pytest.raises(FallowError) as caught:
                await client.get(limit, start, stop)
            assert caught.value.code == code


async def test_a_reader_who_does_not_pay_gets_one_step_and_waits(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        await client.put(made.terms.limit(1), DATA)
        limit = made.terms.limit(2, "get")
        talk = client.open(wire.Get(sealed(NETWORK, limit), 0, len(DATA)))
        came = await take(talk, STEP_BYTES)
        await talk.pay(limit, 1000)
        came += await take(talk, 1000)
        assert came == DATA[: STEP_BYTES + 1000]
        talk.stream.end()
        with pytest.raises(InvalidInput) as caught:
            await talk.next()  # had the node sent more, it would come first
        assert caught.value.code == "storage.cut"
        await hand_in(made)
        assert made.ordered()[limit.serial] == 1000


async def test_an_order_beyond_the_limit_is_handed_in_beside_the_last_good_one(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        await client.put(made.terms.limit(1), DATA)
        limit = msgspec.structs.replace(made.terms.limit(2, "get"), bytes_max=600_000)
        talk = client.open(wire.Get(sealed(NETWORK, limit), 0, 600_000))
        await take(talk, STEP_BYTES)
        await talk.pay(limit, 1000)
        await take(talk, 1000)
        await talk.pay(limit, 600_001)
        with pytest.raises(InvalidInput) as caught:
            await take(talk, 600_000)
        assert caught.value.code == "storage.order"
        await hand_in(made)
        served = [pair for body in made.said for pair in body.served]
        assert served[1:] == [[sealed(NETWORK, limit), order(limit, size)] for size in (1000, 600_001)]


async def take(talk: Any, size: int) -> bytes:
    came = b""
    while len(came) < size:
        item = await talk.next()
        came += item if isinstance(item, memoryview) else b""
    return came


async def test_a_limit_is_used_once_also_over_a_restart(tmp_path: Path) -> None:
    made = Node(tmp_path, FakeClock())
    limit, read = made.terms.limit(1), made.terms.limit(2, "get")
    async with made.running() as client:
        await client.put(limit, DATA)
        for again in (limit, made.terms.limit(1, piece=b"q" * 32)):
            with pytest.raises(Conflict) as caught:
                await client.put(again, DATA)
            assert caught.value.code == "storage.serial_used"
        await client.get(read, 0, 10)
    async with made.running() as client:
        for attempt in (client.get(read, 0, 10), client.put(limit, DATA)):
            with pytest.raises(Conflict) as caught:
                await attempt
            assert caught.value.code == "storage.serial_used"
        assert await client.get(made.terms.limit(3, "get"), 0, len(DATA)) == DATA


async def test_each_limit_is_handed_in_once_with_its_largest_order(tmp_path: Path) -> None:
    made = Node(tmp_path, FakeClock())
    async with made.running() as client:
        await client.put(made.terms.limit(1), DATA)
        await client.get(made.terms.limit(2, "get"), 0, len(DATA))
        assert made.said == []
        await hand_in(made)
        assert made.ordered() == {made.terms.limit(n).serial: len(DATA) for n in (1, 2)}
        assert len(made.said) == 1
        for number in range(3, 26):
            await client.get(made.terms.limit(number, "get"), 0, 10)
        await handed_in(made, 2)
        assert len(made.said[1].served) == 20, "as soon as a record is full"
    async with made.running():
        await hand_in(made)
    assert sum(len(body.served) for body in made.said) == 25
    assert len(made.ordered()) == 25


async def hand_in(made: Node) -> None:
    """Let time go by until all was handed in that waits."""
    await handed_in(made, len(made.said) + 1)


async def handed_in(made: Node, records: int) -> None:
    clock = made.clock
    assert isinstance(clock, FakeClock)
    for _ in range(int(HAND_IN_S) + 60):
        if len(made.said) >= records:
            return
        await clock.advance(1)
    raise AssertionError("nothing was handed in")


async def test_what_stands_still_is_given_up_and_paid_as_far_as_it_came(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        limit = made.terms.limit(1)
        talk = client.open(wire.Put(sealed(NETWORK, limit), len(DATA)))
        await talk.hear()
        await talk.send(DATA[:CHUNK_BYTES])
        await talk.pay(limit, CHUNK_BYTES)
        assert isinstance(made.clock, FakeClock)
        for _ in range(130):
            await made.clock.advance(1)
        with pytest.raises(Unavailable) as caught:
            await talk.hear()
        assert caught.value.code == "storage.stalled"
        await handed_in(made, 1)
        assert made.ordered() == {limit.serial: CHUNK_BYTES}
        assert (await stock(made)).pieces == 0


async def test_who_brings_a_piece_over_a_slow_line_is_not_given_up(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        assert isinstance(made.clock, FakeClock)
        limit, at = made.terms.limit(1), 0
        talk = client.open(wire.Put(sealed(NETWORK, limit), len(DATA)))
        await talk.hear()
        while part := DATA[at : at + 5000]:
            at += len(part)
            await talk.pay(limit, at)
            await talk.send(part)
            await made.clock.advance(1)
        await talk.say(wire.Done(sealed(CLIENT, claim_of(DATA)), order(limit, len(DATA))))
        assert isinstance(await talk.hear(), wire.Stored)
        assert (await stock(made)).pieces == 1


async def test_who_reads_a_piece_over_a_slow_line_is_not_given_up_and_who_reads_nothing_is(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        assert isinstance(made.clock, FakeClock)
        await client.put(made.terms.limit(1), DATA)
        limit, came = made.terms.limit(2, "get"), b""
        talk = client.open(wire.Get(sealed(NETWORK, limit), 0, len(DATA)))
        while len(came) < len(DATA):
            came += await take(talk, min(ORDER_BYTES, len(DATA) - len(came)))
            await talk.pay(limit, len(came))
            for _ in range(ORDER_BYTES // 1200):
                await made.clock.advance(1)
        assert came == DATA
        assert not made.errors
        still = client.open(wire.Get(sealed(NETWORK, made.terms.limit(3, "get")), 0, len(DATA)))
        await take(still, ORDER_BYTES)
        for _ in range(int(STALL_S) * (GET_STALLS + 1)):
            await made.clock.advance(1)
        assert [error.code for error in made.errors] == ["storage.stalled"]


async def test_who_dribbles_holds_no_room_for_long(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        assert isinstance(made.clock, FakeClock)
        before = await stock(made)
        limit = made.terms.limit(1)
        talk = client.open(wire.Put(sealed(NETWORK, limit), 32 << 20))
        await talk.hear()
        assert (await stock(made)).room_bytes <= before.room_bytes - (32 << 20)
        for _ in range(119):
            await talk.send(b"x" * 100)
            await made.clock.advance(1)
        await made.clock.advance(2)
        await settle()
        assert [error.code for error in made.errors] == ["storage.stalled"]
        assert (await stock(made)).room_bytes == before.room_bytes


async def test_a_client_who_gives_up_leaves_nothing_behind(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        before = await stock(made)
        limit = made.terms.limit(1)
        talk = client.open(wire.Put(sealed(NETWORK, limit), len(DATA)))
        await talk.hear()
        await talk.send(DATA[:CHUNK_BYTES])
        talk.stream.reset(Unavailable("test.gone", "It has changed its mind."))
        await eventually(lambda: bool(made.errors))
        await settle()
        assert (await stock(made)).room_bytes == before.room_bytes
        await client.put(made.terms.limit(2), DATA)


async def test_the_owner_comes_first(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        await client.put(made.terms.limit(1), DATA)
        made.closed = ["owner.present"]
        with pytest.raises(Unavailable) as caught:
            await client.put(made.terms.limit(2, piece=b"q" * 32), DATA)
        assert caught.value.code == "owner.present"
        assert await client.get(made.terms.limit(3, "get"), 0, 10) == DATA[:10]
        assert (await stock(made)).trouble == "owner.present"
        made.closed = ["owner.present", "owner.paused"]
        with pytest.raises(Unavailable) as caught:
            await client.get(made.terms.limit(4, "get"), 0, 10)
        assert caught.value.code == "owner.paused"
        with pytest.raises(Unavailable):
            await made.worker.answer(msgspec.msgpack.encode(Prove(PIECE, 0)))
        assert await ask(made, Held([PIECE])) == [PIECE]


async def test_a_pause_ends_what_moves_at_its_next_step(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        await client.put(made.terms.limit(1), DATA)
        limit = made.terms.limit(2, "get")
        talk = client.open(wire.Get(sealed(NETWORK, limit), 0, len(DATA)))
        await take(talk, STEP_BYTES)
        made.closed = ["owner.paused"]
        await talk.pay(limit, len(DATA))
        with pytest.raises(Unavailable) as caught:
            await take(talk, len(DATA))
        assert caught.value.code == "owner.paused"


async def test_it_answers_the_network(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        pieces = [bytes([n]) * 32 for n in range(1, 5)]
        for number, piece in enumerate(pieces, 1):
            await client.put(made.terms.limit(number, piece=piece), DATA[: 5000 * number])
        later = made.clock.now_ms() + 1
        assert await ask(made, Held([*pieces, PIECE])) == pieces
        assert await ask(made, Page(b"", later)) == pieces
        assert await ask(made, Page(b"", made.clock.now_ms())) == []
        assert await ask(made, Trash(pieces[:2])) is None
        assert await ask(made, Held(pieces)) == pieces[2:]
        assert await ask(made, Page(pieces[2], later)) == pieces[3:]
        assert (await stock(made)).trash_bytes == 15_000
        assert await ask(made, TakeBack([pieces[0], PIECE])) == [pieces[0]]
        assert await ask(made, Purge([pieces[3]])) is None
        assert await ask(made, Held(pieces)) == [pieces[0], pieces[2]]
        with pytest.raises(InvalidInput):
            await made.worker.answer(b"\xc1")


async def test_it_proves_chunks_against_the_hash_that_the_client_signed(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        await client.put(made.terms.limit(1), DATA)
        for chunk in (0, 17, 683):
            answer = await made.worker.answer(msgspec.msgpack.encode(Prove(PIECE, chunk)))
            proof = msgspec.msgpack.decode(answer, type=Proof)
            assert proof.claim == sealed(CLIENT, claim_of(DATA))
            assert verify(blake3(DATA).digest(), len(DATA), chunk, proof)
            assert not verify(blake3(DATA).digest(), len(DATA), (chunk + 1) % 684, proof)
        for wrong, error in ((Prove(PIECE, 684), InvalidInput), (Prove(b"q" * 32, 0), NotFound)):
            with pytest.raises(error):
                await made.worker.answer(msgspec.msgpack.encode(wrong))


async def test_a_proof_lets_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with node(tmp_path) as (made, client):
        await client.put(made.terms.limit(1), DATA)
        rests: list[float] = []
        monkeypatch.setattr(time, "sleep", rests.append)
        await ask(made, Prove(PIECE, 5))
        assert len(rests) > 2 * 16
        assert set(rests) == {REST_S}


async def test_pieces_that_are_to_be_overwritten_hold_up_nothing_else_however_often_that_is_asked(
    tmp_path: Path,
) -> None:
    async with node(tmp_path) as (made, client):
        await client.put(made.terms.limit(1), DATA)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        async with asyncio.TaskGroup() as group:
            with made.worker._opened().store._sweeping:  # as while a log file is moved
                group.create_task(ask(made, Purge([PIECE])))
                await settle()
                for _ in range(3):
                    with pytest.raises(Unavailable) as busy:
                        await ask(made, Purge([PIECE]))
                    assert busy.value.code == "storage.purging"
                telling = group.create_task(stock(made))
                done, _ = await asyncio.wait({telling}, timeout=10)
                assert done
                assert telling.result().pieces == 1
        assert await ask(made, Purge([PIECE])) is None
        assert (await stock(made)).pieces == 0


async def ask(made: Node, question: Any) -> Any:
    return msgspec.msgpack.decode(await made.worker.answer(msgspec.msgpack.encode(question)))


async def stock(made: Node) -> Stock:
    return msgspec.msgpack.decode(await made.worker.tell(), type=Stock)


async def test_its_owner_sees_what_is_stored_and_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with node(tmp_path) as (made, client):
        await client.put(made.terms.limit(1), DATA)
        lent = await made.worker.lent()
        assert lent is not None
        assert "of 67.11 MB" in lent.says
        assert "by 1 pieces" in lent.says
        assert lent.trouble == ""

        def broken(*_: object) -> int:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "pwrite", broken)
        with pytest.raises(Unavailable):
            await client.put(made.terms.limit(2, piece=b"q" * 32), DATA)
        lent = await made.worker.lent()
        assert lent is not None
        assert "Input/output error" in lent.trouble
        assert (await stock(made)).trouble.startswith("storage.disk_failing")
        assert await client.get(made.terms.limit(3, "get"), 0, 10) == DATA[:10]


async def test_its_owner_hears_of_a_disk_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with node(tmp_path) as (made, _):

        def broken(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "statvfs", broken)
        lent = await made.worker.lent()
        assert lent is not None
        assert lent.trouble.startswith("storage.disk_failing")
        overview = await made.worker.overview()
        assert overview is not None
        assert dict(overview.facts)["trouble"] == lent.trouble
        with pytest.raises(Unavailable):
            await made.worker.tell()


async def test_a_full_disk_is_told_before_anything_is_asked_of_it(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        part = bytes(4 << 20)
        for number in range(1, 20):
            try:
                await client.put(made.terms.limit(number, piece=bytes([number]) * 32), part)
            except TooMuch:
                break
        told = await stock(made)
        assert told.trouble.startswith("storage.full")
        assert told.used_bytes <= told.limit_bytes


async def test_what_is_used_is_what_du_says_with_all_that_lies_there(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        assert (await stock(made)).used_bytes == du(made.folder), "before the first piece, too"
        await client.put(made.terms.limit(1), DATA)
        before = await stock(made)
        (made.folder / "mine").mkdir()
        (made.folder / "mine" / "notes.txt").write_bytes(bytes(5 << 20))
        (made.folder / "mine" / "elsewhere").symlink_to("/bin/sh")
        assert isinstance(made.clock, FakeClock)
        await made.clock.advance(SWEEP_S + 1)
        told = await stock(made)
        assert told.used_bytes == du(made.folder)
        taken = before.room_bytes - told.room_bytes
        assert 5 << 20 <= taken <= (5 << 20) + 16384, "what the owner puts there counts by the next sweep"


def du(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in (folder, *folder.rglob("*")))


async def test_without_a_disk_nothing_is_served_and_why_is_said(tmp_path: Path) -> None:
    made = Node(tmp_path, FakeClock())
    made.ground = made.ground._replace(lends="")
    async with made.running() as client:
        assert "No disk is lent" in made.missing["storage"]
        with pytest.raises(Unavailable) as caught:
            await client.put(made.terms.limit(1), DATA)
        assert caught.value.code == "storage.not_lent"
        assert await made.worker.tell() == b""
        assert await made.worker.lent() is None
    assert (await made.worker.probe()).attributes == {}
