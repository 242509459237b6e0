"""Segments from their nodes: those that hold the bytes first, others where one is slow, away, or altered something."""

from __future__ import annotations

import asyncio
import logging
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import takewhile
from typing import Final, NamedTuple

from fallow.domain.errors import FallowError, Unavailable
from fallow.ports.mishaps import MISHAPS, internal
from fallow.verticals.storage.client.pieces import Mover, get_piece
from fallow.verticals.storage.client.sending import code_of
from fallow.verticals.storage.client.waiting import Change, ticking
from fallow.verticals.storage.coding.stripes import Opener
from fallow.verticals.storage.core.calls.segments import Place, SegmentRead
from fallow.verticals.storage.core.layout import BLOCK_BYTES, SHARE_BYTES, Layout, blocks_of

AHEAD_BYTES: Final = 8 << 20
"""Of sealed bytes that are had before they are wanted; a stripe at least."""
AHEAD_MAX: Final = 16
"""Stripes."""
AHEAD_ALL_BYTES: Final = 1 << 30
"""Of all that are read in a process, shared evenly: whoever reads slowly holds what he does not take."""
AT_ONCE_BYTES: Final = 1 << 20
"""Of sealed bytes that are opened at a time."""
TICK_S: Final = 0.05
SLOW_MS: Final = 300
LATE_MS: Final = 150
TIMES: Final = 3
"""A node is slow that sends nothing for `SLOW_MS`, or takes that many times as long as others, and `LATE_MS`."""
TRIES: Final = 2
"""Times that a node is asked for its piece."""
NO_PIECE: Final = "storage.no_piece"
SAID_MAX: Final = 10_000
"""Pieces of which a process remembers that it has told the network."""
FRESH_MAX: Final = 6
"""Times that places are asked for anew for one stripe; nodes and places get further tries once something came."""

_log = logging.getLogger(__name__)


class Crew:
    """Runs what is read ahead, beside its readers.

    `altered` counts shares that were not what was stored, by the node that sent them; `readings` those under way.
    """

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.altered: Counter[bytes] = Counter()
        self.readings = 0
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: set[tuple[bytes, bytes]] = set()

    def says_first(self, segment: bytes, node: bytes) -> bool:
        """Take note that a node did not give its piece of a segment; whether nobody in this process has said so yet."""
        if len(self._said) >= SAID_MAX:
            self._said.clear()
        first = (segment, node) not in self._said
        self._said.add((segment, node))
        return first

    def begin(self, work: Callable[[], Awaitable[None]], failed: Callable[[FallowError], None]) -> asyncio.Task[None]:
        """Run something; `failed` is told of its error."""

        async def run() -> None:
            try:
                await work()
            except FallowError as error:
                failed(error)
            except Exception as error:  # noqa: BLE001 - a bug in one read must not end the others
                MISHAPS.note("storage.reading", error)
                failed(internal())

        task = self._group.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def close(self) -> None:
        """End all of it."""
        for task in self._tasks:
            task.cancel()


class _Fetch:
    """A piece on its way, from stripe `first` up to `stop`."""

    def __init__(self, place: Place, first: int, stop: int, now_ms: int) -> None:
        self.place = place
        self.next = first
        self.stop = stop
        self.begun_ms = self.moved_ms = now_ms
        self.waits = True
        """For its node, and not for its reader."""
        self.replaced = False
        self.over = False
        self.task: asyncio.Task[None] | None = None

    def brings(self, stripe: int) -> bool:
        """Whether it will."""
        return not self.over and self.next <= stripe < self.stop


class Wanted(NamedTuple):
    """Bytes `start` up to `stop` of a segment's payload, whose key is `key`.

    `fresh` asks for places anew; `say` tells the network that a node does not give what was stored.
    """

    segment: SegmentRead
    key: bytes
    start: int
    stop: int
    fresh: Callable[[], Awaitable[list[Place]]]
    say: Callable[[bytes], Awaitable[None]]


class SegmentReading:
    """One segment under way; `close` it."""

    def __init__(self, mover: Mover, crew: Crew, wanted: Wanted) -> None:
        segment = wanted.segment
        code = code_of(segment.needed, segment.pieces)
        self.most_ahead = 0
        """Most shares that were held at a time."""
        self._mover = mover
        self._crew = crew
        self._wanted = wanted
        self._needed = segment.needed
        self._layout = Layout(segment.payload, segment.needed)
        self._opener = Opener(code, wanted.key, self._layout)
        self._blocks = blocks_of(wanted.start, wanted.stop)
        per = segment.needed
        self._first, self._stop = self._blocks.start // per, -(-self._blocks.stop // per)
        self._at = self._first
        self._at_once = max(1, AT_ONCE_BYTES // (per * SHARE_BYTES))
        self._shares: dict[int, dict[int, memoryview]] = {stripe: {} for stripe in range(self._first, self._stop)}
        self._came_ms: dict[int, int] = {}
        self._places = {place.number: place for place in segment.places}
        self._fetches: list[_Fetch] = []
        self._tried: Counter[int] = Counter()
        self._bad: set[int] = set()
        self._distrust = 0
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed = 0
        self._error: FallowError | None = None
        self._arrived = Change()
        self._taken = Change()
        self._tick = crew.begin(lambda: ticking(mover.clock, TICK_S, self._arrived), self._fail)
        self._is_open = True
        crew.readings += 1

    def begin(self) -> None:
        """Ask for all that is needed if nothing goes wrong."""
        spans: dict[int, list[int]] = {}
        for stripe in range(self._first, self._stop):
            for piece in self._opener.pieces(stripe, self._of(stripe)):
                spans.setdefault(piece, []).append(stripe)
        for piece, stripes in spans.items():
            if piece in self._places:
                self._fetch(piece, stripes[0], stripes[-1] + 1)

    @property
    def is_near_end(self) -> bool:
        """Whether what comes next may be begun."""
        return self._at + self._ahead >= self._stop

    async def chunks(self) -> AsyncIterator[memoryview]:
        """Yield the wanted bytes, in their order.

        Raises:
            FallowError: too few nodes give what was stored.
        """
        stripe = self._first
        while stripe < self._stop:
            for payload in await self._open_ready(stripe) or [await self._open(stripe)]:
                begin = self._of(stripe).start * BLOCK_BYTES
                yield memoryview(payload)[max(0, self._wanted.start - begin) : self._wanted.stop - begin]
                stripe += 1

    def close(self) -> None:
        """Take nothing further. Those who have sent all may still see their last order."""
        self._tick.cancel()
        self._crew.readings -= self._is_open
        self._is_open = False
        if self._refreshing is not None:
            self._refreshing.cancel()
        for fetch in self._fetches:
            if not fetch.over:
                self._drop(fetch)

    @property
    def _ahead(self) -> int:
        """Stripes that may be had before they are wanted."""
        size = min(AHEAD_BYTES, AHEAD_ALL_BYTES // max(1, self._crew.readings))
        return max(1, min(AHEAD_MAX, size // (self._needed * SHARE_BYTES)))

    def _of(self, stripe: int) -> range:
        """The wanted blocks of a stripe."""
        first = stripe * self._needed
        return range(max(first, self._blocks.start), min(first + self._needed, self._blocks.stop))

    async def _open_ready(self, stripe: int) -> list[bytearray]:
        """Open the stripes from this one on whose data pieces are there: several at a time, since threads cost time."""
        ready = [
            (number, self._of(number), dict(self._shares[number]))
            for number in takewhile(self._is_ready, range(stripe, min(stripe + self._at_once, self._stop)))
        ]
        payloads = await asyncio.to_thread(self._opener.open_whole, ready) if ready else []
        for number in range(stripe, stripe + len(payloads)):
            self._pass(number)
        return payloads

    def _is_ready(self, stripe: int) -> bool:
        return self._opener.pieces(stripe, self._of(stripe)) <= self._shares[stripe].keys()

    async def _open(self, stripe: int) -> bytearray:
        blocks, since_ms = self._of(stripe), self._mover.clock.monotonic_ms()
        need = self._opener.pieces(stripe, blocks)
        have, tried = self._shares[stripe], frozenset[int]()
        self._came_ms = dict.fromkeys(have, since_ms)
        while True:
            if have.keys() != tried and (need <= have.keys() or len(have) >= self._needed + self._distrust):
                tried = frozenset(have)
                opened = await asyncio.to_thread(self._opener.open, stripe, blocks, dict(have))
                self._blame(opened.altered)
                if opened.payload is not None:
                    self._pass(stripe)
                    return opened.payload
                if not opened.altered:
                    self._distrust = len(tried) - self._needed + 1
            else:
                self._help(stripe, need, since_ms)
                await self._arrived.wait()

    def _pass(self, stripe: int) -> None:
        """A stripe is done."""
        del self._shares[stripe]
        self._at = stripe + 1
        self._distrust = self._refreshed = 0
        self._taken.tell()

    def _blame(self, altered: frozenset[int]) -> None:
        for piece in altered:
            self._bad.add(piece)
            for shares in self._shares.values():
                shares.pop(piece, None)
            sent = [fetch for fetch in self._fetches if fetch.place.number == piece]
            for fetch in sent:
                self._drop(fetch)
            self._crew.altered[sent[-1].place.node] += 1
            _log.warning("node %s sent a share that is not what was stored", sent[-1].place.node.hex())
            self._say(sent[-1].place.node)

    def _say(self, node: bytes) -> None:
        """Tell the network, beside: the bytes come from others, whether it hears or not."""

        def unheard(error: FallowError) -> None:
            _log.info("the network does not hear of node %s: %s", node.hex(), error)

        if self._crew.says_first(self._wanted.segment.segment, node):
            self._crew.begin(lambda: self._wanted.say(node), unheard)

    def _help(self, stripe: int, need: frozenset[int], since_ms: int) -> None:
        """See to it that a stripe can be opened soon."""
        bringing = [fetch for fetch in self._fetches if fetch.brings(stripe)]
        for fetch in self._slow(bringing, since_ms):
            fetch.replaced = True
        coming = self._shares[stripe].keys() | {fetch.place.number for fetch in bringing if not fetch.replaced}
        if not self._distrust and need <= coming:
            return
        others = sorted(self._places.keys() - coming - self._bad)
        lacking = self._needed + self._distrust - len(coming)
        for piece in others[: max(0, lacking)]:
            self._fetch(piece, stripe, self._stop)
        if lacking <= len(others):
            return
        if self._refreshing is None and self._refreshed < FRESH_MAX:
            self._refreshed += 1
            self._refreshing = self._crew.begin(self._refresh, self._fail_refresh)
        if self._refreshing is None and not any(fetch.brings(stripe) for fetch in self._fetches):
            raise self._unreadable()

    def _unreadable(self) -> FallowError:
        said = "Too few nodes give what was stored there."
        hint = f"The last one said: {self._error.message}" if self._error is not None else ""
        return Unavailable("storage.unreadable", said, hint)

    def _slow(self, bringing: list[_Fetch], since_ms: int) -> list[_Fetch]:
        """Those that others should stand in for; where most are, it is this side, or all of them, for a while."""
        now_ms = self._mover.clock.monotonic_ms()
        slow = [fetch for fetch in bringing if self._is_slow(fetch, since_ms)]
        if 1 < len(bringing) < 2 * len(slow):
            return [fetch for fetch in slow if now_ms - max(fetch.moved_ms, since_ms) > TIMES * SLOW_MS]
        return slow

    def _is_slow(self, fetch: _Fetch, since_ms: int) -> bool:
        now_ms = self._mover.clock.monotonic_ms()
        if not fetch.waits:
            return False
        if now_ms - fetch.moved_ms > SLOW_MS:
            return True
        begun_ms = max(since_ms, fetch.begun_ms)
        others_ms = [max(0, came_ms - begun_ms) for came_ms in self._came_ms.values()]
        if len(others_ms) < max(1, self._needed // 2):
            return False
        return now_ms - begun_ms > max(LATE_MS, TIMES * statistics.median(others_ms))

    def _fetch(self, piece: int, first: int, stop: int) -> None:
        place = self._places.pop(piece)
        self._tried[piece] += 1
        fetch = _Fetch(place, first, stop, self._mover.clock.monotonic_ms())
        self._fetches.append(fetch)

        def failed(error: FallowError) -> None:
            fetch.over = True
            self._fail(error)
            _log.info("node %s did not give its piece: %s", place.node.hex(), error)
            if error.code == NO_PIECE:
                self._say(place.node)

        fetch.task = self._crew.begin(lambda: self._run(fetch), failed)

    async def _run(self, fetch: _Fetch) -> None:
        start = fetch.next * SHARE_BYTES
        stop = (fetch.stop - 1) * SHARE_BYTES + self._opener.share(fetch.stop - 1)
        reader = await get_piece(self._mover, fetch.place, start, stop)
        try:
            while fetch.next < fetch.stop:
                await self._gate(fetch)
                self._keep(fetch, await reader.take(self._opener.share(fetch.next)))
                if fetch.replaced and fetch.next < self._at:
                    break
            else:
                fetch.over = True
                await reader.end()
        finally:
            fetch.over = True
            reader.give_up()
            self._arrived.tell()

    async def _gate(self, fetch: _Fetch) -> None:
        """Wait until the next share may be had."""
        while fetch.next >= self._at + self._ahead:
            fetch.waits = False
            await self._taken.wait()
        fetch.waits = True
        fetch.moved_ms = max(fetch.moved_ms, self._mover.clock.monotonic_ms())

    def _keep(self, fetch: _Fetch, share: memoryview) -> None:
        stripe, piece = fetch.next, fetch.place.number
        fetch.next += 1
        self._tried[piece] = 0
        fetch.moved_ms = self._mover.clock.monotonic_ms()
        if stripe in self._shares and piece not in self._bad:
            self._shares[stripe][piece] = share
            if stripe == self._at:
                self._came_ms[piece] = fetch.moved_ms
        self.most_ahead = max(self.most_ahead, sum(map(len, self._shares.values())))
        self._arrived.tell()

    def _drop(self, fetch: _Fetch) -> None:
        fetch.over = True
        if fetch.task is not None:
            fetch.task.cancel()

    async def _refresh(self) -> None:
        """Get places anew: each limit is good for one time."""
        fetched = {fetch.place.number for fetch in self._fetches if not fetch.over and not fetch.replaced}
        for place in await self._wanted.fresh():
            if place.number not in fetched | self._bad and self._tried[place.number] < TRIES:
                self._places[place.number] = place
        self._refreshing = None
        self._arrived.tell()

    def _fail_refresh(self, error: FallowError) -> None:
        self._refreshing = None
        self._fail(error)

    def _fail(self, error: FallowError) -> None:
        self._error = error
        self._arrived.tell()
