"""Where an account's earnings go: its own signed word, after a delay in which it can take it back. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from fallow.domain.errors import Conflict, InvalidInput, NotAllowed
from fallow.domain.identity import address_text
from fallow.domain.wallets import signer_of

DELAY_MS: Final = 72 * 3_600_000
"""Somebody who got hold of a key for a moment is noticed within a long weekend."""

FRESH_MS: Final = 24 * 3_600_000
"""So far from its own time a signature counts: one that was never sent is worth nothing later."""

DAY_MS: Final = 24 * 3_600_000
WORDS_A_DAY: Final = 8
"""Each word is a record for ever. Only what takes back a change that waits is not counted."""


class Payee(NamedTuple):
    """To whom `account` is paid: `paid_to`, and `pending` from `effective_at` on (milliseconds since 1970).

    `signed_at_s` (Unix time) is of the latest word that was taken: an earlier one counts no more.
    """

    account: bytes
    paid_to: bytes
    pending: bytes = b""
    effective_at: int = 0
    signed_at_s: int = 0


def payout_text(net: str, account: bytes, to: bytes, signed_at_s: int) -> str:
    """What an account signs; wallets show it as it stands."""
    return (
        f"Fallow network {net}: what account {address_text(account)} earns is paid to {address_text(to)}."
        f" Signed at {signed_at_s} (Unix time)."
    )


def changed(before: Payee, net: str, to: bytes, signed_at_s: int, signature: bytes, now_ms: int) -> Payee:
    """Take an account's word. To be paid where one is paid now takes back what is pending, at once.

    Raises:
        InvalidInput: `payout.to`: nobody has this address; `payout.stale`: it was signed at another time.
        Conflict: `payout.replayed`: a later word was taken already, or this one.
        NotAllowed: `payout.signature`: the account has not signed it.
    """
    if not any(to):
        raise InvalidInput("payout.to", "Nobody has the address of zeros.")
    if signed_at_s <= before.signed_at_s:
        raise Conflict("payout.replayed", "The account has signed as late or later before.", "Sign it again.")
    if abs(now_ms - signed_at_s * 1000) > FRESH_MS:
        raise InvalidInput(
            "payout.stale", "It was signed more than a day ago, or ahead.", "Mind the clock; sign again."
        )
    if signer_of(payout_text(net, before.account, to, signed_at_s), signature) != before.account:
        raise NotAllowed("payout.signature", "The account has not signed this.")
    now = at(before, now_ms)
    if to == now.paid_to:
        return now._replace(pending=b"", effective_at=0, signed_at_s=signed_at_s)
    return now._replace(pending=to, effective_at=now_ms + DELAY_MS, signed_at_s=signed_at_s)


def at(payee: Payee, now_ms: int) -> Payee:
    """How it stands at a time."""
    if not payee.pending or now_ms < payee.effective_at:
        return payee
    return payee._replace(paid_to=payee.pending, pending=b"", effective_at=0)


def spaced(spent_ms: int, now_ms: int) -> int | None:
    """Count a word of an account, of which there are `WORDS_A_DAY` at once, and then as many a day.

    `spent_ms` says from when on all of them may be said again; the new one is returned, or None: it is one too many.
    """
    after = max(spent_ms, now_ms) + DAY_MS // WORDS_A_DAY
    return after if after <= now_ms + DAY_MS else None
