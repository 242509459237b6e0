"""What the network signs for a client: order limits and tickets, and what they say to nobody but itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.signing import SigningKey

from fallow.domain.errors import NotAllowed
from fallow.domain.signing import Sign
from fallow.domain.streams import StreamTicket, service_purpose
from fallow.verticals.storage.core.orders import LIMIT_MS, SERIAL_BYTES, Action, OrderLimit
from fallow.verticals.storage.core.tariff import VERTICAL

TICKET_MS: Final = 4 * LIMIT_MS
TICKETS_MAX: Final = 100_000
"""Kept for using them again: some 50 MB."""
INLINE_MAX: Final = 4
"""So many signatures take less time than handing them to a thread."""
NONCE: Final = bytes(12)
BUCKET_BYTES: Final = 8
NUMBER_BYTES: Final = 4


class Payer(NamedTuple):
    """Who pays: a bucket, and the account (20 bytes) that it belongs to."""

    bucket: int
    account: bytes


REPAIRS: Final = Payer(0, bytes(20))
"""What the network moves for its own repairs is added up under this account: no buyer pays for it, and nobody yet."""


class Wanted(NamedTuple):
    """An order limit to be signed: for `client`, at `node`, over `bytes_max` bytes of the piece of `segment` there."""

    node: bytes
    segment: bytes
    bytes_max: int


class Signed(NamedTuple):
    """A sealed OrderLimit, and a sealed StreamTicket to the same node."""

    limit: bytes
    ticket: bytes


class Secrets:
    """What follows from the vertical's own secret (32 bytes)."""

    def __init__(self, secret: bytes) -> None:
        self._pieces = blake3(secret, derive_key_context="fallow storage 1: ids of pieces").digest()
        self._whose = blake3(secret, derive_key_context="fallow storage 1: whose a limit is").digest()
        self._repairer = blake3(secret, derive_key_context="fallow storage 1: who repairs").digest()

    def piece(self, segment: bytes, node: bytes) -> bytes:
        """Name of the piece of a segment on a node: 32 bytes."""
        return blake3(segment + node, key=self._pieces).digest()

    def repairer(self, number: int | None = None) -> SigningKey:
        """The key by which the network, as a client of its own, orders what it reads for repairs.

        With the `number` of a piece: the one by which it brings that, so that its claim shows which one a piece is.
        """
        if number is None:
            return SigningKey(self._repairer)
        return SigningKey(blake3(number.to_bytes(NUMBER_BYTES), key=self._repairer).digest())

    def repairs(self, number: int) -> bytes:
        """Who signs claims on pieces of a number that repairs brought."""
        return bytes(self.repairer(number).verify_key)

    def hide(self, serial: bytes, payer: Payer) -> bytes:
        """Seal who pays for what a limit allows; each serial has a key of its own, which no nonce meets twice."""
        said = payer.bucket.to_bytes(BUCKET_BYTES) + payer.account
        return self._cipher(serial).encrypt(NONCE, said, None)

    def payer(self, limit: OrderLimit) -> Payer:
        """Open it.

        Raises:
            NotAllowed: `storage.whose`: it was not sealed here for this limit.
        """
        try:
            said = self._cipher(limit.serial).decrypt(NONCE, limit.whose, None)
        except (InvalidTag, ValueError) as error:
            raise NotAllowed("storage.whose", "The limit does not say who pays.") from error
        return Payer(int.from_bytes(said[:BUCKET_BYTES]), said[BUCKET_BYTES:])

    def _cipher(self, serial: bytes) -> AESGCM:
        return AESGCM(blake3(serial, key=self._whose).digest())


class Signer:
    """Signs as the network. `random_bytes` must never give the same again."""

    def __init__(self, net: str, sign: Sign, secrets: Secrets, random_bytes: Callable[[int], bytes]) -> None:
        self._net = net
        self._sign = sign
        self._secrets = secrets
        self._random_bytes = random_bytes
        self._tickets: dict[tuple[bytes, bytes], tuple[int, bytes]] = {}

    async def signed(
        self, wanted: Sequence[Wanted], action: Action, client: bytes, payer: Payer, now_ms: int
    ) -> list[Signed]:
        """Sign limits, in the order in which they are wanted; the event loop goes on meanwhile."""

        def work() -> list[Signed]:
            return [
                Signed(self._limit(one, action, client, payer, now_ms), self._ticket(one.node, client, now_ms))
                for one in wanted
            ]

        return work() if len(wanted) <= INLINE_MAX else await asyncio.to_thread(work)

    def _limit(self, wanted: Wanted, action: Action, client: bytes, payer: Payer, now_ms: int) -> bytes:
        serial = self._random_bytes(SERIAL_BYTES)
        return OrderLimit(
            net=self._net,
            serial=serial,
            node=wanted.node,
            client=client,
            piece=self._secrets.piece(wanted.segment, wanted.node),
            action=action,
            bytes_max=wanted.bytes_max,
            made_ms=now_ms,
            expires_ms=now_ms + LIMIT_MS,
            whose=self._secrets.hide(serial, payer),
        ).seal(self._sign)

    def _ticket(self, node: bytes, client: bytes, now_ms: int) -> bytes:
        """A ticket is used for half of its life, so that each that is handed out lives for the other half."""
        until, ticket = self._tickets.get((node, client), (0, b""))
        if now_ms + TICKET_MS // 2 < until <= now_ms + TICKET_MS:
            return ticket
        if len(self._tickets) >= TICKETS_MAX:
            self._tickets.clear()
        until = now_ms + TICKET_MS
        ticket = StreamTicket(
            net=self._net,
            node=node,
            lease=b"",
            account=client,
            purpose=service_purpose(VERTICAL),
            expires_at=until,
        ).seal(self._sign)
        self._tickets[node, client] = until, ticket
        return ticket
