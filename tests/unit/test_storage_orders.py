"""The book of orders: what is known of a limit after a kill, and what is handed in. And how messages are cut."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.errors import Conflict, InvalidInput, Unavailable
from fallow.domain.records import RECORD_BYTES_MAX, make_record
from fallow.ports.mishaps import steadily
from fallow.verticals.storage.core import wire
from fallow.verticals.storage.core.facts import StorageServed
from fallow.verticals.storage.core.serving import Frames
from fallow.verticals.storage.worker.book import FILE, PAIRS_MAX, Book
from fallow.verticals.storage.worker.threads import in_thread
from tests.storage_node import Node, Terms, order, sealed
from tests.streams_world import NET, NETWORK, NODE, node_of
from tests.unit.agent_fakes import FakeClock, settle

TERMS = Terms(1_000_000)
LATER = TERMS.now_ms + 7_200_000


def begin(book: Book, number: int) -> bytes:
    limit = TERMS.limit(number, "get")
    book.begin(limit, sealed(NETWORK, limit))
    return limit.serial


def test_a_kill_loses_no_serial_and_at_most_the_orders_of_a_second(tmp_path: Path) -> None:
    killed = Book(tmp_path)
    first, second = begin(killed, 1), begin(killed, 2)
    killed.note(first, order(TERMS.limit(1), 1000))
    killed.flush()
    killed.note(first, order(TERMS.limit(1), 2000))
    killed.note(second, order(TERMS.limit(2), 10))
    again = Book(tmp_path)  # the one before was never closed
    for number in (1, 2):
        with pytest.raises(Conflict):
            begin(again, number)
    assert [(pair.serial, pair.order) for pair in again.due()] == [(first, order(TERMS.limit(1), 1000))]


def test_only_what_is_over_and_was_ordered_is_handed_in(tmp_path: Path) -> None:
    book = Book(tmp_path)
    moving, nothing, over = (begin(book, number) for number in (1, 2, 3))
    for serial, number in ((moving, 1), (over, 3)):
        book.note(serial, order(TERMS.limit(number), 10))
    book.end(nothing)
    book.end(over)
    assert [pair.serial for pair in book.due()] == [over]
    book.handed_in(book.due(), TERMS.now_ms)
    assert (book.due(), book.waiting()) == ([], 0)
    book.note(moving, order(TERMS.limit(1), 20))
    book.end(moving)
    assert [pair.order for pair in book.due()] == [order(TERMS.limit(1), 20)]
    book.close()


def test_serials_are_forgotten_when_their_limits_have_expired_and_not_before(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.end(begin(book, 1))
    book.handed_in([], TERMS.now_ms)
    with pytest.raises(Conflict):
        begin(book, 1)
    unpaid = begin(book, 2)
    book.note(unpaid, order(TERMS.limit(2), 10))
    book.end(unpaid)
    book.handed_in([], LATER)
    begin(book, 1)
    assert book.waiting() == 1, "what is owed stays"


def test_a_record_holds_what_is_handed_in_at_once(tmp_path: Path) -> None:
    book = Book(tmp_path)
    for number in range(PAIRS_MAX + 5):
        limit = TERMS.limit(number, "repair_put", whose=b"w" * 128)
        book.begin(limit, sealed(NETWORK, limit))
        book.note(limit.serial, order(limit, 1 << 30))
        book.end(limit.serial)
    pairs = book.due()
    body = StorageServed(served=[[pair.limit, pair.order] for pair in pairs])
    record, _ = make_record(
        body, net=NET, node=node_of(NODE), boot=1, seq=1, at=TERMS.now_ms, new_salt=lambda: bytes(32)
    )
    assert len(pairs) == PAIRS_MAX
    assert len(record.encode()) <= RECORD_BYTES_MAX
    assert book.waiting() == PAIRS_MAX + 5


async def test_without_a_place_for_orders_nothing_is_served(tmp_path: Path) -> None:
    made = Node(tmp_path, FakeClock())
    made.ground.kept.mkdir()
    (made.ground.kept / FILE).write_bytes(b"this is no database" * 100)
    async with made.running() as client:
        assert "Orders cannot be kept" in made.missing["storage"]
        with pytest.raises(Unavailable):
            await client.put(made.terms.limit(1), b"abc")


async def test_where_orders_cannot_be_written_any_more_the_owner_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Node(tmp_path, FakeClock())
    async with made.running():
        assert isinstance(made.clock, FakeClock)
        assert made.worker._kept is not None

        def full(*_: object) -> None:
            raise Unavailable("storage.orders", "Orders cannot be kept: database or disk is full.")

        with monkeypatch.context() as patch:
            patch.setattr(made.worker._kept.book, "_write", full)
            await made.clock.advance(2)
            lent = await made.worker.lent()
            assert lent is not None
            assert "disk is full" in lent.trouble
        await made.clock.advance(2)
        lent = await made.worker.lent()
        assert lent is not None
        assert lent.trouble == ""


class Full:
    """A database on a disk that is full when a transaction ends."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.__enter__()

    def __exit__(self, *_: object) -> None:
        self._db.rollback()
        raise sqlite3.OperationalError("database or disk is full")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def test_what_a_full_disk_does_not_take_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Book(tmp_path)
    serial = begin(book, 1)
    book.note(serial, order(TERMS.limit(1), 1000))
    with monkeypatch.context() as patch:
        patch.setattr(book, "_db", Full(book._db))
        for attempt in (book.flush, lambda: book.end(serial)):
            with pytest.raises(Unavailable):
                attempt()
    assert book.waiting() == 0
    book.flush()
    assert [(pair.serial, pair.order) for pair in book.due()] == [(serial, order(TERMS.limit(1), 1000))]
    book.close()


async def test_a_disk_that_takes_no_orders_keeps_nobody_from_leaving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Node(tmp_path, FakeClock())
    async with made.running(), asyncio.TaskGroup() as group:
        assert made.worker._kept is not None
        reporting = group.create_task(steadily("test", partial(made.worker.report, made._say), made.clock))
        await settle()
        with monkeypatch.context() as patch:
            patch.setattr(made.worker._kept.book, "_db", Full(made.worker._kept.book._db))
            reporting.cancel()
            await settle()
            assert reporting.cancelled()


MESSAGES = st.sampled_from(
    [wire.Go(), wire.Pay(b"order"), wire.Sent(), wire.Done(b"claim", b"order"), wire.Data(1), wire.Data(70_000)]
)


CUTS = st.lists(st.sampled_from([1, 3, 5, 1000, 1 << 17]), max_size=12)


@given(st.lists(MESSAGES, max_size=6), CUTS)
def test_however_the_bytes_are_cut_the_same_is_said(said: list[wire.Message], cuts: list[int]) -> None:
    stream = b"".join(
        wire.frame(one) + (bytes([number]) * one.size if isinstance(one, wire.Data) else b"")
        for number, one in enumerate(said)
    )
    frames, heard, raw, at = Frames(), [], bytearray(), 0
    for size in itertools.cycle([*cuts, 1000]):
        if at >= len(stream):
            break
        for item in frames.feed(stream[at : at + size]):
            if isinstance(item, memoryview):
                raw += item
            else:
                heard.append(item)
        at += size
    assert heard == said
    assert bytes(raw) == b"".join(
        bytes([number]) * one.size for number, one in enumerate(said) if isinstance(one, wire.Data)
    )


@pytest.mark.parametrize("wrong", [b"\0\0\0\0", b"\0\0\x20\x01", b"\0\0\0\1\xc1", b"\0\0\0\2\x91\xa1"])
def test_what_is_no_message_is_refused(wrong: bytes) -> None:
    with pytest.raises(InvalidInput):
        Frames().feed(wrong)


async def test_work_on_the_disk_is_over_before_who_is_cancelled_goes_on() -> None:
    begun, go_on, order_of = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        go_on.wait(60)
        order_of.append("work")

    async def waits() -> None:
        try:
            await in_thread(work)
        finally:
            order_of.append("closed")

    async with asyncio.TaskGroup() as group:
        task = group.create_task(waits())
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
    assert order_of == ["work", "closed"]
