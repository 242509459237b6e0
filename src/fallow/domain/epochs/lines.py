"""One line a node and vertical: what an epoch's records say of it, and what it gets. The file `lines` holds them. Pure.

The file is made of frames ["line", rows] of up to 32 rows; the fields of a row are those of `Line`, in their order.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from fallow.domain.epochs.manifest import File, frame, read_frames
from fallow.domain.epochs.state import amount
from fallow.domain.facts import Moved
from fallow.domain.records import COUNT_MAX, convert

LINES: Final = "lines"
LINES_A_FRAME: Final = 32
"""The longest has less than 13 KiB, by the bound below and words of up to 60 letters."""

REASONS_MAX: Final = 64
"""Why a lease ended may be a node's own word: after so many different ones it is `other`."""

OTHER: Final = "other"
USAGE: Final = "usage"
INCENTIVE: Final = "incentive"
PARTS: Final = ("income", "fee", "reserve", "refunded", "made_good")


class Money(NamedTuple):
    """Micro-US-dollars of one credit class; what is not `bought` the network ordered itself, and paid from its fees."""

    credit: int
    bought: bool
    income: int
    fee: int
    reserve: int
    refunded: int
    made_good: int


class Kept(NamedTuple):
    """What is owed at another time than it was earned, of one `part` of a line's pay; amounts have 32 bytes.

    Of what the epoch earned, `held` and `vesting` are not owed yet; of what earlier ones did, `released` and `vested`
    are now, and `forfeited` never will be, for the reason `code`.
    """

    part: str
    held: bytes
    released: bytes
    vesting: bytes
    vested: bytes
    forfeited: bytes
    code: str


class Line(NamedTuple):
    """What was earned: `usage` in the settlement asset, `incentive` in the token (both 32 bytes).

    All of it is owed, but for what `kept` says. `verdicts` counts records by verdict and code, `ended` leases by reason
    and who caused it.
    """

    vertical: str
    node: bytes
    account: bytes
    units: int
    score: int
    usage: bytes
    incentive: bytes
    money: list[Money]
    verdicts: list[tuple[str, str, int]]
    ended: list[tuple[str, str, int]]
    kept: list[Kept] = []


LineKey = tuple[str, bytes, bytes]
"""Vertical, node, account."""


class Tally:
    """A line while the records of an epoch are read."""

    def __init__(self) -> None:
        self.units = 0
        self.weight = 0
        """The units by which what subscriptions paid is divided."""
        self.money: Counter[tuple[int, bool, str]] = Counter()
        self.attested: Counter[int] = Counter()
        """Fees by credit class of what was bought and only a gateway attests: a part of those in `money`."""
        self.verdicts: Counter[tuple[str, str]] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()

    def end(self, reason: str, caused_by: str) -> None:
        """Count a lease that ended."""
        known = (reason, caused_by) in self.ended or len(self.ended) < REASONS_MAX
        self.ended[reason if known else OTHER, caused_by] += 1

    def holds(self, more: Iterable[Moved]) -> bool:
        """Whether the line's numbers fit into the encoding with these as well."""
        added: int = sum(getattr(moved, part) for moved in more for part in PARTS)
        return max(self.money.values(), default=0) + added <= COUNT_MAX

    def sum_of(self, parts: Iterable[str], classes: Iterable[int], *, bought: bool | None = None) -> int:
        """Add up some of the money."""
        kinds = (True, False) if bought is None else (bought,)
        return sum(self.money[credit, kind, part] for credit in classes for kind in kinds for part in parts)

    def line(self, key: LineKey, score: int, usage: int, incentive: int, kept: Sequence[Kept] = ()) -> Line:
        """Close the line."""
        classes = sorted({(credit, bought) for (credit, bought, _), value in self.money.items() if value})
        return Line(
            *key,
            units=self.units,
            score=score,
            usage=amount(usage),
            incentive=amount(incentive),
            money=[Money(*one, *(self.money[*one, part] for part in PARTS)) for one in classes],
            verdicts=[(*key, count) for key, count in sorted(self.verdicts.items())],
            ended=[(*key, count) for key, count in sorted(self.ended.items())],
            kept=list(kept),
        )


def write_lines(lines: Iterable[Line]) -> bytes:
    """Return the file."""
    return b"".join(_frames(lines))


def read_lines(data: bytes) -> list[Line]:
    """Read the file.

    Raises:
        InvalidInput: it is malformed.
    """
    file = File(name=LINES, size=len(data), sha256=hashlib.sha256(data).digest(), count=0)
    return list(lines_of(file, [data]))


def lines_of(file: File, chunks: Iterable[bytes]) -> Iterator[Line]:
    """Read the file piece by piece; that it is the one that is meant is only known at its end.

    Raises:
        InvalidInput: it is another file, or malformed.
    """
    for _, rows in read_frames(file, chunks):
        yield from convert(rows, list[Line], "epoch.lines")


def _frames(lines: Iterable[Line]) -> Iterator[bytes]:
    rows: list[object] = []
    for line in lines:
        parts = (line.money, line.verdicts, line.ended, line.kept)
        rows.append([*line[:7], *([list(one) for one in part] for part in parts)])
        if len(rows) == LINES_A_FRAME:
            yield frame(["line", rows])
            rows = []
    if rows:
        yield frame(["line", rows])
