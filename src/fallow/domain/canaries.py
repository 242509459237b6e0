"""Canaries: work whose result is known, given to a node to see whether it tells the truth. Pure.

A canary is an item that was bought, or planted by the operator, and on which several owners' nodes agreed. Nothing in
it tells it from other work. One whose answer differs from the known one is not judged by that alone, for the known one
may be a conspiracy's: further owners' nodes do the item, and their majority decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from fallow.domain.chart import NETWORK
from fallow.domain.draws import Purpose, Seed, hidden_id
from fallow.domain.errors import InvalidInput
from fallow.domain.jobs import Item, Job, Replay
from fallow.domain.leases import Lease
from fallow.domain.orders import Order
from fallow.domain.resources import PRICE_MICROUSD_MAX
from fallow.domain.verification import CHECKED_VOTES, TRUSTED_AFTER, Judgement, Says, Standing

USED_MS_MAX = 60_000
"""Longer work makes no canary: the network pays for each."""

REPLAY_MS_MAX = 4 * USED_MS_MAX
"""So long the network pays a canary or a re-run of such work at most."""

PRICE_TIMES_MAX = 4
"""A canary costs at most so many times as much an hour as the work of the node that it is due to: the price is the
node's own, and a buyer's fees pay it."""

KNOWN_MAX = 128
KNOWN_A_JOB_MAX = 4
"""One buyer's map must not be all that canaries are made of."""

USES_MAX = 16
"""So often a known item is given out: those who met it may have told each other."""

DISPUTED_VOTES = 3
"""Votes that are compared when a canary's answer is not the known one, the node's own among them."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """An item with a known result since `at`, its job cut down to it. `accounts` are those whose nodes have met it."""

    job: Job
    item: int
    says: Says
    at: int
    accounts: tuple[bytes, ...]
    uses: int = 0

    @property
    def key(self) -> tuple[str, int]:
        """What names it."""
        return self.job.order.id, self.item


def canary_one_in(standing: Standing) -> int:
    """After one in how many results that nobody checked a node is given a canary: as often as results are checked."""
    return max(TRUSTED_AFTER, standing.confirmed)


def known_of(job: Job, item: Item, judgement: Judgement, used_ms: int, at: int) -> Known | None:
    """What is known after a judgement, if it makes a canary: short work that went well, with owners who agree."""
    agreed = len(judgement.right) >= CHECKED_VOTES and judgement.right[0].ok
    once = job.replay is not None or job.order.until_stopped or job.needs.secrets
    if not agreed or once or used_ms > USED_MS_MAX:
        return None
    items = [job.order.items[item.index]] if job.order.items else []
    order = msgspec.structs.replace(job.order, items=items, replicas=1, retries=0, budget_microusd=None)
    return Known(
        job=msgspec.structs.replace(job, order=order),
        item=item.index,
        says=judgement.right[0].says,
        at=at,
        accounts=tuple(sorted({vote.account for vote in item.votes})),
    )


def crowded_out(pool: Sequence[Known], new: Known) -> list[Known]:
    """Which entries (oldest first in `pool`) make room for a new one: its own job's, else bought ones, else any."""
    same = [entry for entry in pool if entry.job.order.id == new.job.order.id]
    if len(same) >= KNOWN_A_JOB_MAX:
        return same[:1]
    if len(pool) < KNOWN_MAX:
        return []
    return ([entry for entry in pool if not entry.job.planted] or list(pool))[:1]


def check_planted(order: Order) -> None:
    """Refuse an order that the network is to pay for and make canaries of, unless results can be known and prices end.

    Raises:
        InvalidInput: too few replicas, a tolerance, no highest price, or a budget: the network's own order keeps none.
    """
    if order.replicas < CHECKED_VOTES:
        raise InvalidInput(
            "checks.replicas", "A result is known when owners agree on it.", f"Ask for {CHECKED_VOTES} replicas."
        )
    if order.tolerance is not None:
        raise InvalidInput("checks.exact", "A result is known when it is the same byte for byte.", "Leave compare out.")
    if order.max_price_microusd_per_hour == PRICE_MICROUSD_MAX:
        raise InvalidInput(
            "checks.price", "The network pays what the nodes ask for that do it.", "Say the most an hour: --max-price."
        )
    if order.budget_microusd is not None:
        raise InvalidInput(
            "checks.budget", "What the network orders has no budget.", "Plant fewer inputs, with a time limit."
        )


class Owed(NamedTuple):
    """That a node is due for a canary after a lease. `sold` is that lease where it is what the buyer paid the node for.

    Without it no buyer's fees pay for the canary.
    """

    lease: bytes
    sold: Lease | None = None

    def order_of(self, known: Known) -> Order:
        """The known item's order as the node is given it: as what it sold, on demand or spot, and not much dearer."""
        order = known.job.order
        if self.sold is None:
            return order
        price = min(order.max_price_microusd_per_hour, PRICE_TIMES_MAX * self.sold.price_microusd_per_hour)
        return msgspec.structs.replace(order, max_price_microusd_per_hour=price, spot=self.sold.spot)


def canary(known: Known, node: bytes, owed: Owed, seed: Seed, now: int) -> Job:
    """The job that gives a known item to `node`: a lease that drew one brings one, and one for each node it hints at.

    Their names differ: a job that had ended would else begin anew, with leases whose money has moved already.
    """
    due = owed.lease if owed.sold is not None else owed.lease + node
    name = hidden_id(seed, Purpose.CANARY, due)
    order = msgspec.structs.replace(owed.order_of(known), id=name, label="")
    replay = Replay(
        job=known.job.order.id,
        item=known.item,
        account=known.job.account,
        node=node,
        says=known.says,
        due_to=owed.sold.payer if owed.sold is not None else NETWORK,
    )
    return Job(
        order=order,
        account=NETWORK,
        needs=known.job.needs,
        created_at=now,
        planted=known.job.planted,
        replay=replay,
    )


def met(known: Known, account: bytes) -> Known | None:
    """What remains known after an owner's node met it; None when it is used up."""
    if known.uses + 1 >= USES_MAX:
        return None
    return msgspec.structs.replace(known, uses=known.uses + 1, accounts=tuple(sorted({*known.accounts, account})))
