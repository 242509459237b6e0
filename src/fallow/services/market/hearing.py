"""What the bus brings to the market: signs of life, and news that something is to be looked at again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from fallow.domain import calls
from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import FallowError
from fallow.domain.identity import address, node_id
from fallow.ports.bus import Bus, Message
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.mishaps import steadily
from fallow.ports.registry_store import RegistryStore
from fallow.ports.tasks import background
from fallow.services.market.brain import Brain
from fallow.services.market.rounds import Rounds


class Hearing:
    """Passes on to the rounds what is heard while its context is open."""

    def __init__(self, rounds: Rounds, bus: Bus, clock: Clock, database: Database, registry: RegistryStore) -> None:
        self._rounds = rounds
        self._bus = bus
        self._clock = clock
        self._database = database
        self._registry = registry

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen."""
        bus = self._bus
        async with (
            bus.subscribe(calls.nodes.beats("*"), pending_max=10_000) as beats,
            bus.subscribe(calls.nodes.INGESTED) as news,
            bus.subscribe(calls.actions.BANNED) as banned,
            bus.subscribe(calls.money.CREDITED) as credited,
            bus.subscribe(calls.nodes.OBSERVED, pending_max=10_000) as observed,
        ):
            async with self._database.transaction() as tx:  # what changed before the bus was listened to
                networks = await self._registry.networks(tx)
            self._rounds.tell(partial(Brain.observed, networks=networks))
            async with background(
                steadily("market.beats", partial(self._hear_beats, beats), self._clock),
                steadily("market.news", partial(self._hear_news, news), self._clock),
                steadily("market.bans", partial(self._hear_bans, banned), self._clock),
                steadily("market.credits", partial(self._hear_credits, credited), self._clock),
                steadily("market.observed", partial(self._hear_observed, observed), self._clock),
            ):
                yield

    async def _hear_beats(self, beats: AsyncIterator[Message]) -> None:
        async for message in beats:
            try:
                beat = msgspec.msgpack.decode(message.data, type=calls.nodes.Beat)
                node = node_id(beat.node)
                leases = [bytes.fromhex(lease) for lease in beat.leases]
            except (*UNREADABLE, FallowError, ValueError):
                continue  # a node that talks nonsense is as good as silent, and soon counts as gone
            if message.subject == calls.nodes.beats(beat.node):
                self._rounds.heard(node, beat.boot, leases)

    async def _hear_news(self, news: AsyncIterator[Message]) -> None:
        async for _ in news:
            self._rounds.log_has_news()

    async def _hear_bans(self, banned: AsyncIterator[Message]) -> None:
        async for _ in banned:
            self._rounds.bans_changed()

    async def _hear_observed(self, observed: AsyncIterator[Message]) -> None:
        async for message in observed:
            seen = msgspec.msgpack.decode(message.data, type=calls.nodes.Observed)
            self._rounds.tell(partial(Brain.observed, networks={node_id(seen.node): seen.network}))

    async def _hear_credits(self, credited: AsyncIterator[Message]) -> None:
        async for message in credited:
            account = address(message.data.decode())
            self._rounds.tell(partial(Brain.funded, account=account))
