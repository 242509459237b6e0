"""All that there is to know of a lent disk, for its owner: what lies there, and what the network says of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from fallow.ports.vertical.worker import Overview
from fallow.verticals.storage.core.lending import Lending, size_text
from fallow.verticals.storage.core.questions import Note
from fallow.verticals.storage.core.reputation import DISQUALIFIED_BELOW, ONLINE_SUSPENDED_BELOW, UNKNOWN_SUSPENDED_BELOW
from fallow.verticals.storage.core.statements import Statement
from fallow.verticals.storage.worker.store import Amounts

PPM: Final = 1_000_000
EVIDENCE_SHOWN: Final = 3
Fact = tuple[str, str]


class Known(NamedTuple):
    """What the worker knows. `notes` are all that are kept, `alerts` those of them that hold now."""

    lending: Lending
    amounts: Amounts | None
    orders_waiting: int
    trouble: str
    statement: Statement | None
    notes: Sequence[Note]
    alerts: Sequence[Note]
    leaves: str


def overview_of(known: Known) -> Overview:
    """Put it together."""
    facts = [*_disk(known), *_network(known.statement), *_alerts(known.alerts)]
    return Overview(facts, _details(known))


def _disk(known: Known) -> Iterator[Fact]:
    size, folder, amounts = size_text(known.lending.size_bytes), known.lending.folder, known.amounts
    if amounts is not None:
        yield "on the disk", f"{size_text(amounts.used_bytes)} of {size} in {folder}, by {amounts.pieces:,} pieces"
        yield "in the trash", f"{size_text(amounts.trash_bytes)} of it"
    else:
        yield "on the disk", f"{size} in {folder}, which is not used"
    if known.orders_waiting:
        yield "to hand in", f"{known.orders_waiting:,} orders of what was served"
    if known.leaves:
        yield "it leaves", known.leaves
    if known.trouble:
        yield "trouble", known.trouble


def _network(statement: Statement | None) -> Iterator[Fact]:
    if statement is None:
        yield "the network says", "nothing yet: it tells every ten minutes how this node stands"
        return
    yield "the network says", f"{statement.standing or 'fine'}, at {_time(statement.at_ms)}"
    yield "it counts here", size_text(statement.stored_bytes)
    score = f"score {_score(statement.score_ppm)} (below {DISQUALIFIED_BELOW} all here counts as lost)"
    errors = f"of errors {_score(statement.unknown_ppm)} (below {UNKNOWN_SUSPENDED_BELOW} nothing new comes)"
    yield "audits", f"{statement.audits:,}; {score}, {errors}"
    bound = f"below {ONLINE_SUSPENDED_BELOW:.0%} nothing new comes"
    yield "there", f"{statement.online_ppm / PPM:.1%} of the last thirty days ({bound})"
    yield (
        "read this month",
        f"{size_text(statement.egress_bytes)}; {size_text(statement.repair_bytes)} more for repairs",
    )
    so_far, expected = _usd(statement.earned_microusd), _usd(statement.expected_microusd)
    yield "pay this month", f"{so_far} so far, {expected} expected, after the network's fee"


def _alerts(alerts: Sequence[Note]) -> Iterator[Fact]:
    for note in alerts:
        yield f"{note.kind}, {_time(note.at_ms)}", f"{note.text} [{note.code}]"
        for one in note.evidence[:EVIDENCE_SHOWN]:
            piece = f"chunk {one.chunk} of piece {one.piece.hex()[:12]}: " if one.piece else ""
            yield f"  {_time(one.asked_ms)}", f"{piece}{one.found}, after {one.took_ms} ms"


def _details(known: Known) -> dict[str, Any]:
    amounts, statement = known.amounts, known.statement
    return {
        "folder": known.lending.folder,
        "limit_bytes": known.lending.size_bytes,
        "disk": amounts._asdict() if amounts is not None else None,
        "orders_waiting": known.orders_waiting,
        "trouble": known.trouble,
        "leaves": known.leaves,
        "statement": _plain(statement) if statement is not None else None,
        "alerts": [_plain(note) | {"holds": note in known.alerts} for note in known.notes],
    }


def _plain(said: msgspec.Struct) -> Any:  # noqa: ANN401 - a struct as builtins
    """With bytes as hex, which JSON has none of."""
    return _hexed(msgspec.to_builtins(said, builtin_types=(bytes,)))


def _hexed(value: Any) -> Any:  # noqa: ANN401 - whatever there is in builtins
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: _hexed(one) for name, one in value.items()}
    return [_hexed(one) for one in value] if isinstance(value, list) else value


def _score(ppm: int) -> str:
    return f"{ppm / PPM:.4f}"


def _usd(microusd: int) -> str:
    return f"{microusd / PPM:.4f} US dollars"


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
