"""Requests for what leaves the network: to whom earnings go, and withdrawals."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fallow.domain.calls.base import AccountSignature, Request

PAYOUT = "registry.payout"
PAYEE = "registry.payee"
REDIRECT = "registry.redirect"
WITHDRAW = "settle.withdraw"

AccountText = Annotated[str, Meta(pattern="^0x[0-9a-f]{40}$", max_length=42)]


class PayoutTo(Request, frozen=True, kw_only=True):
    """Where the earnings of a custodial account shall go."""

    to: AccountText


class Payout(Request, frozen=True, kw_only=True):
    """Where an account's earnings shall go, with its signature over `fallow.domain.payees.payout_text` (hex).

    Without one the network signs for an account whose key it keeps: only gateways ask so, for that account's API key.
    """

    account: AccountText
    to: AccountText
    signed_at_s: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    signature: AccountSignature = ""


class Redirection(Request, frozen=True, kw_only=True):
    """Claims of a custodial account on the chain, by their hash (hex), to be paid to whom its earnings go.

    `nonce` is the account's next one at the distributor; the signature holds up to `deadline_s` (since 1970).
    """

    claims: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
    nonce: Annotated[int, Meta(ge=0, le=1 << 53)]
    deadline_s: Annotated[int, Meta(ge=0, le=1 << 53)]


class Redirect(Request, frozen=True, kw_only=True):
    """The redirection of an account's claims, for its API key."""

    account: str
    redirection: Redirection


WITHDRAWAL_MIN_MICROUSD = 10_000
"""Each new account that is owed something stays in all later epochs: nobody makes a million of them for a dollar."""


class Withdrawal(Request, frozen=True, kw_only=True):
    """Have paid credits owed to the account `to` in the settlement asset. `id` makes the same withdrawal count once."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
    to: Annotated[str, Meta(pattern="^0x[0-9a-f]{40}$", max_length=42)]
    amount_microusd: Annotated[int, Meta(ge=WITHDRAWAL_MIN_MICROUSD, le=10**15)]


class Withdraw(Request, frozen=True, kw_only=True):
    """A withdrawal out of an account's credits."""

    account: str
    withdrawal: Withdrawal
