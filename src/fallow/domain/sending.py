"""What to do next about a transaction that was sent: one rule, from what is recorded and what the chain shows.

A sent transaction keeps its nonce for as long as that can still be used, whatever is signed again for it: a chain
mines at most one transaction of a nonce. It gets another nonce only once its own is used up, by none of its own, so
deep that no reorganisation gives it back. So it is never mined twice, and it is never given up.

A nonce that another program had used may be free again after a reorganisation, and what waits behind it never be mined.
That cannot be sent under the free one: its first form could be mined, too, once anything fills the gap. So the gap is
filled by a transaction that does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

import msgspec

BUMP_PPM = 1_125_000
"""What a replacement offers of what it replaces, in millionths: nodes want 10 % more (geth's `txpool.pricebump`)."""
PPM = 1_000_000


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """A signed form of it, and when it was signed."""

    raw: bytes
    hash: bytes
    fee_max: int
    tip: int
    at_ms: int


class Done(msgspec.Struct, frozen=True, array_like=True):
    """How it was mined, for good. `contract` is the address of what it made, or empty."""

    transaction: bytes
    block: int
    succeeded: bool
    contract: bytes


class Send(msgspec.Struct, frozen=True, array_like=True):
    """Something to be done on the chain once, as it is recorded. `to` is empty where it makes a contract.

    One that `fills` is there for its nonce alone, and does nothing.
    """

    id: str
    to: bytes
    data: bytes
    gas: int
    nonce: int
    attempts: tuple[Attempt, ...] = ()
    done: Done | None = None
    fills: bool = False


class Rules(msgspec.Struct, frozen=True):
    """How deep is for good, when a transaction counts as stuck, and the most that it ever offers per gas."""

    depth: int = 12
    stuck_ms: int = 60_000
    fee_max: int = 500_000_000_000


class Step(Enum):
    """What to do next."""

    RECORD = "it is mined for good"
    WAIT = "look again later"
    SUBMIT = "hand in its last form again"
    OUTBID = "sign it again under its nonce, and offer more"
    MOVE = "its nonce is gone: sign it under another"
    DROP = "its nonce is gone, and that is all that it was for"


class Sight(NamedTuple):
    """What the chain shows: blocks in which forms of it are mined, and how many nonces are used, now and for good."""

    head: int
    nonce_mined: int
    nonce_final: int
    mined_in: Sequence[int]


def next_step(send: Send, sight: Sight, now_ms: int, rules: Rules) -> Step:
    """Decide."""
    if send.fills and sight.nonce_final > send.nonce:
        return Step.DROP
    if sight.mined_in:
        return Step.RECORD if sight.head - min(sight.mined_in) + 1 >= rules.depth else Step.WAIT
    if sight.nonce_final > send.nonce:
        return Step.MOVE
    if sight.nonce_mined > send.nonce:
        return Step.WAIT
    return Step.OUTBID if _stuck(send, now_ms, rules) and send.attempts[-1].fee_max < rules.fee_max else Step.SUBMIT


def filler(account: bytes, sends: Iterable[Send], nonce_mined: int, now_ms: int, rules: Rules) -> Send | None:
    """Return what uses up the chain's next nonce, where none of these had it and the next of them is stuck behind it.

    Its gas is what that one may use, which is enough for doing nothing on any chain.
    """
    ahead = [send for send in sends if send.nonce >= nonce_mined]
    first = min(ahead, key=lambda send: send.nonce, default=None)
    if first is None or first.nonce == nonce_mined or not _stuck(first, now_ms, rules):
        return None
    return Send(f"gap/{nonce_mined}", account, b"", first.gas, nonce_mined, fills=True)


def _stuck(send: Send, now_ms: int, rules: Rules) -> bool:
    return now_ms - send.attempts[-1].at_ms >= rules.stuck_ms


def offer(base: int, tip: int, last: Attempt | None, rules: Rules) -> tuple[int, int]:
    """Fee and tip per gas: twice the base fee, above what was offered before, up to the most that is allowed."""
    fee_max = 2 * base + tip
    if last is not None:
        fee_max, tip = max(fee_max, _bumped(last.fee_max)), max(tip, _bumped(last.tip))
    fee_max = min(fee_max, rules.fee_max)
    return fee_max, min(tip, fee_max)


def _bumped(fee: int) -> int:
    return -(-fee * BUMP_PPM // PPM)
