"""What a node's word on the bytes that it moved is worth to the network, which alone knows who pays for them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fallow.domain.errors import FallowError
from fallow.domain.records import Record
from fallow.verticals.storage.control.limits import Payer, Secrets
from fallow.verticals.storage.core.handed_in import HandedIn, handed_in


class Moved(NamedTuple):
    """What a node handed in, whose it is, and when it came."""

    one: HandedIn
    payer: Payer
    at_ms: int


class Reader:
    """Reads records of a network."""

    def __init__(self, net: str, network_key: bytes, secrets: Secrets) -> None:
        self._net = net
        self._network_key = network_key
        self._secrets = secrets

    def egress(self, records: Sequence[Record], received_ms: int) -> list[Moved]:
        """What clients have had of nodes, by records that came at a time; whatever does not hold is left out.

        What was read for repairs is said to be `REPAIRS`'.
        """
        return [moved for record in records for moved in self._of(record, received_ms)]

    def _of(self, record: Record, received_ms: int) -> Iterator[Moved]:
        for one in handed_in(record, self._net, self._network_key, received_ms):
            try:
                yield Moved(one, self._secrets.payer(one.limit), received_ms)
            except FallowError:
                continue
