"""A market with cheats in it: the production rules of matching and checking, with nodes that lie in given ways."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from fallow.domain.chart import Kind, collect
from fallow.domain.draws import Seed
from fallow.domain.facts import OfferMade, UsageReceipt
from fallow.domain.fees import Fees
from fallow.domain.jobs import ItemState, Needs
from fallow.domain.leases import Lease
from fallow.domain.offers import Offer
from fallow.domain.orders import Order
from fallow.domain.resources import Resources, Terms
from fallow.services.market.brain import Brain
from fallow.services.market.changes import Collect, Hold
from fallow.services.market.dispatch import dispatch
from fallow.services.market.entry import Entry
from fallow.services.market.money import _by_kind
from fallow.services.market.state import Source

PROGRAM = "ab" * 32
NODES, ITEMS, SEEDS = 40, 2_000, (1, 2, 3)
BUYER, OPERATOR = b"b" * 20, b"o" * 20
START_MS = 1_000_000
ROUND_MS = 1_000
HOUR_MS = 3_600_000

Answer = Callable[[int, int, random.Random], bytes]
"""What a node says an item gives: (item, how many results of this node were confirmed in a row, chance) -> 32 bytes."""


class Rate(NamedTuple):
    """A share of cases with its 95 % Wilson interval."""

    hits: int
    cases: int

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound."""
        if not self.cases:
            return 0.0, 1.0
        z, n, p = 1.96, self.cases, self.hits / self.cases
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        share = self.hits / self.cases if self.cases else 0.0
        return f"{share:.2%} ({low:.2%} to {high:.2%}; {self.hits} of {self.cases})"


class Outcome(NamedTuple):
    """What a run showed. `overhead` is leases beyond one per item, as a share of the items."""

    wrong_accepted: Rate
    lies_refused: Rate
    honest_hit: Rate
    overhead: float
    lies_paid_ms: int
    cheats_found: Rate = Rate(0, 0)
    cheats_suspect: Rate = Rate(0, 0)
    honest_suspect: Rate = Rate(0, 0)


def truth(item: int) -> bytes:
    """What an item really gives."""
    return hashlib.sha256(b"truth" + item.to_bytes(8, "big")).digest()


def honest(item: int, _: int, __: random.Random) -> bytes:
    """Tell the truth."""
    return truth(item)


def noisy(rate: float) -> Answer:
    """Tell the truth of a program that gives something else now and then."""

    def answer(item: int, _: int, chance: random.Random) -> bytes:
        return chance.randbytes(32) if chance.random() < rate else truth(item)

    return answer


def unlike(_: int, __: int, chance: random.Random) -> bytes:
    """Tell the truth of a program that gives something else each time."""
    return chance.randbytes(32)


NOISY, VERY_NOISY = noisy(0.1), noisy(0.5)

HONEST = (honest, unlike, NOISY, VERY_NOISY)


def liar(rate: float) -> Answer:
    """Lie with this probability, each time something else: alone, against everybody."""

    def answer(item: int, _: int, chance: random.Random) -> bytes:
        return chance.randbytes(32) if chance.random() < rate else truth(item)

    return answer


def conspirator(rate: float) -> Answer:
    """Lie on the same items, and the same, as all other conspirators."""

    def answer(item: int, _: int, __: random.Random) -> bytes:
        said = hashlib.sha256(b"agreed" + item.to_bytes(8, "big")).digest()
        return said if said[0] < 256 * rate else truth(item)

    return answer


def sleeper(rate: float) -> Answer:
    """Be honest until trusted, then lie with this probability."""

    def answer(item: int, confirmed: int, chance: random.Random) -> bytes:
        return chance.randbytes(32) if confirmed >= 10 and chance.random() < rate else truth(item)

    return answer


def run(
    answers: list[Answer],
    items: int,
    seed: int,
    *,
    replicas: int = 1,
    compares: bool = True,
    planted: int = 0,
    one_line: bool = False,
    reruns: bool = False,
) -> Outcome:
    """Let nodes with these ways of answering work through a map, each with an owner of his own.

    The operator has `planted` items for canaries beside it. With `one_line` all cheats are seen on one network, with
    `reruns` the work says what program it is, so that it can be run again.
    """
    chance = random.Random(seed)
    brain = Brain(Fees(), Seed(1, chance.randbytes(32)))
    nodes = {chance.randbytes(32): answer for answer in answers}
    for node in nodes:
        brain.offer(_offer(node, chance), START_MS)
    lines = {node: "192.0.2.0/24" for node, answer in nodes.items() if one_line and answer not in HONEST}
    brain.observed(START_MS, networks=lines)
    entry = _buy(brain, items, seed, replicas=replicas, compares=compares, planted=planted, reruns=reruns)
    leases = lies = refused = paid_ms = 0
    lied: set[bytes] = set()
    now = START_MS
    while entry.unfinished:
        now += ROUND_MS
        for node in nodes:
            brain.beat(now, node=node, boot=1, leases=())
        dispatch(brain, now, window_ms=HOUR_MS)
        for money in list(brain.changes.money):
            if isinstance(money, Hold):
                brain.held(money.lease, ((1, money.amount_microusd),))
            elif isinstance(money, Collect):
                brain.collected(money.lease, _moved(money))
                paid_ms += ROUND_MS * (money.lease.id in lied)
        changes = brain.take_changes()
        refused += len([found for found in changes.evidence if found.lease in lied])
        chance.shuffle(changes.proposals)
        for lease in changes.proposals:
            leases += 1
            replay = brain.jobs[lease.job].job.replay
            item = replay.item if replay else lease.item  # a canary is the same work under another name
            said = nodes[lease.node](item, brain.judging.standing(lease.node).confirmed, chance)
            if said != truth(item):
                lies += 1
                lied.add(lease.id)
            _work(brain, lease, said, now)
    refused += len([found for found in brain.take_changes().evidence if found.lease in lied])
    done = [item for item in entry.items.values() if item.state is ItemState.DONE]
    wrong = [item for item in done if item.result != truth(item.index).hex()]
    honest_nodes = [node for node, answer in nodes.items() if answer in HONEST]

    def found(node: bytes) -> bool:
        return brain.judging.standing(node).wrong > 0

    suspects = brain.judging.reruns.suspects((BUYER, PROGRAM))
    cheats = [node for node, answer in nodes.items() if answer not in HONEST]
    return Outcome(
        Rate(len(wrong), items),
        Rate(refused, lies),
        Rate(sum(map(found, honest_nodes)), len(honest_nodes)),
        (leases - items) / items,
        paid_ms,
        Rate(sum(map(found, cheats)), len(cheats)),
        Rate(len(suspects.intersection(cheats)), len(cheats)),
        Rate(len(suspects.intersection(honest_nodes)), len(honest_nodes)),
    )


def play(name: str, cheats: Sequence[Answer], rest: Answer = honest, **options: Any) -> Outcome:
    """Play a case with `SEEDS`, 40 nodes and 2,000 items each, print its rates and return them added up."""
    answers = [*cheats, *[rest] * (NODES - len(cheats))]
    runs = [run(answers, ITEMS, seed, **options) for seed in SEEDS]

    def added(rates: Iterable[Rate]) -> Rate:
        return Rate(*map(sum, zip(*rates, strict=True)))

    outcome = Outcome(
        added(one.wrong_accepted for one in runs),
        added(one.lies_refused for one in runs),
        added(one.honest_hit for one in runs),
        sum(one.overhead for one in runs) / len(runs),
        sum(one.lies_paid_ms for one in runs),
        added(one.cheats_found for one in runs),
        added(one.cheats_suspect for one in runs),
        added(one.honest_suspect for one in runs),
    )
    print(
        f"\n{name}: wrong results accepted {outcome.wrong_accepted}; lies refused {outcome.lies_refused}; cheats found"
        f" {outcome.cheats_found}, suspect {outcome.cheats_suspect}; honest nodes hit {outcome.honest_hit}, suspect"
        f" {outcome.honest_suspect}; extra leases {outcome.overhead:.1%}"
    )
    return outcome


def _moved(money: Collect) -> dict[Kind, Counter[int]]:
    """What goes where when the market collects."""
    return _by_kind(collect(money.lease.id, money.window, money.lease.held, [(money.lease.payee, money.charge)]))


def _buy(brain: Brain, items: int, seed: int, *, replicas: int, compares: bool, planted: int, reruns: bool) -> Entry:
    order = Order(id=f"{seed:032x}", vertical="compute", work={}, items=["0" * 64] * items, replicas=replicas)
    if planted:
        plants = Order(id=f"{seed + 1000:032x}", vertical="compute", work={}, items=["0" * 64] * planted, replicas=2)
        brain.submit(plants, OPERATOR, Needs(compares=True), START_MS, planted=True)
    needs = Needs(compares=compares, proves=compares, program=PROGRAM if reruns else "")
    brain.submit(order, BUYER, needs, START_MS)
    return brain.jobs[order.id]


def _offer(node: bytes, chance: random.Random) -> Offer:
    made = OfferMade(
        offer=1,
        open=True,
        total=Resources(cpu_milli=1000, memory_mib=1024, disk_mib=1024),
        terms=Terms(price_microusd_per_core_hour=10_000 + chance.randrange(1000)),
    )
    return Offer(node=node, account=hashlib.sha256(node).digest()[:20], boot=1, made=made)


def _work(brain: Brain, lease: Lease, said: bytes, now: int) -> None:
    source = Source(lease.node, 1, 0)
    brain.accepted(source, lease.id, now)
    receipt = UsageReceipt(lease=lease.id, window=0, used_ms=ROUND_MS, final=True, ok=True, result=said)
    brain.reported(source, receipt, now + ROUND_MS - 1)
