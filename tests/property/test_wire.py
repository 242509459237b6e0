# ruff: noqa: D102
"""The data plane's wire protocol: any split, any cut, any garbage."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotFound, TooMuch
from fallow.domain.wire.frames import PAYLOAD_BYTES_MAX, Kind, Reader, encode, encode_ack, encode_credit
from fallow.domain.wire.multiplex import (
    OPENING_BYTES_MAX,
    STREAMS_MAX,
    UNACKED_BYTES_MAX,
    UNACKED_FRAMES_MAX,
    WAITING_BYTES_MAX,
    WINDOW_BYTES,
    Broken,
    Ended,
    Mux,
    Opened,
    Received,
)

FRAMES = st.lists(
    st.tuples(st.sampled_from([Kind.OPEN, Kind.DATA, Kind.RESET]), st.integers(1, 2**32 - 1), st.binary(max_size=300)),
    max_size=8,
)


@given(FRAMES, st.data())
def test_frames_come_out_as_they_went_in_however_they_are_split(
    frames: list[tuple[Kind, int, bytes]], data: st.DataObject
) -> None:
    wire = b"".join(encode(*frame) for frame in frames)
    reader, out, at = Reader(), [], 0
    while at < len(wire):
        step = data.draw(st.integers(1, len(wire) - at))
        out += reader.feed(wire[at : at + step])
        at += step
    assert [tuple(frame) for frame in out] == frames


@given(st.binary(max_size=400))
def test_garbage_is_refused_or_waits_for_its_rest(garbage: bytes) -> None:
    mux = Mux(dialled=False)
    with suppress(InvalidInput):  # and no other error
        mux.feed(garbage)
    assert len(mux._streams) <= STREAMS_MAX


class TwoEnds(RuleBasedStateMachine):
    """Two sides over links that deliver pieces, break, and lose what was on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = (Mux(dialled=True), Mux(dialled=False))
        self.wires: tuple[bytearray, bytearray] = (bytearray(), bytearray())  # towards the other side
        self.sent: dict[tuple[int, int], bytearray] = {}
        self.got: dict[tuple[int, int], bytearray] = {}
        self.unread: dict[tuple[int, int], int] = {}
        self.alive: set[tuple[int, int]] = set()  # (side, stream) that side may still write to
        self.finished: set[tuple[int, int]] = set()
        self.ended: set[tuple[int, int]] = set()

    @rule(side=st.integers(0, 1))
    def open(self, side: int) -> None:
        try:
            stream = self.ends[side].open(b"for %d" % side)
        except TooMuch:
            assert sum(1 for s, n in self.sent if s == side and n % 2 == 1 - side) >= STREAMS_MAX
            return
        self.alive.add((side, stream))
        for one in (0, 1):
            self.sent[one, stream], self.got[one, stream], self.unread[one, stream] = bytearray(), bytearray(), 0

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), size=st.integers(0, 200_000))
    def send(self, data: st.DataObject, size: int) -> None:
        side, stream = data.draw(st.sampled_from(sorted(self.alive)))
        done = len(self.sent[side, stream])
        content = bytes((done + n) % 251 for n in range(min(size, 2000))) * (size // 2000 + 1)
        taken = self.ends[side].send(stream, content)
        assert taken <= min(len(content), PAYLOAD_BYTES_MAX)
        self.sent[side, stream] += content[:taken]

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        side, stream = data.draw(st.sampled_from(sorted(self.alive)))
        self.ends[side].end(stream)
        self.alive.discard((side, stream))
        self.finished.add((side, stream))
        with pytest.raises(Conflict):
            self.ends[side].send(stream, b"after the end")

    @rule(side=st.integers(0, 1), share=st.floats(0, 1))
    def carry(self, side: int, share: float) -> None:
        """Part of what one side has to say arrives, split anywhere."""
        self.wires[side].extend(self.ends[side].take(100_000))
        size = int(len(self.wires[side]) * share)
        piece = bytes(self.wires[side][:size])
        del self.wires[side][:size]
        self._arrive(1 - side, piece)

    @precondition(lambda self: any(self.unread.values()))
    @rule(data=st.data())
    def consume(self, data: st.DataObject) -> None:
        side, stream = data.draw(st.sampled_from(sorted(key for key, size in self.unread.items() if size)))
        self.ends[side].consumed(stream, self.unread[side, stream])
        self.unread[side, stream] = 0

    @rule()
    def cut(self) -> None:
        """The link breaks with all that was on its way; the next one goes on where both sides say they are."""
        for wire in self.wires:
            wire.clear()
        for mux, peer in (self.ends, self.ends[::-1]):
            mux.relink(peer.received)

    @invariant()
    def bounded(self) -> None:
        for mux in self.ends:
            assert mux._waiting_bytes <= WAITING_BYTES_MAX + UNACKED_BYTES_MAX + 20_000
            assert mux._waiting_bytes + mux._unacked_bytes <= UNACKED_BYTES_MAX + 200_000
        assert all(size <= WINDOW_BYTES for size in self.unread.values())

    def teardown(self) -> None:
        """Everything that was sent arrives, once and in order, and each stream ends where it was ended."""
        self.cut()
        for _ in range(10_000):
            pieces = [mux.take(100_000) for mux in self.ends]
            for side, piece in enumerate(pieces):
                self._arrive(1 - side, piece)
            if not any(pieces):
                break
        for (side, stream), content in self.sent.items():
            assert self.got[1 - side, stream] == content
        assert {(1 - side, stream) for side, stream in self.finished} == self.ended

    def _arrive(self, side: int, piece: bytes) -> None:
        for event in self.ends[side].feed(piece):
            if isinstance(event, Received):
                self.got[side, event.stream] += event.data
                self.unread[side, event.stream] += len(event.data)
            elif isinstance(event, Opened):
                assert event.opening == b"for %d" % (1 - side)
                self.alive.add((side, event.stream))
            elif isinstance(event, Ended):
                assert (side, event.stream) not in self.ended, "an end comes once"
                self.ended.add((side, event.stream))


TwoEnds.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestTwoEnds = TwoEnds.TestCase


def _pair() -> tuple[Mux, Mux]:
    return Mux(dialled=True), Mux(dialled=False)


def test_a_writer_gets_no_further_than_the_window_until_its_reader_reads() -> None:
    near, far = _pair()
    stream = near.open(b"")
    total = 0
    while sent := near.send(stream, bytes(PAYLOAD_BYTES_MAX)):
        total += sent
        far.feed(near.take(1 << 20))
        near.feed(far.take(1 << 20))
    assert total == WINDOW_BYTES
    far.consumed(stream, total)
    near.feed(far.take(1 << 20))
    assert near.send(stream, bytes(10)) == 10


def test_a_stalled_stream_holds_up_no_other() -> None:
    near, far = _pair()
    stalled, lively = near.open(b""), near.open(b"")

    def pump(stream: int) -> int:
        sent = near.send(stream, bytes(PAYLOAD_BYTES_MAX))
        far.feed(near.take(1 << 20))
        near.feed(far.take(1 << 20))
        return sent

    while pump(stalled):
        pass
    moved = 0
    while moved < 4 * UNACKED_BYTES_MAX:
        moved += (sent := pump(lively))
        assert sent
        far.consumed(lively, sent)


@pytest.mark.parametrize(
    ("first", "breach"),
    [
        ([], encode(Kind.DATA, 1, b"of a stream that is not there")),
        ([], encode(Kind.OPEN, 2)),
        ([], encode(Kind.OPEN, 3)),
        ([], encode(Kind.OPEN, 1, bytes(OPENING_BYTES_MAX + 1))),
        ([], encode_ack(1)),
        ([], b"".join(encode(Kind.OPEN, 1 + 2 * n) for n in range(STREAMS_MAX + 1))),
        ([encode(Kind.OPEN, 1)], encode(Kind.OPEN, 1)),
        ([encode(Kind.OPEN, 1)], encode_credit(1, 1)),
        ([encode(Kind.OPEN, 1), encode(Kind.END, 1)], encode(Kind.DATA, 1, b"x")),
        ([encode(Kind.OPEN, 1)], encode(Kind.DATA, 1, bytes(1 << 15)) * (WINDOW_BYTES // (1 << 15) + 1)),
        ([], b"\0\0\0\0\1\0\0"),
        ([], b"\x07\0\0\0\1\0\0"),
        ([], encode(Kind.END, 1, b"payload")),
    ],
)  # fmt: skip
def test_breaches_are_refused(first: list[bytes], breach: bytes) -> None:
    mux = Mux(dialled=False)
    for frame in first:
        mux.feed(frame)
    with pytest.raises(InvalidInput, match=r"broke the protocol|no frame|not sent"):
        mux.feed(breach)


def test_a_peer_who_acknowledges_nothing_is_cut_off() -> None:
    mux = Mux(dialled=False)
    for number in range(UNACKED_FRAMES_MAX + 1):
        mux.feed(encode(Kind.OPEN, 1 + 2 * number))
        mux.reset(1 + 2 * number, NotFound("test.none", "There is none."))
        mux.take(1 << 20)
    with pytest.raises(InvalidInput, match="acknowledges nothing"):
        mux.feed(encode(Kind.OPEN, 3 + 2 * UNACKED_FRAMES_MAX))


def test_a_reset_tells_its_error_and_what_was_on_its_way_is_passed_over() -> None:
    near, far = _pair()
    stream = near.open(b"")
    far.feed(near.take(1 << 20))
    far.reset(stream, NotFound("test.none", "There is none.", "Look elsewhere."))
    near.send(stream, b"too late")
    assert far.feed(near.take(1 << 20)) == []
    (event,) = near.feed(far.take(1 << 20))
    assert isinstance(event, Broken)
    told: FallowError = event.error
    assert (type(told), told.code, told.message, told.hint) == (
        NotFound, "test.none", "There is none.", "Look elsewhere.",
    )  # fmt: skip
    with pytest.raises(Conflict):
        near.send(stream, b"x")
