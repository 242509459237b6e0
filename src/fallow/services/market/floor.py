"""The nodes that are on the market, and what of each is taken."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from fallow.domain.day import BUSY, IDLE, OFFLINE, PAUSED, Day
from fallow.domain.leases import Lease
from fallow.domain.matching import Place
from fallow.domain.offers import (
    LOST_AFTER_MS,
    Beat,
    Forgiven,
    Ignored,
    Listed,
    Offer,
    Offered,
    OfferEvent,
    OfferLife,
    TurnedDown,
    put_up,
    step,
)
from fallow.domain.resources import Resources
from fallow.domain.verification import VOUCHED

NOTHING = Resources(cpu_milli=0, memory_mib=0)

UNHEARD = frozenset({0, OFFLINE})
"""A node that was away, or whose offer was only loaded, is noted when it is heard."""


class Amnesty:
    """When all nodes were last counted as just heard of, and how often they were. Each slot takes it in when read."""

    def __init__(self) -> None:
        self.at = 0
        self.times = 0


class Slot:
    """A node on the floor. Held resources are those of its open leases, never counted elsewhere.

    Its `day` is noted when something changes that `node_state` would show, and when it is read: never by time.
    `at_best` is the matcher's view of it when it is here, idle and trusted: what only another offer changes.
    """

    def __init__(self, offer: Offer, now: int, amnesty: Amnesty) -> None:
        self.leases: dict[bytes, Lease] = {}
        self.free = offer.made.total
        self._amnesty, self._forgiven = amnesty, amnesty.times
        self._day = Day(now)
        self._life, effects = put_up(offer, now)
        self._follow(effects)

    @property
    def life(self) -> OfferLife:
        """The offer's life, with the last amnesty in it: an earlier one would change nothing that this one does not."""
        if self._forgiven != self._amnesty.times:
            self._forgiven = self._amnesty.times
            if not self._life.online(self._amnesty.at):
                self._day.turn(OFFLINE, self._life.seen_at + LOST_AFTER_MS)
            self._life, _ = step(self._life, Forgiven(self._amnesty.at))
        return self._life

    def hear(self, event: Beat | Offered) -> None:
        """Move the offer's life on by what its node itself has said."""
        if not self.life.online(event.at):
            self._note(event.at)
        self.apply(event)
        if isinstance(event, Offered) or self._day.is_now in UNHEARD:
            self._note(event.at)

    def apply(self, event: OfferEvent) -> None:
        """Move the offer's life on."""
        self._life, effects = step(self.life, event)
        self._follow(effects)

    def take(self, lease: Lease) -> None:
        """Set a lease's resources aside."""
        if lease.id not in self.leases:
            self.free = self.free.minus(lease.resources)
        first = not self.leases
        self.leases[lease.id] = lease
        if first:
            self._note(lease.proposed_at)

    def give_back(self, lease: Lease, now: int) -> None:
        """Free what a lease held, at once."""
        if self.leases.pop(lease.id, None) is not None:
            self.free = self.free.plus(lease.resources)
            if not self.leases:
                self._note(now)

    def day(self, now: int) -> str:
        """Return what it was in the last day, see `Day.slots`. Who is only believed to be here is not noted as that."""
        if self._day.is_now not in UNHEARD or not self.life.online(now):
            self._note(now)
        return self._day.slots(now)

    def _note(self, now: int) -> None:
        life = self.life
        if not life.online(now):
            self._day.turn(OFFLINE, life.seen_at + LOST_AFTER_MS)
        else:
            self._day.turn(BUSY if self.leases else IDLE if life.offer.made.open else PAUSED, now)

    def place(self, now: int, *, suspended: bool, banned: bool, trust: str) -> Place:
        """Return the matcher's view of it."""
        return self.at_best._replace(
            here=self.life.here(now),
            suspended=suspended,
            banned=banned,
            trust=trust,
            free=NOTHING if self.life.rests(now) else self.free,
        )

    def _follow(self, effects: Iterable[Listed | Ignored]) -> None:
        """Sell by another offer; open leases keep what they hold."""
        for effect in effects:
            if isinstance(effect, Listed):
                self.offer = effect.offer
                self.at_best = _at_best(effect.offer)
                self.free = effect.offer.made.total
                for lease in self.leases.values():
                    self.free = self.free.minus(lease.resources)


class Floor:
    """All slots, by node."""

    def __init__(self) -> None:
        self.slots: dict[bytes, Slot] = {}
        self.in_turn: list[Slot] = []
        """The same, as they came: who walks over them stops and goes on where he was. None ever leaves."""
        self._amnesty = Amnesty()
        self._ordered: list[bytes] = []
        self._new: list[bytes] = []
        self.networks: dict[bytes, str] = {}
        """From where each node connects, as the registry sees it."""

    def offer(self, offer: Offer, now: int) -> None:
        """Put up or replace a node's offer."""
        if offer.node in self.slots:
            self.slots[offer.node].hear(Offered(offer, now))
        else:
            slot = self.slots[offer.node] = Slot(offer, now, self._amnesty)
            self.in_turn.append(slot)
            self._new.append(offer.node)

    def behind(self, node: bytes, limit: int) -> list[bytes]:
        """Return so many nodes at most whose ids come after this one, in their order."""
        if self._new:
            self._ordered = sorted(self._ordered + self._new)  # two runs in order at most are merged
            self._new.clear()
        start = bisect_right(self._ordered, node)
        return self._ordered[start : start + limit]

    def beat(self, node: bytes, boot: int, now: int) -> None:
        """Note a node's sign of life."""
        if node in self.slots:
            self.slots[node].hear(Beat(boot, now))

    def cool(self, node: bytes, now: int) -> None:
        """Leave a node in peace for a moment, the longer the more often it turned work down without doing any."""
        if node in self.slots:
            self.slots[node].apply(TurnedDown(now))

    def amnesty(self, now: int) -> None:
        """Count all nodes as just heard of and willing: the network itself was deaf, which is no fault of theirs.

        Each takes it in when it is looked at. To go over very many at once would be what makes the network deaf again.
        """
        self._amnesty.at = now
        self._amnesty.times += 1

    def knows(self, now: int) -> bool:
        """Whether those that are not there are known not to be: they have had the time to be heard since an amnesty."""
        return now - self._amnesty.at >= LOST_AFTER_MS

    def lost(self, leases: Iterable[Lease], now: int) -> Iterator[tuple[Lease, str]]:
        """Those of `leases` that their node cannot be working on any more, and why. Idle nodes cost nothing here."""
        for lease in leases:
            slot = self.slots[lease.node]
            if lease.id in slot.leases and (why := slot.life.lost(lease.boot, now)):
                yield lease, why


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
