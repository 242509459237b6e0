"""How a node leaves with its disk in good order: its signed wish, the network's signed receipt, and the rule. Pure.

From the wish on a node gets nothing new, and the network moves each piece that counts on it to another node, reading it
from the one that leaves. What that one cannot give, as its client claimed it, has failed. The rule is that of Storj's
graceful exit (storj/storj `satellite/gracefulexit/common.go`): six months of age, thirty days, an online score of 0.8;
and no more may fail than audits let pass.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, NamedTuple

from msgspec import Meta

from fallow.domain.facts import NodeId
from fallow.domain.records import Count
from fallow.domain.signing import Signed
from fallow.verticals.storage.core.auditing import BYTES_A_SECOND
from fallow.verticals.storage.core.reputation import DAY_MS, DISQUALIFIED_BELOW, WINDOW_MS, Reputation

AGE_MIN_MS: Final = 180 * DAY_MS
"""From a node's first audit to its wish."""
LENGTH_MAX_MS: Final = 30 * DAY_MS
"""From its wish on. What has not been moved by then counts as lost to the network."""
ONLINE_MIN_PPM: Final = 800_000
PPM: Final = 1_000_000
FAILED_MAX_PPM: Final = round((1 - DISQUALIFIED_BELOW) * PPM)

Why = Literal["", "storage.disqualified", "storage.exit_young", "storage.exit_away", "storage.exit_failed"]
"""Why an exit was no success; empty: it was one."""
WORDS: Final[dict[str, str]] = {
    "storage.disqualified": "the node was disqualified by audits",
    "storage.exit_young": f"the node had lent for less than {AGE_MIN_MS // DAY_MS} days, from its first audit on",
    "storage.exit_away": f"the node was there in less than {ONLINE_MIN_PPM // 10_000} % of the last thirty days",
    "storage.exit_failed": f"more than {FAILED_MAX_PPM // 10_000} % of its pieces could not be had of it",
}
SUCCESS_SAYS: Final = (
    f"if it had lent for {AGE_MIN_MS // DAY_MS} days, is there in {ONLINE_MIN_PPM // 10_000} % of the time,\n"
    f"  and at most {FAILED_MAX_PPM // 10_000} % of its pieces cannot be had of it"
)


class ExitWish(Signed, frozen=True, kw_only=True):
    """A node leaves with what it lends. It cannot be taken back."""

    tag: ClassVar[str] = "fallow/storage-exit-wish/1"
    net: str
    node: NodeId
    at_ms: Count


class Tally(NamedTuple):
    """What became of a node's pieces: how many, and their bytes.

    `gone` were deleted by their owners, or made anew elsewhere, before their turn came; `unplaced` are those that no
    other node took, or whose turn never came, without any fault of the node's (see `held_up`).
    """

    moved: int = 0
    moved_bytes: int = 0
    failed: int = 0
    failed_bytes: int = 0
    gone: int = 0
    unplaced: int = 0

    @property
    def held(self) -> int:
        """How many it was to give up in all."""
        return self.moved + self.failed + self.gone + self.unplaced


class ExitReceipt(Signed, frozen=True, kw_only=True):
    """The network's word on how a node left: what it had held, and what became of it. Scores are millionths.

    `account` is whose the node was. `why` says why it was no success; empty: it was one.
    """

    tag: ClassVar[str] = "fallow/storage-exit/1"
    net: str
    node: NodeId
    account: Annotated[bytes, Meta(min_length=20, max_length=20)]
    began_ms: Count
    ended_ms: Count
    held: Count
    moved: Count
    moved_bytes: Count
    failed: Count
    failed_bytes: Count
    gone: Count
    unplaced: Count
    audits: Count
    score_ppm: Count
    online_ppm: Count
    why: Why


def reason_against(reputation: Reputation, tally: Tally, began_ms: int) -> Why:
    """Why an exit is no success, the gravest first; empty: it is one.

    A node that was never audited has held nothing to speak of, for no time.
    """
    if reputation.disqualified_ms:
        return "storage.disqualified"
    if tally.failed * PPM > tally.held * FAILED_MAX_PPM:
        return "storage.exit_failed"
    if ppm(reputation.online_score) < ONLINE_MIN_PPM:
        return "storage.exit_away"
    if not reputation.windows or began_ms - reputation.first_window * WINDOW_MS < AGE_MIN_MS:
        return "storage.exit_young"
    return ""


def held_up(tally: Tally, read_ms: int, asked_in_vain: int) -> bool:
    """Whether a node is to blame for pieces that were not even asked of it before time was up.

    The network waited for it for half of that time at least, reads at once added up, and got less than audits give the
    slowest disk and line time for; and others took most of what it gave: `asked_in_vain` are pieces that nobody took.
    Else there were too many that left, or too little room.
    """
    waited = read_ms >= LENGTH_MAX_MS // 2
    return waited and tally.moved_bytes * 1000 < read_ms * BYTES_A_SECOND and asked_in_vain <= tally.moved


def ppm(score: float) -> int:
    """A score in millionths, which signed words have in place of fractions."""
    return round(score * PPM)
