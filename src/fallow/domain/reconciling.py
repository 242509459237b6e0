"""Two books that must say the same, held against each other item by item. Pure.

Both sides come in ascending order of their keys, so that neither has to fit into memory. Books are read while work goes
on: what one side may not have yet, or may have already, is not `due` and its absence says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec


class Item(NamedTuple):
    """An amount under a key; `who` is compared, too. Keys ascend."""

    key: bytes
    amount: int
    who: bytes = b""
    due: bool = True


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something that must not be. `code` says of which kind, `subject` names the item.

    `here` is what the ledger has, `there` what the chain, the archive or the statement has; "" is nothing.
    """

    code: str
    subject: str
    here: str = ""
    there: str = ""
    detail: str = ""


Name = Callable[[bytes], str]
"""How people read a key."""


def differences(what: str, here: Iterable[Item], there: Iterable[Item], name: Name = bytes.hex) -> Iterator[Difference]:
    """Compare: `<what>.missing` is not here, `.unfounded` not there, `.repeated` there twice, `.differs` from there."""
    ours, theirs = iter(here), iter(there)
    mine, other, last = next(ours, None), next(theirs, None), None
    while mine is not None or other is not None:
        if other is not None and last is not None and other.key == last:
            yield Difference(code=f"{what}.repeated", subject=name(other.key), there=shown(other))
            other = next(theirs, None)
        elif other is None or (mine is not None and mine.key < other.key):
            if mine is not None and mine.due:
                yield Difference(code=f"{what}.unfounded", subject=name(mine.key), here=shown(mine))
            mine = next(ours, None)
        elif mine is None or other.key < mine.key:
            if other.due:
                yield Difference(code=f"{what}.missing", subject=name(other.key), there=shown(other))
            last, other = other.key, next(theirs, None)
        else:
            if (mine.amount, mine.who) != (other.amount, other.who):
                subject = name(mine.key)
                yield Difference(code=f"{what}.differs", subject=subject, here=shown(mine), there=shown(other))
            last, mine, other = other.key, next(ours, None), next(theirs, None)


def beyond(what: str, taken: Iterable[Item], allowed: Iterable[Item], name: Name = bytes.hex) -> Iterator[Difference]:
    """Compare where one side may be less: `<what>.exceeds` is more than is allowed, or than nothing at all."""
    limits = iter(allowed)
    limit = next(limits, None)
    for one in taken:
        while limit is not None and limit.key < one.key:
            limit = next(limits, None)
        most = limit if limit is not None and limit.key == one.key else None
        if one.amount > (most.amount if most else 0):
            there = shown(most) if most else ""
            yield Difference(code=f"{what}.exceeds", subject=name(one.key), here=shown(one), there=there)
    for _ in limits:  # a file is only known as the right one at its end
        pass


def shown(item: Item) -> str:
    """How people read an item's amount, and whose it is."""
    return f"{item.amount} 0x{item.who.hex()}" if item.who else str(item.amount)
