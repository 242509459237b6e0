"""How a node's audits add up to a standing: warned, suspended, reinstated, disqualified. Pure.

Storj's model (storj/storj `satellite/reputation`): an audit that succeeds adds to alpha, one that fails to beta, older
ones fade, and alpha / (alpha + beta) is the score. Errors that show neither count in a second score, which forgets
sooner. A third one says in how much of the last thirty days a node was there when it was looked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import msgspec

DAY_MS: Final = 86_400_000

FADING: Final = 0.999
START: Final = 1000.0
"""Alpha at the start: 41 failures in a row disqualify a node that never failed before."""
DISQUALIFIED_BELOW: Final = 0.96
WARNED_BELOW: Final = 0.98
WARNED_FROM: Final = 1.5
"""Beta when two of the last seven hundred audits or so failed."""

UNKNOWN_FADING: Final = 0.95
UNKNOWN_START: Final = 20.0
"""Where alpha goes in the long run. Storj starts at 1, so that a new node's first such error suspends it unwarned."""
UNKNOWN_SUSPENDED_BELOW: Final = 0.6
UNKNOWN_WARNED_BELOW: Final = 0.8
UNKNOWN_GRACE_MS: Final = 7 * DAY_MS

WINDOW_MS: Final = DAY_MS // 2
WINDOWS: Final = 60
ONLINE_SUSPENDED_BELOW: Final = 0.6
"""As are twelve of thirty days away: what was before a node's first day counts as there."""
ONLINE_WARNED_BELOW: Final = 0.8
ONLINE_GRACE_MS: Final = 37 * DAY_MS
"""A week to come back in, and the thirty days after which nothing of what was before counts."""

RETRIES_MAX: Final = 3
"""So often an audit without an answer is asked again; then it has failed."""

Outcome = Literal["success", "failed", "unknown", "offline"]
Kind = Literal["warning", "suspended", "reinstated", "disqualified"]
Code = Literal["storage.audits_failed", "storage.audits_unknown", "storage.away"]
Standing = Literal["", "suspended", "disqualified"]


class Change(NamedTuple):
    """What a node has to hear: a code for machines and a sentence for its owner."""

    kind: Kind
    code: Code
    text: str


class Reputation(msgspec.Struct, frozen=True, kw_only=True):
    """Of one node. `windows` are [number, questions, times that it was there], ascending by number.

    Times are milliseconds since 1970, 0: not so.
    """

    alpha: float = START
    beta: float = 0.0
    unknown_alpha: float = UNKNOWN_START
    unknown_beta: float = 0.0
    windows: list[tuple[int, int, int]] = []
    first_window: int = 0
    unknown_since_ms: int = 0
    away_since_ms: int = 0
    disqualified_ms: int = 0

    @property
    def score(self) -> float:
        """Of audits that succeeded or failed."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def unknown_score(self) -> float:
        """Of audits that ended in errors which show nothing."""
        return self.unknown_alpha / (self.unknown_alpha + self.unknown_beta)

    @property
    def online_score(self) -> float:
        """Mean over the windows in which it was looked for, and over those of the thirty days before its first one."""
        if not self.windows:
            return 1.0
        before = max(0, WINDOWS - (self.windows[-1][0] - self.first_window + 1))
        met = sum(there / asked for _, asked, there in self.windows)
        return (met + before) / (len(self.windows) + before)

    @property
    def standing(self) -> Standing:
        """Suspended nodes get no new pieces; the pieces of disqualified ones count as lost."""
        if self.disqualified_ms:
            return "disqualified"
        return "suspended" if self.unknown_since_ms or self.away_since_ms else ""


def judged(before: Reputation, outcome: Outcome, now_ms: int) -> tuple[Reputation, list[Change]]:
    """Add an outcome; returns the reputation after it, and what changed by it, the gravest last.

    Who is disqualified stays so.
    """
    if before.disqualified_ms:
        return before, []
    after = _looked_for(_counted(before, outcome), now_ms, there=outcome != "offline")
    after = _stood(after, now_ms)
    return after, [*_warnings(before, after), *_turns(before, after)]


def _counted(before: Reputation, outcome: Outcome) -> Reputation:
    match outcome:
        case "success":
            return msgspec.structs.replace(
                before,
                alpha=FADING * before.alpha + 1,
                beta=FADING * before.beta,
                unknown_alpha=UNKNOWN_FADING * before.unknown_alpha + 1,
                unknown_beta=UNKNOWN_FADING * before.unknown_beta,
            )
        case "failed":
            return msgspec.structs.replace(before, alpha=FADING * before.alpha, beta=FADING * before.beta + 1)
        case "unknown":
            return msgspec.structs.replace(
                before,
                unknown_alpha=UNKNOWN_FADING * before.unknown_alpha,
                unknown_beta=UNKNOWN_FADING * before.unknown_beta + 1,
            )
        case "offline":
            return before


def _looked_for(before: Reputation, now_ms: int, *, there: bool) -> Reputation:
    number = now_ms // WINDOW_MS
    windows = [window for window in before.windows if window[0] > number - WINDOWS]
    asked, met = 0, 0
    if windows and windows[-1][0] >= number:  # a clock that went back changes no window before
        number, asked, met = windows.pop()
    windows.append((number, asked + 1, met + there))
    first = before.first_window if before.windows else number
    return msgspec.structs.replace(before, windows=windows, first_window=first)


def _stood(after: Reputation, now_ms: int) -> Reputation:
    unknown = _since(after.unknown_since_ms, now_ms, low=after.unknown_score < UNKNOWN_SUSPENDED_BELOW)
    away = _since(after.away_since_ms, now_ms, low=after.online_score < ONLINE_SUSPENDED_BELOW)
    lost = (
        after.score < DISQUALIFIED_BELOW
        or (unknown and now_ms - unknown > UNKNOWN_GRACE_MS)
        or (away and now_ms - away > ONLINE_GRACE_MS)
    )
    return msgspec.structs.replace(
        after, unknown_since_ms=unknown, away_since_ms=away, disqualified_ms=now_ms if lost else 0
    )


def _since(since_ms: int, now_ms: int, *, low: bool) -> int:
    return (since_ms or now_ms) if low else 0


def _warnings(before: Reputation, after: Reputation) -> Iterator[Change]:
    if _fell(before.score, after.score, WARNED_BELOW) or before.beta < WARNED_FROM <= after.beta:
        yield Change(
            "warning",
            "storage.audits_failed",
            f"Pieces are missing or wrong here: the audit score is {after.score:.3f}, and below {DISQUALIFIED_BELOW}"
            " this node's pieces count as lost for good.",
        )
    if _fell(before.unknown_score, after.unknown_score, UNKNOWN_WARNED_BELOW):
        yield Change(
            "warning",
            "storage.audits_unknown",
            f"Audits end in errors here: their score is {after.unknown_score:.2f}, and below"
            f" {UNKNOWN_SUSPENDED_BELOW} this node gets no new pieces.",
        )
    if _fell(before.online_score, after.online_score, ONLINE_WARNED_BELOW):
        yield Change(
            "warning",
            "storage.away",
            f"This node was there in {after.online_score:.0%} of the last thirty days; below"
            f" {ONLINE_SUSPENDED_BELOW:.0%} it gets no new pieces.",
        )


def _fell(before: float, after: float, bound: float) -> bool:
    return after < bound <= before


def _turns(before: Reputation, after: Reputation) -> Iterator[Change]:
    yield from _turn(
        before.unknown_since_ms,
        after.unknown_since_ms,
        "storage.audits_unknown",
        f"audits end in errors here (their score is {after.unknown_score:.2f}); it has seven days",
    )
    yield from _turn(
        before.away_since_ms,
        after.away_since_ms,
        "storage.away",
        f"it was there in {after.online_score:.0%} of the last thirty days",
    )
    if after.disqualified_ms:
        yield Change("disqualified", _why(after), "The pieces on this node count as lost, and it gets no new ones.")


def _turn(before_ms: int, after_ms: int, code: Code, why: str) -> Iterator[Change]:
    if after_ms and not before_ms:
        yield Change("suspended", code, f"This node gets no new pieces: {why}.")
    elif before_ms and not after_ms:
        yield Change("reinstated", code, "This node gets new pieces again, as far as this is concerned.")


def _why(after: Reputation) -> Code:
    if after.score < DISQUALIFIED_BELOW:
        return "storage.audits_failed"
    away_over = after.away_since_ms and after.disqualified_ms - after.away_since_ms > ONLINE_GRACE_MS
    return "storage.away" if away_over else "storage.audits_unknown"
