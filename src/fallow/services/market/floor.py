"""The nodes that are on the market, and what of each is taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fallow.domain.leases import Lease
from fallow.domain.matching import Place
from fallow.domain.offers import Offer
from fallow.domain.resources import Resources
from fallow.domain.verification import VOUCHED

LOST_AFTER_MS = 10_000
"""Without a sign of life for so long a node's leases are lost. A shorter flap of its link closes nothing."""

REBOOT_GRACE_MS = 3_000
"""A restarted agent first delivers what it had finished before; only then are the old leases lost."""

COOL_MS = 2_000
"""After a decline, a reclaim or an unanswered proposal a node gets no new proposal for so long."""

COOL_DOUBLINGS_MAX = 5
"""Each time that this happens again before the node has done any work the time doubles, to about a minute."""

NOTHING = Resources(cpu_milli=0, memory_mib=0)


class Slot:
    """A node on the floor. Held resources are those of its open leases, never counted elsewhere.

    `at_best` is the matcher's view of it when it is here, idle and trusted: what only another offer changes.
    """

    def __init__(self, offer: Offer, now: int) -> None:
        self.offer = offer
        self.at_best = _at_best(offer)
        self.seen_at = now
        self.boot = offer.boot
        self.boot_at = now
        self.cool_until = 0
        self.cooled = 0
        self.leases: dict[bytes, Lease] = {}
        self.free = offer.made.total

    def online(self, now: int) -> bool:
        """Whether it was heard of lately."""
        return now - self.seen_at < LOST_AFTER_MS

    def take(self, lease: Lease) -> None:
        """Set a lease's resources aside."""
        if lease.id not in self.leases:
            self.free = self.free.minus(lease.resources)
        self.leases[lease.id] = lease

    def cool(self, now: int) -> None:
        """Leave it in peace for a moment. Several answers to proposals of one moment count once."""
        if now >= self.cool_until:
            self.cool_until = now + (COOL_MS << min(self.cooled, COOL_DOUBLINGS_MAX))
            self.cooled += 1

    def warm(self) -> None:
        """It did some work: what it turned down before is forgotten."""
        self.cooled = 0

    def give_back(self, lease: Lease) -> None:
        """Free what a lease held, at once."""
        if self.leases.pop(lease.id, None) is not None:
            self.free = self.free.plus(lease.resources)

    def booted(self, boot: int, now: int) -> None:
        """Note under which boot the agent runs."""
        if boot > self.boot:
            self.boot, self.boot_at = boot, now

    def renew(self, offer: Offer) -> None:
        """Replace the offer; open leases keep what they hold."""
        self.offer = offer
        self.at_best = _at_best(offer)
        self.free = offer.made.total
        for lease in self.leases.values():
            self.free = self.free.minus(lease.resources)

    def place(self, now: int, *, suspended: bool, banned: bool, trust: str) -> Place:
        """Return the matcher's view of it."""
        return self.at_best._replace(
            here=self.offer.made.open and self.online(now),
            suspended=suspended,
            banned=banned,
            trust=trust,
            free=self.free if now >= self.cool_until else NOTHING,
        )


class Floor:
    """All slots, by node."""

    def __init__(self) -> None:
        self.slots: dict[bytes, Slot] = {}
        self.networks: dict[bytes, str] = {}
        """From where each node connects, as the registry sees it."""

    def offer(self, offer: Offer, now: int) -> None:
        """Put up or replace a node's offer."""
        slot = self.slots.get(offer.node)
        if slot is None:
            self.slots[offer.node] = Slot(offer, now)
        else:
            slot.renew(offer)
            slot.seen_at = max(slot.seen_at, now)
            slot.booted(offer.boot, now)

    def beat(self, node: bytes, boot: int, now: int) -> None:
        """Note a node's sign of life. A higher boot number says that its agent was started anew."""
        slot = self.slots.get(node)
        if slot is None or boot < slot.boot:
            return
        slot.seen_at = now
        slot.booted(boot, now)

    def cool(self, node: bytes, now: int) -> None:
        """Leave a node in peace for a moment, the longer the more often it turned work down without doing any."""
        if node in self.slots:
            self.slots[node].cool(now)

    def amnesty(self, now: int) -> None:
        """Count all nodes as just heard of and willing: the network itself was deaf, which is no fault of theirs."""
        for slot in self.slots.values():
            slot.seen_at = now
            slot.cool_until = slot.cooled = 0

    def lost(self, leases: Iterable[Lease], now: int) -> Iterator[tuple[Lease, str]]:
        """Those of `leases` that their node cannot be working on any more, and why. Idle nodes cost nothing here."""
        for lease in leases:
            slot = self.slots[lease.node]
            if lease.id not in slot.leases:
                continue
            if not slot.online(now):
                yield lease, "node.vanished"
            elif lease.boot < slot.boot and now - slot.boot_at >= REBOOT_GRACE_MS:
                yield lease, "node.restarted"


def _at_best(offer: Offer) -> Place:
    made = offer.made
    return Place(
        node=offer.node,
        here=True,
        suspended=False,
        total=made.total,
        free=made.total,
        terms=made.terms,
        attributes=made.attributes,
        country=made.country,
        trust=VOUCHED,
        account=offer.account,
        spot=offer.spot,
        cell=offer.cell,
    )
