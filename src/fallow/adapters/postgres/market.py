"""The market's store on PostgreSQL: each struct as JSON in its row, and set-based upserts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from fallow.adapters.postgres.turns import by_turns
from fallow.domain.billing import MeterKey
from fallow.domain.chronicle import HOURS_KEPT, Hour
from fallow.domain.errors import Unavailable
from fallow.domain.jobs import Item, Job
from fallow.domain.leases import Lease
from fallow.domain.offers import REFUSALS_A_NODE_MAX, REFUSALS_KEPT_MS, Evidence, Offer, Refusal
from fallow.domain.reserve import Tally, Use
from fallow.domain.verification import Standing, Vote
from fallow.ports.database import Row, Transaction
from fallow.ports.market_store import Cursor, MarketRows, MarketState

StructT = TypeVar("StructT", bound=msgspec.Struct)


class PostgresMarketStore:
    """See `fallow.ports.market_store.MarketStore`."""

    async def lead(self, tx: Transaction, holder: str, now: int, until: int) -> int | None:
        """Become the one market that acts, or stay it."""
        rows = await tx.fetch(
            "UPDATE market.leader SET until = $3, holder = $1, term = term + CASE holder WHEN $1 THEN 0 ELSE 1 END"
            " WHERE holder = $1 OR until <= $2 RETURNING term",
            holder,
            now,
            until,
        )
        return int(rows[0]["term"]) if rows else None

    async def until(self, tx: Transaction) -> int:
        """When the term of the market that acts, or acted last, ends if it is not renewed."""
        (row,) = await tx.fetch("SELECT until FROM market.leader")
        return int(row["until"])

    async def step_down(self, tx: Transaction, term: int, now: int) -> None:
        """End a term early."""
        await tx.execute("UPDATE market.leader SET until = $2 WHERE term = $1", term, now)

    async def confirm(self, tx: Transaction, term: int) -> None:
        """Hold the term for the rest of the transaction."""
        if not await tx.fetch("SELECT 1 FROM market.leader WHERE term = $1 FOR UPDATE", term):
            raise Unavailable("market.not_leading", "Another market leads now.", "Try again in a moment.")

    async def load(self, tx: Transaction) -> MarketState:
        """Read what is open."""
        jobs = await tx.fetch("SELECT doc FROM market.job WHERE state = 'running' ORDER BY created_at, id")
        leases = await tx.fetch("SELECT doc FROM market.lease WHERE state <> 'ended' ORDER BY proposed_at, id")
        meters = await tx.fetch("SELECT * FROM market.meter")
        tallies = await tx.fetch("SELECT * FROM market.tally")
        starting = await tx.fetch("SELECT * FROM market.starting_credit")
        standings = await tx.fetch("SELECT node, doc FROM market.standing")
        secrets = await tx.fetch("SELECT job, locked FROM market.secret")
        hours = await tx.fetch("SELECT * FROM market.hour ORDER BY hour DESC LIMIT $1", HOURS_KEPT)
        leader = await tx.fetch("SELECT cursor, cursor_records FROM market.leader")
        return MarketState(
            jobs=await self._with_items(tx, jobs),
            leases=[_decode(row, Lease) for row in leases],
            standings=await by_turns(standings, lambda row: (row["node"], _decode(row, Standing))),
            meters=await by_turns(meters, _meter),
            secrets={row["job"]: row["locked"] for row in secrets},
            tallies={(row["account"], row["credit"]): Tally(int(row["fees"]), int(row["covered"])) for row in tallies},
            cursor=Cursor(leader[0]["cursor"], leader[0]["cursor_records"]),
            starting={(row["node"], row["day"]): int(row["spent"]) for row in starting},
            hours={row["hour"]: Hour(row["nodes"], row["done"], row["failed"], row["cancelled"]) for row in hours},
        )

    async def offers(self, tx: Transaction, after: bytes, limit: int) -> list[Offer]:
        """Offers in the order of their nodes' ids."""
        rows = await tx.fetch("SELECT doc FROM market.offer WHERE node > $1 ORDER BY node LIMIT $2", after, limit)
        return [_decode(row, Offer) for row in rows]

    async def save(self, tx: Transaction, rows: MarketRows) -> None:
        """Write changed rows over their older versions."""
        if rows.jobs:
            await self._save_jobs(tx, rows.jobs)
        if rows.items:
            await tx.execute(
                "INSERT INTO market.item (job, index, doc)"
                " SELECT * FROM unnest($1::text[], $2::integer[], $3::bytea[])"
                " ON CONFLICT (job, index) DO UPDATE SET doc = EXCLUDED.doc",
                *_columns((job, index, _encode(item)) for (job, index), item in rows.items.items()),
            )
        if rows.leases:
            await tx.execute(
                "INSERT INTO market.lease (id, job, state, proposed_at, doc)"
                " SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bigint[], $5::bytea[])"
                " ON CONFLICT (id) DO UPDATE SET state = EXCLUDED.state, doc = EXCLUDED.doc",
                *_columns((x.id, x.job, x.state.value, x.proposed_at, _encode(x)) for x in rows.leases),
            )
        used = [lease for lease in rows.leases if lease.refunded_microusd or lease.made_good_microusd]
        if used:
            await tx.execute(
                "INSERT INTO market.reserve_use (lease, account, reason, refunded, made_good)"
                " SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::numeric[], $5::numeric[])"
                " ON CONFLICT DO NOTHING",
                *_columns((x.id, x.payee, x.reason, x.refunded_microusd, x.made_good_microusd) for x in used),
            )
        if rows.offers:
            await tx.execute(
                "INSERT INTO market.offer (node, doc) SELECT * FROM unnest($1::bytea[], $2::bytea[])"
                " ON CONFLICT (node) DO UPDATE SET doc = EXCLUDED.doc",
                *_columns((offer.node, _encode(offer)) for offer in rows.offers),
            )
        if rows.secrets:
            await self._save_secrets(tx, rows.secrets)
        if rows.hours:
            await tx.execute(
                "INSERT INTO market.hour (hour, nodes, done, failed, cancelled)"
                " SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])"
                " ON CONFLICT (hour) DO UPDATE SET nodes = EXCLUDED.nodes, done = EXCLUDED.done,"
                " failed = EXCLUDED.failed, cancelled = EXCLUDED.cancelled",
                *_columns((at, *hour) for at, hour in rows.hours.items()),
            )
        await self._save_meters(tx, rows)
        await self._save_verdicts(tx, rows)
        await tx.execute("UPDATE market.leader SET cursor = $1, cursor_records = $2", *rows.cursor)

    async def jobs_by_id(self, tx: Transaction, ids: Sequence[str]) -> dict[str, tuple[Job, list[Item]]]:
        """Those of these jobs that exist, with their items."""
        rows = await tx.fetch("SELECT doc FROM market.job WHERE id = ANY($1::text[])", list(ids))
        return {job.order.id: (job, items) for job, items in await self._with_items(tx, rows)}

    async def owner(self, tx: Transaction, job_id: str) -> bytes | None:
        """Account that a job belongs to."""
        rows = await tx.fetch("SELECT account FROM market.job WHERE id = $1", job_id)
        return rows[0]["account"] if rows else None

    async def items(self, tx: Transaction, job_id: str, after: int, limit: int) -> list[Item]:
        """Items of a job with an index above `after`, in order."""
        rows = await tx.fetch(
            "SELECT doc FROM market.item WHERE job = $1 AND index > $2 ORDER BY index LIMIT $3", job_id, after, limit
        )
        return [_decode(row, Item) for row in rows]

    async def jobs(self, tx: Transaction, account: bytes, after: str, limit: int) -> list[tuple[Job, list[Item]]]:
        """Jobs of an account, the latest first."""
        rows = await tx.fetch(
            "SELECT doc FROM market.job WHERE account = $1"
            " AND ($2 = '' OR (created_at, id) < (SELECT created_at, id FROM market.job WHERE id = $2))"
            " ORDER BY created_at DESC, id DESC LIMIT $3",
            account,
            after,
            limit,
        )
        return await self._with_items(tx, rows)

    async def job(self, tx: Transaction, job_id: str) -> Job | None:
        """A job without its items."""
        rows = await tx.fetch("SELECT doc FROM market.job WHERE id = $1", job_id)
        return _decode(rows[0], Job) if rows else None

    async def kept_jobs(
        self, tx: Transaction, ended_after: int, also: Sequence[str], after: str, limit: int
    ) -> list[str]:
        """Ids of jobs whose blobs are kept."""
        rows = await tx.fetch(
            "SELECT j.id FROM market.job j WHERE j.id > $3 AND ("
            " j.state = 'running' OR j.ended_at > $1 OR j.id = ANY($2::text[]) OR EXISTS ("
            "  SELECT 1 FROM market.lease l JOIN market.evidence e ON e.lease = l.id WHERE l.job = j.id))"
            " ORDER BY j.id LIMIT $4",
            ended_after,
            list(also),
            after,
            limit,
        )
        return [row["id"] for row in rows]

    async def evidence(self, tx: Transaction, limit: int, after: bytes = b"") -> list[Evidence]:
        """Why nodes were found wrong, the latest first; those behind that of the lease `after`, if any is named."""
        rows = await tx.fetch(
            "SELECT * FROM market.evidence WHERE $2 = ''::bytea"
            " OR (at <= (SELECT at FROM market.evidence WHERE lease = $2)"
            "     AND (-at, lease) > (SELECT -at, lease FROM market.evidence WHERE lease = $2))"
            " ORDER BY at DESC, lease LIMIT $1",
            limit,
            after,
        )
        return [_evidence(row) for row in rows]

    async def evidence_of(self, tx: Transaction, job_id: str, limit: int) -> list[Evidence]:
        """Do the same for the leases of one job."""
        rows = await tx.fetch(
            "SELECT evidence.* FROM market.lease JOIN market.evidence ON evidence.lease = lease.id"
            " WHERE lease.job = $1 ORDER BY at DESC, evidence.lease LIMIT $2",
            job_id,
            limit,
        )
        return [_evidence(row) for row in rows]

    async def refusals_of(self, tx: Transaction, node: bytes, limit: int) -> list[Refusal]:
        """The latest refusals of a node's records."""
        rows = await tx.fetch(
            "SELECT node, boot, seq, code, at FROM market.refusal WHERE node = $1"
            " ORDER BY boot DESC, seq DESC LIMIT $2",
            node,
            limit,
        )
        return [Refusal(**row) for row in rows]

    async def leases(self, tx: Transaction, job_id: str, skip: int, limit: int) -> list[Lease]:
        """Leases of a job, oldest first, without the first `skip`."""
        rows = await tx.fetch(
            "SELECT doc FROM market.lease WHERE job = $1 ORDER BY proposed_at, id OFFSET $2 LIMIT $3",
            job_id,
            skip,
            limit,
        )
        return [_decode(row, Lease) for row in rows]

    async def reserve_uses(self, tx: Transaction, limit: int) -> list[Use]:
        """What the reserve paid by provider and reason, the largest sums first."""
        rows = await tx.fetch(
            "SELECT account, reason, count(*) AS leases, sum(refunded) AS refunded, sum(made_good) AS made_good"
            " FROM market.reserve_use GROUP BY account, reason"
            " ORDER BY sum(refunded + made_good) DESC, account, reason LIMIT $1",
            limit,
        )
        return [
            Use(row["account"], row["reason"], row["leases"], int(row["refunded"]), int(row["made_good"]))
            for row in rows
        ]

    async def _save_jobs(self, tx: Transaction, jobs: Sequence[Job]) -> None:
        await tx.execute(
            "INSERT INTO market.job (id, account, state, created_at, ended_at, doc)"
            " SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[])"
            " ON CONFLICT (id) DO UPDATE"
            " SET state = EXCLUDED.state, ended_at = EXCLUDED.ended_at, doc = EXCLUDED.doc",
            *_columns((x.order.id, x.account, x.state.value, x.created_at, x.ended_at, _encode(x)) for x in jobs),
        )

    async def _save_secrets(self, tx: Transaction, secrets: Mapping[str, bytes | None]) -> None:
        kept = [(job, locked) for job, locked in secrets.items() if locked is not None]
        if kept:
            await tx.execute(
                "INSERT INTO market.secret (job, locked) SELECT * FROM unnest($1::text[], $2::bytea[])",
                *_columns(kept),
            )
        gone = [job for job, locked in secrets.items() if locked is None]
        if gone:
            await tx.execute("DELETE FROM market.secret WHERE job = ANY($1::text[])", gone)

    async def _save_meters(self, tx: Transaction, rows: MarketRows) -> None:
        if rows.tallies:
            await tx.execute(
                "INSERT INTO market.tally (account, credit, fees, covered)"
                " SELECT * FROM unnest($1::bytea[], $2::integer[], $3::numeric[], $4::numeric[])"
                " ON CONFLICT (account, credit) DO UPDATE SET fees = EXCLUDED.fees, covered = EXCLUDED.covered",
                *_columns((*key, *tally) for key, tally in rows.tallies.items()),
            )
        if rows.starting:
            await tx.execute(
                "INSERT INTO market.starting_credit (node, day, spent)"
                " SELECT * FROM unnest($1::bytea[], $2::integer[], $3::numeric[])"
                " ON CONFLICT (node, day) DO UPDATE SET spent = EXCLUDED.spent",
                *_columns((*key, spent) for key, spent in rows.starting.items()),
            )
        if rows.meters:
            await tx.execute(
                "INSERT INTO market.meter (payer, payee, price_version, price_ms)"
                " SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::numeric[])"
                " ON CONFLICT (payer, payee, price_version) DO UPDATE SET price_ms = EXCLUDED.price_ms",
                *_columns((*key, price_ms) for key, price_ms in rows.meters.items()),
            )
        if rows.meters_over:
            await tx.execute(
                "DELETE FROM market.meter USING unnest($1::bytea[], $2::bytea[], $3::bigint[])"
                " AS over (payer, payee, price_version) WHERE meter.payer = over.payer"
                " AND meter.payee = over.payee AND meter.price_version = over.price_version",
                *_columns(rows.meters_over),
            )
        if rows.refusals:
            await self._save_refusals(tx, rows.refusals)

    async def _save_refusals(self, tx: Transaction, refusals: Sequence[Refusal]) -> None:
        await tx.execute(
            "INSERT INTO market.refusal (node, boot, seq, code, at)"
            " SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[])"
            " ON CONFLICT DO NOTHING",
            *_columns(refusals),
        )
        await tx.execute(
            "DELETE FROM market.refusal WHERE at < $1 OR (node, boot, seq) IN"
            " (SELECT old.* FROM unnest($2::bytea[]) AS one (node), LATERAL"
            " (SELECT node, boot, seq FROM market.refusal WHERE node = one.node"
            " ORDER BY boot DESC, seq DESC OFFSET $3) AS old)",
            max(refusal.at for refusal in refusals) - REFUSALS_KEPT_MS,
            list({refusal.node for refusal in refusals}),
            REFUSALS_A_NODE_MAX,
        )

    async def _save_verdicts(self, tx: Transaction, rows: MarketRows) -> None:
        if rows.standings:
            await tx.execute(
                "INSERT INTO market.standing (node, doc) SELECT * FROM unnest($1::bytea[], $2::bytea[])"
                " ON CONFLICT (node) DO UPDATE SET doc = EXCLUDED.doc",
                *_columns((node, _encode(standing)) for node, standing in rows.standings.items()),
            )
        if rows.evidence:
            await tx.execute(
                "INSERT INTO market.evidence (lease, node, at, code, votes)"
                " SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::text[], $5::bytea[])"
                " ON CONFLICT DO NOTHING",
                *_columns((x.lease, x.node, x.at, x.code, msgspec.json.encode(x.votes)) for x in rows.evidence),
            )

    async def _with_items(self, tx: Transaction, rows: Sequence[Row]) -> list[tuple[Job, list[Item]]]:
        jobs = [_decode(row, Job) for row in rows]
        items: dict[str, list[Item]] = {job.order.id: [] for job in jobs}
        for row in await tx.fetch(
            "SELECT job, doc FROM market.item WHERE job = ANY($1::text[]) ORDER BY job, index", list(items)
        ):
            items[row["job"]].append(_decode(row, Item))
        return [(job, items[job.order.id]) for job in jobs]


def _encode(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value)


def _evidence(row: Row) -> Evidence:
    votes = msgspec.json.decode(row["votes"], type=tuple[Vote, ...])
    return Evidence(row["lease"], row["node"], row["at"], row["code"], votes)


def _decode(row: Row, to: type[StructT]) -> StructT:
    return msgspec.json.decode(row["doc"], type=to)


def _meter(row: Row) -> tuple[MeterKey, int]:
    return (row["payer"], row["payee"], row["price_version"]), int(row["price_ms"])


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
