"""What nodes put up, and the life of an offer as a pure function: (life, event) -> (life, effects).

An offer stands from the node's first record of it. It takes leases while its owner has it open, its node gives signs of
life, and it was not just turned down; another record of the node replaces it, for new leases only. A higher boot number
says that the agent was started anew and knows nothing of the leases before.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fallow.domain.facts import OfferMade
from fallow.domain.resources import Terms
from fallow.domain.verification import Vote


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A node's latest offer, the boot that made it, and the account that earns.

    `spot` are its terms for spot leases; None: it takes none. `cell` is where it says that it is; "" where it does not.
    """

    node: bytes
    account: bytes
    boot: int
    made: OfferMade
    spot: Terms | None = None
    cell: str = ""


LOST_AFTER_MS = 10_000
"""Without a sign of life for so long a node's leases are lost. A shorter flap of its link closes nothing."""

REBOOT_GRACE_MS = 3_000
"""A restarted agent first delivers what it had finished before; only then are the old leases lost."""

COOL_MS = 2_000
"""After a decline, a reclaim or an unanswered proposal a node gets no new proposal for so long."""

COOL_DOUBLINGS_MAX = 5
"""Each time that this happens again before the node has done any work the time doubles, to about a minute."""


class OfferLife(NamedTuple):
    """Where an offer stands: when its node was heard of, since when it runs under which boot, and its rest.

    Until `cool_until` it gets no proposal, after `cooled` times in a row that it turned work down. Times are the
    network's own, in milliseconds.
    """

    offer: Offer
    seen_at: int
    boot: int
    boot_at: int
    cool_until: int = 0
    cooled: int = 0

    def online(self, now: int) -> bool:
        """Whether its node was heard of lately."""
        return now - self.seen_at < LOST_AFTER_MS

    def here(self, now: int) -> bool:
        """Whether its owner has it open, and its node is there."""
        return self.offer.made.open and self.online(now)

    def rests(self, now: int) -> bool:
        """Whether it is left in peace for a moment."""
        return now < self.cool_until

    def lost(self, boot: int, now: int) -> str:
        """Why a lease that its node accepted under `boot` cannot be worked on any more; "" while it can."""
        if not self.online(now):
            return "node.vanished"
        return "node.restarted" if boot < self.boot and now - self.boot_at >= REBOOT_GRACE_MS else ""


class Offered(NamedTuple):
    """A signed offer came in."""

    offer: Offer
    at: int


class Beat(NamedTuple):
    """The node gave a sign of life."""

    boot: int
    at: int


class TurnedDown(NamedTuple):
    """It declined, let a proposal pass, or took its machine back."""

    at: int


class Worked(NamedTuple):
    """It did some work."""


class Forgiven(NamedTuple):
    """The network itself was deaf: no silence of nodes counts."""

    at: int


OfferEvent = Offered | Beat | TurnedDown | Worked | Forgiven


class Listed(NamedTuple):
    """The market sells by this offer from now on."""

    offer: Offer


class Ignored(NamedTuple):
    """The event does not fit the offer; nothing changed."""

    code: str


OfferStep = tuple[OfferLife, tuple[Listed | Ignored, ...]]


def put_up(offer: Offer, at: int) -> OfferStep:
    """Begin: a node's first offer."""
    return OfferLife(offer, seen_at=at, boot=offer.boot, boot_at=at), (Listed(offer),)


def step(life: OfferLife, event: OfferEvent) -> OfferStep:
    """Apply one event. One that does not fit is ignored with a code and changes nothing."""
    effects: tuple[Listed | Ignored, ...] = ()
    match event:
        case Offered(offer, at):
            life = _booted(life._replace(offer=offer, seen_at=max(life.seen_at, at)), offer.boot, at)
            effects = (Listed(offer),)
        case Beat(boot, at) if boot >= life.boot:
            life = _booted(life._replace(seen_at=at), boot, at)
        case Beat():
            effects = (Ignored("node.older_boot"),)
        case TurnedDown(at) if life.rests(at):  # several answers to proposals of one moment count once
            effects = (Ignored("node.rests"),)
        case TurnedDown(at):
            rest_ms = COOL_MS << min(life.cooled, COOL_DOUBLINGS_MAX)
            life = life._replace(cool_until=at + rest_ms, cooled=life.cooled + 1)
        case Worked():
            life = life._replace(cooled=0)
        case Forgiven(at):
            life = life._replace(seen_at=at, cool_until=0, cooled=0)
    return life, effects


def _booted(life: OfferLife, boot: int, at: int) -> OfferLife:
    return life._replace(boot=boot, boot_at=at) if boot > life.boot else life


class Evidence(NamedTuple):
    """Why a node was found wrong: its lease, and all the votes on the item, its own among them."""

    lease: bytes
    node: bytes
    at: int
    code: str
    votes: tuple[Vote, ...]


REFUSALS_A_NODE_MAX = 1_000
REFUSALS_KEPT_MS = 30 * 86_400_000
"""Refusals are kept for a month, the latest thousand of each node: the records themselves are kept for ever."""


class Refusal(NamedTuple):
    """A record that changed nothing, and why. It is kept: nobody is refused in silence."""

    node: bytes
    boot: int
    seq: int
    code: str
    at: int
