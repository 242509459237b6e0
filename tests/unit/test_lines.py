"""The file of lines stays readable, whatever nodes say of how their leases ended."""

from __future__ import annotations

from string import ascii_lowercase

from coincurve import PrivateKey

from fallow.domain.bindings import binding_text
from fallow.domain.epochs.closing import close
from fallow.domain.epochs.core import OWNERS_A_NODE_MAX
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
from fallow.domain.facts import NodeEnrolled
from fallow.domain.wallets import address_of, sign_text
from tests.epoch_files import NET, NETWORK_KEY
from tests.epoch_world import METERINGS, NODES, epoch, filed, settled


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


def test_a_node_that_changes_hands_without_end_has_few_lines() -> None:
    keys = [PrivateKey(bytes([number]) * 32) for number in range(1, OWNERS_A_NODE_MAX + 10)]
    bindings = []
    for key in keys:
        text = binding_text(NET, NODES[0], address_of(key))
        bindings.append(NodeEnrolled(account=address_of(key), account_signature=sign_text(key, text)))
    closing = close(b"", epoch(), [filed(NODES[0], body, at) for at, body in enumerate(bindings)], Rules(), METERINGS)
    lines = read_lines(closing.files["lines"])
    assert len(lines) == OWNERS_A_NODE_MAX
    assert closing.folded.state.owners == {NODES[0]: address_of(keys[OWNERS_A_NODE_MAX - 1])}
    assert ("rejected", "binding.too_many", 9) in [one for line in lines for one in line.verdicts]
    again = [filed(NODES[0], bindings[-1], at) for at in range(3 * OWNERS_A_NODE_MAX)]
    (line,) = read_lines(close(closing.files["state"], epoch(), again, Rules(), METERINGS).files["lines"])
    assert line.verdicts == [("accepted", "", 3 * OWNERS_A_NODE_MAX)], "the same owner again is no change"
