"""Books what audits showed: reputations, standings, findings, in one transaction for many nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from fallow.domain.decisions import Decision
from fallow.domain.network_facts import LendingForfeited
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.decisions import DecisionStore
from fallow.verticals.storage.control.nodes import Nodes
from fallow.verticals.storage.control.questioning import Contained, Result
from fallow.verticals.storage.core.reputation import Change, Reputation, judged
from fallow.verticals.storage.core.tariff import VERTICAL

FINDINGS_MAX: Final = 1000
"""Of each node."""
EVIDENCE_MAX: Final = 100
"""Of what led to a disqualification, so many are named in its record."""
RETRY_MS: Final = 1_800_000
"""So long after its next audit would have been, a node is asked again what it did not answer.

When that is it does not know: it was drawn without memory when the node was asked before.
"""
SETTLED: Final = frozenset({"success", "failed"})
"""Outcomes after which a question is not asked again."""
_STATE: Final = msgspec.msgpack.Decoder(Reputation)
_CONTAINED: Final = msgspec.msgpack.Decoder(Contained)
_COLUMNS: Final = ("alias", "at_ms", "kind", "code", "text", "evidence", "told")

Also = Callable[[Transaction], Awaitable[None]]
"""Writes what belongs to something in the same transaction."""


async def nothing_else(_: Transaction) -> None:
    """Nothing does."""


class _State(NamedTuple):
    """What was known of a node, and what it is to be asked again."""

    reputation: Reputation
    contained: Contained | None


class _Judged(NamedTuple):
    result: Result
    before: Reputation
    after: Reputation
    changes: Sequence[Change]
    contained: Contained | None


def read_state(data: bytes) -> Reputation:
    """A reputation as it is kept."""
    return _STATE.decode(data)


def read_contained(data: bytes | None) -> Contained | None:
    """A question that is to be asked again, as it is kept."""
    return _CONTAINED.decode(data) if data is not None else None


def new_state() -> bytes:
    """That of a node that was never audited."""
    return msgspec.msgpack.encode(Reputation())


class Verdicts:
    """Writes them."""

    def __init__(self, clock: Clock, database: Database, nodes: Nodes, decisions: DecisionStore) -> None:
        self._clock = clock
        self._database = database
        self._nodes = nodes
        self._decisions = decisions

    async def book(self, results: Sequence[Result], also: Also = nothing_else) -> Sequence[Result]:
        """Book results, one a node at most; `also` is done in the same transaction. Returns those that counted.

        What a node lacks that was dropped meanwhile is no failure.
        """
        if not results:
            return ()
        now_ms = self._clock.now_ms()
        async with self._database.transaction() as tx:
            states = await _states(tx, results, now_ms)
            dropped = await _dropped(tx, [result for result in results if result.outcome == "failed"])
            all_ = [
                _judge(result, states[result.lender.alias], now_ms)
                for result in results
                if result.lender.alias not in dropped
            ]
            await _write_states(tx, all_)
            await _write_findings(tx, [row for one in all_ for row in _findings(one, now_ms)])
            lost = [one for one in all_ if one.after.disqualified_ms and not one.before.disqualified_ms]
            await self._decisions.add(tx, [Decision(now_ms, await _forfeited(tx, one)) for one in lost])
            await also(tx)
        for one in all_:
            one.result.lender.standing = one.after.standing
        return [one.result for one in all_]


async def _forfeited(tx: Transaction, one: _Judged) -> LendingForfeited:
    """That a node is disqualified, for epochs: by the change that says why, and by the latest that was found of it."""
    (why,) = (change.code for change in one.changes if change.kind == "disqualified")
    rows = await tx.fetch(
        "SELECT evidence FROM storage.finding WHERE alias = $1 AND evidence <> '' ORDER BY id DESC LIMIT $2",
        one.result.lender.alias,
        EVIDENCE_MAX,
    )
    evidence = [hashlib.sha256(row["evidence"]).digest() for row in reversed(rows)]
    return LendingForfeited(vertical=VERTICAL, node=one.result.lender.node, code=why, evidence=evidence)


def _judge(result: Result, state: _State, now_ms: int) -> _Judged:
    before, again = state.reputation, _again(result, state.contained)
    if result.outcome is None:
        return _Judged(result, before, before, [], again)
    return _Judged(result, before, *judged(before, result.outcome, now_ms), again)


def _again(result: Result, before: Contained | None) -> Contained | None:
    """What is asked again: what a node was asked before stays so until that is settled, whatever else it gives."""
    if before is not None and before.segment != result.segment:
        return before
    return None if result.outcome in SETTLED else result.contained or before


async def _states(tx: Transaction, results: Iterable[Result], now_ms: int) -> Mapping[int, _State]:
    """Who was read from before any auditor met him is known, and due, from now on."""
    aliases = sorted(result.lender.alias for result in results)
    await tx.execute(
        "INSERT INTO storage.reputation (alias, state, next_ms) SELECT alias, $2, $3 FROM unnest($1::integer[]) AS a"
        " (alias) WHERE NOT EXISTS (SELECT FROM storage.reputation r WHERE r.alias = a.alias) ON CONFLICT DO NOTHING",
        aliases,
        new_state(),
        now_ms,
    )
    rows = await tx.fetch(
        "SELECT alias, state, contained FROM storage.reputation WHERE alias = ANY($1::integer[])"
        " ORDER BY alias FOR UPDATE",
        aliases,
    )
    return {row["alias"]: _State(read_state(row["state"]), read_contained(row["contained"])) for row in rows}


async def _dropped(tx: Transaction, failed: Sequence[Result]) -> set[int]:
    """Nodes that failed to show what their segment does not count on any more."""
    if not failed:
        return set()
    rows = await tx.fetch(
        "SELECT a.alias FROM unnest($1::integer[], $2::bytea[]) AS a (alias, segment) WHERE EXISTS"
        " (SELECT 1 FROM storage.segment s WHERE s.id = a.segment AND a.alias = ANY(s.nodes))",
        [result.lender.alias for result in failed],
        [result.segment for result in failed],
    )
    return {result.lender.alias for result in failed} - {row["alias"] for row in rows}


async def _write_states(tx: Transaction, all_: Sequence[_Judged]) -> None:
    aliases = [one.result.lender.alias for one in all_]
    await tx.execute(
        "UPDATE storage.reputation r SET state = a.state, audits = r.audits + a.counts, ended = a.ended,"
        " contained = a.contained, next_ms = r.next_ms + a.later_ms"
        " FROM unnest($1::integer[], $2::bytea[], $3::bytea[], $4::integer[], $5::boolean[], $6::bigint[])"
        "  AS a (alias, state, contained, counts, ended, later_ms) WHERE r.alias = a.alias",
        aliases,
        [msgspec.msgpack.encode(one.after) for one in all_],
        [msgspec.msgpack.encode(one.contained) if one.contained is not None else None for one in all_],
        [int(one.result.outcome is not None) for one in all_],
        [bool(one.after.disqualified_ms) for one in all_],
        [RETRY_MS if one.result.contained is not None and one.result.contained.tries else 0 for one in all_],
    )
    changed = [one for one in all_ if one.after.standing != one.before.standing]
    if changed:
        await tx.execute(
            "UPDATE storage.node n SET standing = a.standing FROM unnest($1::integer[], $2::text[])"
            " AS a (alias, standing) WHERE n.alias = a.alias",
            [one.result.lender.alias for one in changed],
            [one.after.standing for one in changed],
        )


def _findings(one: _Judged, now_ms: int) -> list[tuple[object, ...]]:
    """Rows: what did not succeed, then what changed by it. Of a node that is away, the first time in a window."""
    result, rows = one.result, list[tuple[object, ...]]()
    evidence = result.evidence
    if evidence is not None and (result.outcome != "offline" or _misses(one.after) == 1):
        row = (result.lender.alias, now_ms, "", result.code, evidence.found, msgspec.msgpack.encode(evidence), True)
        rows.append(row)
    rows += [(result.lender.alias, now_ms, kind, code, text, b"", False) for kind, code, text in one.changes]
    return rows


def _misses(reputation: Reputation) -> int:
    _, asked, there = reputation.windows[-1]
    return asked - there


async def _write_findings(tx: Transaction, rows: Sequence[tuple[object, ...]]) -> None:
    if not rows:
        return
    await tx.copy("storage.finding", _COLUMNS, rows)
    await tx.execute(
        "DELETE FROM storage.finding f USING unnest($1::integer[]) AS a (alias) WHERE f.alias = a.alias AND f.id <"
        " (SELECT g.id FROM storage.finding g WHERE g.alias = a.alias ORDER BY g.id DESC OFFSET $2 LIMIT 1)",
        list({row[0] for row in rows}),
        FINDINGS_MAX - 1,
    )
