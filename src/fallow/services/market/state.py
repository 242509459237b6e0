"""What the market holds in mind: open jobs and leases, nodes and what they have shown, and what is to be written.

The state is exactly what the store holds of open jobs, leases and offers, so that a new process goes on where a dead
one stopped. What must be written, paid and said is added to `changes`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from fallow.domain.billing import MeterKey
from fallow.domain.chart import NETWORK
from fallow.domain.checks import Starting
from fallow.domain.chronicle import Chronicle
from fallow.domain.draws import Seed
from fallow.domain.fees import Fees
from fallow.domain.jobs import Item
from fallow.domain.leases import Lease, LeaseState
from fallow.domain.matching import Place, Wish
from fallow.domain.offers import Refusal
from fallow.domain.reserve import Tally, TallyKey
from fallow.domain.verification import level, suspended_until, trust
from fallow.services.market.changes import Changes
from fallow.services.market.entry import Entry
from fallow.services.market.evictions import Evictions
from fallow.services.market.floor import NOTHING, Floor, Slot
from fallow.services.market.holders import Holders
from fallow.services.market.judging import Judging
from fallow.services.market.lookup import Choices, Lookup, key_of
from fallow.services.market.starting import StartingCredit


class Source(NamedTuple):
    """The record that an input came from, for refusals."""

    node: bytes
    boot: int
    seq: int


class State:
    """All open jobs, open leases and offers."""

    def __init__(self, fees: Fees, seed: Seed, starting: Starting = Starting()) -> None:  # noqa: B008 - immutable
        self.fees = fees
        self.starting = StartingCredit(starting, {})
        self.judging = Judging(seed)
        self.floor = Floor()
        self.lookup = Lookup()
        self.holders = Holders()
        self.evictions = Evictions()
        self.jobs: dict[str, Entry] = {}
        self.leases: dict[bytes, Lease] = {}
        self.meters: dict[MeterKey, int] = {}
        self.tallies: dict[TallyKey, Tally] = {}
        self.chronicle = Chronicle({})
        self.results: dict[bytes, str | None] = {}
        self.unfunded: set[bytes] = set()
        self.vouched: frozenset[bytes] = frozenset()
        """Accounts whose owners the operator knows."""
        self.banned: frozenset[bytes] = frozenset()
        """Nodes, and accounts with all that is theirs."""
        self.frozen: set[bytes] = set()
        """Leases whose money stays where it is: it could not even be given back."""
        self.giving_way: dict[bytes, int] = {}
        """Spot leases that were asked to end for others, and until when they are waited for."""
        self.changes = Changes()

    def places(self, now: int) -> list[Place]:
        """All nodes as the matcher sees them."""
        return [self.place_of(slot, now) for slot in self.floor.slots.values()]

    def place_of(self, slot: Slot, now: int) -> Place:
        """A node as the matcher sees it."""
        node = slot.offer.node
        standing = self.judging.standing(node)
        suspended = suspended_until(standing) > now
        shown = level(standing, vouched=slot.offer.account in self.vouched)
        place = slot.place(now, suspended=suspended, banned=self.shut_out(slot), trust=shown)
        return place._replace(network=self.floor.networks.get(node, ""))

    def trust_of(self, node: bytes, now: int, buyer: bytes = b"") -> str:
        """Trust level of a node as `buyer` is shown it; "" for one that is not known any more."""
        slot = self.floor.slots.get(node)
        if slot is None:
            return ""
        account = slot.offer.account
        own = bool(buyer) and account == buyer
        return trust(self.judging.standing(node), now, vouched=account in self.vouched, own=own)

    def running_ms(self, item: Item, now: int) -> int:
        """How long leases of an item run now, without those that the network pays."""
        leases = (self.leases[lease] for lease in item.leases if lease in self.leases)
        return sum(lease.running_ms(now) for lease in leases if lease.payer != NETWORK)

    def learn(self, wish: Wish) -> Iterator[None]:
        """Find out who could take a wish that is new, in portions, so that no later look at it takes long."""
        return self.lookup.learn(key_of(wish), wish, self.floor.slots.values())

    def choices(self, now: int, claimed: Collection[bytes] = ()) -> Choices:
        """Who could take what in one round; nodes that are `claimed` have no room."""

        def look(slot: Slot) -> Place:
            place = self.place_of(slot, now)
            return place._replace(free=NOTHING) if slot.offer.node in claimed else place

        return Choices(self.lookup, self.floor.slots, look)

    def shut_out(self, slot: Slot) -> bool:
        """Whether a node, or the account that it earns for, is banned."""
        return slot.offer.node in self.banned or slot.offer.account in self.banned

    def moves_money(self, lease_id: bytes) -> bool:
        """Whether money of this lease waits to be moved; until it is, no further record of the lease is applied."""
        return lease_id in self.changes.moving

    def take_changes(self) -> Changes:
        """Return what has come together since the last time."""
        changes, self.changes = self.changes, Changes()
        return changes

    def refuse(self, source: Source, code: str, now: int) -> None:
        """Keep that a record changed nothing, and why."""
        self.changes.refusals.append(Refusal(source.node, source.boot, source.seq, code, now))

    def _set_item(self, entry: Entry, item: Item, now: int) -> None:
        entry.set_item(item, self.changes, now)

    def _change(self, lease: Lease) -> None:
        """Keep a lease that may have ended in this round."""
        self.changes.leases[lease.id] = lease
        if lease.id in self.leases:
            self.leases[lease.id] = lease

    def _keep(self, lease: Lease) -> None:
        self.changes.leases[lease.id] = lease
        if lease.state is not LeaseState.ENDED or lease.id in self.leases:
            self.leases[lease.id] = lease
        if lease.holds_capacity:
            self.floor.slots[lease.node].take(lease)
