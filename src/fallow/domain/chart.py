"""The chart of accounts: which ledger accounts exist, and which transfers each event of a lease becomes.

Each credit class is a ledger of its own, so that TEST credits never mix with money. A window's money is reserved
from the payer's wallet to the network's clearing account, which is empty between any two events: what is posted
there is passed on to the provider, the fee and the reserve in the same linked chain. What work cost that no checkpoint
or result backs yet is kept apart for its provider: it becomes his, or goes back to its payer.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from fallow.domain.billing import Charge
from fallow.domain.ledger import (
    DEBITS_MUST_NOT_EXCEED_CREDITS,
    LINKED,
    Account,
    Transfer,
    account,
    post_pending,
    transfer,
    void_pending,
)


class Credit(IntEnum):
    """Credit classes in the order in which they are spent; the value is the ledger's number."""

    GRANTED = 1
    PAID = 2
    BURNED = 3


class Purpose(IntEnum):
    """What an account is for; the value is the account's code in the ledger."""

    ISSUER = 1
    WALLET = 2
    EARNED = 3
    CLEARING = 4
    FEE = 5
    RESERVE = 6
    UNBACKED = 7


class Kind(IntEnum):
    """Why money moves; the value is the transfer's code in the ledger."""

    GRANT = 1
    WINDOW = 2
    INCOME = 3
    FEE = 4
    RESERVE = 5
    REFUND = 6
    LOST = 7
    KEPT = 8
    BACKED = 9
    RETURNED = 10
    DEPOSIT = 11
    PAID_OUT = 12
    WITHDRAWAL = 13
    BURN = 14


NETWORK = b""
"""Owner of the network's own accounts."""

Parts = tuple[tuple[int, int], ...]
"""(credit class, micro-US-dollars), in the order of spending."""


def account_id(purpose: Purpose, credit: int, owner: bytes = NETWORK) -> bytes:
    """Id of an owner's account for a purpose in one credit class."""
    return _id("account", bytes([purpose, credit]) + owner)


def purse_id(credit: int, payer: bytes) -> bytes:
    """Account that a payer's windows are reserved from: a member's wallet; the network pays its checks from the fee."""
    return account_id(Purpose.WALLET if payer else Purpose.FEE, credit, payer)


def accounts_of(owner: bytes) -> list[Account]:
    """All accounts of a member of the network; none of them can be overdrawn."""
    purposes = (Purpose.WALLET, Purpose.EARNED, Purpose.UNBACKED)
    return [_guarded(purpose, credit, owner) for credit in Credit for purpose in purposes]


def network_accounts() -> list[Account]:
    """The network's own accounts. Only the issuer goes below zero: by what is in circulation."""
    guarded = [
        _guarded(purpose, credit, NETWORK)
        for credit in Credit
        for purpose in (Purpose.CLEARING, Purpose.FEE, Purpose.RESERVE)
    ]
    issuers = [account(account_id(Purpose.ISSUER, credit), credit.value, Purpose.ISSUER.value) for credit in Credit]
    return issuers + guarded


def split(amount: int, available: Mapping[int, int]) -> Parts | None:
    """Take `amount` from the credit classes in the order of spending; None when they do not cover it."""
    parts: list[tuple[int, int]] = []
    for credit in Credit:
        part = min(amount, available.get(credit, 0))
        if part > 0:
            parts.append((int(credit), part))
            amount -= part
    return tuple(parts) if amount == 0 else None


def grant(grant_id: str, to: bytes, amount: int) -> Transfer:
    """Give TEST credits; the same `grant_id` counts once."""
    wallet = account_id(Purpose.WALLET, Credit.GRANTED, to)
    return _issue(_id("grant", grant_id.encode()), Credit.GRANTED, wallet, amount, Kind.GRANT)


def deposit(chain_id: int, transaction: bytes, place: int, to: bytes, amount: int) -> Transfer:
    """Give paid credits for what was deposited: by log number `place` of a transaction on a chain, which counts once.

    One micro-US-dollar for one unit of the settlement asset, which has six decimals.
    """
    wallet, id_ = account_id(Purpose.WALLET, Credit.PAID, to), _log_id("deposit", chain_id, transaction, place)
    return _issue(id_, Credit.PAID, wallet, amount, Kind.DEPOSIT, transaction)


def withdraw(withdrawal_id: str, payer: bytes, to: bytes, amount: int) -> Transfer:
    """Take paid credits out of circulation: `to` is owed the settlement asset for them. An id counts once a payer."""
    credit = Credit.PAID
    return transfer(
        _id("withdrawal", payer + withdrawal_id.encode()),
        account_id(Purpose.WALLET, credit, payer),
        account_id(Purpose.ISSUER, credit),
        amount,
        credit.value,
        Kind.WITHDRAWAL.value,
        ref=to,
    )


def pay_out(epoch: int, owner: bytes, amount: int) -> Transfer:
    """Take what `owner` earned in paid credits in a closed epoch out of circulation: its root owes it to him."""
    credit = Credit.PAID
    return transfer(
        _id("paid out", epoch.to_bytes(8) + owner),
        account_id(Purpose.EARNED, credit, owner),
        account_id(Purpose.ISSUER, credit),
        amount,
        credit.value,
        Kind.PAID_OUT.value,
        ref=epoch.to_bytes(8),
    )


def burn(chain_id: int, transaction: bytes, place: int, to: bytes, amount: int) -> Transfer:
    """Give burned credits for tokens that were burned: by log number `place` of a transaction, which counts once."""
    wallet, id_ = account_id(Purpose.WALLET, Credit.BURNED, to), _log_id("burn", chain_id, transaction, place)
    return _issue(id_, Credit.BURNED, wallet, amount, Kind.BURN, transaction)


def fund(fund_id: str, purpose: Purpose, amount: int) -> Transfer:
    """Give TEST credits to one of the network's own purses; the same `fund_id` counts once."""
    return _issue(
        _id("fund", fund_id.encode()), Credit.GRANTED, account_id(purpose, Credit.GRANTED), amount, Kind.GRANT
    )


def _issue(id_: bytes, credit: Credit, to: bytes, amount: int, kind: Kind, ref: bytes = b"") -> Transfer:
    """Bring credits into circulation, in the ledger's account `to`."""
    return transfer(id_, account_id(Purpose.ISSUER, credit), to, amount, credit.value, kind.value, ref=ref)


def hold(lease: bytes, window: int, payer: bytes, parts: Parts) -> list[Transfer]:
    """Reserve a window's money: one pending transfer per credit class."""
    return [
        transfer(
            _window_id("hold", lease, window, credit),
            purse_id(credit, payer),
            account_id(Purpose.CLEARING, credit),
            amount,
            credit,
            Kind.WINDOW.value,
            pending=True,
            ref=lease,
        )
        for credit, amount in parts
    ]


class Kept(NamedTuple):
    """What `payer` paid for work of `payee` that is not backed: `opened` is settled now, `keep` added to it."""

    payer: bytes
    payee: bytes
    opened: Parts = ()
    keep: int = 0


NONE_KEPT = Kept(NETWORK, NETWORK)


def collect(
    ref: bytes, window: int, parts: Parts, charges: Sequence[tuple[bytes, Charge]], kept: Kept = NONE_KEPT
) -> list[Transfer]:
    """Post what a window owes, give back the rest, and pass it on to the payees, the fee and the reserve.

    `charges` name each payee once. They take from what was kept and then from the parts, in their order: the providers
    come first, then fee, then reserve. What is left of what was kept goes back to its payer.
    """
    due = [(Kind.INCOME, payee, charge.provider) for payee, charge in charges]
    due.append((Kind.FEE, NETWORK, sum(charge.fee for _, charge in charges)))
    due.append((Kind.RESERVE, NETWORK, sum(charge.reserve for _, charge in charges)))
    transfers: list[Transfer] = []
    passed: Counter[tuple[int, Kind, bytes]] = Counter()
    for credit, amount in kept.opened:
        transfers.append(_pass_on(ref, window, credit, Kind.BACKED, kept.payee, amount))
        due, left = _share(due, credit, amount, passed)
        passed[credit, Kind.RETURNED, kept.payer] += left
    due.append((Kind.KEPT, kept.payee, kept.keep))
    for credit, held in parts:
        taken = min(held, sum(owed for _, _, owed in due))
        transfers.append(_resolve(ref, window, credit, taken))
        due, _ = _share(due, credit, taken, passed)
    if any(owed for _, _, owed in due):
        raise ValueError(f"window {window} of {ref.hex()} owes {sum(owed for _, _, owed in due)} more than it holds")
    return transfers + [_pass_on(ref, window, *to, amount) for to, amount in passed.items() if amount]


Due = tuple[Kind, bytes, int]


def _share(
    due: Sequence[Due], credit: int, amount: int, passed: Counter[tuple[int, Kind, bytes]]
) -> tuple[list[Due], int]:
    """Give `amount` to those to whom it is due, in their order; returns what is still due, and what is left."""
    left: list[Due] = []
    for kind, to, owed in due:
        part = min(owed, amount)
        passed[credit, kind, to] += part
        left.append((kind, to, owed - part))
        amount -= part
    return left, amount


def make_good(lease: bytes, kind: Kind, to: bytes, parts: Parts) -> list[Transfer]:
    """Pay from the reserve for a lease's lost work: a REFUND to its buyer's wallet, what is LOST to its provider."""
    purpose = Purpose.WALLET if kind is Kind.REFUND else Purpose.EARNED
    return [
        transfer(
            _id(f"reserve {kind.name}", lease + bytes([credit])),
            account_id(Purpose.RESERVE, credit),
            account_id(purpose, credit, to),
            amount,
            credit,
            kind.value,
            ref=lease,
        )
        for credit, amount in parts
    ]


def left_over(parts: Parts, charged: int) -> Parts:
    """What of `parts` is given back when `charged` is taken from them in the order of spending."""
    left: list[tuple[int, int]] = []
    for credit, held in parts:
        taken = min(held, charged)
        charged -= taken
        if held > taken:
            left.append((credit, held - taken))
    return tuple(left)


def give_back(lease: bytes, window: int, parts: Parts) -> list[Transfer]:
    """Void all that a window holds."""
    return [_resolve(lease, window, credit, 0) for credit, _ in parts]


def chain(transfers: Sequence[Transfer]) -> list[Transfer]:
    """Link transfers so that they succeed or fail as one."""
    return [entry._replace(flags=entry.flags | LINKED) for entry in transfers[:-1]] + list(transfers[-1:])


def _resolve(lease: bytes, window: int, credit: int, amount: int) -> Transfer:
    """Post `amount` of a window's hold and release the rest."""
    held = _window_id("hold", lease, window, credit)
    if amount:
        return post_pending(_window_id("post", lease, window, credit), held, amount, ref=lease)
    return void_pending(_window_id("void", lease, window, credit), held, ref=lease)


def _pass_on(ref: bytes, window: int, credit: int, kind: Kind, owner: bytes, amount: int) -> Transfer:
    """Move money from the clearing account to where it goes, or to it from what was kept."""
    place = {
        Kind.INCOME: account_id(Purpose.EARNED, credit, owner),
        Kind.FEE: account_id(Purpose.FEE, credit),
        Kind.RESERVE: account_id(Purpose.RESERVE, credit),
        Kind.KEPT: account_id(Purpose.UNBACKED, credit, owner),
        Kind.BACKED: account_id(Purpose.UNBACKED, credit, owner),
        Kind.RETURNED: purse_id(credit, owner),
    }[kind]
    clearing = account_id(Purpose.CLEARING, credit)
    debit, to = (place, clearing) if kind is Kind.BACKED else (clearing, place)
    id_ = _window_id(kind.name, ref, window, credit, owner)
    return transfer(id_, debit, to, amount, credit, kind.value, ref=ref)


def _guarded(purpose: Purpose, credit: Credit, owner: bytes) -> Account:
    return account(account_id(purpose, credit, owner), credit.value, purpose.value, DEBITS_MUST_NOT_EXCEED_CREDITS)


def _window_id(step: str, lease: bytes, window: int, credit: int, payee: bytes = b"") -> bytes:
    return _id(step, lease + window.to_bytes(8, "big") + bytes([credit]) + payee)


def _log_id(what: str, chain_id: int, transaction: bytes, place: int) -> bytes:
    return _id(what, chain_id.to_bytes(8) + transaction + place.to_bytes(8))


def _id(what: str, data: bytes) -> bytes:
    """16 bytes that follow from what they name, so that a repeated transfer is known as the same one."""
    return hashlib.sha256(f"fallow/ledger/{what}\0".encode() + data).digest()[:16]
