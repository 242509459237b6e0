"""Which nodes could take which work, kept from round to round, so that an order need not look at every node.

What an offer says decides who could take a wish at all, and at which price; it changes seldom. Who is here, has room
and is not suspended changes all the time, and is asked anew of as few nodes as it takes, the cheapest first.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import itemgetter

import msgspec

from fallow.domain.matching import BUSY, Place, Wish, candidates, fits, obstacles, price_of
from fallow.services.market.floor import Slot

WISHES_MAX = 256
"""Different wishes that are remembered; the one that was asked for longest ago is forgotten first."""

LOOKED_AT_ONCE = 2_000
"""Nodes that are looked at for a new wish before others get their turn: two milliseconds."""

Able = tuple[int, bytes, Slot]
"""A price per hour, the node, and its slot: nodes sort by price, and the same price by node."""


class Lookup:
    """The nodes that could take each wish if they were here and idle."""

    def __init__(self, *, wishes_max: int = WISHES_MAX) -> None:
        self._wishes_max = wishes_max
        self._known: OrderedDict[bytes, tuple[Wish, list[Able]]] = OrderedDict()
        self._changed: dict[bytes, Slot] = {}
        """Slots whose offers changed since the last wish began to be learnt."""

    def learn(self, key: bytes, wish: Wish, slots: Iterable[Slot], *, at_once: int = LOOKED_AT_ONCE) -> Iterator[None]:
        """Look at all of `slots` for a wish that is new, in portions: in between others may act, and offers change.

        One wish is learnt at a time.
        """
        if key in self._known:
            return
        self._changed.clear()
        able: list[Able] = []
        waiting = iter(list(slots))
        while portion := list(islice(waiting, at_once)):
            able += _all_able(portion, wish)
            yield
        able = [entry for entry in able if entry[1] not in self._changed]
        self._keep(key, wish, able + _all_able(self._changed.values(), wish))

    def able(self, key: bytes, wish: Wish, slots: Iterable[Slot]) -> list[Able]:
        """Those of `slots`, which are all there are, cheapest first. `key` is the wish's."""
        if key in self._known:
            self._known.move_to_end(key)
        else:
            self._keep(key, wish, _all_able(slots, wish))
        return self._known[key][1]

    def replace(self, slot: Slot, before: Place | None) -> None:
        """Take in that a slot's offer is another one; `before` is how it was at best, if it was there."""
        after = slot.at_best
        if after == before:
            return
        self._changed[slot.offer.node] = slot
        for wish, able in self._known.values():
            if before is not None and fits(before, wish):
                del able[bisect_left(able, (price_of(before, wish), before.node))]
            if fits(after, wish):
                insort(able, _able(slot, wish))

    def _keep(self, key: bytes, wish: Wish, able: list[Able]) -> None:
        self._known[key] = wish, sorted(able)
        if len(self._known) > self._wishes_max:
            self._known.popitem(last=False)


class Choices:
    """Who could take what in one round. Nothing else may change who is here, or give room back, while it is used."""

    def __init__(self, lookup: Lookup, slots: Mapping[bytes, Slot], look: Callable[[Slot], Place]) -> None:
        self._lookup = lookup
        self._slots = slots
        self._look = look
        self._choices: dict[bytes, Choice] = {}

    def of(self, wish: Wish) -> Choice:
        """The nodes for a wish: those who wish the same share them."""
        key = key_of(wish)
        if key not in self._choices:
            self._choices[key] = Choice(wish, self._lookup.able(key, wish, self._slots.values()), self._look)
        return self._choices[key]

    def only(self, node: bytes, wish: Wish) -> Choice:
        """One node alone, if it could take the wish."""
        slot = self._slots.get(node)
        able = [_able(slot, wish)] if slot is not None and fits(slot.at_best, wish) else []
        return Choice(wish, able, self._look)


class Choice:
    """The nodes for one wish in one round, best first. Who is full stays so, and is passed once."""

    def __init__(self, wish: Wish, able: Sequence[Able], look: Callable[[Slot], Place]) -> None:
        self._wish = wish
        self._resources = wish.requirements.resources
        self._able = able
        self._groups = groupby(able, key=itemgetter(0))
        self._look = look
        self._found: deque[Slot] = deque()

    def __iter__(self) -> Iterator[Slot]:
        """Who has room, best first."""
        while self._found and not self._found[0].free.holds(self._resources):
            self._found.popleft()
        passed = 0
        while passed < len(self._found) or self._find():
            slot = self._found[passed]
            passed += 1
            if slot.free.holds(self._resources):
                yield slot

    def here(self, such: Callable[[Slot], bool]) -> Iterator[Slot]:
        """Who could take it now, or would if he were not busy, of those that are `such`; that is asked first."""
        for _, _, slot in self._able:
            if such(slot) and obstacles(self._look(slot), self._wish) in {(), (BUSY,)}:
                yield slot

    def known(self) -> Iterator[Slot]:
        """Who could take it, now or when he is back or idle, the cheapest first."""
        for _, _, slot in self._able:
            place = self._look(slot)
            if not obstacles(place._replace(here=True, free=place.total), self._wish):
                yield slot

    def _find(self) -> bool:
        """Add the next nodes that have room and ask the same price; False when there are none."""
        for _, group in self._groups:
            roomy = {slot.offer.node: slot for _, _, slot in group if slot.free.holds(self._resources)}
            fitting = candidates(map(self._look, roomy.values()), self._wish) if roomy else []
            if fitting:
                self._found.extend(roomy[place.node] for place in fitting)
                return True
        return False


def key_of(wish: Wish) -> bytes:
    """What names a wish among others."""
    return msgspec.msgpack.encode(wish)


def _all_able(slots: Iterable[Slot], wish: Wish) -> list[Able]:
    return [_able(slot, wish) for slot in slots if fits(slot.at_best, wish)]


def _able(slot: Slot, wish: Wish) -> Able:
    return price_of(slot.at_best, wish), slot.offer.node, slot
