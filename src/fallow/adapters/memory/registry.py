"""The registry's store in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fallow.adapters.memory.database import memory_transaction
from fallow.domain.errors import Conflict
from fallow.ports.database import Transaction
from fallow.ports.registry_store import ActionRow, BanRow, FeeRow, KeyRow, NodeRow, RulesRow, TariffRow, TokenRow


class _Token(NamedTuple):
    uses_left: int
    expires_at: int


class MemoryRegistryStore:
    """See `fallow.ports.registry_store.RegistryStore`."""

    def __init__(self) -> None:
        self._accounts: dict[bytes, int | None] = {}
        """Custody index by account."""
        self._nodes: dict[bytes, NodeRow] = {}
        self._networks: dict[bytes, str] = {}
        self._tunnels: dict[str, tuple[str, int]] = {}
        self._tokens: dict[bytes, _Token] = {}
        self._keys: dict[str, KeyRow] = {}
        self._bans: dict[bytes, str] = {}
        """Reason by node or account."""
        self._vouched: dict[bytes, str] = {}
        """Reason by account."""
        self._actions: dict[str, ActionRow] = {}
        self._rules: dict[tuple[str, str], RulesRow] = {}
        """By id and what happened."""
        self._fees: dict[int, FeeRow] = {}
        self._tariffs: dict[int, TariffRow] = {}
        self._next_index = 0

    async def add_account(self, tx: Transaction, account: bytes, custody_index: int | None, now: int) -> None:  # noqa: ARG002 - kept by none but PostgreSQL
        """Add an account."""
        mine = memory_transaction(tx)
        if custody_index is not None and custody_index in self._accounts.values():
            raise Conflict("database.duplicate", f"this key exists already: {custody_index}")
        mine.add(self._accounts, account, custody_index)

    async def next_custody_index(self, tx: Transaction) -> int:
        """Return an index that was never returned before."""
        memory_transaction(tx)
        self._next_index += 1  # not taken back by a rollback, like a sequence
        return self._next_index - 1

    async def custody_index(self, tx: Transaction, account: bytes) -> int | None:
        """The account's key in the network's custody."""
        memory_transaction(tx)
        return self._accounts.get(account)

    async def has_account(self, tx: Transaction, account: bytes) -> bool:
        """Whether the account is known."""
        memory_transaction(tx)
        return account in self._accounts

    async def hold(self, tx: Transaction, account: bytes) -> None:  # noqa: ARG002 - the port's
        """There is one transaction at a time."""
        memory_transaction(tx)

    async def add_node(self, tx: Transaction, row: NodeRow) -> None:
        """Add a node."""
        mine = memory_transaction(tx)
        self._require_account(row.account)
        mine.add(self._nodes, row.node, row)
        if row.banned_reason:
            mine.put(self._bans, row.node, row.banned_reason)

    async def node(self, tx: Transaction, node: bytes) -> NodeRow | None:
        """Look a node up."""
        memory_transaction(tx)
        row = self._nodes.get(node)
        return self._seen(row) if row else None

    async def nodes(self, tx: Transaction, only: Sequence[bytes] | None = None) -> list[NodeRow]:
        """All nodes, or those of `only` that exist."""
        memory_transaction(tx)
        rows = [self._seen(row) for row in self._nodes.values() if only is None or row.node in only]
        return sorted(rows, key=lambda row: (row.enrolled_at, row.node))

    async def enrolled(self, tx: Transaction, after: bytes, limit: int) -> list[NodeRow]:
        """Nodes in the order of their ids."""
        memory_transaction(tx)
        return [self._seen(self._nodes[node]) for node in sorted(self._nodes) if node > after][:limit]

    async def nodes_of(self, tx: Transaction, account: bytes, after: bytes, limit: int) -> list[NodeRow]:
        """Nodes of one account, in the order of their ids."""
        memory_transaction(tx)
        mine = sorted(node for node, row in self._nodes.items() if row.account == account and node > after)
        return [self._seen(self._nodes[node]) for node in mine[:limit]]

    async def set_ban(self, tx: Transaction, subject: bytes, reason: str) -> bool:
        """Ban a node or an account, or end that."""
        mine = memory_transaction(tx)
        if subject not in self._nodes and subject not in self._accounts:
            return False
        mine.put(self._bans, subject, reason)
        return True

    async def ban_reason(self, tx: Transaction, account: bytes) -> str:
        """Why an account is banned."""
        memory_transaction(tx)
        return self._bans.get(account, "")

    async def banned(self, tx: Transaction) -> frozenset[bytes]:
        """All nodes and accounts that were banned themselves."""
        memory_transaction(tx)
        return frozenset(subject for subject, reason in self._bans.items() if reason)

    async def bans(self, tx: Transaction, after: bytes, limit: int) -> list[BanRow]:
        """The same with their reasons."""
        memory_transaction(tx)
        found = sorted(BanRow(*each) for each in self._bans.items())
        return [row for row in found if row.reason and row.subject > after][:limit]

    async def set_vouched(self, tx: Transaction, account: bytes, reason: str) -> bool:
        """Vouch for an account's owner, or end that."""
        mine = memory_transaction(tx)
        if account not in self._accounts:
            return False
        mine.put(self._vouched, account, reason)
        return True

    async def erase(self, tx: Transaction, account: bytes, now: int) -> bool:
        """Forget names and places."""
        mine = memory_transaction(tx)
        for node in [node for node, row in self._nodes.items() if row.account == account]:
            mine.put(self._nodes, node, self._nodes[node]._replace(label=""))
            if node in self._networks:
                mine.drop(self._networks, node)
        for key in [key for key in self._keys.values() if key.account == account]:
            revoked_at = now if key.revoked_at is None else key.revoked_at
            mine.put(self._keys, key.key_id, key._replace(label="", revoked_at=revoked_at))
        for at in [at for at, asked in self._rules.items() if asked.account == account]:
            mine.drop(self._rules, at)
        return await self.set_vouched(tx, account, "")

    async def add_rules(self, tx: Transaction, row: RulesRow) -> bool:
        """Append to the log of what was asked of nodes' rules."""
        mine = memory_transaction(tx)
        if (row.id, row.what) in self._rules:
            return False
        mine.put(self._rules, (row.id, row.what), row)
        return True

    async def add_fee(self, tx: Transaction, row: FeeRow) -> bool:
        """Append to what was said of the fee."""
        mine = memory_transaction(tx)
        if row.pos in self._fees or any(one.id == row.id for one in self._fees.values()):
            return False
        mine.put(self._fees, row.pos, row)
        return True

    async def fees(self, tx: Transaction) -> list[FeeRow]:
        """All that was said of the fee."""
        memory_transaction(tx)
        return [self._fees[pos] for pos in sorted(self._fees)]

    async def add_tariff(self, tx: Transaction, row: TariffRow) -> bool:
        """Append to what was said of tariffs."""
        mine = memory_transaction(tx)
        if row.pos in self._tariffs or any(one.id == row.id for one in self._tariffs.values()):
            return False
        mine.put(self._tariffs, row.pos, row)
        return True

    async def tariffs(self, tx: Transaction) -> list[TariffRow]:
        """All that was said of tariffs."""
        memory_transaction(tx)
        return [self._tariffs[pos] for pos in sorted(self._tariffs)]

    async def rules_asked(self, tx: Transaction, id_: str) -> RulesRow | None:
        """What was asked with an id."""
        memory_transaction(tx)
        return self._rules.get((id_, "asked"))

    async def rules_log(self, tx: Transaction, node: bytes, limit: int) -> list[RulesRow]:
        """The latest lines of a node."""
        memory_transaction(tx)
        return [row for row in reversed(self._rules.values()) if row.node == node][:limit]

    async def vouched(self, tx: Transaction) -> frozenset[bytes]:
        """All accounts whose owners are vouched for."""
        memory_transaction(tx)
        return frozenset(account for account, reason in self._vouched.items() if reason)

    async def add_action(self, tx: Transaction, row: ActionRow) -> bool:
        """Append to the log of actions."""
        mine = memory_transaction(tx)
        if row.id in self._actions:
            return False
        mine.put(self._actions, row.id, row)
        return True

    async def action(self, tx: Transaction, action_id: str) -> ActionRow | None:
        """Look an action up."""
        memory_transaction(tx)
        return self._actions.get(action_id)

    async def actions(self, tx: Transaction, after: str, limit: int) -> list[ActionRow]:
        """Actions, the latest first."""
        memory_transaction(tx)
        latest = list(reversed(self._actions.values()))
        start = next((place for place, row in enumerate(latest, 1) if row.id == after), len(latest)) if after else 0
        return latest[start : start + limit]

    async def observe(self, tx: Transaction, node: bytes, network: str, now: int) -> bool:  # noqa: ARG002 - kept by none but PostgreSQL
        """Keep from which network a node connected."""
        mine = memory_transaction(tx)
        if self._networks.get(node) == network:
            return False
        mine.put(self._networks, node, network)
        return True

    async def add_tunnel(self, tx: Transaction, nonce: str, network: str, now: int, before: int) -> None:
        """Keep from which network a client comes, and forget those from before."""
        mine = memory_transaction(tx)
        for old in [known for known, (_, at) in self._tunnels.items() if at < before]:
            mine.drop(self._tunnels, old)
        mine.put(self._tunnels, nonce, (network, now))

    async def tunnel(self, tx: Transaction, nonce: str) -> str | None:
        """From which network a client comes."""
        memory_transaction(tx)
        found = self._tunnels.get(nonce)
        return found[0] if found is not None else None

    async def networks(self, tx: Transaction, only: Sequence[bytes] | None = None) -> dict[bytes, str]:
        """From which network each of these nodes connected last, or each there is."""
        memory_transaction(tx)
        return {node: network for node, network in self._networks.items() if only is None or node in only}

    async def add_token(self, tx: Transaction, digest: bytes, uses: int, expires_at: int) -> None:
        """Add a join token."""
        memory_transaction(tx).add(self._tokens, digest, _Token(uses, expires_at))

    async def use_token(self, tx: Transaction, digest: bytes, now: int) -> str:
        """Take one use of a token."""
        mine = memory_transaction(tx)
        token = self._tokens.get(digest)
        if token is None:
            return "unknown"
        if token.expires_at <= now:
            return "expired"
        if token.uses_left == 0:
            return "used_up"
        mine.put(self._tokens, digest, token._replace(uses_left=token.uses_left - 1))
        return ""

    async def tokens(self, tx: Transaction, now: int, limit: int) -> list[TokenRow]:
        """Join tokens that still let somebody in."""
        memory_transaction(tx)
        open_ones = [TokenRow(digest, *token) for digest, token in self._tokens.items()]
        rows = [row for row in open_ones if row.expires_at > now and row.uses_left]
        return sorted(rows, key=lambda row: (-row.expires_at, row.digest))[:limit]

    async def revoke_token(self, tx: Transaction, digest: bytes) -> bool:
        """End a join token."""
        mine = memory_transaction(tx)
        found = [each for each in self._tokens if each.startswith(digest)]
        if len(found) != 1:
            return False
        mine.put(self._tokens, found[0], self._tokens[found[0]]._replace(uses_left=0))
        return True

    async def add_key(self, tx: Transaction, row: KeyRow) -> None:
        """Add an API key."""
        mine = memory_transaction(tx)
        self._require_account(row.account)
        mine.add(self._keys, row.key_id, row)

    async def key(self, tx: Transaction, key_id: str) -> KeyRow | None:
        """Look an API key up."""
        memory_transaction(tx)
        return self._keys.get(key_id)

    async def keys(self, tx: Transaction, after: str, limit: int) -> list[KeyRow]:
        """API keys by their public part."""
        memory_transaction(tx)
        return [row for key_id, row in sorted(self._keys.items()) if key_id > after][:limit]

    async def keys_of(self, tx: Transaction, account: bytes, after: str, limit: int) -> list[KeyRow]:
        """An account's API keys."""
        memory_transaction(tx)
        mine = sorted(row for row in self._keys.values() if row.account == account and row.key_id > after)
        return mine[:limit]

    async def revoke_key(self, tx: Transaction, key_id: str, now: int) -> bool:
        """End an API key."""
        mine = memory_transaction(tx)
        row = self._keys.get(key_id)
        if row is None:
            return False
        if row.revoked_at is None:
            mine.put(self._keys, key_id, row._replace(revoked_at=now))
        return True

    def _seen(self, row: NodeRow) -> NodeRow:
        return row._replace(
            banned_reason=self._bans.get(row.node) or self._bans.get(row.account, ""),
            vouched_reason=self._vouched.get(row.account, ""),
        )

    def _require_account(self, account: bytes) -> None:
        if account not in self._accounts:
            raise LookupError(f"there is no account {account.hex()}")
