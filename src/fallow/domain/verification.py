"""Whose results are believed, pure: adaptive replication in BOINC's manner.

A node that has not proven itself is checked every time: another owner's node does the same item, and the results
must be equal. Once it has given `TRUSTED_AFTER` confirmed results in a row it is only spot-checked, with a chance of
one in as many as it has confirmed. A wrong result takes all of that away. (Rules and numbers: BOINC's
sched_send.cpp and validator.cpp: trust from 10 consecutive valid results, chance 1/n, quorum min_quorum/2 + 1.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

TRUSTED_AFTER = 10
"""Confirmed results in a row after which a node is no longer checked every time."""

CHECKED_VOTES = 2
"""Results that are compared when one is checked."""

VOTES_MAX = 5
"""When so many results have no majority, more of them would not help: the program itself is in doubt."""

SUSPENDED_MS = 3_600_000
"""After its first wrong result a node gets no work for an hour; each further one makes it four times as long."""

SUSPENSIONS_MAX = 6
"""Exponent at which that stops to grow: about six weeks."""

MISSED_MAX = 16
MISSED_PROVEN_MAX = 7
"""Roll calls: one that a free node misses counts one up, to at most 16, one that it answers one down. With more than
seven its capacity counts as unchecked, and it is not proven: there ends who misses most calls, not who misses few."""

NEW, PROVEN, VOUCHED, OWN, SUSPENDED = "new", "proven", "vouched", "own", "suspended"

LEVELS = (NEW, PROVEN, VOUCHED, OWN)
"""Levels that an order may ask for, from the least on. OWN is what a node is to its own account and to nobody else."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has shown: results confirmed in a row since it was last found wrong, and how often it was.

    `why` is the code of the last time. `missed` counts roll calls, see `called`.
    """

    confirmed: int = 0
    wrong: int = 0
    wrong_at: int | None = None
    why: str = ""
    missed: int = 0


Says = tuple[bool, str, str | None]
"""What is compared of a vote: whether it went well, the reason, the hash of the outcome."""


class Vote(msgspec.Struct, frozen=True, kw_only=True):
    """One node's word on what an item gives. `result` is the hash (hex) of its outcome document, if it left one."""

    lease: bytes
    node: bytes
    account: bytes
    ok: bool
    reason: str
    result: str | None

    @property
    def says(self) -> Says:
        """What is compared."""
        return self.ok, self.reason, self.result


INCONCLUSIVE = "result.inconclusive"
"""Why an item ended, and its leases, although results were reported: they decide nothing."""


WRONG_RESULT = "result.wrong"
"""Why a lease ended, and what a node's standing says, whose result differs from that of the majority."""

CONFIRMED, WRONG, PRESENT, MISSED = "confirmed", "wrong", "present", "missed"
"""What a check shows of a node: by its results, or in a roll call."""


class Verdict(StrEnum):
    """What becomes of one reported result. An inconclusive one is paid, and its buyer is made good from the reserve."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"


class Judgement(NamedTuple):
    """What the votes have shown; the first of `right` is believed.

    Without a majority both are empty: inconclusive, no provider's fault, and `why` says of what kind.
    """

    right: tuple[Vote, ...]
    wrong: tuple[Vote, ...]
    why: str = INCONCLUSIVE


def trust(standing: Standing, now: int, *, vouched: bool = False, own: bool = False) -> str:
    """Trust level that a buyer is shown."""
    if suspended_until(standing) > now:
        return SUSPENDED
    return OWN if own else level(standing, vouched=vouched)


def level(standing: Standing, *, vouched: bool = False) -> str:
    """What a node is to everybody, apart from suspensions: NEW, PROVEN, or VOUCHED where its owner is known.

    Who vouches for an owner knows a person and not his machine: after a wrong result it has to prove itself first.
    """
    proven = standing.confirmed >= TRUSTED_AFTER and standing.missed <= MISSED_PROVEN_MAX
    if vouched and (proven or not standing.wrong):
        return VOUCHED
    return PROVEN if proven else NEW


def suspended_until(standing: Standing) -> int:
    """When a node that was found wrong may work again (milliseconds since 1970); 0 for one that never was."""
    if standing.wrong_at is None:
        return 0
    return standing.wrong_at + (SUSPENDED_MS << 2 * min(standing.wrong - 1, SUSPENSIONS_MAX))


def checked_one_in(standing: Standing) -> int:
    """One in how many results of this node are checked, by a draw that it cannot foresee."""
    return 1 if standing.confirmed < TRUSTED_AFTER else standing.confirmed


def equal(one: Vote, other: Vote) -> bool:
    """Whether two votes say the same, byte for byte."""
    return one.says == other.says


class Compared(NamedTuple):
    """What a comparison of results has shown: which pairs are near each other, or why it has shown nothing.

    `near` holds each pair in both orders. A `fault` (a reason) is the comparator's, so the buyer's doing.
    """

    near: frozenset[tuple[str, str]] = frozenset()
    fault: str = ""

    def agree(self, one: Vote, other: Vote) -> bool:
        """Whether two votes agree: they say the same, or both went well with results that are near each other."""
        if one.ok and other.ok and one.result is not None and other.result is not None:
            return one.result == other.result or (one.result, other.result) in self.near
        return equal(one, other)


def to_compare(votes: Sequence[Vote]) -> tuple[str, ...]:
    """The different results of votes that went well, in order: what a comparator has to look at."""
    return tuple(sorted({vote.result for vote in votes if vote.ok and vote.result is not None}))


def judge(votes: Sequence[Vote], wanted: int, agree: Callable[[Vote, Vote], bool] = equal) -> Judgement | None:
    """Decide, or None when another vote is needed.

    `wanted` is how many votes were asked for at first; more than half of them, and of all that came, must agree with
    one of them. To be near is not transitive, so that this one counts: the vote with which most agree, the one that
    came first among several such. It comes first in `right`, and is what the buyer gets. (BOINC's validator.cpp knows
    no better either: the first result with which enough agree is canonical, and the others are compared with it.)
    """
    if len(votes) < wanted:
        return None
    circles = [[other for other in votes if agree(vote, other)] for vote in votes]
    count, place = max((len(circle), -place) for place, circle in enumerate(circles))
    if count > wanted // 2 and 2 * count > len(votes):
        centre, right = votes[-place], circles[-place]
        others = (vote for vote in right if vote is not centre)
        return Judgement((centre, *others), tuple(vote for vote in votes if vote not in right))
    return Judgement((), ()) if len(votes) >= VOTES_MAX else None


def verdict(vote: Vote, votes: Sequence[Vote], judgement: Judgement, *, proves: bool) -> Verdict:
    """What becomes of one of an item's `votes`; `proves` says that a difference between them shows somebody wrong.

    Where it does not, the buyer's program is the cause of a difference, and its results are accepted as they are. The
    same holds where his comparator failed, and where a vote says that the program did: whether it ends within its time
    and memory may differ between honest machines.
    """
    if vote in judgement.wrong and proves:
        return Verdict.REJECTED
    nobodys = judgement.why == INCONCLUSIVE and all(each.ok for each in votes)
    return Verdict.INCONCLUSIVE if nobodys and proves and not judgement.right else Verdict.ACCEPTED


def after(standing: Standing, at: int, *, right: bool, code: str = WRONG_RESULT) -> Standing:
    """What a node has shown after one more result that others confirmed, or after it was found wrong at a time."""
    if right:
        return msgspec.structs.replace(standing, confirmed=standing.confirmed + 1)
    return msgspec.structs.replace(standing, confirmed=0, wrong=standing.wrong + 1, wrong_at=at, why=code)


def called(standing: Standing, *, here: bool) -> Standing:
    """What a node has shown after a roll call that it answered, or missed although it was free."""
    missed = standing.missed - 1 if here else standing.missed + 1
    return msgspec.structs.replace(standing, missed=min(MISSED_MAX, max(0, missed)))


def learned(standing: Standing, at: int, what: str, code: str) -> Standing:
    """What a node has shown after one more check.

    This is all of a node's reputation: folding it over the same checks gives the same standing, whoever does it.
    """
    if what in {PRESENT, MISSED}:
        return called(standing, here=what == PRESENT)
    return after(standing, at, right=what == CONFIRMED, code=code)
