"""Keys that sign for a buyer: what an account delegates, and what such a key signs. Pure.

An account's own key stays where it is kept. It signs once that another key, made on the buyer's machine, may sign
orders and receipts in its name until a time; that key then signs what the buyer really sent and really got.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from fallow.domain.encoding import encode
from fallow.domain.errors import NotAllowed
from fallow.domain.identity import address_text, verify
from fallow.domain.merkle import merkle_root
from fallow.domain.orders import ITEMS_MAX, Id, Sha256
from fallow.domain.signing import signed_message

CONSENT_TAG = "fallow/delegation/1"
ORDER_TAG = "fallow/order/1"
RECEIPTS_TAG = "fallow/buyer-receipts/1"
RECEIPTS_MAX = 1000
USED_MS_MAX = 1 << 53

MUTUAL, OPERATOR_ATTESTED = "mutual", "operator-attested"

PublicKey = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
Signature = Annotated[str, Meta(pattern="^[0-9a-f]{128}$", max_length=128)]


class Delegation(msgspec.Struct, frozen=True, kw_only=True):
    """An account's word that `key` (32 bytes) signs for it until `expires_at`; with `revoked_at` no longer.

    `signature` is the account's own (EIP-191) over `delegation_text`. Times are milliseconds since 1970.
    """

    account: bytes
    key: bytes
    issued_at: int
    expires_at: int
    signature: bytes
    revoked_at: int | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a buyer says of one delivered item: this lease on this node gave this result, and was used so long."""

    item: Annotated[int, Meta(ge=0, lt=ITEMS_MAX)]
    lease: Id
    node: PublicKey
    result: Sha256
    used_ms: Annotated[int, Meta(ge=0, le=USED_MS_MAX)]

    def leaf(self, job: str) -> bytes:
        """Return the bytes that stand for it in the tree whose root is signed."""
        return encode([job, self.item, self.lease, self.node, self.result, self.used_ms])


def delegation_text(net: str, account: bytes, key: bytes, expires_at: int) -> str:
    """What an account signs; wallets show it as it stands."""
    return (
        f"Fallow network {net}: key {key.hex()} signs orders and receipts for account {address_text(account)}"
        f" until {expires_at // 1000} (Unix time)."
    )


def consent_message(net: str, account: bytes, key: bytes) -> bytes:
    """What the key signs when it is delegated to, so that nobody names a key that he does not hold."""
    return signed_message(CONSENT_TAG, encode([net, account, key]))


def order_message(net: str, account: bytes, body: bytes) -> bytes:
    """What a key signs to order: the exact bytes of the order, in this network, in the name of this account."""
    return signed_message(ORDER_TAG, encode([net, account, hashlib.sha256(body).digest()]))


def receipts_message(net: str, account: bytes, job: str, receipts: Sequence[Receipt]) -> bytes:
    """What a key signs once for many receipts of a job: the root of the tree over them, in their order."""
    root = merkle_root([receipt.leaf(job) for receipt in receipts])
    return signed_message(RECEIPTS_TAG, encode([net, account, job, root]))


def check_signed(delegation: Delegation | None, account: bytes, message: bytes, signature: bytes, now: int) -> None:
    """Check that a key which `account` delegated to, and which may still sign, has signed `message`.

    Raises:
        NotAllowed: `delegation.unknown` (also for another account's key), `.revoked`, `.expired` or `.signature`.
    """
    if delegation is None or delegation.account != account:
        raise NotAllowed("delegation.unknown", "The account has not delegated to this key.", HINT)
    if delegation.revoked_at is not None:
        raise NotAllowed("delegation.revoked", "The delegation to this key was revoked.", HINT)
    if delegation.expires_at <= now:
        raise NotAllowed("delegation.expired", "The delegation to this key has expired.", HINT)
    if not verify(delegation.key, message, signature):
        raise NotAllowed("delegation.signature", "The signature is not this key's over what was sent.")


HINT = "Log in again: fallow login makes a new key."
