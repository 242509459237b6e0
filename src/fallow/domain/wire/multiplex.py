"""Many streams over one link that may break: order, credit and what to send again. No I/O.

Two bounds keep memory small on both sides. Per stream, a sender has credit for at most WINDOW_BYTES that the reader
has not consumed. Per session, at most UNACKED_BYTES_MAX that the other side has not acknowledged are kept, to be sent
again on a new link. Acknowledged is what arrived, not what was consumed: a reader who stalls one stream holds up no
other.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import KINDS, Conflict, FallowError, InvalidInput, TooMuch, Unavailable, kind_of
from fallow.domain.wire.frames import (
    PAYLOAD_BYTES_MAX,
    STREAM_MAX,
    Frame,
    Kind,
    Reader,
    encode,
    encode_ack,
    encode_credit,
)

WINDOW_BYTES: Final = 512 << 10
PEOPLE_STREAMS_MAX: Final = 64
SERVICE_STREAMS_MAX: Final = 256
"""Those that the workers of a node serve beside leases: each moves a piece, and a gateway opens many at once."""
STREAMS_MAX: Final = PEOPLE_STREAMS_MAX + SERVICE_STREAMS_MAX
"""Streams that one side may have opened at a time: with the window, what a peer can make this side hold is bounded."""
OPENING_BYTES_MAX: Final = 16 << 10
UNACKED_BYTES_MAX: Final = 4 << 20
UNACKED_FRAMES_MAX: Final = 8192
"""A peer who acknowledges nothing while it makes this side answer is cut off there."""
WAITING_BYTES_MAX: Final = 512 << 10
"""Data that waits for the link; more would only delay what comes after it."""
ACK_EVERY_BYTES: Final = 64 << 10
ACK_EVERY_FRAMES: Final = 64

_RESET_TEXT_MAX: Final = 2000


class Opened(NamedTuple):
    """The other side opened a stream."""

    stream: int
    opening: bytes


class Received(NamedTuple):
    """Bytes came in; `consumed` gives their credit back."""

    stream: int
    data: bytes


class Ended(NamedTuple):
    """The other side sends nothing further on the stream."""

    stream: int


class Broken(NamedTuple):
    """The other side gave the stream up."""

    stream: int
    error: FallowError


class Writable(NamedTuple):
    """There may be room again: on one stream, or (0) in the session."""

    stream: int


Event = Opened | Received | Ended | Broken | Writable


class _State:
    __slots__ = ("consumed", "credit", "ended", "peer_ended", "window")

    def __init__(self) -> None:
        self.credit = WINDOW_BYTES  # that we may send
        self.window = WINDOW_BYTES  # that the other side may send
        self.consumed = 0  # and not yet given back
        self.ended = False
        self.peer_ended = False


class Mux:
    """One side of a session. `dialled` says that this side made the connection: its streams have odd numbers."""

    def __init__(self, *, dialled: bool) -> None:
        self.received = 0
        """Counted frames that have arrived so far."""
        self._reader = Reader()
        self._streams: dict[int, _State] = {}
        self._next = 1 if dialled else 2
        self._peer_next = 2 if dialled else 1
        self._waiting: deque[bytes] = deque()
        self._unacked: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._unacked_bytes = 0
        self._acked = 0
        self._unsaid_frames = 0
        self._unsaid_bytes = 0

    # What this side does

    def open(self, opening: bytes) -> int:
        """Open a stream and return its number.

        Raises:
            TooMuch: the opening is too large, or STREAMS_MAX are open.
        """
        if len(opening) > OPENING_BYTES_MAX:
            raise TooMuch("wire.opening", f"A stream's opening has at most {OPENING_BYTES_MAX} bytes.")
        if self._count(self._next) >= STREAMS_MAX or self._next > STREAM_MAX:
            raise TooMuch("wire.streams", f"{STREAMS_MAX} streams are open in this session.", "Close some first.")
        stream = self._next
        self._next += 2
        self._streams[stream] = _State()
        self._put(encode(Kind.OPEN, stream, opening))
        return stream

    def send(self, stream: int, data: bytes | memoryview) -> int:
        """Send as much as there is room and credit for, and return how much that was.

        Raises:
            Conflict: the stream is over, or this side has ended it.
        """
        state = self._mine(stream)
        size = max(0, min(len(data), PAYLOAD_BYTES_MAX, state.credit, WAITING_BYTES_MAX - self._waiting_bytes,
                          UNACKED_BYTES_MAX - self._waiting_bytes - self._unacked_bytes))  # fmt: skip
        if size:
            state.credit -= size
            self._put(encode(Kind.DATA, stream, bytes(data[:size])))
        return size

    def end(self, stream: int) -> None:
        """Say that nothing further comes; Conflict as for `send`."""
        state = self._mine(stream)
        state.ended = True
        self._put(encode(Kind.END, stream))
        self._forget_if_over(stream)

    def reset(self, stream: int, error: FallowError) -> None:
        """Give a stream up, whoever opened it; nothing happens when it is over."""
        if self._streams.pop(stream, None) is not None:
            told = [kind_of(error).__name__, error.code, error.message[:_RESET_TEXT_MAX], error.hint[:_RESET_TEXT_MAX]]
            self._put(encode(Kind.RESET, stream, msgspec.msgpack.encode(told)))

    def consumed(self, stream: int, size: int) -> None:
        """Give back the credit for bytes that were used up."""
        state = self._streams.get(stream)
        if state is None or state.peer_ended:
            return
        state.consumed += size
        if state.consumed >= WINDOW_BYTES // 2:
            self._put(encode_credit(stream, state.consumed))
            state.window += state.consumed
            state.consumed = 0

    def is_open(self, stream: int) -> bool:
        """Whether either side may still say something on the stream."""
        return stream in self._streams

    # What goes over the link

    @property
    def has_output(self) -> bool:
        """Whether `take` would return something."""
        return bool(self._waiting) or self._ack_due

    def take(self, bytes_max: int) -> bytes:
        """Return the next frames for the link: at least one if there is one, else up to `bytes_max`."""
        pieces: list[bytes] = []
        size = 0
        if self._ack_due:
            pieces.append(encode_ack(self.received))
            self._unsaid_frames = self._unsaid_bytes = 0
        while self._waiting and (not size or size + len(self._waiting[0]) <= bytes_max):
            frame = self._waiting.popleft()
            size += len(frame)
            pieces.append(frame)
            self._unacked.append(frame)
        self._waiting_bytes -= size
        self._unacked_bytes += size
        return b"".join(pieces)

    def feed(self, data: bytes) -> list[Event]:
        """Take in what the link brought.

        Raises:
            InvalidInput: the other side broke the protocol (`wire.*`): the session is over.
        """
        events: list[Event] = []
        for frame in self._reader.feed(data):
            if frame.kind is Kind.ACK:
                self._on_ack(frame.number)
                events.append(Writable(0))
                continue
            self.received += 1
            self._unsaid_frames += 1
            self._unsaid_bytes += len(frame.payload)
            event = self._on_frame(frame)
            if event is not None:
                events.append(event)
        if len(self._waiting) + len(self._unacked) > UNACKED_FRAMES_MAX:
            raise _violation("it acknowledges nothing")
        return events

    def relink(self, peer_received: int) -> None:
        """Go on over a new link, where the other side says what it has received so far.

        Raises:
            InvalidInput: it says what cannot be (`wire.ack`).
        """
        self._reader = Reader()
        self._on_ack(peer_received)
        self._waiting.extendleft(reversed(self._unacked))
        self._waiting_bytes += self._unacked_bytes
        self._unacked.clear()
        self._unacked_bytes = 0
        self._unsaid_frames = self._unsaid_bytes = 0  # the greeting has said it

    # Inside

    def _on_frame(self, frame: Frame) -> Event | None:
        kind, stream, payload = frame
        if kind is Kind.OPEN:
            return self._on_open(stream, payload)
        state = self._streams.get(stream)
        if state is None:
            # What was on its way when this side gave the stream up.
            if stream >= (self._next if stream % 2 == self._next % 2 else self._peer_next):
                raise _violation("it speaks of a stream that was never opened")
            return None
        if kind is Kind.RESET:
            del self._streams[stream]
            return Broken(stream, _read_error(payload))
        if kind is Kind.CREDIT:
            state.credit += frame.number
            if state.credit > WINDOW_BYTES:
                raise _violation("it gives more credit than there is")
            return Writable(stream)
        if state.peer_ended:
            raise _violation("it goes on after the end of a stream")
        if kind is Kind.END:
            state.peer_ended = True
            self._forget_if_over(stream)
            return Ended(stream)
        state.window -= len(payload)
        if state.window < 0:
            raise _violation("it sends more than it has credit for")
        return Received(stream, payload)

    def _on_open(self, stream: int, opening: bytes) -> Opened:
        if stream != self._peer_next or len(opening) > OPENING_BYTES_MAX:
            raise _violation("it opens a stream out of turn, or with too long an opening")
        if self._count(stream) >= STREAMS_MAX:
            raise _violation(f"it opens more than {STREAMS_MAX} streams")
        self._peer_next += 2
        self._streams[stream] = _State()
        return Opened(stream, opening)

    def _on_ack(self, count: int) -> None:
        fresh = count - self._acked
        if not 0 <= fresh <= len(self._unacked):
            raise InvalidInput("wire.ack", "The other side acknowledges what was not sent.")
        for _ in range(fresh):
            self._unacked_bytes -= len(self._unacked.popleft())
        self._acked = count

    def _put(self, frame: bytes) -> None:
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)

    def _mine(self, stream: int) -> _State:
        state = self._streams.get(stream)
        if state is None or state.ended:
            raise Conflict("wire.ended", "The stream is over.")
        return state

    def _forget_if_over(self, stream: int) -> None:
        state = self._streams[stream]
        if state.ended and state.peer_ended:
            del self._streams[stream]

    def _count(self, stream: int) -> int:
        return sum(1 for other in self._streams if other % 2 == stream % 2)

    @property
    def _ack_due(self) -> bool:
        return self._unsaid_bytes >= ACK_EVERY_BYTES or self._unsaid_frames >= ACK_EVERY_FRAMES


def _violation(what: str) -> InvalidInput:
    return InvalidInput("wire.protocol", f"The other side broke the protocol: {what}.")


def _read_error(payload: bytes) -> FallowError:
    try:
        kind, code, message, hint = msgspec.msgpack.decode(payload, type=tuple[str, str, str, str])
    except UNREADABLE:
        return Unavailable("wire.reset", "The other side gave the stream up and did not say why.")
    return KINDS.get(kind, Unavailable)(code, message, hint)
