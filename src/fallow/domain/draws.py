"""What chance decides about checks, so that anybody can recompute it afterwards. Pure.

Nodes must not foresee which of their results are checked, and the operator must not choose afterwards. So all draws
of an epoch come from a seed whose hash the operator signs and publishes one epoch ahead, and which is shown when the
epoch is over. Whoever kept the hash can then recompute every draw. Where the network has validators they make the seed
together with the operator (`fallow.domain.epochs.seeds`); until then he alone knows it in advance.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar, NamedTuple

from fallow.domain.encoding import tagged_hash
from fallow.domain.signing import Signed


class Purpose(StrEnum):
    """What a draw decides."""

    CHECK = "check"
    """Whether another owner's node does the same item, and the results are compared."""

    CANARY = "canary"
    """Whether the node is given work next whose result is known."""

    RERUN = "rerun"
    """Whether a machine of the same class does an item again whose results nobody compares."""
    ROLL_CALL = "roll_call"
    """Whether nodes show now, at the same moment, what they have free. It is about a span of time, and no lease."""


class Seed(NamedTuple):
    """The seed of one epoch of draws. `number` counts the epochs in which this network drew."""

    number: int
    value: bytes

    @property
    def commitment(self) -> bytes:
        """What is published before the first draw: it fits no other seed, and tells nothing about this one."""
        return tagged_hash("fallow/check-commitment/1", _number(self.number) + self.value)


class Commitment(Signed, frozen=True, kw_only=True):
    """The operator's word, ahead of time, on the seed of an epoch. Two for one number are the proof of a lie."""

    tag: ClassVar[str] = "fallow/check-seed-commitment/1"
    net: str
    number: int
    commitment: bytes


class Draw(NamedTuple):
    """One decision: about a lease's result, or what its end brings. It hits with a chance of one in `one_in`."""

    number: int
    lease: bytes
    purpose: Purpose
    node: bytes
    at: int
    one_in: int
    hit: bool


def seed_of(secret: bytes, number: int) -> Seed:
    """Derive a seed from the network's secret: shown seeds tell nothing about others."""
    return Seed(number, hmac.digest(secret, b"fallow/check-seed/2\0" + _number(number), "sha256"))


def hits(seed: bytes, purpose: Purpose, lease: bytes, one_in: int) -> bool:
    """Whether a draw hits."""
    drawn = hmac.digest(seed, purpose.encode() + b"\0" + lease, "sha256")
    return int.from_bytes(drawn, "big") % one_in == 0


def draw(seed: Seed, purpose: Purpose, *, lease: bytes, node: bytes, one_in: int, at: int) -> Draw:
    """Decide about a lease that ended at a time (milliseconds since 1970)."""
    return Draw(seed.number, lease, purpose, node, at, one_in, hits(seed.value, purpose, lease, one_in))


def hidden_id(seed: Seed, purpose: Purpose, data: bytes) -> str:
    """Name a job that the network orders: 32 hex digits that nobody knows who does not know the seed.

    Buyers choose ids of orders and know those of leases. Who knew this one could take it for an order of his own, or
    find out by trying to whether a check is under way.
    """
    return hmac.digest(seed.value, b"job\0" + purpose.encode() + b"\0" + data, "sha256").hex()[:32]


def faults(commitment: Commitment, shown: bytes, draws: Iterable[Draw], joint: bytes | None = None) -> list[str]:
    """Recompute an epoch's draws; returns what does not hold.

    `shown` is what the operator committed to, `joint` what validators and he made together, where they did.
    """
    number, seed = commitment.number, shown if joint is None else joint
    if Seed(number, shown).commitment != commitment.commitment:
        return [f"the seed of epoch {number} is not the one that was committed to"]
    return [
        f"the {found.purpose.value} draw about lease {found.lease.hex()} says {found.hit}, the seed says otherwise"
        for found in draws
        if found.number != number or found.hit != hits(seed, found.purpose, found.lease, found.one_in)
    ]


def _number(number: int) -> bytes:
    return number.to_bytes(8, "big")
