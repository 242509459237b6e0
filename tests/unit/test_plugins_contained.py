"""Whatever a vertical's policy does, the epoch closes: its record is rejected with a code, and others are paid."""

# ruff: noqa: D101, D102

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from fallow.bootstrap.plugins import load_verticals
from fallow.domain.chart import Credit
from fallow.domain.epochs.closing import Closing, close
from fallow.domain.epochs.lines import read_lines
from fallow.domain.epochs.metering import ACCEPTED, Found, Known, Use, Verifier
from fallow.domain.epochs.plugins import PLUGIN_ERROR
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.state import Row, read_state
from fallow.domain.errors import InvalidInput, Unavailable
from fallow.domain.facts import Moved
from fallow.domain.records import COUNT_MAX, Body
from fallow.domain.verification import Standing, Verdict
from tests.epoch_files import NETWORK_KEY as NETWORK
from tests.epoch_world import METERINGS, NODES, WORK_ONLY, enrolled, epoch, filed, finished, settled

FREE_FOUND: Any = Found
FREE_USE: Any = Use
"""As a plugin makes them that no type checker has seen."""

ACCOUNT = bytes(19) + b"\7"


class Word(Body, frozen=True, kw_only=True):
    kind = "odd.word"
    version = 1


class Odd:
    """A vertical that does in one place what a test tells it to, for the records with an even number."""

    name, version, digest, kinds = "odd", 1, bytes(32), frozenset({Word.kind})
    by_node = False

    def __init__(self, place: str, does: Callable[[], Any]) -> None:
        self._place = place
        self._does = does

    def _at(self, place: str, otherwise: Any) -> Any:
        return self._does() if place == self._place else otherwise

    def verifier(self, _carried: Sequence[Row], _known: Known) -> Verifier:
        self._at("begin", None)
        return self

    def verify(self, record: Filed) -> Found:
        return self._at("verify", ACCEPTED) if record.record.seq % 2 == 0 else ACCEPTED

    def meter(self, record: Filed) -> Use:
        use = Use(record.node, units=1)
        return self._at("meter", use) if record.record.seq % 2 == 0 else use

    def carried(self) -> Sequence[Row]:
        return self._at("carried", [[b"new", 1]])

    def score(self, _standing: Standing, _at: int) -> int:
        return self._at("score", 1_000_000)


def fails() -> Any:
    raise ZeroDivisionError("of its own making")


def closed(odd: Odd, opening: bytes = b"") -> Closing:
    """Close an epoch in which the odd vertical's four records stand between those of a lease that was paid."""
    accepted, receipt = finished(1)
    records = [filed(NODES[0], enrolled(0, 0)), filed(NODES[0], accepted), filed(NODES[0], receipt)]
    records += [filed(NODES[1], Word(), seq) for seq in range(4)]
    records.append(filed(NETWORK, settled(1, 0, 0)))
    return close(opening, epoch(), records, WORK_ONLY, {**METERINGS, "odd": odd})


def verdicts(made: Closing) -> dict[str, int]:
    [line] = [line for line in made.folded.lines if line.vertical == "odd"]
    return {code or verdict: count for verdict, code, count in line.verdicts}


def opening() -> bytes:
    """The state of an epoch in which all went well."""
    return closed(Odd("", fails)).files["state"]


def test_one_that_does_nothing_odd_is_counted() -> None:
    made = closed(Odd("", fails))
    assert verdicts(made) == {"accepted": 4}
    assert made.folded.errors == {}


@pytest.mark.parametrize(
    ("place", "does"),
    [
        ("verify", fails),
        ("verify", lambda: None),
        ("verify", lambda: FREE_FOUND("accepted")),
        ("verify", lambda: Found(Verdict.REJECTED, "x" * 101)),
        ("verify", lambda: Found(Verdict.REJECTED, "\ud800")),
        ("meter", fails),
        ("meter", lambda: Use(NODES[1], units=-1)),
        ("meter", lambda: Use(NODES[1], units=COUNT_MAX + 1)),
        ("meter", lambda: FREE_USE(NODES[1], units=1.5)),
        ("meter", lambda: Use(NODES[1], units=True)),
        ("meter", lambda: Use(b"nobody")),
        ("meter", lambda: Use(NODES[1], account=b"nobody")),
        ("meter", lambda: Use(NODES[1], moved=[Moved(credit=2, income=-1)])),
        ("meter", lambda: Use(NODES[1], moved=[Moved(credit=9, income=1)])),
        ("meter", lambda: Use(NODES[1], ended=("x" * 61, "buyer"))),
        ("meter", lambda: Use(NODES[1], ended=("why", "whoever"))),
        ("meter", lambda: FREE_USE(NODES[1], ended=("why",))),
        ("meter", lambda: FREE_USE(NODES[1], ended=("why", "buyer", "again"))),
        ("meter", lambda: FREE_USE(NODES[1], ACCOUNT, moved=[Moved(credit=2, income=1)], bought=None)),
        ("meter", lambda: FREE_USE(NODES[1], ACCOUNT, moved=(each for each in [Moved(credit=2, income=1)]))),
        ("meter", lambda: Use(NODES[1], ACCOUNT, moved=[Moved(credit=Credit.PAID, income=1)])),
        ("meter", lambda: Use(NODES[1], ACCOUNT, moved=[Moved(credit=True, income=1)])),
    ],
)
def test_its_record_is_rejected_and_all_others_count(place: str, does: Callable[[], Any]) -> None:
    made = closed(Odd(place, does))
    assert verdicts(made) == {"accepted": 2, PLUGIN_ERROR: 2}
    assert "odd" in made.folded.errors, "its operator is told"
    [paid] = [line for line in made.folded.lines if line.vertical == "compute" and line.money]
    assert int.from_bytes(paid.usage) == 900
    assert made.files == closed(Odd(place, does)).files, "the same wherever it is computed"


def test_a_refusal_with_a_code_is_no_failure() -> None:
    def refuses() -> Any:
        raise InvalidInput("odd.no", "This one not.")

    for place in ("verify", "meter"):
        made = closed(Odd(place, refuses))
        assert verdicts(made) == {"accepted": 2, "odd.no": 2}
        assert made.folded.errors == {}


@pytest.mark.parametrize(
    "does",
    [
        fails,
        lambda: None,
        lambda: [[b"node", 0.5]],
        lambda: [[b"node"], ["text"]],
        lambda: [(b"node", 1)],
        lambda: [[b"node", bytes(600)]],
        lambda: [[b"node", 1 << 70]],
    ],
)
def test_what_cannot_be_carried_leaves_what_was_there(does: Callable[[], Any]) -> None:
    made = closed(Odd("carried", does), opening())
    assert list(read_state(made.files["state"]).carried["odd"]) == [[b"new", 1]]
    assert verdicts(made) == {"accepted": 4}
    assert "odd" in made.folded.errors


def test_one_that_cannot_begin_has_its_records_rejected_and_keeps_what_it_carried() -> None:
    made = closed(Odd("begin", fails), opening())
    assert verdicts(made) == {PLUGIN_ERROR: 4}
    assert list(read_state(made.files["state"]).carried["odd"]) == [[b"new", 1]]
    assert made.folded.errors == {"odd": "ZeroDivisionError: of its own making"}


@pytest.mark.parametrize("does", [fails, lambda: -1, lambda: 1_000_001, lambda: 0.5, lambda: None])
def test_a_score_that_is_none_is_nothing(does: Callable[[], Any]) -> None:
    made = closed(Odd("score", does))
    [line] = [line for line in made.folded.lines if line.vertical == "odd"]
    assert line.score == 0
    assert "odd" in made.folded.errors


def test_units_and_codes_of_a_line_stay_within_what_a_file_holds() -> None:
    made = closed(Odd("meter", lambda: Use(NODES[1], units=COUNT_MAX)))
    [line] = [line for line in made.folded.lines if line.vertical == "odd"]
    assert line.units == COUNT_MAX
    numbers = iter(range(1000))
    odd = Odd("verify", lambda: Found(Verdict.REJECTED, f"odd.{next(numbers)}"))
    records = [filed(NODES[1], Word(), 2 * seq) for seq in range(100)]
    [line] = close(b"", epoch(), records, WORK_ONLY, {"odd": odd}).folded.lines
    assert sum(count for _, _, count in line.verdicts) == 100
    assert len(line.verdicts) <= 65


def test_what_pays_for_a_node_of_nobodys_is_rejected() -> None:
    """There would be no account to owe it to, and so no root."""
    made = closed(Odd("meter", lambda: Use(NODES[1], moved=[Moved(credit=2, income=1)])))
    assert verdicts(made) == {"accepted": 2, "node.no_owner": 2}
    assert made.folded.errors == {}, "whose it is, its node has to say"


def test_money_of_a_line_stays_within_what_a_file_holds() -> None:
    most = [Moved(credit=2, income=COUNT_MAX)]
    made = closed(Odd("meter", lambda: Use(NODES[1], ACCOUNT, moved=most)))
    [line] = [line for line in read_lines(made.files["lines"]) if line.account == ACCOUNT]
    assert int.from_bytes(line.usage) == COUNT_MAX
    assert {code or verdict: count for verdict, code, count in line.verdicts} == {"accepted": 1, "line.full": 1}


def test_lines_with_the_longest_words_are_read_again() -> None:
    nodes = [number.to_bytes(32) for number in range(1, 41)]

    class Wordy(Odd):
        def verify(self, record: Filed) -> Found:
            return ACCEPTED if record.record.seq % 2 else Found(Verdict.REJECTED, f"{record.record.seq:060}")

        def meter(self, record: Filed) -> Use:
            return Use(record.node, ended=(f"{record.record.seq:060}", "provider"))

    records = [filed(node, Word(), seq) for node in nodes for seq in range(160)]
    made = close(b"", epoch(), records, WORK_ONLY, {"odd": Wordy("", fails)})
    assert len(read_lines(made.files["lines"])) == len(nodes)


def test_one_that_judges_nodes_apart_carries_rows_of_nodes_alone() -> None:
    """The others would be read by none of several processes, and by the one of an auditor."""

    class Apart(Odd):
        by_node = True

    made = closed(Apart("carried", lambda: [[b"sums", 1]]), closed(Apart("carried", list)).files["state"])
    assert "odd" in made.folded.errors
    assert "odd" not in read_state(made.files["state"]).carried


def test_where_memory_runs_out_the_epoch_is_closed_again_later() -> None:
    def full() -> Any:
        raise MemoryError

    for place in ("begin", "verify", "carried", "score"):
        with pytest.raises(MemoryError):
            closed(Odd(place, full))


@pytest.mark.parametrize("name", ["node", "owed", "state", "core.held", ""])
def test_a_vertical_whose_name_is_of_the_states_own_is_not_loaded(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What it carries would be read as something else in the next epoch, and none would close any more."""
    entry = SimpleNamespace(name="odd", load=lambda: SimpleNamespace(name=name))
    monkeypatch.setattr("fallow.bootstrap.plugins.entry_points", lambda **_: [entry])
    with pytest.raises(Unavailable, match="can be called"):
        load_verticals()
