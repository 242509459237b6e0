"""Audits nodes for ever: each by chance, at times that it cannot foresee, as often as what it holds calls for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from fallow.domain.happenings import Gathering, Happening, Happenings, Kind
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row, Transaction
from fallow.ports.decisions import DecisionStore
from fallow.ports.happenings import show
from fallow.ports.vertical.control import Ask
from fallow.verticals.storage.control.choosing import Uniform
from fallow.verticals.storage.control.limits import Secrets
from fallow.verticals.storage.control.lost_pieces import lose
from fallow.verticals.storage.control.nodes import Lender, Nodes
from fallow.verticals.storage.control.questioning import Contained, Job, Questioner, Result
from fallow.verticals.storage.control.recovering import recovering_in
from fallow.verticals.storage.control.sampling import Sampler
from fallow.verticals.storage.control.segments import piece_bytes
from fallow.verticals.storage.control.verdicts import Verdicts, new_state, read_contained, read_state
from fallow.verticals.storage.core.auditing import Asked, audits_a_day, drawn_chunk
from fallow.verticals.storage.core.profiles import PROFILES
from fallow.verticals.storage.core.questions import Evidence
from fallow.verticals.storage.core.reputation import DAY_MS

AT_ONCE: Final = 256
LOOK_S: Final = 5.0
BEGIN_S: Final = 60.0
"""A process that has just started has not heard those that are there."""
APART_MIN_MS: Final = 180_000
"""The next audit of a node comes after the last one has ended."""
DRAWS_MAX: Final = 3
HEARD_MS: Final = 4 * 3_600_000
SHOWN: Final[Mapping[str, Kind]] = {"success": "check.passed", "failed": "check.failed", "offline": "check.missed"}


class Score(NamedTuple):
    """What the network thinks of a node, and after how many audits."""

    node: bytes
    standing: str
    score: float
    unknown_score: float
    online_score: float
    audits: int


class Audits:
    """Of all nodes that hold something. Each that is due is taken by one process, in the database.

    `uniform` draws from [0, 1) what nobody foresees.
    """

    def __init__(
        self,
        *,
        net: str,
        clock: Clock,
        database: Database,
        nodes: Nodes,
        decisions: DecisionStore,
        secrets: Secrets,
        ask: Ask,
        bus: Bus,
        uniform: Uniform,
    ) -> None:
        self._net = net
        self._clock = clock
        self._database = database
        self._bus = bus
        self._nodes = nodes
        self._secrets = secrets
        self._uniform = uniform
        self._sampler = Sampler(clock, uniform)
        self._questioner = Questioner(clock, ask)
        self._verdicts = Verdicts(clock, database, nodes, decisions)
        self._known: set[int] = set()
        self._results: list[Result] = []

    async def audit(self) -> None:
        """Go on until cancelled."""
        await self._clock.sleep(BEGIN_S)
        running: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                running = {task for task in running if not task.done()}
                running |= {group.create_task(self._do(job)) for job in await self.take(AT_ONCE - len(running))}
                await self.book()
                await self._clock.sleep(LOOK_S)

    async def once(self) -> None:
        """Audit those that are due, and book it."""
        for job in await self.take(AT_ONCE):
            await self._do(job)
        await self.book()

    async def take(self, limit: int) -> list[Job]:
        """Look for what is due, up to a limit; nodes that are not there are asked nothing.

        That they are away counts where they hold something: who has nothing left may go, and come back.
        """
        await self._sampler.read_on(self._database)
        async with self._database.transaction() as tx:
            await self._enrol(tx)
            due = await self._due(tx, limit)
            lenders = await self._nodes.of(tx, list(due))
            online = {one.alias for one in self._nodes.online()}
            recovering = await recovering_in(tx)
            there = {alias: due[alias] for alias in lenders if alias in online and alias not in recovering}
            if self._network_hears():
                missed = [one for alias, one in lenders.items() if alias not in online]
                self._results += [self._away(one) for one in missed if self._sampler.held_bytes(one.alias)]
            return await self._jobs(tx, there, lenders)

    async def book(self) -> None:
        """Write down what was found since the last time; a piece that is not right is lost from then on."""
        while self._results:
            some = self._next()
            booked = await self._verdicts.book(some, partial(self._lose, some))
            self._results = [one for one in self._results if not any(one is each for each in some)]
            await show(self._bus, _happened(booked, self._clock.now_ms()))

    async def scores(self) -> list[Score]:
        """What the network thinks of each node."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(
                "SELECT n.node, n.standing, r.state, r.audits FROM storage.reputation r JOIN storage.node n USING"
                " (alias) ORDER BY alias"
            )
        return [_score(row) for row in rows]

    def _next(self) -> list[Result]:
        """The first of each node; a failure by itself: who holds one segment waits for nobody who holds another."""
        first = {result.lender.alias: result for result in reversed(self._results)}
        failed = [one for one in first.values() if one.outcome == "failed"]
        return failed[:1] or [*first.values()]

    async def _lose(self, results: Sequence[Result], tx: Transaction) -> None:
        """As where repairs do not get a piece: it counts no more, while as many others are left as it takes."""
        failed = [one for one in results if one.outcome == "failed"]
        rows = await live(tx, [one.segment for one in failed])
        for one in failed:
            if one.segment in rows:
                needed = PROFILES[rows[one.segment]["profile"]].needed
                await lose(tx, one.lender.alias, [one.segment], self._clock.now_ms(), others_min=needed)

    async def _do(self, job: Job) -> None:
        self._results.append(await self._questioner.ask(job))

    async def _enrol(self, tx: Transaction) -> None:
        """Give those that were not known their first time."""
        new = [one.alias for one in self._nodes.all() if one.alias not in self._known]
        if new:
            await tx.execute(
                "INSERT INTO storage.reputation (alias, state, next_ms) SELECT alias, $2, next_ms"
                " FROM unnest($1::integer[], $3::bigint[]) AS a (alias, next_ms) ON CONFLICT DO NOTHING",
                new,
                new_state(),
                [self._next_ms(alias) for alias in new],
            )
            self._known.update(new)

    async def _due(self, tx: Transaction, limit: int) -> dict[int, Contained | None]:
        """Those that are due, and what they were asked before; they are this process's until their next time."""
        rows = await tx.fetch(
            "SELECT alias, contained FROM storage.reputation WHERE next_ms <= $1 AND NOT ended ORDER BY next_ms"
            " LIMIT $2 FOR UPDATE SKIP LOCKED",
            self._clock.now_ms(),
            limit,
        )
        aliases = [row["alias"] for row in rows]
        await tx.execute(
            "UPDATE storage.reputation r SET next_ms = a.next_ms FROM unnest($1::integer[], $2::bigint[])"
            " AS a (alias, next_ms) WHERE r.alias = a.alias",
            aliases,
            [self._next_ms(alias) for alias in aliases],
        )
        return {row["alias"]: read_contained(row["contained"]) for row in rows}

    def _next_ms(self, alias: int) -> int:
        """Without memory, so that the time since the last audit tells a node nothing."""
        mean = DAY_MS / audits_a_day(self._sampler.held_bytes(alias))
        return self._clock.now_ms() + APART_MIN_MS + int(-math.log(1.0 - self._uniform()) * (mean - APART_MIN_MS))

    def _network_hears(self) -> bool:
        """Whether who is silent is away: where most fell silent at once, it is the network that does not hear."""
        since_ms = self._clock.now_ms() - HEARD_MS
        lately = sum(one.seen_ms > since_ms for one in self._nodes.all())
        return 2 * len(self._nodes.online()) >= lately > 0

    def _away(self, lender: Lender) -> Result:
        now_ms = self._clock.now_ms()
        found = f"offline: not heard since {lender.seen_ms}"
        evidence = Evidence(piece=b"", chunk=0, asked_ms=now_ms, took_ms=0, found=found)
        return Result(lender, "offline", code="storage.audit_offline", evidence=evidence)

    async def _jobs(
        self, tx: Transaction, due: Mapping[int, Contained | None], lenders: Mapping[int, Lender]
    ) -> list[Job]:
        """A question for each, as far as a piece is known that it should have now."""
        jobs: list[Job] = []
        left = dict(due)
        for _ in range(DRAWS_MAX):
            wanted = {alias: again or self._drawn(alias) for alias, again in left.items()}
            found = await live(tx, [one.segment for one in wanted.values() if one is not None])
            for alias, one in wanted.items():
                row = found.get(one.segment) if one is not None else None
                if one is not None and row is not None and alias in row["nodes"]:
                    jobs.append(self._job(lenders[alias], one, row))
                    del left[alias]
            await _forget(tx, [alias for alias, again in left.items() if again is not None])
            left = dict.fromkeys(left)
            if not left:
                break
        return jobs

    def _drawn(self, alias: int) -> Contained | None:
        segment = self._sampler.draw(alias)
        return Contained(segment, -1, 0) if segment is not None else None

    def _job(self, lender: Lender, one: Contained, row: Row) -> Job:
        length = piece_bytes(row["payload"], row["profile"])
        chunk = one.chunk if one.tries else drawn_chunk(length, self._uniform())
        piece = self._secrets.piece(one.segment, lender.node)
        signers = [*row["signers"], self._secrets.repairs(row["nodes"].index(lender.alias))]
        return Job(lender, one.segment, Asked(self._net, piece, length, chunk, signers, one.given), one.tries)


async def live(tx: Transaction, segments: Sequence[bytes]) -> dict[bytes, Row]:
    """Segments whose pieces may be asked for, with those whose claims count for them."""
    if not segments:
        return {}
    rows = await tx.fetch(
        "SELECT s.id, s.payload, s.profile, s.nodes,"
        " ARRAY(SELECT c.key FROM storage.client c WHERE c.id = s.client OR c.repairs) AS signers"
        " FROM storage.segment s WHERE s.id = ANY($1::bytea[]) AND s.client > 0",
        list(segments),
    )
    return {row["id"]: row for row in rows}


async def _forget(tx: Transaction, aliases: Sequence[int]) -> None:
    """Ask these no more for what does not count on them any more."""
    if aliases:
        query = "UPDATE storage.reputation SET contained = NULL WHERE alias = ANY($1::integer[])"
        await tx.execute(query, aliases)


def _score(row: Row) -> Score:
    state = read_state(row["state"])
    return Score(
        node=row["node"],
        standing=row["standing"],
        score=state.score,
        unknown_score=state.unknown_score,
        online_score=state.online_score,
        audits=row["audits"],
    )


def _happened(booked: Iterable[Result], now_ms: int) -> Happenings | None:
    """What everybody may see of audits: an answer that settles nothing is none."""
    gathering = Gathering()
    for result in booked:
        kind = SHOWN.get(result.outcome or "")
        if kind is not None:
            gathering.add(Happening(at=now_ms, kind=kind, node=result.lender.node.hex(), vertical="storage"))
    return gathering.take()
