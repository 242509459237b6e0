"""What counts of the orders that nodes hand in, and what they add up to. Pure.

The network and whoever adds up again what it said do it by this, record by record in the order of ingest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from fallow.domain.errors import FallowError
from fallow.domain.merkle import GrowingTree
from fallow.domain.records import Record
from fallow.verticals.storage.core.facts import StorageServed
from fallow.verticals.storage.core.orders import BeyondLimit, OrderLimit, check_order
from fallow.verticals.storage.core.serving import GETS
from fallow.verticals.storage.core.tariff import DAY_MS, EGRESS, REPAIRED

LATE_MS: Final = 7 * DAY_MS
"""A node that was away hands its orders in within so long of their limit's end, or is not paid for them."""

Place = tuple[int, int]
"""Boot and number of a node's record."""


class HandedIn(NamedTuple):
    """A client's word, in a node's record, that it has had `bytes_all` bytes in all under a limit."""

    place: Place
    limit: OrderLimit
    order: bytes
    bytes_all: int

    @property
    def until_ms(self) -> int:
        """When it is not counted any more."""
        return self.limit.expires_ms + LATE_MS


class Overstated(NamedTuple):
    """A client's word, in a node's record, that it has had more than a limit allows: it pays nothing."""

    limit: OrderLimit
    sealed: bytes
    order: bytes


def handed_in(record: Record, net: str, network_key: bytes, received_ms: int) -> Iterator[HandedIn]:
    """The orders of a node's record, which came at a time; whatever does not hold is left out, and what was brought.

    Only what was read costs something.
    """
    for one in said_in(record, net, network_key):
        if isinstance(one, HandedIn) and received_ms < one.until_ms:
            yield one


def said_in(record: Record, net: str, network_key: bytes) -> Iterator[HandedIn | Overstated]:
    """The same, however late it came, and where a client ordered more than he might, that as well."""
    try:
        served = record.read(StorageServed).served
    except FallowError:
        return
    for sealed, order in served:
        try:
            limit = OrderLimit.open(sealed, network_key)
            if limit.net != net or limit.node != record.node or limit.action not in GETS:
                continue
            said = check_order(order, limit, 0)
        except BeyondLimit as error:
            yield Overstated(error.limit, sealed, order)
        except FallowError:
            continue
        else:
            yield HandedIn((record.boot, record.seq), limit, order, said.bytes_all)


class Added(NamedTuple):
    """An order that says more than was counted under its limit before, and how much more."""

    one: HandedIn
    more: int


def additions(handed: Iterable[HandedIn], counted: dict[bytes, int]) -> Iterator[Added]:
    """What orders add to what was counted, by serial, before: `counted` is kept up."""
    for one in handed:
        more = one.bytes_all - counted.get(one.limit.serial, 0)
        if more > 0:
            counted[one.limit.serial] = one.bytes_all
            yield Added(one, more)


NOWHERE: Final[Place] = (0, 0)
"""Where the records of a node end that has handed in nothing: an order lies in front of the number behind it."""


class Window:
    """The orders of one node since its last record: those in its own records from `begins` on and below `ends`."""

    def __init__(
        self,
        begins: Place = NOWHERE,
        ends: Place = NOWHERE,
        egress: int = 0,
        repaired: int = 0,
        tree: GrowingTree | None = None,
    ) -> None:
        self.begins = begins
        self.ends = ends
        self.egress = egress
        self.repaired = repaired
        self.tree = tree or GrowingTree()

    def add(self, added: Added) -> None:
        """Count one order more."""
        boot, number = added.one.place
        if self.ends == NOWHERE:
            self.begins = added.one.place
        self.ends = boot, number + 1
        if added.one.limit.action == "repair_get":
            self.repaired += added.more
        else:
            self.egress += added.more
        self.tree.add(added.one.order)

    @property
    def used(self) -> dict[str, int]:
        """What they add up to, by meter."""
        return {EGRESS: self.egress, REPAIRED: self.repaired}
