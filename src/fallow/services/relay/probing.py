"""Whether a node that says so can be dialled from outside, and is itself: nobody is told before it was tried."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from nacl.signing import SigningKey

from fallow.domain.errors import Conflict, FallowError, NotAllowed, Unavailable
from fallow.domain.streams import DirectAddress, DirectOffer, may_probe
from fallow.domain.wire.greeting import SESSION_BYTES
from fallow.ports.clock import Clock
from fallow.ports.dialling import Caller, greet
from fallow.ports.rates import Buckets, Rate
from fallow.ports.session import SessionStream
from fallow.ports.sessions import Held
from fallow.ports.streams import Link
from fallow.ports.tasks import within

PROBE_S: Final = 5.0
PROBE_EVERY_S: Final = 600.0
"""What was reached once is tried again after this time."""

OFFERS_PER_NODE: Final = Rate(1 / 30, 4)

_log = logging.getLogger(__name__)

DialDirect = Callable[[DirectAddress, bytes], AbstractAsyncContextManager[Link]]
"""Connects to a node (its key) at an address."""


class Probes:
    """Tries what nodes offer. `network_host` is the address that the network itself is reached at."""

    def __init__(
        self,
        net: str,
        clock: Clock,
        *,
        network_host: str,
        dial: DialDirect,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._net = net
        self._clock = clock
        self._network_host = network_host
        self._dial = dial
        self._random_bytes = random_bytes
        self._offers = Buckets(OFFERS_PER_NODE, clock)
        self._kept: set[bytes] = set()

    async def keep(self, held: Held, stream: SessionStream) -> None:
        """Try what a node offers on a stream, tell it the outcome, and try again while the stream lasts.

        Only while it succeeds does `held.direct` say so. The node ends its offer by ending the stream.
        """
        if held.key in self._kept:
            stream.reset(Conflict("direct.twice", "The node has an offer already."))
            return
        self._kept.add(held.key)
        try:
            self._offers.take(held.key.hex())
            offer = self._read(held, stream.opening)
            while True:
                held.direct = await self._tried(held, offer)
                await stream.write(held.direct.host.encode())
                if await self._ended(stream):
                    stream.end()
                    return
        except FallowError as error:
            _log.info("node %s is not reached from outside: %s", held.key.hex()[:12], error)
            stream.reset(error)
        finally:
            held.direct = None
            self._kept.discard(held.key)

    def _read(self, held: Held, opening: bytes) -> DirectOffer:
        offer = DirectOffer.open(opening, held.key)
        if offer.net != self._net or offer.node != held.key:
            raise NotAllowed("direct.offer", "The offer is another node's, or for another network.")
        return offer

    async def _tried(self, held: Held, offer: DirectOffer) -> DirectAddress:
        host = held.seen_at
        if not may_probe(host, self._network_host):
            raise NotAllowed(
                "direct.private",
                f"The network sees this node at {host}, which is no address that others could reach.",
                "It is reached through the network's gateway instead.",
            )
        at = DirectAddress(host=host, port=offer.port, certificate=offer.certificate)
        try:
            await within(self._clock, PROBE_S, self._knock(at, offer))
        except Unavailable as error:
            raise Unavailable(
                "direct.unreachable",
                f"{host} port {offer.port} was not reached from outside: {error.message}",
                "Let the port through the machine's firewall, or forward it at the router.",
            ) from error
        return at

    async def _knock(self, at: DirectAddress, offer: DirectOffer) -> None:
        key = SigningKey(self._random_bytes(32))
        caller = Caller(
            self._net,
            bytes(key.verify_key),
            lambda message: key.sign(message).signature,
            node=False,
            ticket=lambda: offer.probe,
            peer=offer.node,
        )
        async with self._dial(at, offer.node) as link:
            await greet(link, caller, self._random_bytes(SESSION_BYTES), fresh=True)

    async def _ended(self, stream: SessionStream) -> bool:
        """Wait until it is time to try again; True when the node has ended its offer before."""
        try:
            return not await within(self._clock, PROBE_EVERY_S, stream.read())
        except Unavailable as error:
            if error.code == "timeout":
                return False
            raise
