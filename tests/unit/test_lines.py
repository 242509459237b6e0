"""The file of lines stays readable, whatever nodes say of how their leases ended."""

from __future__ import annotations

from string import ascii_lowercase

from fallow.domain.epochs.closing import close
from fallow.domain.epochs.lines import (
    INCENTIVE,
    LINES_A_FRAME,
    OTHER,
    REASONS_MAX,
    USAGE,
    Kept,
    Line,
    Money,
    read_lines,
    write_lines,
)
from fallow.domain.epochs.rules import Rules
from tests.epoch_files import NETWORK_KEY
from tests.epoch_world import METERINGS, epoch, filed, settled


def test_reasons_that_a_node_makes_up_are_counted_as_others() -> None:
    reasons = [f"made.up.{one}{two}" for one in ascii_lowercase for two in ascii_lowercase][: REASONS_MAX + 9]
    ended = [settled(at, 0, 0, reason=reason, moved=[]) for at, reason in enumerate([*reasons, reasons[0]])]
    records = [filed(NETWORK_KEY, body, at) for at, body in enumerate(ended)]
    closing = close(b"", epoch(), records, Rules(), METERINGS)
    (line,) = (line for line in read_lines(closing.files["lines"]) if line.ended)
    counts = {reason: count for reason, _, count in line.ended}
    assert (len(counts), counts[OTHER], counts[reasons[0]]) == (REASONS_MAX + 1, 9, 2)
    assert sum(counts.values()) == len(ended)


def test_the_longest_lines_fit_into_frames_that_are_read() -> None:
    longest = Line(
        vertical="v" * 20,
        node=bytes(32),
        account=bytes(20),
        units=1 << 62,
        score=1_000_000,
        usage=bytes(32),
        incentive=bytes(32),
        money=[Money(credit, bought, *[1 << 62] * 5) for credit in (1, 2, 3) for bought in (False, True)],
        verdicts=[("inconclusive", "c" * 30, 1 << 62)] * 30,
        ended=[("r" * 60, "provider", 1 << 62)] * (REASONS_MAX + 6),
        kept=[
            Kept(part, bytes(32), bytes(32), bytes(32), bytes(32), bytes(32), "c" * 60) for part in (INCENTIVE, USAGE)
        ],
    )
    lines = [longest] * (2 * LINES_A_FRAME + 1)
    assert read_lines(write_lines(lines)) == lines
