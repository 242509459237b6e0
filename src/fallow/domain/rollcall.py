"""Roll calls: do machines have at the same moment what each of them offers? Pure.

The network calls several nodes at one drawn moment, and each works for a second with all that it has free. One machine
behind five nodes is then five times slower than each of them is alone. One slow answer shows nothing: who was slow is
called alone and together again, and only who is each time fine alone and slow together with the same others is found.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta

from fallow.domain.draws import Draw, Purpose, Seed, draw
from fallow.domain.records import Count
from fallow.domain.signing import Signed

WORK_MS = 1_000
SLOT_MS = 5_000
"""For each slot it is drawn whether there is a roll call in it."""

DAY_MS = 86_400_000
GROUP_MAX = 256
CPU_MILLI_MIN = 250
"""With less free than a quarter of a core a node is not called: too little to be measured."""

SHORT_PER_MILLE = 600
"""Slower than that part of what it does alone, a node is short: two nodes that share a machine have half of it each."""

ROUNDS = 2
"""So often those who were short are called again, alone and together, before they are found."""

SUSPECTS_MAX = 16
KEPT_MS = 30 * DAY_MS

SHARED = "capacity.shared"
"""It is fine alone, and slow whenever the same others work: they sell one machine several times."""

FORGED = "capacity.forged"
"""It signed for steps that it never did."""

SHORT = "capacity.short"
"""It answered, but was slow. By itself that harms nobody."""

Kind = Literal["alone", "group", "again"]


class Answer(Signed, frozen=True, kw_only=True):
    """A node's answer to a call: how many steps it did, and what binds it to them. Signed by the node."""

    tag: ClassVar[str] = "fallow/roll-answer/1"
    net: str
    call: Annotated[bytes, Meta(min_length=32, max_length=32)]
    cpu_milli: Count
    units: Count
    commitment: Annotated[bytes, Meta(max_length=1024)]


class Member(NamedTuple):
    """A node that can be called, for `cpu_milli` that it has free."""

    node: bytes
    account: bytes
    network: str
    cpu_milli: int


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one node's call. `reason` is empty when it answered well; `answer` is its sealed `Answer`.

    `elapsed_ms` is by the network's clock, from asking to the answer; `alone` is the node's rate alone until then.
    """

    node: bytes
    cpu_milli: int
    reason: str = ""
    units: int = 0
    elapsed_ms: int = 0
    alone: int | None = None
    answer: bytes = b""

    @property
    def rate(self) -> int:
        """Steps in a thousand seconds for each core: what can be compared between calls of different size."""
        return self.units * 10**9 // max(1, self.elapsed_ms * self.cpu_milli)

    @property
    def answered(self) -> bool:
        """Whether it was measured, slow or not."""
        return self.reason in {"", SHORT}


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One moment at which nodes were called. `found` are those that it convicts, with the code."""

    id: bytes
    at: int
    kind: Kind
    said: tuple[Said, ...]
    found: tuple[tuple[bytes, str], ...] = ()


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """Those who were short together, and how often they were called again so far."""

    suspects: tuple[bytes, ...]
    rounds: int = 0

    @property
    def open(self) -> bool:
        """Whether they are called again."""
        return bool(self.suspects) and self.rounds < ROUNDS

    @property
    def found(self) -> tuple[bytes, ...]:
        """Who shares a machine with others of them, once all rounds have shown it."""
        return () if self.open else self.suspects


def one_in(calls_a_day: int, callable_now: int) -> int:
    """With a chance of one in how many a slot has a roll call, so that each node has so many a day on average."""
    slots = DAY_MS // SLOT_MS
    return max(1, slots * min(callable_now, GROUP_MAX) // (calls_a_day * max(1, callable_now)))


def moment(seed: Seed, slot: int, calls_a_day: int, callable_now: int, at: int) -> Draw:
    """Draw whether a slot has a roll call."""
    chance = one_in(calls_a_day, callable_now)
    return draw(seed, Purpose.ROLL_CALL, lease=slot.to_bytes(16, "big"), node=b"", one_in=chance, at=at)


def group(seed: Seed, slot: int, members: Iterable[Member]) -> list[Member]:
    """Draw who is called, if not all can be: in every third moment whole accounts, in another one whole networks."""

    def rank(member: Member) -> tuple[bytes, bytes]:
        kin = (member.account, member.network.encode(), b"")[slot % 3]
        own = _derived(seed, b"own", slot, member.node)
        return _derived(seed, b"kin", slot, kin) if kin else own, own

    return sorted(members, key=rank)[:GROUP_MAX]


def challenge(seed: Seed, at: int, kind: Kind, node: bytes = b"") -> bytes:
    """What nodes work on, 32 bytes: nobody can foresee it, and so nobody can work ahead."""
    return _derived(seed, b"call\0" + kind.encode(), at, node)


def chance(seed: Seed, call: bytes, node: bytes) -> bytes:
    """From what is drawn which steps a node shows, after it has bound itself to them."""
    return _derived(seed, b"shown\0" + call, 0, node)


def is_short(rate: int, alone: int) -> bool:
    """Whether a node was far slower than alone."""
    return rate * 1000 < alone * SHORT_PER_MILLE


def suspects(said: Collection[Said]) -> Trial:
    """Who is called again after a roll call: those who were short, the slowest first, if there are two or more."""
    short = sorted((one for one in said if one.reason == SHORT and one.alone), key=_share)
    return _trial([one.node for one in short[:SUSPECTS_MAX]], 0)


def tried(trial: Trial, alone: Mapping[bytes, int], together: Mapping[bytes, int]) -> Trial:
    """What a further round shows, from the rates of those who answered: who was not short this time is cleared.

    Who did not answer is not found either: what cannot be measured is inconclusive.
    """
    left = [
        node for node in trial.suspects if node in alone and node in together and is_short(together[node], alone[node])
    ]
    return _trial(left, trial.rounds + 1)


def _trial(nodes: Sequence[bytes], rounds: int) -> Trial:
    """One who is left alone shares with nobody that is known."""
    return Trial(suspects=tuple(nodes) if len(nodes) > 1 else (), rounds=rounds)


def _share(said: Said) -> tuple[int, bytes]:
    return said.rate * 1000 // (said.alone or 1), said.node


def _derived(seed: Seed, purpose: bytes, number: int, key: bytes) -> bytes:
    message = b"fallow/roll-call/1\0" + purpose + b"\0" + number.to_bytes(8, "big") + key
    return hmac.digest(seed.value, message, "sha256")
