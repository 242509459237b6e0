"""The record kinds of the core. Verticals add their own.

All fields are public unless a class lists them in `private`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from fallow.domain.chain_facts import CHAIN_FACTS
from fallow.domain.gateway_facts import GATEWAY_FACTS
from fallow.domain.network_facts import NETWORK_FACTS
from fallow.domain.places import Cell, is_cell
from fallow.domain.price_facts import PRICE_FACTS
from fallow.domain.records import Body, Count
from fallow.domain.resources import Resources, Terms
from fallow.domain.stake_facts import STAKE_FACTS

LeaseId = Annotated[bytes, Meta(min_length=16, max_length=16)]
NodeId = Annotated[bytes, Meta(min_length=32, max_length=32)]
AccountId = Annotated[bytes, Meta(min_length=20, max_length=20)]
Reason = Annotated[str, Meta(max_length=60, pattern=r"^[a-z_.]*$(?!\n)")]


class NodeEnrolled(Body, frozen=True, kw_only=True):
    """The binding of a node to its account. The node signs the record, `account_signature` is the account's half."""

    kind: ClassVar[str] = "node.enrolled"
    version: ClassVar[int] = 1
    private: ClassVar[frozenset[str]] = frozenset({"label"})
    account: Annotated[bytes, Meta(min_length=20, max_length=20)]
    account_signature: Annotated[bytes, Meta(min_length=65, max_length=65)]
    label: str = ""


class NodeBound(Body, frozen=True, kw_only=True):
    """The binding of a node to an account that keeps its own key: it signed with a time until which the node joins."""

    kind: ClassVar[str] = "node.bound"
    version: ClassVar[int] = 1
    private: ClassVar[frozenset[str]] = frozenset({"label"})
    account: Annotated[bytes, Meta(min_length=20, max_length=20)]
    account_signature: Annotated[bytes, Meta(min_length=65, max_length=65)]
    before_s: Count
    label: str = ""


class OfferMade(Body, frozen=True, kw_only=True):
    """What a node puts up from now on. A later offer replaces it; leases that run keep the terms they started with."""

    kind: ClassVar[str] = "offer.made"
    version: ClassVar[int] = 1
    offer: Count
    open: bool
    total: Resources
    terms: Terms
    attributes: Annotated[dict[str, Annotated[str, Meta(max_length=200)]], Meta(max_length=64)] = {}
    country: Annotated[str, Meta(pattern=r"^([A-Z]{2})?$(?!\n)")] = ""

    @property
    def on_demand(self) -> OfferMade:
        """What its first version says of it, without spot terms and place."""
        return OfferMade(**{name: getattr(self, name) for name in OfferMade.__struct_fields__})


class SpotOfferMade(OfferMade, frozen=True, kw_only=True):
    """An offer that also takes spot leases, at terms of their own: they may be ended for a lease on demand."""

    version: ClassVar[int] = 2
    spot: Terms


class PlacedOfferMade(OfferMade, frozen=True, kw_only=True):
    """An offer that also says where the node is, by its owner's word; `spot` is that of version 2, if there is any."""

    version: ClassVar[int] = 3
    cell: Cell
    spot: Terms | None = None

    def __post_init__(self) -> None:
        """Check what the pattern cannot: ValueError, which msgspec turns into its own error."""
        if not is_cell(self.cell):
            raise ValueError("cell is not a cell of H3")


class LeaseAccepted(Body, frozen=True, kw_only=True):
    """The lease starts: the node has set the resources aside."""

    kind: ClassVar[str] = "lease.accepted"
    version: ClassVar[int] = 1
    lease: LeaseId


class LeaseDeclined(Body, frozen=True, kw_only=True):
    """The node will not take the lease. It costs no reputation."""

    kind: ClassVar[str] = "lease.declined"
    version: ClassVar[int] = 1
    lease: LeaseId
    reason: Reason


class UsageReceipt(Body, frozen=True, kw_only=True):
    """What one window of a lease used, and with `final` how the lease ended.

    `used_ms` counts from the window's start. `ok` says that the item's result is there; `result` is the SHA-256 of
    its outcome document. `caused_by` is the node's word on who ended it: buyer, provider, owner or nobody.
    """

    kind: ClassVar[str] = "usage.receipt"
    version: ClassVar[int] = 1
    lease: LeaseId
    window: Count
    used_ms: Count
    final: bool
    ok: bool = False
    reason: Reason = ""
    caused_by: Annotated[str, Meta(pattern="^(buyer|provider|owner|nobody)$")] = "nobody"
    result: Annotated[bytes, Meta(min_length=32, max_length=32)] | None = None
    measures: Annotated[dict[str, Count], Meta(max_length=32)] = {}


class LeaseCheckpoint(Body, frozen=True, kw_only=True):
    """A running lease's work up to `used_ms` is safe: from `blob` (SHA-256 of an archive) another lease can go on.

    `used_ms` counts from the start of the lease's program over all of its windows; `window` is the one that is open.
    """

    kind: ClassVar[str] = "lease.checkpoint"
    version: ClassVar[int] = 1
    lease: LeaseId
    window: Count
    used_ms: Count
    blob: Annotated[bytes, Meta(min_length=32, max_length=32)]


class Moved(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Micro-US-dollars of one credit class, as the ledger moved them.

    The payer paid `income` (the provider's), `fee` and `reserve`. From the reserve the payer got `refunded` back, and
    the provider `made_good` for lost work.
    """

    credit: Annotated[int, Meta(ge=1, le=3)]
    income: Count = 0
    fee: Count = 0
    reserve: Count = 0
    refunded: Count = 0
    made_good: Count = 0


class LeaseSettled(Body, frozen=True, kw_only=True):
    """Money of a lease has moved, or it is over (`final`), or both. Its last record is the final one.

    `moved` is since its record before; `charged_ms` is all that its payer owes for until now, at the lease's own price.
    `checks` says that the network ordered it, to check results, and paid it from its fees. `window` is the open one.
    """

    kind: ClassVar[str] = "lease.settled"
    version: ClassVar[int] = 1
    private: ClassVar[frozenset[str]] = frozenset({"payer"})
    vertical: Annotated[str, Meta(pattern="^[a-z]{1,20}$")]
    lease: LeaseId
    node: NodeId
    payee: AccountId
    resources: Resources
    price_microusd_per_hour: Count
    spot: bool
    checks: bool
    window: Count
    charged_ms: Count
    moved: Annotated[list[Moved], Meta(max_length=3)]
    final: bool
    ok: bool = False
    reason: Reason = ""
    caused_by: Annotated[str, Meta(pattern="^(buyer|provider|owner|nobody|network|)$")] = ""
    payer: Annotated[bytes, Meta(max_length=20)] = b""


class NodeShown(Body, frozen=True, kw_only=True):
    """What a check shows of a node: a result of its `lease` was confirmed or found wrong, or how it took a roll call.

    `code` says why, for what was wrong. A node's reputation follows from these alone: `fallow.domain.verification`.
    """

    kind: ClassVar[str] = "node.shown"
    version: ClassVar[int] = 1
    node: NodeId
    what: Annotated[str, Meta(pattern="^(confirmed|wrong|present|missed)$")]
    code: Reason = ""
    lease: LeaseId | None = None


class CreditWithdrawn(Body, frozen=True, kw_only=True):
    """Paid credits have left the ledger: `account` is owed as much of the settlement asset, one unit a micro-US-dollar.

    `withdrawal` is the id of the ledger's transfer. Who gave the credits is private: he may name any account.
    """

    kind: ClassVar[str] = "credit.withdrawn"
    version: ClassVar[int] = 1
    private: ClassVar[frozenset[str]] = frozenset({"payer"})
    withdrawal: Annotated[bytes, Meta(min_length=16, max_length=16)]
    account: AccountId
    amount_microusd: Annotated[int, Meta(ge=1, le=10**15)]
    payer: Annotated[bytes, Meta(max_length=20)] = b""


class AccountPayout(Body, frozen=True, kw_only=True):
    """An account's signed word (`fallow.domain.payees.payout_text`) that what it earns is paid `to` an address."""

    kind: ClassVar[str] = "account.payout"
    version: ClassVar[int] = 1
    account: AccountId
    to: AccountId
    signed_at_s: Count
    signature: Annotated[bytes, Meta(min_length=65, max_length=65)]


CORE_FACTS: tuple[type[Body], ...] = (
    NodeEnrolled,
    NodeBound,
    OfferMade,
    SpotOfferMade,
    PlacedOfferMade,
    LeaseAccepted,
    LeaseDeclined,
    UsageReceipt,
    LeaseCheckpoint,
    LeaseSettled,
    NodeShown,
    CreditWithdrawn,
    AccountPayout,
    *CHAIN_FACTS,
    *NETWORK_FACTS,
    *PRICE_FACTS,
    *STAKE_FACTS,
    *GATEWAY_FACTS,
)
