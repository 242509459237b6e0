"""What each service keeps. A service owns its store; others read what is marked so, and write nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from fallow.domain.billing import MeterKey
from fallow.domain.jobs import Item, Job
from fallow.domain.leases import Lease
from fallow.domain.offers import Evidence, Offer, Refusal
from fallow.domain.reserve import Tally, TallyKey, Use
from fallow.domain.subscriptions import DeliveryKey, Meter, Subscription
from fallow.domain.verification import Standing
from fallow.ports.database import Transaction


class LoggedBatch(NamedTuple):
    """A batch in the order in which ingest wrote it: `pos` grows, and none ever appears below one that was seen."""

    pos: int
    node: bytes
    data: bytes
    received_at: int


class BatchKey(NamedTuple):
    """What names a batch."""

    node: bytes
    boot: int
    seq: int


class StoredBatch(NamedTuple):
    """A batch to write: its exact bytes, and the promise that its sender gets."""

    key: BatchKey
    epoch: int
    records: int
    root: bytes
    data: bytes
    promise: bytes
    received_at: int


class PromisedBatch(NamedTuple):
    """A batch of an epoch with the promise that was given for it."""

    pos: int
    data: bytes
    promise: bytes


class EpochEnd(NamedTuple):
    """An epoch that is over, and its real bounds in milliseconds since 1970: `until_ms` is the next one's beginning."""

    epoch: int
    from_ms: int
    until_ms: int


class StoredOpening(NamedTuple):
    """A private value beside its record: erasable, in contrast to the record."""

    record: bytes
    field: str
    salt: bytes
    value: bytes


class IngestStore(Protocol):
    """Batches of signed records, exact bytes, append-only."""

    async def lock(self, tx: Transaction) -> None:
        """Make this transaction the only one that appends until it ends, so that positions become visible in order.

        Other services may, for a moment, to be sure that they see all that was ever promised.
        """
        ...

    async def expected(self, tx: Transaction, nodes: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
        """Boot and next sequence number that each node must send; a node that sent nothing is absent."""
        ...

    async def promises(self, tx: Transaction, keys: Sequence[BatchKey]) -> dict[BatchKey, tuple[bytes, bytes]]:
        """Root and promise of the batches that are there already."""
        ...

    async def latest_at(self, tx: Transaction) -> int:
        """When the last batch came; 0 before the first."""
        ...

    async def append(self, tx: Transaction, batches: Sequence[StoredBatch], openings: Sequence[StoredOpening]) -> None:
        """Write batches in this order."""
        ...

    async def after(self, tx: Transaction, pos: int, limit: int) -> list[LoggedBatch]:
        """Read the log. Other services may."""
        ...

    async def of_epoch(self, tx: Transaction, epoch: int, pos: int, limit: int) -> list[PromisedBatch]:
        """Read an epoch's part of the log above a position. Other services may."""
        ...

    async def first_epoch(self, tx: Transaction) -> int | None:
        """The first epoch that anything was written into, or that ended."""
        ...

    async def ended(self, tx: Transaction, epoch: int | None = None) -> EpochEnd | None:
        """How an epoch ended, or the latest that did; None before it does."""
        ...

    async def end_epoch(self, tx: Transaction, end: EpochEnd) -> None:
        """Note that an epoch is over; once an epoch."""
        ...


class Cursor(NamedTuple):
    """How far ingest's log was applied: all batches up to position `pos`, and `records` of the batch after it."""

    pos: int
    records: int


class MarketRows(NamedTuple):
    """Everything of the market that a transaction changes. `secrets` are by job, encrypted; None deletes them."""

    jobs: Sequence[Job]
    items: Mapping[tuple[str, int], Item]
    leases: Sequence[Lease]
    offers: Sequence[Offer]
    meters: Mapping[MeterKey, int]
    tallies: Mapping[TallyKey, Tally]
    refusals: Sequence[Refusal]
    standings: Mapping[bytes, Standing]
    evidence: Sequence[Evidence]
    secrets: Mapping[str, bytes | None]
    cursor: Cursor


class MarketState(NamedTuple):
    """What is open."""

    jobs: list[tuple[Job, list[Item]]]
    leases: list[Lease]
    offers: list[Offer]
    meters: dict[MeterKey, int]
    tallies: dict[TallyKey, Tally]
    standings: dict[bytes, Standing]
    secrets: dict[str, bytes]
    cursor: Cursor


class MarketStore(Protocol):
    """Jobs, items, leases, offers, meters."""

    async def lead(self, tx: Transaction, holder: str, now: int, until: int) -> int | None:
        """Become the one market that acts until `until`, or stay it; returns the term, or None while another is."""
        ...

    async def until(self, tx: Transaction) -> int:
        """When the term of the market that acts, or acted last, ends if it is not renewed."""
        ...

    async def step_down(self, tx: Transaction, term: int, now: int) -> None:
        """End a term early, so that the next market need not wait for its end."""
        ...

    async def confirm(self, tx: Transaction, term: int) -> None:
        """Hold the term for the rest of the transaction.

        Raises:
            Unavailable: another market leads now; what this one has in mind is stale.
        """
        ...

    async def load(self, tx: Transaction) -> MarketState:
        """Read what is open."""
        ...

    async def save(self, tx: Transaction, rows: MarketRows) -> None:
        """Write changed rows over their older versions. Refusals above their bounds go, the oldest first."""
        ...

    async def jobs_by_id(self, tx: Transaction, ids: Sequence[str]) -> dict[str, tuple[Job, list[Item]]]:
        """Those of these jobs that exist, open or ended, with their items."""
        ...

    async def owner(self, tx: Transaction, job_id: str) -> bytes | None:
        """Account that a job belongs to; None when there is no such job."""
        ...

    async def items(self, tx: Transaction, job_id: str, after: int, limit: int) -> list[Item]:
        """Items of a job with an index above `after`, in order."""
        ...

    async def jobs(self, tx: Transaction, account: bytes, after: str, limit: int) -> list[tuple[Job, list[Item]]]:
        """Jobs of an account, the latest first; `after` is the id of the last one seen."""
        ...

    async def job(self, tx: Transaction, job_id: str) -> Job | None:
        """A job without its items."""
        ...

    async def kept_jobs(
        self, tx: Transaction, ended_after: int, also: Sequence[str], after: str, limit: int
    ) -> list[str]:
        """Ids above `after` of jobs that are open, ended after a time, are among `also`, or left evidence, in order."""
        ...

    async def evidence(self, tx: Transaction, limit: int) -> list[Evidence]:
        """Why nodes were found wrong, the latest first."""
        ...

    async def evidence_of(self, tx: Transaction, job_id: str, limit: int) -> list[Evidence]:
        """Do the same for the leases of one job."""
        ...

    async def refusals_of(self, tx: Transaction, node: bytes, limit: int) -> list[Refusal]:
        """The latest refusals of a node's records, the latest first."""
        ...

    async def leases(self, tx: Transaction, job_id: str, skip: int, limit: int) -> list[Lease]:
        """Leases of a job, oldest first, without the first `skip`."""
        ...

    async def reserve_uses(self, tx: Transaction, limit: int) -> list[Use]:
        """What the reserve paid by provider and reason, the largest sums first."""
        ...


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
    """What a person did to a node (32 bytes) or an account (20 bytes), and why. It is never changed."""

    id: str
    at: int
    account: bytes
    key_id: str
    what: str
    subject: bytes
    reason: str


class RegistryStore(Protocol):
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

    async def networks(self, tx: Transaction) -> dict[bytes, str]:
        """From which network each node connected last. Other services may."""
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

    async def set_vouched(self, tx: Transaction, account: bytes, reason: str) -> bool:
        """Vouch for an account's owner, or with an empty `reason` end that; False when it is unknown."""
        ...

    async def vouched(self, tx: Transaction) -> frozenset[bytes]:
        """All accounts whose owners are vouched for. Other services may."""
        ...

    async def add_action(self, tx: Transaction, row: ActionRow) -> bool:
        """Append to the log of actions; False when its id is taken."""
        ...

    async def action(self, tx: Transaction, action_id: str) -> ActionRow | None:
        """Look an action up."""
        ...

    async def actions(self, tx: Transaction, after: str, limit: int) -> list[ActionRow]:
        """Actions, the latest first; `after` is the id of the last one seen."""
        ...

    async def enrolled(self, tx: Transaction, after: bytes, limit: int) -> list[NodeRow]:
        """Nodes in the order of their ids, from the first one above `after` on."""
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

    async def revoke_key(self, tx: Transaction, key_id: str, now: int) -> bool:
        """End an API key; False when there is none."""
        ...


SourceKey = tuple[str, bytes, str]
"""Who counted, payee and meter."""


class SubscriptionStore(Protocol):
    """Subscriptions, what was delivered on them, and what each source last reported. All keys are the ledger's."""

    async def add(self, tx: Transaction, subscription: Subscription) -> bool:
        """Add one; False when its key is taken."""
        ...

    async def lock(self, tx: Transaction, key: bytes) -> Subscription | None:
        """Read one and let nobody else change it until the transaction ends."""
        ...

    async def save(self, tx: Transaction, subscription: Subscription) -> None:
        """Write one that is locked over its older version."""
        ...

    async def list_of(self, tx: Transaction, account: bytes, after: str, limit: int) -> list[Subscription]:
        """Those of an account by id, from the first one above `after` on."""
        ...

    async def due(self, tx: Transaction, now: int, limit: int) -> list[Subscription]:
        """Lock those that are due, the longest overdue first, without those that others have locked."""
        ...

    async def suspended(self, tx: Transaction, account: bytes, limit: int) -> list[Subscription]:
        """Lock suspended ones of an account, without those that others have locked."""
        ...

    async def meters(self, tx: Transaction, key: bytes, only: Sequence[DeliveryKey]) -> dict[DeliveryKey, Meter]:
        """Those of these deliveries that were ever reported."""
        ...

    async def unsettled(self, tx: Transaction, key: bytes) -> dict[DeliveryKey, Meter]:
        """Deliveries that grew since they were last settled."""
        ...

    async def reported(self, tx: Transaction, key: bytes, only: Sequence[SourceKey]) -> dict[SourceKey, int]:
        """What these sources said last."""
        ...

    async def put_reports(
        self,
        tx: Transaction,
        key: bytes,
        meters: Mapping[DeliveryKey, Meter],
        reported: Mapping[SourceKey, int],
    ) -> None:
        """Write deliveries and reports over their older versions."""
        ...

    async def settle(self, tx: Transaction, key: bytes) -> None:
        """Count all that was delivered as settled."""
        ...
