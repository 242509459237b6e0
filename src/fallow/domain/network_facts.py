"""What the network tells of itself in records, so that whoever has the archive needs to ask it nothing."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from fallow.domain.records import COUNT_MAX, Body, Count
from fallow.domain.subscriptions import MeterName, Tariff

Positive = Annotated[int, Meta(ge=1, le=COUNT_MAX)]
Credits = Annotated[str, Meta(pattern="^[1-3]$")]
"""A credit class, as a key."""

Quantity = Annotated[bytes, Meta(min_length=32, max_length=32)]


class SeedDrawn(Body, frozen=True, kw_only=True):
    """An epoch of draws is over: its seed, with all that anybody needs to make it again (`fallow.domain.epochs.seeds`).

    `commitment` is the operator's `Commitment`, `value` what it fits. `pledges` are the validators', as they signed
    them; `parts` stand in the same order, empty where a validator has not shown what it pledged.
    """

    kind: ClassVar[str] = "seed.drawn"
    version: ClassVar[int] = 1
    number: Count
    commitment: Annotated[bytes, Meta(max_length=512)]
    value: Annotated[bytes, Meta(min_length=32, max_length=32)]
    pledges: Annotated[list[Annotated[bytes, Meta(max_length=512)]], Meta(max_length=31)] = []
    parts: Annotated[list[Annotated[bytes, Meta(max_length=32)]], Meta(max_length=31)] = []


class Tariffed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was delivered on one meter, since the subscription began, until this window's begin and end (32 bytes)."""

    meter: MeterName
    before: Quantity
    after: Quantity


class Earned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one payee delivered in a window, and what he was paid for it: micro-US-dollars by credit class."""

    payee: Annotated[bytes, Meta(min_length=20, max_length=20)]
    used: Annotated[list[Tariffed], Meta(max_length=16)]
    income: Annotated[dict[Credits, Positive], Meta(max_length=3)]


class SubscriptionSettled(Body, frozen=True, kw_only=True):
    """A window of a subscription is settled. One of many payees is told of in several records, its `part`s.

    `tariff` never changes within a subscription.
    Fee and reserve are those of the whole window, in part 0. Who paid is private.
    """

    kind: ClassVar[str] = "subscription.settled"
    version: ClassVar[int] = 1
    private: ClassVar[frozenset[str]] = frozenset({"payer"})
    vertical: Annotated[str, Meta(pattern="^[a-z]{1,20}$")]
    subscription: Annotated[bytes, Meta(min_length=16, max_length=16)]
    window: Count
    part: Count
    from_ms: Count
    until_ms: Count
    tariff: Tariff
    earned: Annotated[list[Earned], Meta(max_length=128)]
    fee: Annotated[dict[Credits, Positive], Meta(max_length=3)] = {}
    reserve: Annotated[dict[Credits, Positive], Meta(max_length=3)] = {}
    payer: Annotated[bytes, Meta(max_length=20)] = b""


class OperatorActed(Body, frozen=True, kw_only=True):
    """An operator banned or vouched for a node or an account, or took that back. His reasons are free text, and his."""

    kind: ClassVar[str] = "operator.acted"
    version: ClassVar[int] = 1
    what: Annotated[str, Meta(pattern="^(ban|unban|vouch|unvouch)$")]
    subject: Annotated[bytes, Meta(min_length=20, max_length=32)]
    action: Annotated[bytes, Meta(min_length=16, max_length=16)]


class RollAnswered(Body, frozen=True, kw_only=True):
    """What a node showed at a roll call: `answer` is what it signed, `reason` why that counts for nothing.

    `elapsed_ms` is by the network's clock; `alone` is the rate at which the node was last measured by itself.
    """

    kind: ClassVar[str] = "roll.answered"
    version: ClassVar[int] = 1
    call: Annotated[bytes, Meta(min_length=32, max_length=32)]
    how: Annotated[str, Meta(pattern="^(alone|group|again)$")]
    node: Annotated[bytes, Meta(min_length=32, max_length=32)]
    cpu_milli: Count
    reason: Annotated[str, Meta(max_length=60)] = ""
    units: Count = 0
    elapsed_ms: Count = 0
    alone: Count | None = None
    answer: Annotated[bytes, Meta(max_length=4096)] = b""


class LendingUsed(Body, frozen=True, kw_only=True):
    """What `node` gave of what it lends to a vertical since its record before, added up: one a node and window.

    `window` is the hour (since 1970) in which that was done, at `until_ms`; `used` goes by the vertical's meters. So
    many `orders` of buyers are in it; `root` is over them as they were signed (`fallow.domain.merkle`), in the order in
    which the node handed them in: in its own records from `begins` on and below `ends`, each a boot and a number.
    """

    kind: ClassVar[str] = "lending.used"
    version: ClassVar[int] = 1
    vertical: Annotated[str, Meta(pattern="^[a-z]{1,20}$")]
    node: Annotated[bytes, Meta(min_length=32, max_length=32)]
    payee: Annotated[bytes, Meta(min_length=20, max_length=20)]
    window: Count
    until_ms: Count
    used: Annotated[dict[MeterName, Count], Meta(min_length=1, max_length=16)]
    orders: Count
    root: Annotated[bytes, Meta(min_length=32, max_length=32)]
    begins: Annotated[list[Count], Meta(min_length=2, max_length=2)]
    ends: Annotated[list[Count], Meta(min_length=2, max_length=2)]


class LendingReturned(Body, frozen=True, kw_only=True):
    """The last of an account's nodes that lent to a vertical has handed it back in good order, as all others had.

    What is held of the account's pay by subscriptions is owed from now on. `receipt` is what the network signed for
    `node`, in the vertical's own words.
    """

    kind: ClassVar[str] = "lending.returned"
    version: ClassVar[int] = 1
    vertical: Annotated[str, Meta(pattern="^[a-z]{1,20}$")]
    node: Annotated[bytes, Meta(min_length=32, max_length=32)]
    account: Annotated[bytes, Meta(min_length=20, max_length=20)]
    receipt: Annotated[bytes, Meta(max_length=2048)]


class NodeLendingReturned(LendingReturned, frozen=True, kw_only=True):
    """`node` has handed back what it lent to a vertical in good order: what is held of its own pay is owed from now on.

    `last` says that all others of the account had, too: what is held of the account's pay, which is no node's, as well.
    """

    version: ClassVar[int] = 2
    last: bool


class LendingForfeited(Body, frozen=True, kw_only=True):
    """`node` is shut out of a vertical for what it did with what it lends: it loses what is held of its pay by that.

    `code` says why. `evidence` are the SHA-256 of what the node was shown of it, the newest last.
    """

    kind: ClassVar[str] = "lending.forfeited"
    version: ClassVar[int] = 1
    vertical: Annotated[str, Meta(pattern="^[a-z]{1,20}$")]
    node: Annotated[bytes, Meta(min_length=32, max_length=32)]
    code: Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[a-z_.]+$(?!\n)")]
    evidence: Annotated[list[Annotated[bytes, Meta(min_length=32, max_length=32)]], Meta(max_length=100)]


NETWORK_FACTS: tuple[type[Body], ...] = (
    SeedDrawn,
    SubscriptionSettled,
    OperatorActed,
    RollAnswered,
    LendingReturned,
    NodeLendingReturned,
    LendingUsed,
    LendingForfeited,
)
