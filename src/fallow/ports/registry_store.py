"""What the registry keeps: accounts, nodes, keys, tokens, and what operators did. Nobody else writes there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fallow.domain.fees import FeeWord
from fallow.domain.idle_rules import IdleRules
from fallow.domain.subscriptions import Tariff
from fallow.domain.tariffs import TariffWord
from fallow.ports.database import Transaction


class NodeRow(NamedTuple):
    """An enrolled node.

    It is banned by itself, or with its account; `banned_reason` is empty when it is not, and so is `vouched_reason`
    unless its account's owner is vouched for.
    """

    node: bytes
    account: bytes
    label: str
    enrolled_at: int
    banned_reason: str
    vouched_reason: str = ""


class BanRow(NamedTuple):
    """A node's id or an account that was banned itself, and why."""

    subject: bytes
    reason: str


class TokenRow(NamedTuple):
    """A join token: the secret's SHA-256, never the secret."""

    digest: bytes
    uses_left: int
    expires_at: int


class KeyRow(NamedTuple):
    """An API key: the secret's SHA-256, never the secret."""

    key_id: str
    digest: bytes
    account: bytes
    scopes: tuple[str, ...]
    label: str
    revoked_at: int | None


class ActionRow(NamedTuple):
    """What a person did, to a node (32 bytes), an account (20 bytes) or neither (empty), and why. It is never changed.

    `about` is what else it was done to: a key's public part, a token's beginning, a number.
    """

    id: str
    at: int
    account: bytes
    key_id: str
    what: str
    subject: bytes
    reason: str
    about: str = ""


class RulesRow(NamedTuple):
    """A line of what was asked of a node's rules: asked, taken or refused, and then why. It is never changed."""

    id: str
    at: int
    node: bytes
    account: bytes
    key_id: str
    what: str
    code: str
    rules: IdleRules


class FeeRow(NamedTuple):
    """What an operator said of the network's fee, as the word number `pos` of all, from 0. It is never changed."""

    pos: int
    id: str
    at: int
    account: bytes
    key_id: str
    from_ms: int
    fee_ppm: int
    reserve_ppm: int

    @property
    def word(self) -> FeeWord:
        """What holds, and from when."""
        return FeeWord(self.from_ms, self.fee_ppm, self.reserve_ppm)


class TariffRow(NamedTuple):
    """What an operator said of a vertical's tariff, as the word number `pos` of all, from 0. It is never changed."""

    pos: int
    id: str
    at: int
    account: bytes
    key_id: str
    from_ms: int
    vertical: str
    tariff: Tariff

    @property
    def word(self) -> TariffWord:
        """What holds, and from when."""
        return TariffWord(self.from_ms, self.vertical, self.tariff)


class ActionLog(Protocol):
    """The log of what people with an operator's key did. Whoever does what they ask adds it in the same transaction."""

    async def add_action(self, tx: Transaction, row: ActionRow) -> bool:
        """Append to it; False when its id is taken."""
        ...

    async def action(self, tx: Transaction, action_id: str) -> ActionRow | None:
        """Look an action up."""
        ...


class RegistryStore(ActionLog, Protocol):
    """Accounts, nodes, API keys, join tokens, actions of operators."""

    async def observe(self, tx: Transaction, node: bytes, network: str, now: int) -> bool:
        """Keep from which network a node connected; False when it is the one of the last time."""
        ...

    async def add_tunnel(self, tx: Transaction, nonce: str, network: str, now: int, before: int) -> None:
        """Keep from which network a client comes that a gateway carries, and forget those that were kept earlier."""
        ...

    async def tunnel(self, tx: Transaction, nonce: str) -> str | None:
        """From which network a client comes that the bus greeted with a nonce; None when no gateway has said so."""
        ...

    async def networks(self, tx: Transaction, only: Sequence[bytes] | None = None) -> dict[bytes, str]:
        """From which network each of these nodes connected last, or each there is. Other services may."""
        ...

    async def add_account(self, tx: Transaction, account: bytes, custody_index: int | None, now: int) -> None:
        """Add an account; `custody_index` says which key of the network's custody is its own."""
        ...

    async def next_custody_index(self, tx: Transaction) -> int:
        """Return an index that was never returned before."""
        ...

    async def custody_index(self, tx: Transaction, account: bytes) -> int | None:
        """The account's key in the network's custody; None when it keeps its own, or is unknown."""
        ...

    async def has_account(self, tx: Transaction, account: bytes) -> bool:
        """Whether the account is known."""
        ...

    async def hold(self, tx: Transaction, account: bytes) -> None:
        """Be the only one that does so with this account, until the transaction ends."""
        ...

    async def add_node(self, tx: Transaction, row: NodeRow) -> None:
        """Add a node."""
        ...

    async def node(self, tx: Transaction, node: bytes) -> NodeRow | None:
        """Look a node up. Other services may."""
        ...

    async def nodes(self, tx: Transaction, only: Sequence[bytes] | None = None) -> list[NodeRow]:
        """All nodes, or those of `only` that exist. Other services may."""
        ...

    async def set_ban(self, tx: Transaction, subject: bytes, reason: str) -> bool:
        """Ban a node or an account, or with an empty `reason` end that; False when it is unknown."""
        ...

    async def ban_reason(self, tx: Transaction, account: bytes) -> str:
        """Why an account is banned; empty when it is not, or is unknown."""
        ...

    async def banned(self, tx: Transaction) -> frozenset[bytes]:
        """All nodes and accounts that were banned themselves. Other services may."""
        ...

    async def bans(self, tx: Transaction, after: bytes, limit: int) -> list[BanRow]:
        """The same with their reasons, in the order of ids and accounts, those behind `after`."""
        ...

    async def set_vouched(self, tx: Transaction, account: bytes, reason: str) -> bool:
        """Vouch for an account's owner, or with an empty `reason` end that; False when it is unknown."""
        ...

    async def erase(self, tx: Transaction, account: bytes, now: int) -> bool:
        """Forget an account's names for its nodes and keys, from where they connected, and why it was vouched for.

        What it asked of its nodes' rules, too: they tell when somebody is at home.

        Its keys are revoked. False when there is no such account.
        """
        ...

    async def vouched(self, tx: Transaction) -> frozenset[bytes]:
        """All accounts whose owners are vouched for. Other services may."""
        ...

    async def actions(self, tx: Transaction, after: str, limit: int) -> list[ActionRow]:
        """Actions, the latest first; `after` is the id of the last one seen."""
        ...

    async def enrolled(self, tx: Transaction, after: bytes, limit: int) -> list[NodeRow]:
        """Nodes in the order of their ids, from the first one above `after` on."""
        ...

    async def nodes_of(self, tx: Transaction, account: bytes, after: bytes, limit: int) -> list[NodeRow]:
        """Nodes of one account, in the same way."""
        ...

    async def add_rules(self, tx: Transaction, row: RulesRow) -> bool:
        """Append to the log of what was asked of nodes' rules; False when its id has such a line."""
        ...

    async def rules_asked(self, tx: Transaction, id_: str) -> RulesRow | None:
        """What was asked with an id."""
        ...

    async def rules_log(self, tx: Transaction, node: bytes, limit: int) -> list[RulesRow]:
        """The latest lines of a node, the last first."""
        ...

    async def add_fee(self, tx: Transaction, row: FeeRow) -> bool:
        """Append to what was said of the fee; False when there is a word of its number or its id."""
        ...

    async def fees(self, tx: Transaction) -> list[FeeRow]:
        """All that was said of the fee, in that order."""
        ...

    async def add_tariff(self, tx: Transaction, row: TariffRow) -> bool:
        """Append to what was said of tariffs; False when there is a word of its number or its id."""
        ...

    async def tariffs(self, tx: Transaction) -> list[TariffRow]:
        """All that was said of tariffs, in that order."""
        ...

    async def add_token(self, tx: Transaction, digest: bytes, uses: int, expires_at: int) -> None:
        """Add a join token by its SHA-256."""
        ...

    async def use_token(self, tx: Transaction, digest: bytes, now: int) -> str:
        """Take one use of a token; returns "" when it held, else why not: unknown, expired, used_up."""
        ...

    async def tokens(self, tx: Transaction, now: int, limit: int) -> list[TokenRow]:
        """Join tokens that still let somebody in, those that end last first."""
        ...

    async def revoke_token(self, tx: Transaction, digest: bytes) -> bool:
        """End a join token; False when there is none. `digest` may be its beginning, if no other begins so."""
        ...

    async def add_key(self, tx: Transaction, row: KeyRow) -> None:
        """Add an API key."""
        ...

    async def key(self, tx: Transaction, key_id: str) -> KeyRow | None:
        """Look an API key up by its public part."""
        ...

    async def keys(self, tx: Transaction, after: str, limit: int) -> list[KeyRow]:
        """API keys by their public part, from the first one above `after` on."""
        ...

    async def keys_of(self, tx: Transaction, account: bytes, after: str, limit: int) -> list[KeyRow]:
        """An account's API keys, in the same order."""
        ...

    async def revoke_key(self, tx: Transaction, key_id: str, now: int) -> bool:
        """End an API key; False when there is none."""
        ...
