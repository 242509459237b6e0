"""A gateway that somebody stands for, the limits that it gets, and what it signs."""

from __future__ import annotations

from typing import Any

import msgspec
from coincurve import PrivateKey
from nacl.signing import SigningKey

from fallow.domain.gateway_facts import GatewayOverstated, GatewayVouched
from fallow.domain.vouching import vouch_text
from fallow.domain.wallets import address_of, sign_text
from fallow.verticals.storage.core.orders import Order, OrderLimit
from tests.epoch_files import NET, NETWORK

GATEWAY, OWNER = SigningKey(b"g" * 32), PrivateKey(b"\x0e" * 32)
KEY = bytes(GATEWAY.verify_key)
FROM_MS, UNTIL_MS = 1_000, 10_000


def vouched(
    from_ms: int = FROM_MS, until_ms: int = UNTIL_MS, *, key: bytes = KEY, by: PrivateKey = OWNER, net: str = NET
) -> GatewayVouched:
    """The word of OWNER for the gateway; `by` is who signs it."""
    text = vouch_text(net, "storage", key, address_of(OWNER), from_ms, until_ms)
    return GatewayVouched(
        vertical="storage",
        key=key,
        owner=address_of(OWNER),
        from_ms=from_ms,
        until_ms=until_ms,
        signature=sign_text(by, text),
    )


def limit(bytes_max: int, **changes: Any) -> OrderLimit:
    """What the network lets the gateway read."""
    fields: dict[str, Any] = {
        "net": NET,
        "serial": bytes(16),
        "node": b"n" * 32,
        "client": KEY,
        "piece": b"p" * 32,
        "action": "get",
        "bytes_max": bytes_max,
        "made_ms": FROM_MS,
        "expires_ms": FROM_MS + 3_600_000,
    }
    return OrderLimit(**(fields | changes))


def sealed(what: OrderLimit | Order, by: SigningKey) -> bytes:
    """Sign it."""
    return what.seal(lambda message: by.sign(message).signature)


def overstated(
    of: OrderLimit,
    bytes_all: int,
    word: GatewayVouched | None = None,
    *,
    network: SigningKey = NETWORK,
    by: SigningKey = GATEWAY,
    serial: bytes = bytes(16),
) -> GatewayOverstated:
    """The record of an order under a limit; `network` and `by` are who signs the two."""
    return GatewayOverstated(
        **msgspec.structs.asdict(word or vouched()),
        limit=sealed(of, network),
        order=sealed(Order(serial=serial, bytes_all=bytes_all), by),
    )
