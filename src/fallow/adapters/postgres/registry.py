"""The registry's store on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fallow.adapters.postgres.turns import by_turns
from fallow.domain.identity import ADDRESS_BYTES, NODE_ID_BYTES
from fallow.domain.idle_rules import IdleRules
from fallow.domain.subscriptions import Tariff
from fallow.ports.database import Row, Transaction
from fallow.ports.registry_store import ActionRow, BanRow, FeeRow, KeyRow, NodeRow, RulesRow, TariffRow, TokenRow

NODES = (
    "SELECT n.node, n.account, n.label, n.enrolled_at, a.vouched_reason AS vouched,"
    " COALESCE(NULLIF(n.banned_reason, ''), a.banned_reason) AS banned"
    " FROM registry.node n JOIN registry.account a USING (account)"
)
RULES = "SELECT id, at, node, account, key_id, what, code, rules FROM registry.rules"
SET_BAN = {
    NODE_ID_BYTES: "UPDATE registry.node SET banned_reason = $2 WHERE node = $1",
    ADDRESS_BYTES: "UPDATE registry.account SET banned_reason = $2 WHERE account = $1",
}
BANS = (
    "SELECT * FROM ("
    "(SELECT node AS subject, banned_reason FROM registry.node"
    " WHERE banned_reason <> '' AND node > $1 ORDER BY node LIMIT $2)"
    " UNION ALL (SELECT account, banned_reason FROM registry.account"
    " WHERE banned_reason <> '' AND account > $1 ORDER BY account LIMIT $2)"
    ") AS banned ORDER BY subject LIMIT $2"
)
"""Each half reads its own index of who is banned, and no more of it than is shown."""


class PostgresRegistryStore:
    """See `fallow.ports.registry_store.RegistryStore`."""

    async def add_account(self, tx: Transaction, account: bytes, custody_index: int | None, now: int) -> None:
        """Add an account."""
        await tx.execute(
            "INSERT INTO registry.account (account, custody_index, created_at) VALUES ($1, $2, $3)",
            account,
            custody_index,
            now,
        )

    async def next_custody_index(self, tx: Transaction) -> int:
        """Return an index that was never returned before."""
        rows = await tx.fetch("SELECT nextval('registry.custody_index') AS index")
        return int(rows[0]["index"])

    async def custody_index(self, tx: Transaction, account: bytes) -> int | None:
        """The account's key in the network's custody."""
        rows = await tx.fetch("SELECT custody_index FROM registry.account WHERE account = $1", account)
        return rows[0]["custody_index"] if rows else None

    async def has_account(self, tx: Transaction, account: bytes) -> bool:
        """Whether the account is known."""
        return bool(await tx.fetch("SELECT 1 FROM registry.account WHERE account = $1", account))

    async def hold(self, tx: Transaction, account: bytes) -> None:
        """Lock its row, which others may refer to meanwhile."""
        await tx.fetch("SELECT 1 FROM registry.account WHERE account = $1 FOR NO KEY UPDATE", account)

    async def add_node(self, tx: Transaction, row: NodeRow) -> None:
        """Add a node."""
        await tx.execute(
            "INSERT INTO registry.node (node, account, label, enrolled_at, banned_reason) VALUES ($1, $2, $3, $4, $5)",
            row.node,
            row.account,
            row.label,
            row.enrolled_at,
            row.banned_reason,
        )

    async def node(self, tx: Transaction, node: bytes) -> NodeRow | None:
        """Look a node up."""
        rows = await tx.fetch(f"{NODES} WHERE n.node = $1", node)
        return _node(rows[0]) if rows else None

    async def nodes(self, tx: Transaction, only: Sequence[bytes] | None = None) -> list[NodeRow]:
        """All nodes, or those of `only` that exist."""
        # One query for both would be planned for all of them, and read the whole table for a few.
        which, given = ("", ()) if only is None else (" WHERE n.node = ANY($1::bytea[])", (list(only),))
        rows = await tx.fetch(f"{NODES}{which} ORDER BY n.enrolled_at, n.node", *given)
        return [_node(row) for row in rows]

    async def enrolled(self, tx: Transaction, after: bytes, limit: int) -> list[NodeRow]:
        """Nodes in the order of their ids."""
        rows = await tx.fetch(f"{NODES} WHERE n.node > $1 ORDER BY n.node LIMIT $2", after, limit)
        return [_node(row) for row in rows]

    async def nodes_of(self, tx: Transaction, account: bytes, after: bytes, limit: int) -> list[NodeRow]:
        """Nodes of one account, in the order of their ids."""
        of = f"{NODES} WHERE n.account = $1 AND n.node > $2 ORDER BY n.node LIMIT $3"
        return [_node(row) for row in await tx.fetch(of, account, after, limit)]

    async def set_ban(self, tx: Transaction, subject: bytes, reason: str) -> bool:
        """Ban a node or an account, or end that."""
        return await tx.execute(SET_BAN[len(subject)], subject, reason) == "UPDATE 1"

    async def ban_reason(self, tx: Transaction, account: bytes) -> str:
        """Why an account is banned."""
        rows = await tx.fetch("SELECT banned_reason FROM registry.account WHERE account = $1", account)
        return rows[0]["banned_reason"] if rows else ""

    async def banned(self, tx: Transaction) -> frozenset[bytes]:
        """All nodes and accounts that were banned themselves."""
        rows = await tx.fetch(
            "SELECT node AS subject FROM registry.node WHERE banned_reason <> ''"
            " UNION ALL SELECT account FROM registry.account WHERE banned_reason <> ''"
        )
        return frozenset(row["subject"] for row in rows)

    async def bans(self, tx: Transaction, after: bytes, limit: int) -> list[BanRow]:
        """The same with their reasons."""
        rows = await tx.fetch(BANS, after, limit)
        return [BanRow(row["subject"], row["banned_reason"]) for row in rows]

    async def set_vouched(self, tx: Transaction, account: bytes, reason: str) -> bool:
        """Vouch for an account's owner, or end that."""
        done = await tx.execute("UPDATE registry.account SET vouched_reason = $2 WHERE account = $1", account, reason)
        return done == "UPDATE 1"

    async def erase(self, tx: Transaction, account: bytes, now: int) -> bool:
        """Forget names and places."""
        await tx.execute(
            "DELETE FROM registry.connection WHERE node IN (SELECT node FROM registry.node WHERE account = $1)", account
        )
        await tx.execute("UPDATE registry.node SET label = '' WHERE account = $1", account)
        await tx.execute(
            "UPDATE registry.api_key SET label = '', revoked_at = coalesce(revoked_at, $2) WHERE account = $1",
            account,
            now,
        )
        await tx.execute("DELETE FROM registry.rules WHERE account = $1", account)
        await tx.execute("DELETE FROM registry.alert_channel WHERE account = $1", account)
        await tx.execute("DELETE FROM registry.alert_message WHERE account = $1", account)
        return await self.set_vouched(tx, account, "")

    async def add_rules(self, tx: Transaction, row: RulesRow) -> bool:
        """Append to the log of what was asked of nodes' rules."""
        done = await tx.execute(
            "INSERT INTO registry.rules (id, at, node, account, key_id, what, code, rules)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
            *row[:-1],
            msgspec.json.encode(row.rules).decode(),
        )
        return done == "INSERT 0 1"

    async def rules_asked(self, tx: Transaction, id_: str) -> RulesRow | None:
        """What was asked with an id."""
        rows = await tx.fetch(f"{RULES} WHERE id = $1 AND what = 'asked'", id_)
        return _rules(rows[0]) if rows else None

    async def rules_log(self, tx: Transaction, node: bytes, limit: int) -> list[RulesRow]:
        """The latest lines of a node."""
        rows = await tx.fetch(f"{RULES} WHERE node = $1 ORDER BY pos DESC LIMIT $2", node, limit)
        return [_rules(row) for row in rows]

    async def add_fee(self, tx: Transaction, row: FeeRow) -> bool:
        """Append to what was said of the fee."""
        done = await tx.execute(
            "INSERT INTO registry.fee (pos, id, at, account, key_id, from_ms, fee_ppm, reserve_ppm)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
            *row,
        )
        return done == "INSERT 0 1"

    async def fees(self, tx: Transaction) -> list[FeeRow]:
        """All that was said of the fee."""
        rows = await tx.fetch(
            "SELECT pos, id, at, account, key_id, from_ms, fee_ppm, reserve_ppm FROM registry.fee ORDER BY pos"
        )
        return [FeeRow(**dict(row)) for row in rows]

    async def add_tariff(self, tx: Transaction, row: TariffRow) -> bool:
        """Append to what was said of tariffs."""
        done = await tx.execute(
            "INSERT INTO registry.tariff (pos, id, at, account, key_id, from_ms, vertical, tariff)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
            *row[:-1],
            msgspec.json.encode(row.tariff).decode(),
        )
        return done == "INSERT 0 1"

    async def tariffs(self, tx: Transaction) -> list[TariffRow]:
        """All that was said of tariffs."""
        rows = await tx.fetch(
            "SELECT pos, id, at, account, key_id, from_ms, vertical, tariff FROM registry.tariff ORDER BY pos"
        )
        return [TariffRow(**dict(row) | {"tariff": msgspec.json.decode(row["tariff"], type=Tariff)}) for row in rows]

    async def vouched(self, tx: Transaction) -> frozenset[bytes]:
        """All accounts whose owners are vouched for."""
        rows = await tx.fetch("SELECT account FROM registry.account WHERE vouched_reason <> ''")
        return frozenset(row["account"] for row in rows)

    async def add_action(self, tx: Transaction, row: ActionRow) -> bool:
        """Append to the log of actions."""
        done = await tx.execute(
            "INSERT INTO registry.action (id, at, account, key_id, what, subject, reason, about)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
            *row,
        )
        return done == "INSERT 0 1"

    async def action(self, tx: Transaction, action_id: str) -> ActionRow | None:
        """Look an action up."""
        rows = await tx.fetch("SELECT * FROM registry.action WHERE id = $1", action_id)
        return _action(rows[0]) if rows else None

    async def actions(self, tx: Transaction, after: str, limit: int) -> list[ActionRow]:
        """Actions, the latest first."""
        rows = await tx.fetch(
            "SELECT * FROM registry.action"
            " WHERE $1 = '' OR pos < (SELECT pos FROM registry.action WHERE id = $1)"
            " ORDER BY pos DESC LIMIT $2",
            after,
            limit,
        )
        return [_action(row) for row in rows]

    async def observe(self, tx: Transaction, node: bytes, network: str, now: int) -> bool:
        """Keep from which network a node connected."""
        rows = await tx.fetch(
            "INSERT INTO registry.connection AS c (node, network, seen_at) VALUES ($1, $2, $3)"
            " ON CONFLICT (node) DO UPDATE SET network = excluded.network, seen_at = excluded.seen_at"
            " WHERE c.network <> excluded.network RETURNING node",
            node,
            network,
            now,
        )
        return bool(rows)

    async def add_tunnel(self, tx: Transaction, nonce: str, network: str, now: int, before: int) -> None:
        """Keep from which network a client comes, and forget those from before."""
        await tx.execute("DELETE FROM registry.tunnel WHERE at < $1", before)
        await tx.execute(
            "INSERT INTO registry.tunnel (nonce, network, at) VALUES ($1, $2, $3)"
            " ON CONFLICT (nonce) DO UPDATE SET network = excluded.network, at = excluded.at",
            nonce,
            network,
            now,
        )

    async def tunnel(self, tx: Transaction, nonce: str) -> str | None:
        """From which network a client comes."""
        rows = await tx.fetch("SELECT network FROM registry.tunnel WHERE nonce = $1", nonce)
        return rows[0]["network"] if rows else None

    async def networks(self, tx: Transaction, only: Sequence[bytes] | None = None) -> dict[bytes, str]:
        """From which network each of these nodes connected last, or each there is."""
        rows = await (
            tx.fetch("SELECT node, network FROM registry.connection")
            if only is None
            else tx.fetch("SELECT node, network FROM registry.connection WHERE node = ANY($1::bytea[])", only)
        )
        return await by_turns(rows, lambda row: (row["node"], row["network"]))

    async def add_token(self, tx: Transaction, digest: bytes, uses: int, expires_at: int) -> None:
        """Add a join token."""
        await tx.execute(
            "INSERT INTO registry.join_token (digest, uses_left, expires_at) VALUES ($1, $2, $3)",
            digest,
            uses,
            expires_at,
        )

    async def use_token(self, tx: Transaction, digest: bytes, now: int) -> str:
        """Take one use of a token."""
        rows = await tx.fetch("SELECT * FROM registry.join_token WHERE digest = $1 FOR UPDATE", digest)
        if not rows:
            return "unknown"
        if rows[0]["expires_at"] <= now:
            return "expired"
        if rows[0]["uses_left"] == 0:
            return "used_up"
        await tx.execute("UPDATE registry.join_token SET uses_left = uses_left - 1 WHERE digest = $1", digest)
        return ""

    async def tokens(self, tx: Transaction, now: int, limit: int) -> list[TokenRow]:
        """Join tokens that still let somebody in."""
        rows = await tx.fetch(
            "SELECT digest, uses_left, expires_at FROM registry.join_token WHERE expires_at > $1 AND uses_left > 0"
            " ORDER BY expires_at DESC, digest LIMIT $2",
            now,
            limit,
        )
        return [TokenRow(**row) for row in rows]

    async def revoke_token(self, tx: Transaction, digest: bytes) -> bool:
        """End a join token."""
        rows = await tx.fetch(
            "SELECT digest FROM registry.join_token WHERE substring(digest FROM 1 FOR length($1::bytea)) = $1 LIMIT 2",
            digest,
        )
        if len(rows) != 1:
            return False
        await tx.execute("UPDATE registry.join_token SET uses_left = 0 WHERE digest = $1", rows[0]["digest"])
        return True

    async def add_key(self, tx: Transaction, row: KeyRow) -> None:
        """Add an API key."""
        await tx.execute(
            "INSERT INTO registry.api_key (key_id, digest, account, scopes, label, revoked_at)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            *row,
        )

    async def key(self, tx: Transaction, key_id: str) -> KeyRow | None:
        """Look an API key up."""
        rows = await tx.fetch("SELECT * FROM registry.api_key WHERE key_id = $1", key_id)
        return _key(rows[0]) if rows else None

    async def keys(self, tx: Transaction, after: str, limit: int) -> list[KeyRow]:
        """API keys by their public part."""
        rows = await tx.fetch(
            'SELECT * FROM registry.api_key WHERE key_id COLLATE "C" > $1 ORDER BY key_id COLLATE "C" LIMIT $2',
            after,
            limit,
        )
        return [_key(row) for row in rows]

    async def keys_of(self, tx: Transaction, account: bytes, after: str, limit: int) -> list[KeyRow]:
        """An account's API keys."""
        rows = await tx.fetch(
            'SELECT * FROM registry.api_key WHERE account = $1 AND key_id COLLATE "C" > $2'
            ' ORDER BY key_id COLLATE "C" LIMIT $3',
            account,
            after,
            limit,
        )
        return [_key(row) for row in rows]

    async def revoke_key(self, tx: Transaction, key_id: str, now: int) -> bool:
        """End an API key."""
        done = await tx.execute(
            "UPDATE registry.api_key SET revoked_at = COALESCE(revoked_at, $2) WHERE key_id = $1", key_id, now
        )
        return done == "UPDATE 1"


def _action(row: Row) -> ActionRow:
    return ActionRow(*(row[name] for name in ActionRow._fields))


def _key(row: Row) -> KeyRow:
    return KeyRow(row["key_id"], row["digest"], row["account"], tuple(row["scopes"]), row["label"], row["revoked_at"])


def _node(row: Row) -> NodeRow:
    return NodeRow(row["node"], row["account"], row["label"], row["enrolled_at"], row["banned"], row["vouched"])


def _rules(row: Row) -> RulesRow:
    return RulesRow(**dict(row) | {"rules": msgspec.json.decode(row["rules"], type=IdleRules)})
