"""Requests about keys that sign for accounts, and what these have signed."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fallow.domain.calls.base import AccountSignature, Request
from fallow.domain.delegations import RECEIPTS_MAX, PublicKey, Receipt, Signature
from fallow.domain.orders import Id

DELEGATE = "registry.delegations.add"
DELEGATIONS = "registry.delegations.list"
REVOKE_DELEGATION = "registry.delegations.revoke"
SIGN_ORDER = "registry.delegations.sign_order"
COUNTERSIGN = "registry.delegations.countersign"
MUTUAL = "registry.delegations.mutual"

DELEGATION_S = 90 * 86_400
DELEGATION_S_MAX = 366 * 86_400


class Delegate(Request, frozen=True, kw_only=True):
    """Let `key` sign for `account`; `proof` is the key's signature (hex) over `consent_message`.

    An account that keeps its own key has signed `delegation_text` until `expires_s` (Unix time); for others the network
    signs, for `valid_s` seconds.
    """

    account: str
    key: PublicKey
    proof: Signature
    valid_s: Annotated[int, Meta(ge=60, le=DELEGATION_S_MAX)] = DELEGATION_S
    expires_s: Annotated[int, Meta(ge=0, le=1 << 43)] = 0
    account_signature: AccountSignature = ""


class DelegationRef(Request, frozen=True, kw_only=True):
    """A key that an account delegated to."""

    account: str
    key: PublicKey


class SignOrder(Request, frozen=True, kw_only=True):
    """An order's signature (hex) by a key of the account, over `order_message` of the exact bytes that came."""

    account: str
    order: Id
    key: PublicKey
    signature: Signature
    body: bytes


class Countersign(Request, frozen=True, kw_only=True):
    """Receipts for items of one job, with one signature (hex) over `receipts_message`."""

    account: str
    job: Id
    key: PublicKey
    signature: Signature
    receipts: Annotated[list[Receipt], Meta(max_length=RECEIPTS_MAX)]


class MutualRef(Request, frozen=True, kw_only=True):
    """Which of these leases (hex) has its buyer signed a receipt for?"""

    leases: Annotated[list[Id], Meta(max_length=1000)]
