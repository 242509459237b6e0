"""The network's side of segments: where their pieces are to go, whether they came, and where they are."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import accumulate
from typing import Any, Final

from fallow.domain.identity import address
from fallow.domain.streams import DirectAddress
from fallow.ports.mishaps import steadily
from fallow.ports.tasks import background
from fallow.ports.vertical.control import ControlGround
from fallow.verticals.storage.control import hints
from fallow.verticals.storage.control.audits import Audits
from fallow.verticals.storage.control.bills import Bills
from fallow.verticals.storage.control.buckets_port import Buckets
from fallow.verticals.storage.control.choosing import draw, enough_of, no_more, place, read_spare_of
from fallow.verticals.storage.control.following import Follower
from fallow.verticals.storage.control.garbage import Garbage
from fallow.verticals.storage.control.hosted import HostedGateways
from fallow.verticals.storage.control.inspecting import Inspector
from fallow.verticals.storage.control.lenders import Lenders
from fallow.verticals.storage.control.limits import Payer, Secrets, Signed, Signer
from fallow.verticals.storage.control.limits import Wanted as WantedLimit
from fallow.verticals.storage.control.metering import Metering
from fallow.verticals.storage.control.nodes import Lender, Nodes
from fallow.verticals.storage.control.notes import Notes
from fallow.verticals.storage.control.paying import Paying
from fallow.verticals.storage.control.queues import note_if_short
from fallow.verticals.storage.control.reading import Wanted, spans, wanted
from fallow.verticals.storage.control.receipts import Stored, check_receipts
from fallow.verticals.storage.control.recovering import Recovery
from fallow.verticals.storage.control.rolling import Rolling
from fallow.verticals.storage.control.segments import Begun, SegmentRow, SegmentRows, Slot
from fallow.verticals.storage.control.served import Reader
from fallow.verticals.storage.control.statements import Statements
from fallow.verticals.storage.core.calls.base import Call
from fallow.verticals.storage.core.calls.objects import GetUnpurged, Unpurged
from fallow.verticals.storage.core.calls.segments import (
    PLACES_AT_ONCE,
    SEGMENTS_AT_ONCE,
    BeginSegment,
    EndSegment,
    MorePlaces,
    Place,
    Plan,
    ReadSegments,
    SayAltered,
    SegmentRead,
)
from fallow.verticals.storage.core.hosted import GetGateways
from fallow.verticals.storage.core.layout import Layout
from fallow.verticals.storage.core.lenders import GetLenders
from fallow.verticals.storage.core.profiles import PROFILES
from fallow.verticals.storage.core.upkeep import GetInspection, Inspect

METER_EVERY_S: Final = 60.0
NAMED_TIMES_MAX: Final = 4
"""So many times as many nodes as a segment has pieces are named for it at most: each may have got one, and only those
that count are paid."""
SEGMENT_ID_BYTES: Final = 16
UNIFORM: Final = secrets.SystemRandom().random
DirectTo = Callable[[bytes], DirectAddress | None]
"""Where a node can be dialled itself, if it can."""


def never_direct(_: bytes) -> DirectAddress | None:
    """Reach all nodes through the relay."""
    return None


class Places:
    """Answers calls about segments, and does in the background what follows from them.

    `segments` is what those who keep versions work with. `uniform` draws from [0, 1), `random_bytes` draws bytes that
    never come again.
    """

    def __init__(
        self,
        ground: ControlGround,
        buckets: Buckets,
        paying: Paying,
        *,
        direct: DirectTo = never_direct,
        uniform: Callable[[], float] = UNIFORM,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        clock, database, bus = ground.clock, ground.database, ground.bus
        self._ground = ground
        self._buckets = buckets
        self._direct = direct
        self._uniform = uniform
        self._random_bytes = random_bytes
        self._secrets = Secrets(ground.secret)
        self._signer = Signer(ground.net, ground.sign, self._secrets, random_bytes)
        self.nodes = Nodes(clock, database, ground.registry)
        self.segments = SegmentRows(clock)
        self.paying = paying
        self.garbage = Garbage(
            clock=clock,
            database=database,
            nodes=self.nodes,
            segments=self.segments,
            secrets=self._secrets,
            ask=ground.ask,
        )
        self.audits = Audits(
            net=ground.net,
            clock=clock,
            database=database,
            nodes=self.nodes,
            decisions=ground.decisions,
            secrets=self._secrets,
            ask=ground.ask,
            bus=bus,
            uniform=uniform,
        )
        self.statements = Statements(ground, self.nodes)
        self.lenders = Lenders(ground)
        self.notes = Notes(clock=clock, database=database, nodes=self.nodes, ask=ground.ask)
        self.inspector = Inspector(
            clock=clock,
            database=database,
            nodes=self.nodes,
            secrets=self._secrets,
            ask=ground.ask,
            log=ground.registry,
            random_bytes=random_bytes,
        )
        self.recovery = Recovery(
            clock=clock, database=database, nodes=self.nodes, secrets=self._secrets, ask=ground.ask
        )
        self.hosted = HostedGateways(ground)
        self.follower = Follower(
            clock=clock,
            database=database,
            log=ground.log,
            registry=ground.registry,
            reader=Reader(ground.net, ground.network_key, self._secrets),
            fees=ground.fees,
            hosted=self.hosted,
        )
        self.metering = Metering(clock, database, ground.fees)
        self.rolling = Rolling(clock, database, ground.decisions)
        self.bills = Bills(bus=bus, clock=clock, database=database, paying=paying)

    def handlers(self) -> dict[type[Call[Any]], Callable[[Any], Awaitable[Any]]]:
        """What answers each kind of call."""
        return {
            BeginSegment: self.begin,
            MorePlaces: self.more,
            EndSegment: self.end,
            ReadSegments: self.read,
            SayAltered: self.altered,
            GetUnpurged: self.unpurged,
            Inspect: self.inspector.rows.ask,
            GetInspection: self.inspector.rows.get,
            GetLenders: self.lenders.get,
            GetGateways: self.hosted.get,
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hear and audit nodes, delete garbage and meter while the context is open."""
        clock = self._ground.clock
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.nodes.running(self._ground))
            await self.recovery.look()  # before anything is deleted
            await self.hosted.announce()
            await stack.enter_async_context(
                background(
                    steadily("storage.stake", self.hosted.follow, clock),
                    steadily("storage.log", self.follower.follow, clock),
                    steadily("storage.garbage", self.garbage.collect, clock),
                    steadily("storage.audits", self.audits.audit, clock),
                    steadily("storage.notes", self.notes.deliver, clock),
                    steadily("storage.statements", self.statements.deliver, clock),
                    steadily("storage.meter", self._keep_metering, clock),
                    steadily("storage.inspection", self.inspector.run, clock),
                    steadily("storage.recovery", self.recovery.run, clock),
                )
            )
            yield

    async def meter(self) -> None:
        """Add up what was used, and tell settlement, and epochs; days count by the subscriptions that were told."""
        while await self.metering.add_up():
            pass
        await self.bills.tell_all()
        await self.metering.count_days()
        await self.rolling.roll()

    async def begin(self, request: BeginSegment) -> Plan:
        """See the call."""
        await self.paying.may_use(request.account)
        self.hosted.check(request.client)
        now = self._ground.clock.now_ms()
        async with self._ground.database.transaction() as tx:
            bucket = await self._buckets.bucket_of(tx, request.account, request.bucket)
            profile, drawn = place(
                self.nodes.candidates(), bucket.profile, bucket.countries, request.payload, self._uniform
            )
            begun = Begun(
                id=self._random_bytes(SEGMENT_ID_BYTES),
                slot=Slot(bucket.id, request.stream, request.part, request.index),
                account=bucket.account,
                payload=request.payload,
                key=request.key,
                profile=profile.name,
                countries=bucket.countries,
                client=request.client,
                nodes=[one.alias for one in drawn],
                made_ms=now,
                grant_id=request.by_grant,
            )
            await self.segments.begin(tx, begun)
        places = await self._put_places(begun, drawn, range(len(drawn)), now)
        return Plan(
            segment=begun.id,
            needed=profile.needed,
            pieces=profile.pieces,
            enough=enough_of(profile),
            places=places,
        )

    async def more(self, request: MorePlaces) -> list[Place]:
        """See the call."""
        await self.paying.may_use(request.account)
        now = self._ground.clock.now_ms()
        async with self._ground.database.transaction() as tx:
            begun = await self.segments.begun(tx, request.segment, address(request.account))
            self.hosted.check(begun.client)
            piece_bytes = Layout(begun.payload, PROFILES[begun.profile].needed).piece_bytes
            await self.nodes.of(tx, begun.nodes)
            fit = [
                one
                for one in self.nodes.candidates(without=begun.nodes)
                if one.room_bytes >= piece_bytes and (not begun.countries or one.country in begun.countries)
            ]
            more = NAMED_TIMES_MAX * PROFILES[begun.profile].pieces - len(begun.nodes)
            drawn = draw(fit, max(0, min(len(request.numbers), more)), self._uniform)
            if not drawn:
                raise no_more()
            await self.segments.name_more(tx, begun.id, [one.alias for one in drawn])
        return await self._put_places(begun, drawn, request.numbers, now)

    async def end(self, request: EndSegment) -> None:
        """See the call."""
        async with self._ground.database.transaction() as tx:
            if await self.segments.is_stored(tx, request.segment):
                return  # the answer was lost
            begun = await self.segments.begun(tx, request.segment, address(request.account))
            lenders = await self.nodes.of(tx, begun.nodes)
            stored = Stored(
                self._ground.net,
                begun.id,
                begun.payload,
                PROFILES[begun.profile],
                {one.node: alias for alias, one in lenders.items()},
            )
            holders = await asyncio.to_thread(check_receipts, stored, request.receipts, self._secrets)
            await self.segments.end(tx, begun, holders)
            pieces = sum(alias > 0 for alias in holders)
            await note_if_short(tx, begun.id, stored.profile, pieces, self._ground.clock.now_ms())

    async def read(self, request: ReadSegments) -> list[SegmentRead]:
        """See the call."""
        await self.paying.may_use(request.account)
        self.hosted.check(request.client)
        async with self._ground.database.transaction() as tx:
            bucket = await self._buckets.bucket_of(tx, request.account, request.bucket)
            stream, size, parts = await self._buckets.version_stream(tx, bucket.id, request.object, request.version)
            asked = spans(parts or [(0, size)], request.start, request.stop, SEGMENTS_AT_ONCE)
            cut = [(span.part, span.start, span.stop) for span in asked]
            rows = await self.segments.holding(tx, bucket.id, stream, cut, SEGMENTS_AT_ONCE)
            found = wanted(asked, rows, SEGMENTS_AT_ONCE)
            lenders = await self.nodes.of(tx, [alias for one in found for alias in one.segment.nodes])
        readable = [self._readable(one.segment, lenders, every=request.every) for one in found]
        found = found[: max(1, sum(places <= PLACES_AT_ONCE for places in accumulate(map(len, readable))))]
        pieces = [(one, number) for one, numbers in zip(found, readable, strict=False) for number in numbers]
        nodes = [lenders[one.segment.nodes[number]].node for one, number in pieces]
        signed = await self._signer.signed(
            [WantedLimit(node, one.segment.id, one.piece_bytes) for node, (one, _) in zip(nodes, pieces, strict=True)],
            "get",
            request.client,
            Payer(bucket.id, bucket.account),
            self._ground.clock.now_ms(),
        )
        places: defaultdict[bytes, list[Place]] = defaultdict(list)
        for (one, number), node, both in zip(pieces, nodes, signed, strict=True):
            places[one.segment.id].append(self._place(number, node, both))
        return [_read(one, places[one.segment.id]) for one in found]

    async def altered(self, request: SayAltered) -> None:
        """See the call."""
        await self.paying.may_use(request.account)
        async with self._ground.database.transaction() as tx:
            bucket = await self._buckets.bucket_of(tx, request.account, request.bucket)
            await hints.say(tx, request, bucket.id, bucket.account, self._ground.clock.now_ms(), self._uniform)

    async def unpurged(self, request: GetUnpurged) -> Unpurged:
        """See the call."""
        async with self._ground.database.transaction() as tx:
            bucket = await self._buckets.bucket_of(tx, request.account, request.bucket)
            return await self.garbage.unpurged(tx, bucket.id)

    def _readable(self, segment: SegmentRow, lenders: Mapping[int, Lender], *, every: bool) -> list[int]:
        """Numbers of pieces to read: of payload, and some parity or all, on nodes that are there and without trouble.

        Where these are too few, the others are named behind them: a node may just have come back.
        """
        profile = PROFILES[segment.profile]
        known = [number for number, alias in enumerate(segment.nodes) if alias in lenders]
        good = [number for number in known if self.nodes.is_well(lenders[segment.nodes[number]])]
        payload = [number for number in good if number < profile.needed]
        parity = [number for number in good if number >= profile.needed]
        parity.sort(key=lambda _: self._uniform())
        numbers = (payload + parity)[: None if every else profile.needed + read_spare_of(profile)]
        if len(good) < profile.needed:
            numbers += [number for number in known if number not in good]
        return numbers

    async def _put_places(
        self, begun: Begun, drawn: Sequence[Lender], numbers: Sequence[int], now_ms: int
    ) -> list[Place]:
        """Limits for the pieces of a segment at nodes that were just drawn."""
        piece_bytes = Layout(begun.payload, PROFILES[begun.profile].needed).piece_bytes
        for one in drawn:  # others are not named for the same room before it tells
            one.room_bytes -= piece_bytes
        nodes = [one.node for one in drawn]
        payer = Payer(begun.slot.bucket, begun.account)
        limits = [WantedLimit(node, begun.id, piece_bytes) for node in nodes]
        signed = await self._signer.signed(limits, "put", begun.client, payer, now_ms)
        return [self._place(number, node, both) for number, node, both in zip(numbers, nodes, signed, strict=False)]

    def _place(self, number: int, node: bytes, both: Signed) -> Place:
        return Place(number=number, node=node, limit=both.limit, ticket=both.ticket, direct=self._direct(node))

    async def _keep_metering(self) -> None:
        while True:
            await self.meter()
            await self._ground.clock.sleep(METER_EVERY_S)


def _read(one: Wanted, places: list[Place]) -> SegmentRead:
    segment, profile = one.segment, PROFILES[one.segment.profile]
    return SegmentRead(
        segment=segment.id,
        part=segment.part,
        index=segment.number,
        start=one.start,
        payload=segment.payload,
        key=segment.key,
        needed=profile.needed,
        pieces=profile.pieces,
        places=places,
    )
