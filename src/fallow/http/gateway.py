"""What the routes work with. Holds no database: services are asked over the bus."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeVar

from fallow.domain import calls
from fallow.domain.errors import Unavailable
from fallow.domain.fees import Fees, FeeWord
from fallow.domain.prices import Offer
from fallow.domain.streams import DirectAddress, Opening
from fallow.domain.tariffs import TariffWord
from fallow.domain.views.network import NetworkView
from fallow.http.collecting import DAY_MS, KEEP_DAYS, Collector
from fallow.http.install import Installer
from fallow.http.keys import Keys
from fallow.http.limits import LeaseWrites, Limits, Streams, Turns
from fallow.http.nodes import Nodes
from fallow.http.onlookers import Onlookers
from fallow.http.processes import Processes
from fallow.http.sessions import Sessions
from fallow.http.shared import Shared
from fallow.http.tickets import Tickets
from fallow.ports.archive import Archive
from fallow.ports.blobs import Blobs
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.otherwise import Begin
from fallow.ports.rates import Buckets
from fallow.ports.remembered import Remembered
from fallow.ports.rpc import call
from fallow.ports.streams import Stream
from fallow.ports.streams import Streams as OpensStreams
from fallow.ports.vertical.plugin import Vertical, tariffs_of

ReplyT = TypeVar("ReplyT")
CACHED_GRANTS_MAX = 4096
TURNS_IN_ALL = 2


class Gateway:
    """The parts of one control API. `bus` and `blobs` stay the caller's: they outlive it and are closed after it.

    With `any_host` clients are told that the bus is at the host by which they came. `names` are the network's own
    ("*." is any label): wallets sign in where the console is reached by one of them. `ca_pem` is the certificate of
    the network's own authority, if it has one. `installer` is what machines that want to join download. `streams`
    reaches nodes; without it nobody looks into running work. `archive` is what closed epochs are shown from. Blobs
    stay for `keep_days` after their jobs have ended. `roles` are those that the network should run; who shows
    `metrics_secret` may read `/metrics`, "" is nobody. `what_if` has closed epochs computed under other rules.
    `fees` are what the network keeps, until its operators say otherwise. `offers` are what others ask for the same.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        blobs: Blobs,
        network: NetworkView,
        clock: Clock,
        verticals: Mapping[str, Vertical],
        limits: Limits | None = None,
        any_host: bool = False,
        names: Collection[str] = (),
        ca_pem: str = "",
        installer: Installer | None = None,
        streams: OpensStreams | None = None,
        archive: Archive | None = None,
        keep_days: int = KEEP_DAYS,
        roles: Collection[str] = (),
        metrics_secret: str = "",
        what_if: Begin | None = None,
        fees: Fees | None = None,
        offers: Sequence[Offer] = (),
    ) -> None:
        limits = limits or Limits()
        self.bus = bus
        self.blobs = blobs
        self.network = network
        self.any_host = any_host
        self.names = frozenset(names)
        self.ca_pem = ca_pem
        self.installer = installer
        self.clock = clock
        self.verticals = verticals
        self.limits = limits
        self.keys = Keys(bus, clock)
        self.sessions = Sessions(bus, clock)
        self.grants = Remembered[bytes, str](clock, CACHED_GRANTS_MAX)
        """The public part of the API key that a grant stands on, by the digest of one that was good a moment ago."""
        self.nodes = Nodes(bus, clock)
        self.shared = Shared(clock)
        self.tickets = Tickets(bytes.fromhex(network.public_key), network.net, clock)
        self.addresses = Buckets(limits.address, clock)
        self.senders = Buckets(limits.key, clock)
        self.lease_writes = LeaseWrites(clock)
        self.sign_ins = Buckets(limits.sign_ins, clock)
        self.uploads = Buckets(limits.uploads, clock)
        self.words = Buckets(limits.words, clock)
        self.making_keys = asyncio.Lock()
        """Of wallets: who asks several times at once needs one."""
        self.streams = Streams(limits.streams_per_account)
        self.collector = Collector(bus, blobs, clock, keep_ms=keep_days * DAY_MS)
        self.archive = archive
        self.what_if = what_if
        self.fees = fees or Fees()
        self.tariffs = tariffs_of(verticals)
        self.turns = Turns(TURNS_IN_ALL)
        self.processes = Processes(bus, clock, roles)
        self.onlookers = Onlookers(bus, clock)
        self.metrics_secret = metrics_secret
        self.offers = offers
        self._nodes = streams

    async def open(self, opening: Opening) -> Stream:
        """Open a stream to a node; raises what the `Streams` port raises."""
        if self._nodes is None:
            raise Unavailable("stream.none", "This gateway reaches no nodes.")
        return await self._nodes.open(opening)

    async def direct(self, node: bytes) -> DirectAddress | None:
        """Return where a node can be dialled itself; see the `Streams` port."""
        return await self._nodes.direct(node) if self._nodes is not None else None

    async def ask(self, subject: str, request: object, reply: type[ReplyT]) -> ReplyT:
        """Ask a service; raises what it raised, or Unavailable."""
        return await call(self.bus, subject, request, reply)

    async def fee_words(self) -> Sequence[FeeWord]:
        """Ask what operators said of the fee; raises Unavailable."""
        return (await self.ask(calls.fees.FEES, {}, calls.fees.FeeWords)).words

    async def tariff_words(self) -> Sequence[TariffWord]:
        """Ask what operators said of tariffs; raises Unavailable."""
        return (await self.ask(calls.tariffs.TARIFFS, {}, calls.tariffs.TariffWords)).words

    def asking(self, subject: str, request: object, reply: type[ReplyT]) -> Callable[[], Awaitable[ReplyT]]:
        """Return what asks so when it is called."""
        return partial(self.ask, subject, request, reply)
