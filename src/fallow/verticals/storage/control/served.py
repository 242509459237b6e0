"""What a node's word on the bytes that it moved is worth to the network, which alone knows who pays for them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fallow.domain.errors import FallowError
from fallow.domain.records import Record
from fallow.verticals.storage.control.limits import Payer, Secrets
from fallow.verticals.storage.core.handed_in import HandedIn, Overstated, said_in


class Moved(NamedTuple):
    """What a node handed in, whose it is, and when it came."""

    one: HandedIn
    payer: Payer
    at_ms: int


class Said(NamedTuple):
    """What counts, and orders beyond their limits, which do not."""

    moved: list[Moved]
    overstated: list[Overstated]


class Reader:
    """Reads records of a network."""

    def __init__(self, net: str, network_key: bytes, secrets: Secrets) -> None:
        self._net = net
        self._network_key = network_key
        self._secrets = secrets

    def read(self, records: Sequence[Record], received_ms: int) -> Said:
        """What clients have had of nodes, by records that came at a time; whatever does not hold is left out.

        What was read for repairs is said to be `REPAIRS`'.
        """
        said = Said([], [])
        for record in records:
            for one in said_in(record, self._net, self._network_key):
                if isinstance(one, Overstated):
                    said.overstated.append(one)
                elif received_ms < one.until_ms:
                    self._add(said, one, received_ms)
        return said

    def _add(self, said: Said, one: HandedIn, received_ms: int) -> None:
        try:
            said.moved.append(Moved(one, self._secrets.payer(one.limit), received_ms))
        except FallowError:
            return
