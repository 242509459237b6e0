"""What the ledger is made of, and the constructors that check it at the door.

Records are plain named tuples, since tens of thousands a second pass through the rules. The lower-case functions
(`account`, `transfer`, `post_pending`, `void_pending`) are the door: everything they let through is well formed,
and the rules rely on it.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from fallow.domain.errors import InvalidInput

ID_BYTES = 16
REF_BYTES_MAX = 32
BATCH_MAX = 8190
"""Transfers in one batch (TigerBeetle's limit)."""
AMOUNT_MAX = (1 << 256) - 1
"""The largest amount of one transfer: what an ERC-20 token can hold."""
BALANCE_MAX = 10**78 - 1
"""The largest sum of an account's pending and posted debits, or credits: what numeric(78) holds."""
LEDGER_MAX = (1 << 31) - 1
CODE_MAX = (1 << 16) - 1
TIMEOUT_S_MAX = (1 << 31) - 1

# Flags of an account, with TigerBeetle's bits.
DEBITS_MUST_NOT_EXCEED_CREDITS = 1 << 1
CREDITS_MUST_NOT_EXCEED_DEBITS = 1 << 2

# Flags of a transfer, with TigerBeetle's bits. EXPIRED is ours: no sender can set it.
LINKED = 1 << 0
PENDING = 1 << 1
POST_PENDING = 1 << 2
VOID_PENDING = 1 << 3
EXPIRED = 1 << 14
RESOLVES = POST_PENDING | VOID_PENDING | EXPIRED
"""Any flag that settles a pending transfer."""

_RESERVED_IDS = (bytes(ID_BYTES), b"\xff" * ID_BYTES)


class Balance(NamedTuple):
    """The four sums of an account. Pending sums are reservations: neither spent nor spendable."""

    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0


class Account(NamedTuple):
    """An account of one ledger (one asset), with its four sums."""

    id: bytes
    ledger: int
    code: int
    flags: int = 0
    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0

    @property
    def balance(self) -> Balance:
        """The sums alone."""
        return Balance(*self[4:])


class Transfer(NamedTuple):
    """What a sender asks for. `amount=None` (post and void only) means the whole pending amount."""

    id: bytes
    debit: bytes
    credit: bytes
    amount: int | None
    ledger: int
    code: int
    flags: int = 0
    pending_id: bytes | None = None
    timeout_s: int = 0
    ref: bytes = b""


class Movement(NamedTuple):
    """An accepted step as the ledger keeps it: a transfer with everything resolved, or an expiry.

    `id` is None for an expiry, which has no sender. `created_ms` is the time of the batch (wall time, milliseconds).
    """

    id: bytes | None
    debit: bytes
    credit: bytes
    amount: int
    ledger: int
    code: int
    flags: int
    pending_id: bytes | None
    timeout_s: int
    ref: bytes
    created_ms: int

    @property
    def expires_ms(self) -> int | None:
        """When a pending transfer stops to reserve; None for never."""
        return self.created_ms + self.timeout_s * 1000 if self.timeout_s else None


class StatementRow(NamedTuple):
    """One line of an account's history.

    `seq` grows with every row; `released` is the reservation that a post, void or expiry ended (0 otherwise).
    """

    seq: int
    movement: Movement
    released: int


class Fault(NamedTuple):
    """Something that must not be: found by a check. `subject` is the account, transfer or ledger it concerns."""

    code: str
    subject: bytes
    detail: str


class LedgerCheck(NamedTuple):
    """What a full recomputation found. `totals` are the sums over each ledger's accounts."""

    totals: dict[int, Balance]
    movements: int
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def ordered_id(time_ms: int, name: bytes) -> bytes:
    """Make an id from a time (48 bits of milliseconds) and anything that is unique at that time (80 bits of its hash).

    The same arguments give the same id, so that a step that is repeated is recognised. Any 16 bytes will do as an id,
    but those that grow with time fall next to each other in the index, and posting them is faster by a sixth.

    Raises:
        InvalidInput: the time is out of range.
    """
    _check_range(time_ms, 1, (1 << 48) - 2, "time_ms")
    return time_ms.to_bytes(6, "big") + blake2b(name, digest_size=10).digest()


def account(id_: bytes, ledger: int, code: int, flags: int = 0) -> Account:
    """Check and build an account with zero balances.

    Raises:
        InvalidInput: a field is out of range, or both limits are asked for at once.
    """
    _check_id(id_, "id")
    _check_range(ledger, 1, LEDGER_MAX, "ledger")
    _check_range(code, 1, CODE_MAX, "code")
    if flags not in (0, DEBITS_MUST_NOT_EXCEED_CREDITS, CREDITS_MUST_NOT_EXCEED_DEBITS):
        raise InvalidInput("ledger.bad_flags", f"account flags {flags:#x} are unknown or exclude each other")
    return Account(id_, ledger, code, flags)


def transfer(
    id_: bytes,
    debit: bytes,
    credit: bytes,
    amount: int,
    ledger: int,
    code: int,
    *,
    pending: bool = False,
    linked: bool = False,
    timeout_s: int = 0,
    ref: bytes = b"",
) -> Transfer:
    """Check and build a transfer in one phase, or with `pending` the reservation that opens the second.

    An amount of zero is allowed, as TigerBeetle does since 0.16: it moves nothing and is recorded. `timeout_s`
    counts seconds from the time of the batch that accepts it; 0 means that the reservation does not end by itself.
    `ref` is the sender's own data, kept and never read.

    Raises:
        InvalidInput: a field is out of range, debit and credit are the same, or a timeout without `pending`.
    """
    _check_id(id_, "id")
    _check_id(debit, "debit")
    _check_id(credit, "credit")
    if debit == credit:
        raise InvalidInput("ledger.accounts_must_be_different", "debit and credit are the same account")
    _check_range(amount, 0, AMOUNT_MAX, "amount")
    _check_range(ledger, 1, LEDGER_MAX, "ledger")
    _check_range(code, 1, CODE_MAX, "code")
    _check_ref(ref)
    flags = (LINKED if linked else 0) | (PENDING if pending else 0)
    if timeout_s:
        _check_range(timeout_s, 0, TIMEOUT_S_MAX, "timeout_s")
        if not pending:
            raise InvalidInput("ledger.timeout_reserved_for_pending", "only a pending transfer can have a timeout")
    return Transfer(id_, debit, credit, amount, ledger, code, flags, None, timeout_s, ref)


def post_pending(
    id_: bytes, pending_id: bytes, amount: int | None = None, *, linked: bool = False, ref: bytes = b""
) -> Transfer:
    """Check and build the second phase that pays: all of it with `amount=None`, else `amount`; the rest is released.

    Accounts, ledger and code come from the pending transfer. An amount of zero pays nothing and releases all.

    Raises:
        InvalidInput: a field is out of range.
    """
    if amount is not None:
        _check_range(amount, 0, AMOUNT_MAX, "amount")
    return _second_phase(id_, pending_id, amount, POST_PENDING | (LINKED if linked else 0), ref)


def void_pending(id_: bytes, pending_id: bytes, *, linked: bool = False, ref: bytes = b"") -> Transfer:
    """Check and build the second phase that pays nothing and releases the reservation.

    Raises:
        InvalidInput: a field is out of range.
    """
    return _second_phase(id_, pending_id, None, VOID_PENDING | (LINKED if linked else 0), ref)


def _second_phase(id_: bytes, pending_id: bytes, amount: int | None, flags: int, ref: bytes) -> Transfer:
    _check_id(id_, "id")
    _check_id(pending_id, "pending_id")
    if id_ == pending_id:
        raise InvalidInput("ledger.pending_id_must_be_different", "a transfer cannot resolve itself")
    _check_ref(ref)
    # Empty accounts and zeros mean "as in the pending transfer", as in TigerBeetle.
    return Transfer(id_, b"", b"", amount, 0, 0, flags, pending_id, 0, ref)


def _check_id(value: bytes, name: str) -> None:
    if type(value) is not bytes or len(value) != ID_BYTES or value in _RESERVED_IDS:
        raise InvalidInput("ledger.bad_id", f"{name} must be {ID_BYTES} bytes that are neither all zeros nor all ones")


def _check_range(value: int, low: int, high: int, name: str) -> None:
    # bool is an int; a flag in the place of an amount is a mistake.
    if type(value) is not int or not low <= value <= high:
        raise InvalidInput("ledger.out_of_range", f"{name} must be an integer from {low} to {high}")


def _check_ref(ref: bytes) -> None:
    if type(ref) is not bytes or len(ref) > REF_BYTES_MAX:
        raise InvalidInput("ledger.bad_ref", f"ref must be at most {REF_BYTES_MAX} bytes")
