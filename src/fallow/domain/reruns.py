"""Re-runs: work that nobody compares, done once more on a machine of the same class, and what that hints at. Pure.

Scripts and containers may give other bytes each time, so that a difference proves nothing; the same bytes do prove
something. A program that repeats itself elsewhere and not on one node makes this node suspect. Suspicion costs it
neither money nor standing: it brings canaries, whose answers are known, and other nodes come before it for this
program. (Decision: docs/adr/0020-tolerance-and-hints.md.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from fallow.domain.canaries import USED_MS_MAX
from fallow.domain.chart import NETWORK
from fallow.domain.draws import Purpose, Seed, hidden_id
from fallow.domain.jobs import Job, Replay
from fallow.domain.leases import Lease
from fallow.domain.matching import GPU_MODEL
from fallow.domain.verification import Judgement, Vote

CLASS = ("os", "arch", "cpu.model", "python", GPU_MODEL)
"""Attributes that two machines share to be of one class, beside those that the work itself asks for."""

KEPT_MAX = 128
"""The latest re-runs of a program that count."""

WATCHED = 2
"""After a difference a node's results of this program are all run again, until so many in a row agreed."""

HINTS_MIN = 2
"""Owners with whose nodes a node must have differed to be suspect: with one of them it may be the other's doing."""

AGREED_MIN = 3
"""Times that a program must have repeated itself among other nodes, before a difference hints at anything."""

TIMES_OTHERS = 4
"""So many times as often as the others' a suspect's re-runs must differ."""

VAIN_MAX = 6
"""A program that differed so often and never agreed is not run again: it is one that never repeats itself."""

Program = tuple[bytes, str]
"""A buyer's account, and what names his program whatever its arguments and inputs are."""


class Rerun(NamedTuple):
    """What one re-run has shown: two nodes, and their owners, gave the same bytes or did not.

    `lease` is the one whose result was run again, or compared with the believed one: each at most once.
    """

    lease: bytes
    account: bytes
    program: str
    nodes: tuple[bytes, bytes]
    owners: tuple[bytes, bytes]
    same: bool
    at: int

    @property
    def key(self) -> Program:
        """Of which program it is."""
        return self.account, self.program

    def other(self, node: bytes) -> int:
        """Place of the node that did it beside `node`."""
        return 1 - self.nodes.index(node)


def can_be_rerun(job: Job, lease: Lease) -> bool:
    """Whether a result may be run again at the network's cost: short, whole, without secrets, of a named program.

    What an owner buys from himself shows nothing of him.
    """
    once = job.replay is not None or job.planted or job.order.until_stopped or job.needs.secrets or lease.resume
    whole = lease.ok and lease.used_ms + lease.claim_ms <= USED_MS_MAX
    return bool(job.needs.program) and not job.needs.compares and not once and whole and lease.payee != job.payer


def class_of(attributes: Mapping[str, str]) -> dict[str, str]:
    """What another machine must have to be of the same class."""
    return {name: attributes[name] for name in CLASS if name in attributes}


def rerun(job: Job, index: int, first: Vote, attributes: Mapping[str, str], seed: Seed, now: int) -> Job:
    """The job that has an item done once more by a node like the first one; the same result brings the same job.

    As with canaries nothing in it tells it from work that is bought.
    """
    name = hidden_id(seed, Purpose.RERUN, first.lease)
    items = [job.order.items[index]] if job.order.items else []
    order = msgspec.structs.replace(
        job.order, id=name, items=items, replicas=1, retries=0, budget_microusd=None, label="", spot=False
    )
    needs = msgspec.structs.replace(
        job.needs, attributes={**class_of(attributes), **job.needs.attributes}, compares=False, proves=True
    )
    replay = Replay(
        job=job.order.id, item=index, account=job.account, node=b"", says=first.says, first=first, due_to=job.account
    )
    return Job(order=order, account=NETWORK, needs=needs, created_at=now, replay=replay)


def compared(job: Job, vote: Vote, at: int) -> Rerun:
    """What a re-run's result says beside the first one."""
    replay = job.replay
    if replay is None or replay.first is None:
        raise ValueError(f"job {job.order.id} is no re-run")
    first = replay.first
    return Rerun(
        lease=first.lease,
        account=replay.account,
        program=job.needs.program,
        nodes=(first.node, vote.node),
        owners=(first.account, vote.account),
        same=vote.says == first.says,
        at=at,
    )


def hints_of(job: Job, judgement: Judgement, at: int) -> list[Rerun]:
    """What replicas that a buyer ordered say of nodes: each beside the one that is believed, his own left out."""
    if not job.needs.program or not judgement.right or judgement.right[0].account == job.payer:
        return []
    believed, *same = judgement.right
    told = [*((vote, True) for vote in same), *((vote, False) for vote in judgement.wrong if vote.ok)]
    return [
        Rerun(
            lease=vote.lease,
            account=job.account,
            program=job.needs.program,
            nodes=(believed.node, vote.node),
            owners=(believed.account, vote.account),
            same=alike,
            at=at,
        )
        for vote, alike in told
        if vote.account != job.payer
    ]


def in_vain(found: Sequence[Rerun]) -> bool:
    """Whether a program has shown that it never repeats itself."""
    return len(found) >= VAIN_MAX and not any(one.same for one in found)


def watched(node: bytes, found: Sequence[Rerun]) -> bool:
    """Whether a node's next result of a program is run again in any case: one of its latest differed.

    So a hint is followed up at once, however large the network is: it is either confirmed or taken away. A program
    that often differs among others is not worth it.
    """
    own = [one.same for one in found if node in one.nodes]
    if all(own[-WATCHED:]):
        return False
    agreed, differed = _among_reputable(node, found)
    return agreed >= AGREED_MIN and agreed >= TIMES_OTHERS * differed


def suspects(found: Sequence[Rerun]) -> frozenset[bytes]:
    """Nodes that re-runs of one program hint at: they differ where others agree.

    Only differences with nodes that agreed with a third one count, so that a liar makes nobody suspect who agrees
    with others, and a program that never repeats itself makes nobody suspect at all.
    """
    differing = Counter(node for one in found if not one.same for node in one.nodes)
    return frozenset(node for node, times in differing.items() if times >= HINTS_MIN and _is_suspect(node, found))


def _is_suspect(node: bytes, found: Sequence[Rerun]) -> bool:
    reputable = _reputable(node, found)
    counting = [one for one in found if node in one.nodes and one.nodes[one.other(node)] in reputable]
    differing = [one for one in counting if not one.same]
    if len({one.owners[one.other(node)] for one in differing}) < HINTS_MIN:
        return False
    agreed, differed = _among_reputable(node, found)
    more = len(differing) * (agreed + differed) >= TIMES_OTHERS * differed * len(counting)
    return agreed >= AGREED_MIN and more


def _reputable(node: bytes, found: Sequence[Rerun]) -> frozenset[bytes]:
    """Nodes that agreed with one other than `node`."""
    return frozenset(other for one in found if one.same and node not in one.nodes for other in one.nodes)


def _among_reputable(node: bytes, found: Sequence[Rerun]) -> tuple[int, int]:
    """How often a program repeated itself among reputable nodes without `node`, and how often it did not."""
    reputable = _reputable(node, found)
    among = [one.same for one in found if node not in one.nodes and reputable.issuperset(one.nodes)]
    return sum(among), len(among) - sum(among)
