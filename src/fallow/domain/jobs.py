"""The life of a job and of its items, pure.

A job has one item, or as many as a map has inputs. An item waits, is placed on a node by a lease, runs, perhaps is
checked by another owner's node, and is done, failed or cancelled. What the network or a provider lost goes back to
waiting, on another node; what the buyer's own program did wrong is tried again only as often as the buyer asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from fallow.domain.errors import InvalidInput
from fallow.domain.leases import CHECKPOINT_UNUSABLE, NETWORK_FAILED, Lease
from fallow.domain.orders import COMPARED_MIN, Order
from fallow.domain.verification import LEVELS, PROVEN, Judgement, Says, Vote

LOSSES_MAX = 8
"""After so many losses an item fails, so that a poisonous one does not go round for ever."""

GIVEN_BACK_MAX = 64
AGAIN_MS = 1_000
AGAIN_DOUBLINGS_MAX = 6
"""An item that a node gave back goes to another one at once; then it waits, at last about a minute each time."""

BUYER_CANCELLED = "buyer.cancelled"


class ItemState(StrEnum):
    """Where an item stands."""

    WAITING = "waiting"
    PLACED = "placed"
    RUNNING = "running"
    CHECKING = "checking"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({ItemState.DONE, ItemState.FAILED, ItemState.CANCELLED})


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of a job's work.

    `leases` are the open ones that have not reported, `votes` the reported results, `wanted` how many results it
    takes. `shunned` are nodes that lost it or gave a wrong result; `failures` counts the program's own. `given_back`
    are nodes, the last ones, that began it and ended it by nobody's fault, as they say; before `again_at` it is not
    placed again. `checked` says that more than one owner's node gave the result. `checkpoint` (SHA-256 in hex) is
    where its next lease goes on. `used_ms` and `owed_microusd` are what the buyer pays.
    """

    index: int
    state: ItemState = ItemState.WAITING
    attempts: int = 0
    failures: int = 0
    shunned: tuple[bytes, ...] = ()
    given_back: tuple[bytes, ...] = ()
    again_at: int = 0
    leases: tuple[bytes, ...] = ()
    votes: tuple[Vote, ...] = ()
    wanted: int = 1
    node: bytes | None = None
    reason: str = ""
    result: str | None = None
    checked: bool = False
    used_ms: int = 0
    owed_microusd: int = 0
    checkpoint: str | None = None

    @property
    def lacks_lease(self) -> bool:
        """Whether it should be placed (once more)."""
        return self.state not in FINAL and len(self.leases) + len(self.votes) < self.wanted


class JobState(StrEnum):
    """Where a job stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What the order's work asks for, as its vertical said when it was checked (see `WorkNeeds`).

    `secrets` are the names of the secret values that came with the order.
    `program` names what is run, whatever its arguments and inputs are; "" where nothing does.
    `compares` says that results are compared, `proves` that a difference proves somebody wrong. Where only the buyer
    says that results must be equal, it does not: a program can tell machines apart on purpose, to harm their owners.
    """

    blobs: tuple[str, ...] = ()
    attributes: dict[str, str] = {}
    write_bytes_max: int = 0
    compares: bool = False
    proves: bool = True
    checkpoints: bool = False
    secrets: tuple[str, ...] = ()
    program: str = ""
    fetched: tuple[str, ...] = ()

    @property
    def held(self) -> tuple[str, ...]:
        """What a node that did such work before has already: blobs by their hashes, and what it fetched elsewhere."""
        return (*self.blobs, *self.fetched)

    def trust_min(self, order: Order) -> str:
        """The least trust level that a node must have: secret values are handed to proven ones and above."""
        asked = order.requirements.trust_min
        return max(PROVEN, asked, key=LEVELS.index) if self.secrets else asked


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """That a job is an item that others did before: a canary, given to `node`, or a re-run, given to any like `first`.

    Chance, blobs and right to read them are those of the item as it was: of `job`, of `account`. `says` is its result.
    It is due to work of the account `due_to`, whose fees pay for it.
    """

    job: str
    item: int
    account: bytes
    node: bytes
    says: Says
    first: Vote | None = None
    due_to: bytes = b""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An order that ends by itself, in the name of an account (20 bytes).

    The network pays for what its operator `planted`, so that canaries can be made of it, and for each `replay`.
    """

    order: Order
    account: bytes
    needs: Needs
    created_at: int
    state: JobState = JobState.RUNNING
    ended_at: int | None = None
    reason: str = ""
    planted: bool = False
    replay: Replay | None = None

    @property
    def payer(self) -> bytes:
        """Who pays for the results that were ordered; empty for the network."""
        return b"" if self.planted else self.account


def placed(item: Item, lease: Lease) -> Item:
    """A lease was proposed for the item."""
    return msgspec.structs.replace(
        item,
        state=ItemState.CHECKING if item.votes else ItemState.PLACED,
        attempts=item.attempts + 1,
        leases=(*item.leases, lease.id),
        node=item.node if item.votes else lease.node,
        reason="",
    )


def running(item: Item) -> Item:
    """A node accepted."""
    return item if item.votes else msgspec.structs.replace(item, state=ItemState.RUNNING)


def voted(item: Item, lease: Lease, vote: Vote) -> Item:
    """A lease of the item reported a result: it can be done, so that what was given back counts anew."""
    left = tuple(other for other in item.leases if other != lease.id)
    return msgspec.structs.replace(
        item, state=ItemState.CHECKING, leases=left, votes=(*item.votes, vote), given_back=()
    )


def without(item: Item, lease: Lease) -> Item:
    """A lease of the item ended before it reported: it is placed again, elsewhere if its provider lost it.

    Only work that had begun can be lost: what kept a lease from beginning says nothing of the item, unless the network
    failed of it. A lease that came on shows that the item is not the poison, so that losses count anew; a checkpoint
    that is of no use is dropped. What is given back by nobody's fault (an image that no registry hands out, say) does
    not fail, but goes elsewhere and is tried ever more rarely: a node may say so of all that it gets.
    """
    left = tuple(other for other in item.leases if other != lease.id)
    item = msgspec.structs.replace(item, leases=left, reason=lease.reason)
    if lease.saved_ms or lease.window:
        item = msgspec.structs.replace(item, shunned=(), given_back=())
    if lease.reason == CHECKPOINT_UNUSABLE and item.checkpoint and item.checkpoint == lease.resume:
        item = msgspec.structs.replace(item, checkpoint=None)
    elif lease.caused_by == "nobody" and lease.started_at is not None:
        item = _given_back(item, lease)
    if (lease.caused_by == "provider" and lease.started_at is not None) or lease.reason == NETWORK_FAILED:
        item = msgspec.structs.replace(item, shunned=(*item.shunned, lease.node))
        if len(item.shunned) >= LOSSES_MAX and not item.votes and not left:
            return msgspec.structs.replace(item, state=ItemState.FAILED)
    if item.votes or left:
        return item
    return msgspec.structs.replace(item, state=ItemState.WAITING, node=None)


def _given_back(item: Item, lease: Lease) -> Item:
    nodes = (*item.given_back, lease.node)[-GIVEN_BACK_MAX:]
    pause_ms = AGAIN_MS << min(len(nodes) - 2, AGAIN_DOUBLINGS_MAX) if len(nodes) > 1 else 0
    return msgspec.structs.replace(item, given_back=nodes, again_at=(lease.ended_at or 0) + pause_ms)


def check_comparison(order: Order, needs: Needs) -> None:
    """Refuse an order of several results, or of their comparison, where nothing would be compared.

    Raises:
        InvalidInput: `order.replicas` or `order.compare`.
    """
    if order.until_stopped and order.compare in {"exact", "tolerance"}:
        raise InvalidInput("order.compare", "What runs until it is stopped has no result to compare.")
    if order.replicas > 1 and not needs.compares:
        raise InvalidInput(
            "order.replicas",
            "Several results are ordered to be compared, and this work's are not.",
            "Say how they compare: exact, or within a tolerance.",
        )
    if order.compare == "exact" and not needs.proves and order.replicas < COMPARED_MIN:
        raise InvalidInput(
            "order.compare",
            "One result is compared with nothing: the network itself does not check this kind of work so.",
            f"Order {COMPARED_MIN} replicas or more.",
        )


def results_wanted(order: Order, needs: Needs) -> int:
    """How many results an item takes at first: more than one only where they can be compared."""
    return order.replicas if needs.compares else 1


def concluded(item: Item, judgement: Judgement, job: Job) -> Item:
    """The votes are in: the item is done or failed, or its program is tried again as the buyer asked.

    A process that is to run until it is stopped fails when it ends by itself, however well.
    """
    wrong = judgement.wrong if job.needs.proves else ()
    shunned = (*item.shunned, *(vote.node for vote in wrong))
    item = msgspec.structs.replace(item, shunned=shunned, checked=len(judgement.right) > 1)
    if not judgement.right:
        return msgspec.structs.replace(item, state=ItemState.FAILED, reason=judgement.why)
    believed = judgement.right[0]
    item = msgspec.structs.replace(item, node=believed.node, reason=believed.reason, result=believed.result)
    if job.order.until_stopped:
        item = msgspec.structs.replace(item, reason=item.reason or "program.exited")
    elif believed.ok:
        return msgspec.structs.replace(item, state=ItemState.DONE)
    failures = item.failures + 1
    if failures > job.order.retries:
        return msgspec.structs.replace(item, state=ItemState.FAILED, failures=failures)
    return msgspec.structs.replace(
        item,
        state=ItemState.WAITING,
        failures=failures,
        votes=(),
        wanted=results_wanted(job.order, job.needs),
        checked=False,
    )


def cancelled(item: Item, order: Order, reason: str) -> Item:
    """No lease of it runs, and it gets none. Where the buyer wished so, work that runs until stopped is done."""
    state = ItemState.DONE if order.until_stopped and reason == BUYER_CANCELLED else ItemState.CANCELLED
    return msgspec.structs.replace(item, state=state, reason=reason)


def after_items(job: Job, items: Iterable[Item], at: int) -> Job:
    """End the job once all of its items have ended; the worst of their ends is the job's."""
    states = {item.state for item in items}
    if not states <= FINAL:
        return job
    for state, outcome in (
        (ItemState.CANCELLED, JobState.CANCELLED),
        (ItemState.FAILED, JobState.FAILED),
        (ItemState.DONE, JobState.DONE),
    ):
        if state in states:
            return msgspec.structs.replace(job, state=outcome, ended_at=at)
    return job
