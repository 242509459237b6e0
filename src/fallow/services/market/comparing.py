"""Which results are to be compared by the buyer's tolerance, and what comparing them has shown.

All of it is in memory: a market that starts anew has what waits compared again, and gets the same answers.
"""

from __future__ import annotations

from typing import NamedTuple

from fallow.domain.jobs import Item, Job
from fallow.domain.orders import COMPARED_MIN, Tolerance
from fallow.domain.verification import Compared, to_compare

NOTHING = Compared()
"""Only what is equal agrees."""

Key = tuple[str, int]
"""A job and one of its items."""


class Asked(NamedTuple):
    """Results (SHA-256 in hex, of outcome documents) of one item that are to be compared for an account."""

    job: str
    item: int
    vertical: str
    account: bytes
    tolerance: Tolerance
    results: tuple[str, ...]

    @property
    def key(self) -> Key:
        """Which item it is about."""
        return self.job, self.item


class Comparing:
    """What waits to be compared, and what is known of open items."""

    def __init__(self) -> None:
        self.waiting: dict[Key, Asked] = {}
        self._known: dict[Key, tuple[tuple[str, ...], Compared]] = {}

    def of(self, job: Job, item: Item) -> Compared | None:
        """How an item's votes compare; None while that has to be found out, which is asked for hereby."""
        results = to_compare(item.votes)
        if job.order.tolerance is None or len(results) < COMPARED_MIN:
            return NOTHING
        key = job.order.id, item.index
        of, compared = self._known.get(key, ((), NOTHING))
        if of == results:
            return compared
        self.waiting[key] = Asked(*key, job.order.vertical, job.account, job.order.tolerance, results)
        return None

    def learn(self, asked: Asked, compared: Compared) -> bool:
        """Take in an answer; False when it came too late to be of use."""
        if self.waiting.get(asked.key) != asked:
            return False
        del self.waiting[asked.key]
        self._known[asked.key] = asked.results, compared
        return True

    def forget(self, key: Key) -> None:
        """An item has come to its end."""
        self.waiting.pop(key, None)
        self._known.pop(key, None)

    def next_for(self, last: bytes) -> Asked | None:
        """What to compare next: accounts take turns, in their order, so that nobody's map holds up the others."""
        accounts = sorted({asked.account for asked in self.waiting.values()})
        if not accounts:
            return None
        turn = next((account for account in accounts if account > last), accounts[0])
        return next(asked for asked in self.waiting.values() if asked.account == turn)
