"""Placing waiting items on nodes: each round gives every open job its turn, one item at a time.

No item waits behind another that cannot be placed: an order that fits nowhere now is passed over.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable
from functools import partial

import msgspec

from fallow.domain.billing import deposit
from fallow.domain.canaries import REPLAY_MS_MAX
from fallow.domain.chart import NETWORK
from fallow.domain.jobs import Item, Job, Needs
from fallow.domain.leases import Lease
from fallow.domain.matching import Wish, fits, price_of, rank
from fallow.domain.orders import Order
from fallow.domain.verification import NEW
from fallow.services.market.brain import ANSWER_MS, Brain
from fallow.services.market.entry import Entry
from fallow.services.market.floor import Slot
from fallow.services.market.lookup import Choices
from fallow.services.market.reruns import NOBODY
from fallow.services.market.spot import Preemption

PLACED_A_ROUND_MAX = 500
PREEMPTED_A_ROUND_MAX = 32
"""Items on demand for which room is made in one round."""


def wish_of(order: Order, needs: Needs, buyer: bytes = b"") -> Wish:
    """What an order's items need of a node; `buyer` is the account that orders."""
    trust_min = needs.trust_min(order)
    return Wish(
        order.requirements,
        needs.attributes,
        order.max_price_microusd_per_hour,
        trust_min=trust_min,
        spot=order.spot,
        buyer=b"" if trust_min == NEW else buyer,
    )


def lease_id(job_id: str, item: Item) -> bytes:
    """16 bytes that name an item's next attempt: the same attempt has the same id, also after a crash."""
    return hashlib.sha256(f"fallow/lease/1\0{job_id}\0{item.index}\0{item.attempts}".encode()).digest()[:16]


def dispatch(brain: Brain, now: int, *, window_ms: int) -> int:
    """Propose leases for waiting items; returns how many. Orders on demand come first, with what spot leases hold."""
    brain.give_canaries(now)
    brain.give_reruns(now)
    choices = brain.choices(now)
    waiting = [entry for entry in brain.jobs.values() if entry.waiting]
    # Canaries come first: they are few, and a node that is never free for one would never be looked at.
    waiting.sort(key=lambda entry: entry.job.replay is None)
    on_demand = [_Turn(brain, entry, choices, now) for entry in waiting if not entry.job.order.spot]
    count = _take_turns(on_demand, window_ms, PLACED_A_ROUND_MAX)
    claimed = _make_room(brain, on_demand, window_ms, now)
    if claimed:
        choices = brain.choices(now, claimed)
    on_spot = [_Turn(brain, entry, choices, now) for entry in waiting if entry.job.order.spot]
    return count + _take_turns(on_spot, window_ms, PLACED_A_ROUND_MAX - count)


def _take_turns(turns: Iterable[_Turn], window_ms: int, count_max: int) -> int:
    left = deque(turns)
    count = 0
    while left and count < count_max:
        turn = left.popleft()
        if turn.place_one(window_ms):
            count += 1
            left.append(turn)
    return count


def _make_room(brain: Brain, turns: Iterable[_Turn], window_ms: int, now: int) -> set[bytes]:
    """End spot leases where items on demand found no room; returns the nodes on which room is being made."""
    short = [(turn, item) for turn in turns for item in turn.short]
    if not short:
        return set()
    preemption = Preemption(brain, now)
    for turn, item in short[:PREEMPTED_A_ROUND_MAX]:
        account = turn.entry.job.account
        if brain.evictions.may(account, now):
            ended = preemption.make_room(turn.wish, turn.barred(item), partial(turn.affords, item, window_ms))
            brain.evictions.note(account, ended, now)
    return preemption.claimed


class _Turn:
    """One job's part in a round."""

    def __init__(self, brain: Brain, entry: Entry, choices: Choices, now: int) -> None:
        self.brain = brain
        self.now = now
        self.entry = entry
        # Results that wait to be checked come first: until then their money and their nodes' standing are open.
        due = (index for index in entry.waiting if entry.items[index].again_at <= now)
        self.waiting = deque(sorted(due, key=lambda index: not entry.items[index].votes))
        self.per_owner_max = entry.job.order.requirements.leases_per_owner_max
        self.wish, suspect = wish_of(entry.job.order, entry.job.needs, entry.job.account), entry.suspect
        self.slots = choices.of(self.wish) if suspect is None else choices.only(suspect, self.wish)
        self.suspects = self._suspects()
        self.short: list[Item] = []
        """Items that found no room, although there is money for them."""

    def place_one(self, window_ms: int) -> bool:
        """Place the next item that fits anywhere; False when the job's turn in this round is over."""
        while self.waiting:
            index = self.waiting.popleft()
            item = self.entry.items[index]
            payer = self._payer(item)
            unfunded = self._unfunded(payer)
            if not item.lacks_lease or (payer and unfunded):
                continue
            slot = None if unfunded else self._slot_for(item)
            if slot is None:
                if not unfunded and self.entry.suspect is None and not self.entry.first:
                    self.short.append(item)
                self._give_up_checking(item, payer)
                if len(self.short) >= PREEMPTED_A_ROUND_MAX and not (item.votes or item.leases or item.shunned):
                    return False  # it is the same with those behind it, and room is made for no more of them
            elif self._place(item, slot, payer, window_ms):
                self.waiting.append(index)
                return True
        return False

    @property
    def _planted(self) -> bool:
        """Whether the operator ordered it, and so decides what it may cost."""
        return self.entry.job.planted and self.entry.job.replay is None

    def _unfunded(self, payer: bytes) -> bool:
        """Whether there was no money for the payer's last lease. What the network planted stops none of its checks."""
        return payer in self.brain.unfunded and (payer != NETWORK or self._planted)

    def _suspects(self) -> frozenset[bytes]:
        """Nodes that re-runs of this program hint at: they get none of it while there is another that could do it."""
        found = self.brain.judging.reruns.suspects((self.entry.job.account, self.entry.job.needs.program))
        others = found and any(self.slots.here(lambda slot: slot.offer.node not in found))
        return found if others else NOBODY

    def _give_up_checking(self, item: Item, payer: bytes) -> None:
        """Do with the results that are there when the network cannot pay for another, or no node could give one."""
        is_canary = self.entry.job.replay is not None
        if item.leases or not (item.votes or is_canary):
            return
        if self._unfunded(payer) or self._hopeless(item):
            self.brain.uncheck(self.entry, item, self.now)

    def _payer(self, item: Item) -> bytes:
        """The buyer pays as many results as he ordered; the network pays for those that it checks them with.

        Where only the buyer says that results must be equal, he pays also for those that decide between them.
        """
        job = self.entry.job
        if not job.needs.proves:
            return job.payer
        return job.payer if len(item.leases) + len(item.votes) < job.order.replicas else NETWORK

    def _slot_for(self, item: Item) -> Slot | None:
        owners = self._owners(item)
        busy = self._busy_owners()
        best = next((slot for slot in self.slots if self._other(slot, item, owners | busy)), None)
        if best is not None and best.offer.node in item.given_back:
            best = self._not_tried(item, owners | busy) or best
        if best is not None:
            return self._holder_as_good(best, item, owners | busy)
        if not item.shunned or owners or not self._hopeless(item):
            return None
        # All nodes that could do it lost it before: they are better than nobody, until it was lost too often.
        return next((slot for slot in self.slots if slot.offer.account not in busy), None)

    def _not_tried(self, item: Item, owners: set[bytes]) -> Slot | None:
        """The best node of those that have not given it back."""
        others = (slot for slot in self.slots if slot.offer.node not in item.given_back)
        return next((slot for slot in others if self._other(slot, item, owners)), None)

    def barred(self, item: Item) -> set[bytes]:
        """Accounts whose nodes may not get an item now."""
        return self._owners(item) | self._busy_owners()

    def _busy_owners(self) -> set[bytes]:
        """Owners whose nodes work on as many of the order's items as the buyer wants of them at a time."""
        if self.per_owner_max is None:
            return set()
        leases = (lease for item in self.entry.items.values() for lease in item.leases)
        counts = Counter(self.brain.leases[lease].payee for lease in leases)
        return {owner for owner, count in counts.items() if count >= self.per_owner_max}

    def _holder_as_good(self, best: Slot, item: Item, owners: set[bytes]) -> Slot:
        """A node that has the inputs already, if it is as good as the best one in what counts more; else the best."""
        holders = self.brain.holders.of((self.entry.job.account, self.entry.job.needs.held))
        if best.offer.node in holders or self.entry.suspect is not None:
            return best
        price, to_beat = price_of(best.at_best, self.wish), rank(self.brain.place_of(best, self.now), self.wish)
        for slot in (self.brain.floor.slots[node] for node in holders if node not in item.given_back):
            if price_of(slot.at_best, self.wish) > price or not self._other(slot, item, owners):
                continue
            place = self.brain.place_of(slot, self.now)._replace(holds=True)
            if fits(place, self.wish) and rank(place, self.wish) < to_beat:
                return slot
        return best

    def affords(self, item: Item, window_ms: int, price_microusd_per_hour: int) -> bool:
        """Whether the order's budget covers another lease for an item at a price; checks are paid by the network."""
        first_ms = min(window_ms, self.entry.job.order.lease_limit_s * 1000)
        return self._payer(item) == NETWORK or self.entry.affords(deposit(price_microusd_per_hour, first_ms))

    def _affords_another(self, item: Item, window_ms: int) -> bool:
        """Whether the budget would cover a cheaper node that is known, but busy or away: then an item waits for it."""
        others = (slot for slot in self.slots.known() if self._other(slot, item, self._owners(item)))
        cheapest = next(others, None)
        return cheapest is not None and self.affords(item, window_ms, price_of(cheapest.at_best, self.wish))

    def _owners(self, item: Item) -> set[bytes]:
        """Accounts that work or worked on an item: no owner confirms himself, nor checks what he bought himself."""
        job, leases = self.entry.job, self.brain.leases
        buyer = {job.replay.account if job.replay else job.payer} if self._payer(item) == NETWORK else set[bytes]()
        votes = (*self.entry.first, *item.votes)
        return buyer | {vote.account for vote in votes} | {leases[lease].payee for lease in item.leases}

    def _other(self, slot: Slot, item: Item, owners: set[bytes]) -> bool:
        node = slot.offer.node
        barred = node in item.shunned or node in self.suspects or slot.offer.account in owners
        return not barred and not self._shares_a_line(node, item)

    def _shares_a_line(self, node: bytes, item: Item) -> bool:
        """Whether a node is seen on the network of one that has to do with an item: it confirms no neighbour."""
        networks, leases = self.brain.floor.networks, self.brain.leases
        nodes = [vote.node for vote in (*self.entry.first, *item.votes)] + [leases[lease].node for lease in item.leases]
        line = networks.get(node)
        return bool(line) and any(networks.get(other) == line for other in nodes)

    def _hopeless(self, item: Item) -> bool:
        """Whether no node that is here could ever give one more result for an item."""
        owners = self._owners(item)
        return not any(self.slots.here(lambda slot: self._other(slot, item, owners)))

    def _place(self, item: Item, slot: Slot, payer: bytes, window_ms: int) -> bool:
        price = price_of(slot.at_best, self.wish)
        if not self.affords(item, window_ms, price):
            if item.votes and not item.leases:
                self.brain.settle_for_less(self.entry, item, self.now)
            elif not self._affords_another(item, window_ms):
                self.brain.over_budget(self.entry, item, self.now)
            return False
        lease = _lease(self.entry.job, item, slot, payer, self.now, window_ms, price)
        covered = self._covered(item, lease)
        if covered is None:
            if not item.leases:
                self.brain.uncheck(self.entry, item, self.now)
            return False
        self.brain.place(self.entry.job.order.id, item.index, covered)
        return True

    def _covered(self, item: Item, lease: Lease) -> Lease | None:
        """The lease with who pays for it if the network orders it as a check; None when nobody does."""
        if lease.payer != NETWORK or self._planted:
            return lease
        whole_ms = lease.window_limit_ms
        limit_ms = whole_ms if self.entry.job.replay is None else min(whole_ms, REPLAY_MS_MAX)
        first = [self.brain.leases[vote.lease] for vote in item.votes]
        first_ms = max((one.used_ms + one.claim_ms for one in first), default=0)
        charged_to, ms = self.brain.payable(
            self._due_to(item), lease.node, lease.price_microusd_per_hour, limit_ms, first_ms, self.now
        )
        covered_ms = None if ms == whole_ms else ms
        return msgspec.structs.replace(lease, charged_to=charged_to, covered_ms=covered_ms) if ms else None

    def _due_to(self, item: Item) -> bytes:
        """The account whose fees pay what the network orders: who ordered the work that is done once more.

        A canary itself is due to who bought what nobody checked, and so are all results of a planted one.
        """
        job, replay = self.entry.job, self.entry.job.replay
        if replay is None:
            return job.account
        return replay.account if item.votes and not job.planted else replay.due_to


def _lease(job: Job, item: Item, slot: Slot, payer: bytes, now: int, window_ms: int, price: int) -> Lease:
    order, offer = job.order, slot.offer
    resources = order.requirements.resources
    return Lease(
        id=lease_id(order.id, item),
        job=order.id,
        item=item.index,
        payer=payer,
        payee=offer.account,
        node=offer.node,
        boot=slot.life.boot,
        resources=resources,
        price_microusd_per_hour=price,
        price_version=offer.made.offer,
        window_ms=window_ms,
        time_limit_ms=order.lease_limit_s * 1000,
        proposed_at=now,
        answer_by=now + ANSWER_MS,
        resume=item.checkpoint,
        until_stopped=order.until_stopped,
        spot=order.spot,
    )
