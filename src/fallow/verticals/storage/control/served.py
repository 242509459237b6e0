"""What a node's word on the bytes that it moved is worth: both signatures, and what they say of each other. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from fallow.domain.errors import FallowError
from fallow.domain.records import Record
from fallow.verticals.storage.control.limits import Payer, Secrets
from fallow.verticals.storage.core.facts import StorageServed
from fallow.verticals.storage.core.orders import OrderLimit, check_order
from fallow.verticals.storage.core.serving import GETS
from fallow.verticals.storage.core.tariff import DAY_MS

LATE_MS: Final = 7 * DAY_MS
"""A node that was away hands its orders in within so long of their limit's end, or is not paid for them."""


class Moved(NamedTuple):
    """A client has ordered `bytes_all` bytes in all under a limit; `until_ms` is when that is not counted any more."""

    serial: bytes
    node: bytes
    payer: Payer
    bytes_all: int
    until_ms: int


class Reader:
    """Reads records of a network."""

    def __init__(self, net: str, network_key: bytes, secrets: Secrets) -> None:
        self._net = net
        self._network_key = network_key
        self._secrets = secrets

    def egress(self, records: Sequence[Record], received_ms: int) -> list[Moved]:
        """What clients have had of nodes, by records that came at a time; whatever does not hold is left out.

        Only what was read costs something. What was read for repairs is said to be `REPAIRS`'.
        """
        return [moved for record in records for moved in self._of(record, received_ms)]

    def _of(self, record: Record, received_ms: int) -> Iterator[Moved]:
        try:
            served = record.read(StorageServed).served
        except FallowError:
            return
        for limit, order in served:
            try:
                moved = self._moved(record.node, limit, order)
            except FallowError:
                continue
            if moved is not None and received_ms < moved.until_ms:
                yield moved

    def _moved(self, node: bytes, sealed_limit: bytes, sealed_order: bytes) -> Moved | None:
        limit = OrderLimit.open(sealed_limit, self._network_key)
        if limit.net != self._net or limit.node != node or limit.action not in GETS:
            return None
        order = check_order(sealed_order, limit, 0)
        return Moved(limit.serial, node, self._secrets.payer(limit), order.bytes_all, limit.expires_ms + LATE_MS)
