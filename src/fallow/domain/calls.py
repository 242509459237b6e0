"""Requests between the network's processes, with the subject that each is sent to.

A gateway authenticates its user and then asks in the name of an account; services trust gateways and nobody else on
these subjects (the bus lets no node publish to them).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fallow.domain.delegations import RECEIPTS_MAX, PublicKey, Receipt, Signature
from fallow.domain.grants import TEXT_CHARACTERS_MAX
from fallow.domain.idle_rules import IdleRules, RulesAsked
from fallow.domain.leases import WINDOW_MS_MAX
from fallow.domain.orders import Id, Label, Order
from fallow.domain.places import RESOLUTION_MAX, Cell
from fallow.domain.price_facts import PRICE_MAX, Price
from fallow.domain.records import COUNT_MAX, Opening
from fallow.domain.resources import CPU_MILLI_MAX, PRICE_MICROUSD_MAX
from fallow.domain.stake_facts import TAKE_ALL_PPM
from fallow.domain.streams import DirectAddress, Purpose, Words
from fallow.domain.subscriptions import MeterName, Tariff

CHECK_KEY = "registry.check_key"
SIGNING_SECRET = "registry.signing_secret"  # noqa: S105 - a subject
MAY_CONNECT = "registry.may_connect"
TUNNEL = "registry.tunnel"

NODE_TAKEN = "relay.taken"
"""Published with a `RelayAt` when a node's session has begun at a relay: any that another one still holds is over."""
JOIN = "registry.join"
NODES = "registry.nodes"
BANS = "registry.bans"
CREATE_TOKEN = "registry.create_token"  # noqa: S105 - a subject
CREATE_KEY = "registry.create_key"
OWNERS_KEY = "registry.owners_key"
KNOWN_ACCOUNT = "registry.known_account"
REVOKE_KEY = "registry.revoke_key"
KEYS = "registry.keys"
OWN_KEYS = "registry.own_keys"
RULES = "registry.rules"
ASK_RULES = "registry.rules.ask"
TOKENS = "registry.tokens"
REVOKE_TOKEN = "registry.revoke_token"  # noqa: S105 - a subject
ACT = "registry.act"
ACTIONS = "registry.actions"

OPEN_SESSION = "registry.sessions.open"
CHALLENGE = "registry.sessions.challenge"
OPEN_BY_WALLET = "registry.sessions.open_by_wallet"
CHECK_SESSION = "registry.sessions.check"
END_SESSION = "registry.sessions.end"

DELEGATE = "registry.delegations.add"
DELEGATIONS = "registry.delegations.list"
REVOKE_DELEGATION = "registry.delegations.revoke"
SIGN_ORDER = "registry.delegations.sign_order"
COUNTERSIGN = "registry.delegations.countersign"
MUTUAL = "registry.delegations.mutual"

PAYOUT = "registry.payout"
PAYEE = "registry.payee"
REDIRECT = "registry.redirect"

ALERT_CHANNELS = "alerts.channels"
SET_CHANNEL = "alerts.set"
CONFIRM_CHANNEL = "alerts.confirm"
END_CHANNEL = "alerts.end"
STOP_ALERTS = "alerts.stop"

DELEGATION_S = 90 * 86_400
STDIN_CHARS_MAX = 64 << 10
DELEGATION_S_MAX = 366 * 86_400

END_EPOCH = "epochs.end"
ERASE = "openings.erase"
END_NOW = "epochs.end_now"

SUBMIT = "market.submit"
PLANT = "market.plant"
QUOTE = "market.quote"
CANCEL = "market.cancel"
JOB = "market.job"
JOBS = "market.jobs"
ITEMS = "market.items"
LEASES = "market.leases"
OFFERS = "market.offers"
OWN_NODES = "market.own_nodes"
TOTALS = "market.totals"
MAP = "market.map"
EVIDENCE = "market.evidence"
RERUNS = "market.reruns"
ORDER = "market.order"
JOB_EVIDENCE = "market.job_evidence"
SEEDS = "market.seeds"
SEED_PARTS = "market.seed_parts"
PLEDGE_PART = "market.pledge_part"
SHOW_PART = "market.show_part"
DRAWS = "market.draws"
ROLL_CALLS = "market.roll_calls"
STREAM = "market.stream"
RESERVE_USES = "market.reserve_uses"

BANNED = "registry.banned"
"""Published after a node or an account was banned, or let in again: whoever cares may look now.

It holds a list of nodes (hex) that are banned by it; of a very large account not all.
"""

INGESTED = "log.written"
"""Published, without content, after new batches were written: whoever reads the log may look now.

It does not begin with `ingest`, where each word is taken for a node's batch.
"""

OBSERVED = "registry.observed"
"""Published with an `Observed` when a node connects from another network than before."""

CREDITED = "settle.credited"
"""Published with an account's address (text) after money came in."""

BALANCE = "settle.balance"
STATEMENT = "settle.statement"
EARNINGS = "settle.earnings"
SPENDING = "settle.spending"
GRANT = "settle.grant"
FUND = "settle.fund"
WITHDRAW = "settle.withdraw"
KEPT_JOBS = "market.kept_jobs"
JOB_BLOBS = "market.job_blobs"
LEDGER_CHECK = "settle.check"
AUDIT = "settle.audit"
AUDITED = "settle.audited"
RESERVE = "settle.reserve"
SUBSCRIBE = "settle.subscribe"
UNSUBSCRIBE = "settle.unsubscribe"
SUBSCRIPTIONS = "settle.subscriptions"
METER = "settle.meter"
REPORT_PRICE = "settle.report_price"
ACCEPT_PRICE = "settle.accept_price"
PRICE = "settle.price"
SET_TAKE = "settle.set_take"
GOVERNANCE = "settle.governance"
GOVERNED = "settle.governed"
HAPPENINGS = "events.public"
"""Where services tell what happens (`fallow.domain.happenings`), as JSON."""


LAG_BOUNDS_MS = (1, 2, 5, 10, 20, 30, 40, 50, 75, 100, 200, 500, 1000, 5000)
"""Upper bounds of the classes in which a process counts how late its event loop is; a last class is above them all."""


def lag(role: str) -> str:
    """Where a process tells how late its loop was since its start: how many looks fell into each class."""
    return f"lag.{role}"


def mishaps(role: str) -> str:
    """Where a process tells what failed in it that should not have: how often, by place."""
    return f"mishaps.{role}"


def job_events(job_id: str) -> str:
    """Subject of a job's `JobEvent`s, as JSON."""
    return f"events.job.{job_id}"


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of requests."""


class CheckKey(Request, frozen=True, kw_only=True):
    """Whose API key is this? Answered with `KeyInfo`."""

    key: str


class KeyInfo(Request, frozen=True, kw_only=True):
    """The account that a valid key speaks for, and what it may do, by its scopes."""

    key_id: str
    account: str
    scopes: list[str]


class Person(Request, frozen=True, kw_only=True):
    """Who asks for something with an operator's key: its account, and the key's public part. It goes into the log."""

    account: Annotated[str, Meta(pattern="^0x[0-9a-f]{40}$", max_length=42)]
    key_id: Annotated[str, Meta(max_length=100)]


class KeyRef(Request, frozen=True, kw_only=True):
    """An API key, by its public part."""

    key_id: Annotated[str, Meta(max_length=100)]


class Granted(Request, frozen=True, kw_only=True):
    """A call of a vertical by whoever shows a grant (`domain.grants`). Whose account it is for, the grant says."""

    grant: Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX)]
    call: Annotated[str, Meta(max_length=64)]
    body: msgspec.Raw

    def __repr__(self) -> str:
        """Leave the grant out."""
        return f"Granted(call={self.call!r})"


class SigningSecret(Request, frozen=True, kw_only=True):
    """Whose key it is, and what its holder signs requests with where the key itself does not travel."""

    info: KeyInfo
    secret: str

    def __repr__(self) -> str:
        """Leave the secret out."""
        return f"SigningSecret(info={self.info!r})"


WalletAddress = Annotated[str, Meta(pattern=r"^0x[0-9a-f]{40}$(?!\n)", max_length=42)]
SignInNonce = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$(?!\n)", max_length=32)]
WalletSignature = Annotated[str, Meta(pattern=r"^0x[0-9a-f]{130}$(?!\n)", max_length=132)]


class Challenge(Request, frozen=True, kw_only=True):
    """An account that wants to sign in with its wallet."""

    account: WalletAddress


class Challenged(Request, frozen=True, kw_only=True):
    """What goes into the text to sign: `asked_at` is in milliseconds since 1970."""

    nonce: str
    asked_at: int


class OpenByWallet(Request, frozen=True, kw_only=True):
    """A wallet's signature of the text with this nonce (`fallow.ports.sign_in_text`)."""

    account: WalletAddress
    nonce: SignInNonce
    signature: WalletSignature
    scheme: str
    domain: str
    chain_id: int


class SessionRef(Request, frozen=True, kw_only=True):
    """A session, by the secret that its holder's cookie carries."""

    secret: str


class SessionInfo(Request, frozen=True, kw_only=True):
    """Whom a session speaks for, as the key that it was opened with would, and when it ends if it is used until then.

    A wallet's has no key: its `key_id` is "". `secret` is told once, to whom it was opened for.
    """

    key: KeyInfo
    ends_at: int
    secret: str = ""


class NodeRef(Request, frozen=True, kw_only=True):
    """A node, in hex."""

    node: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Tunnel(Request, frozen=True, kw_only=True):
    """A gateway carries a client to the bus: where it comes from, and the nonce that the bus greeted it with."""

    nonce: Annotated[str, Meta(min_length=11, max_length=44)]
    address: Annotated[str, Meta(max_length=64)]


class StreamRef(Request, frozen=True, kw_only=True):
    """An account wants to reach the work of one of its items while it runs."""

    account: str
    job: str
    item: int
    purpose: Purpose


class KeptJobs(Request, frozen=True, kw_only=True):
    """Which jobs' blobs are kept: what is open, ended after `ended_after` (ms since 1970), or proves something.

    `after` is the last id of the page before.
    """

    ended_after: int
    after: str = ""


class JobBlobsRef(Request, frozen=True, kw_only=True):
    """The blobs that a job names in its items with an index above `after`."""

    job: str
    after: int = -1


class JobBlobs(Request, frozen=True, kw_only=True):
    """Blobs of `owner` (hex) that a job needs. `results` are documents that name further ones.

    `last` is the index of the last item that was looked at; None when there are no more.
    """

    owner: str
    blobs: list[str]
    results: list[str]
    last: int | None


class RelayAt(Request, frozen=True, kw_only=True):
    """The relay at `url` holds the session of a node; `direct` is where it has reached the node itself, if it has."""

    node: str
    url: str
    direct: DirectAddress | None = None


class Reach(Request, frozen=True, kw_only=True):
    """What a buyer wants to open streams for; with `direct` also where the node itself can be dialled, if it can."""

    purpose: Purpose
    direct: bool = False


class RunCommand(Request, frozen=True, kw_only=True):
    """A command for a running item's sandbox, and the text that it reads from stdin."""

    command: Words
    stdin: Annotated[str, Meta(max_length=STDIN_CHARS_MAX)] = ""


class StreamGrant(Request, frozen=True, kw_only=True, omit_defaults=True):
    """It may: `ticket` is a sealed `StreamTicket` for the lease that does the work now.

    Where the node can be dialled itself, `direct` says how; the network has tried it.
    """

    node: str
    lease: str
    ticket: bytes
    direct: DirectAddress | None = None


class Join(Request, frozen=True, kw_only=True):
    """A machine asks to become a node.

    `proof` is the node key's signature (hex) over `join_message`. `account` is the code by which an account that keeps
    its own key takes the node (`fallow.domain.bindings`); left empty the node gets a custodial account.
    """

    token: Annotated[str, Meta(max_length=200)]
    node: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    proof: Annotated[str, Meta(pattern="^[0-9a-f]{128}$")]
    label: Label = ""
    account: Annotated[str, Meta(pattern=r"^(fa_[A-Za-z0-9_-]{124})?$(?!\n)")] = ""


class Observed(Request, frozen=True, kw_only=True):
    """A node (hex) connected from this network (`fallow.domain.networks`)."""

    node: str
    network: str


class Joined(Request, frozen=True, kw_only=True):
    """The node belongs to `account` from now on; `account_signature` (hex) is the account's half of the binding."""

    net: str
    account: str
    account_signature: str


WHAT_IF_EPOCHS_MAX = 31

LINK_S_MAX = 7 * 86_400
"""How long an address that is signed opens something: no longer does S3 take one (Signature Version 4)."""
"""Epochs that one request may have computed again: a month of days."""


class CreateToken(Request, frozen=True, kw_only=True):
    """Make a join token that works `uses` times within `valid_s` seconds."""

    uses: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    valid_s: Annotated[int, Meta(ge=1, le=365 * 86_400)] = 86_400


class CreateKey(Request, frozen=True, kw_only=True):
    """Make an API key for `account` (empty: a new custodial account)."""

    account: str = ""
    scopes: list[str] = msgspec.field(default_factory=lambda: ["buy"])
    label: Label = ""


class WhatIf(Request, frozen=True, kw_only=True):
    """Compute the latest `epochs` closed epochs, of those up to number `until`, under other rules.

    `model` takes another token model's rules first (empty: those that the epochs were closed under), then `changes`
    apply: NAME=VALUE, as `fallow epoch what-if --set` has them.
    """

    epochs: Annotated[int, Meta(ge=1, le=WHAT_IF_EPOCHS_MAX)] = 7
    until: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = COUNT_MAX
    model: Literal["", "none", "work_only", "burn_and_mint"] = ""
    changes: Annotated[list[Annotated[str, Meta(max_length=1000)]], Meta(max_length=100)] = []


class MakeToken(CreateToken, frozen=True, kw_only=True):
    """Make a join token for a person; without one the network makes it for itself."""

    by: Person | None = None


class MakeKey(CreateKey, frozen=True, kw_only=True):
    """Make an API key for a person; without one a buyer makes his own, or the network its first."""

    by: Person | None = None


class OwnersKey(Request, frozen=True, kw_only=True):
    """A machine lets its owner look on with an API key that it drew: here are its public part and its SHA-256 (hex).

    `proof` is the node key's signature (hex) over `fallow.domain.api_keys.owners_key_message`.
    """

    node: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    key_id: Annotated[str, Meta(pattern=r"^[a-z2-7]{8}$(?!\n)")]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    proof: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}$(?!\n)")]


class AskRules(Request, frozen=True, kw_only=True):
    """An account asks for rules of its node, by one of its keys ("": a wallet). The same `id` again changes nothing."""

    id: Id
    account: str
    key_id: Annotated[str, Meta(max_length=100)]
    node: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    rules: IdleRules


class NewRules(Request, frozen=True, kw_only=True):
    """What an owner asks for in the console."""

    id: Id
    rules: IdleRules


class RulesRef(Request, frozen=True, kw_only=True):
    """The rules of a node of an account."""

    account: str
    node: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]


class TellRules(Request, frozen=True, kw_only=True):
    """The network asks a node for its rules, and hands on what its account `asked`, if anything."""

    asked: RulesAsked | None = None


class RevokeToken(Request, frozen=True, kw_only=True):
    """End a join token, by the beginning of the SHA-256 that is kept of it (hex)."""

    token_id: Annotated[str, Meta(pattern="^([0-9a-f]{2}){4,32}$", max_length=64)]
    by: Person | None = None


class RevokeKey(Request, frozen=True, kw_only=True):
    """End an API key by its public part; with `account` only one of that account."""

    key_id: str
    account: str = ""
    by: Person | None = None


Subject = Annotated[str, Meta(pattern="^([0-9a-f]{64}|0x[0-9a-f]{40})$", max_length=64)]
"""A node's id, or an account's address."""


What = Literal["ban", "unban", "vouch", "unvouch", "erase"]


class Action(Request, frozen=True, kw_only=True):
    """What an operator does to a node or an account. `id` (32 hex digits) makes the same action count once.

    He vouches for accounts alone, and erases what is known of them beside their addresses: their owners are people or
    organisations.
    """

    id: Id
    what: What
    subject: Subject
    reason: Annotated[str, Meta(max_length=200, pattern=r"^(?=.*\S)[^\x00-\x1f\x7f]+$(?!\n)")]


class Erased(Request, frozen=True, kw_only=True):
    """How many private values were deleted, of an account and so many nodes."""

    values: int
    nodes: int


class Act(Request, frozen=True, kw_only=True):
    """An action in the name of the account whose API key was used. Answered with `ActionView`."""

    account: str
    key_id: str
    action: Action


class Page(Request, frozen=True, kw_only=True):
    """Part of a list: `after` is the id of the last entry seen."""

    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class OffersRef(Page, frozen=True, kw_only=True):
    """Part of the list of nodes with an offer, by id; without `labels` what their owners call them is left out."""

    labels: bool = True


class MapRef(Request, frozen=True, kw_only=True):
    """The map, in cells of H3 of a resolution; or what of it lies around a cell, in finer ones."""

    resolution: Annotated[int, Meta(ge=0, le=RESOLUTION_MAX)]
    around: Cell = ""


class Secret(Request, frozen=True, kw_only=True):
    """A secret that is shown once, and whose it is."""

    secret: str
    account: str = ""


SECRETS_MAX = 32
SecretName = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
SecretValues = Annotated[dict[SecretName, Annotated[str, Meta(max_length=8192)]], Meta(max_length=SECRETS_MAX)]
"""Values by name. They stand in no order, record, log, event or view."""


class Submit(Request, frozen=True, kw_only=True):
    """An order in the name of an account, with the secret values that its program gets."""

    account: str
    order: Order
    secrets: SecretValues = {}
    by: Person | None = None

    def __repr__(self) -> str:
        """Leave the values out."""
        return f"Submit(account={self.account!r}, order={self.order!r}, secrets={sorted(self.secrets)!r})"


class Enquire(Request, frozen=True, kw_only=True):
    """An order that an account thinks of, and the names of the secrets that would come with it."""

    account: str
    order: Order
    secrets: Annotated[list[SecretName], Meta(max_length=SECRETS_MAX)] = []


AccountSignature = Annotated[str, Meta(pattern="^([0-9a-f]{130})?$", max_length=130)]
"""Of an account's own key over a text that wallets show, in hex; "" where the network signs for it."""


class Delegate(Request, frozen=True, kw_only=True):
    """Let `key` sign for `account`; `proof` is the key's signature (hex) over `consent_message`.

    An account that keeps its own key has signed `delegation_text` until `expires_s` (Unix time); for others the network
    signs, for `valid_s` seconds.
    """

    account: str
    key: PublicKey
    proof: Signature
    valid_s: Annotated[int, Meta(ge=60, le=DELEGATION_S_MAX)] = DELEGATION_S
    expires_s: Annotated[int, Meta(ge=0, le=1 << 43)] = 0
    account_signature: AccountSignature = ""


class DelegationRef(Request, frozen=True, kw_only=True):
    """A key that an account delegated to."""

    account: str
    key: PublicKey


class SignOrder(Request, frozen=True, kw_only=True):
    """An order's signature (hex) by a key of the account, over `order_message` of the exact bytes that came."""

    account: str
    order: Id
    key: PublicKey
    signature: Signature
    body: bytes


class Countersign(Request, frozen=True, kw_only=True):
    """Receipts for items of one job, with one signature (hex) over `receipts_message`."""

    account: str
    job: Id
    key: PublicKey
    signature: Signature
    receipts: Annotated[list[Receipt], Meta(max_length=RECEIPTS_MAX)]


class MutualRef(Request, frozen=True, kw_only=True):
    """Which of these leases (hex) has its buyer signed a receipt for?"""

    leases: Annotated[list[Id], Meta(max_length=1000)]


class JobRef(Request, frozen=True, kw_only=True):
    """A job of an account."""

    account: str
    job: str
    after: int = -1
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class AccountRef(Request, frozen=True, kw_only=True):
    """An account, and where a listing goes on: `after` is the last `id` or position seen."""

    account: str
    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class SeedRef(Request, frozen=True, kw_only=True):
    """The seed of an epoch of draws."""

    number: Annotated[int, Meta(ge=0, le=2**31)]


class PledgePart(Request, frozen=True, kw_only=True):
    """A validator pledges a part of a seed: its signed `Pledge`, in hex."""

    pledge: Annotated[str, Meta(pattern="^([0-9a-f]{2})+$", max_length=1024)]


class ShowPart(Request, frozen=True, kw_only=True):
    """The part (hex) of a seed that a validator pledged."""

    number: Annotated[int, Meta(ge=0, le=2**31)]
    validator: Annotated[str, Meta(pattern="^0x[0-9a-fA-F]{40}$")]
    part: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class DrawsRef(Request, frozen=True, kw_only=True):
    """Draws of an epoch that is over, from after the last one seen: its lease (hex) and purpose."""

    number: Annotated[int, Meta(ge=0, le=2**31)]
    after_lease: Annotated[str, Meta(pattern="^([0-9a-f]{2}){0,32}$", max_length=64)] = ""
    after_purpose: Annotated[str, Meta(max_length=20)] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000


class RollCallsRef(Request, frozen=True, kw_only=True):
    """The latest roll calls; with `found` only those that convicted somebody."""

    found: bool = False
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class Grant(Request, frozen=True, kw_only=True):
    """Give TEST credits. `id` (32 hex digits) makes the same grant count once."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    account: str
    amount_microusd: Annotated[int, Meta(ge=1, le=10**15)]


class GiveGrant(Grant, frozen=True, kw_only=True):
    """Give TEST credits for a person; without one the network gives its first."""

    by: Person | None = None


WITHDRAWAL_MIN_MICROUSD = 10_000
"""Each new account that is owed something stays in all later epochs: nobody makes a million of them for a dollar."""


class Withdrawal(Request, frozen=True, kw_only=True):
    """Have paid credits owed to the account `to` in the settlement asset. `id` makes the same withdrawal count once."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
    to: Annotated[str, Meta(pattern="^0x[0-9a-f]{40}$", max_length=42)]
    amount_microusd: Annotated[int, Meta(ge=WITHDRAWAL_MIN_MICROUSD, le=10**15)]


class Withdraw(Request, frozen=True, kw_only=True):
    """A withdrawal out of an account's credits."""

    account: str
    withdrawal: Withdrawal


AccountText = Annotated[str, Meta(pattern="^0x[0-9a-f]{40}$", max_length=42)]


class PayoutTo(Request, frozen=True, kw_only=True):
    """Where the earnings of a custodial account shall go."""

    to: AccountText


class Payout(Request, frozen=True, kw_only=True):
    """Where an account's earnings shall go, with its signature over `fallow.domain.payees.payout_text` (hex).

    Without one the network signs for an account whose key it keeps: only gateways ask so, for that account's API key.
    """

    account: AccountText
    to: AccountText
    signed_at_s: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    signature: AccountSignature = ""


class AlertsTo(Request, frozen=True, kw_only=True):
    """A mail address or the URL of a webhook, and the language (en or ja) of what is written there."""

    address: Annotated[str, Meta(min_length=3, max_length=500, pattern=r"^[\x21-\x7e]+$(?!\n)")]
    language: Literal["en", "ja"] = "en"


class ChannelRef(Request, frozen=True, kw_only=True):
    """One of the two ways by which an account is told."""

    account: str
    kind: Literal["email", "webhook"]


class SetChannel(ChannelRef, frozen=True, kw_only=True):
    """Where it leads from now on, once it is confirmed."""

    to: AlertsTo


class AlertsCode(Request, frozen=True, kw_only=True):
    """The code that a mail brought."""

    code: Annotated[str, Meta(pattern=r"^[0-9]{8}$(?!\n)", max_length=8)]


class ConfirmChannel(ChannelRef, frozen=True, kw_only=True):
    """The code that came there."""

    code: str


class StopAlerts(Request, frozen=True, kw_only=True):
    """What each mail names, so that whoever reads it can end them."""

    token: str


class Redirection(Request, frozen=True, kw_only=True):
    """Claims of a custodial account on the chain, by their hash (hex), to be paid to whom its earnings go.

    `nonce` is the account's next one at the distributor; the signature holds up to `deadline_s` (since 1970).
    """

    claims: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
    nonce: Annotated[int, Meta(ge=0, le=1 << 53)]
    deadline_s: Annotated[int, Meta(ge=0, le=1 << 53)]


class Redirect(Request, frozen=True, kw_only=True):
    """The redirection of an account's claims, for its API key."""

    account: str
    redirection: Redirection


class Fund(Request, frozen=True, kw_only=True):
    """Give TEST credits to the network itself: for its checks (`fee`), or for its `reserve`."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
    purpose: Literal["fee", "reserve"]
    amount_microusd: Annotated[int, Meta(ge=1, le=10**15)]


class ReportPrice(Request, frozen=True, kw_only=True):
    """What a feed says one token is worth, in micro-US-dollars; it signed `price_text` as wallets do."""

    price_microusd: Price
    doubt_microusd: Annotated[int, Meta(ge=0, le=PRICE_MAX)] = 0
    at_ms: Annotated[int, Meta(ge=0, le=2**53)]
    signature: Annotated[str, Meta(pattern="^0x[0-9a-f]{130}$", max_length=132)]


class AcceptPrice(Request, frozen=True, kw_only=True):
    """Let the price go on from here after a jump."""

    price_microusd: Price


class HoldPrice(AcceptPrice, frozen=True, kw_only=True):
    """Let it go on so for a person."""

    by: Person | None = None


class BeginAudit(Request, frozen=True, kw_only=True):
    """Have the ledger audited for a person."""

    by: Person | None = None


class SetTake(Request, frozen=True, kw_only=True):
    """What an operator keeps of what others' stake earns, in millionths; he signed `take_text` as wallets do."""

    account: str
    take_ppm: Annotated[int, Meta(ge=0, le=TAKE_ALL_PPM)]
    at_ms: Annotated[int, Meta(ge=0, le=2**53)]
    signature: Annotated[str, Meta(pattern="^0x[0-9a-f]{130}$", max_length=132)]


class Subscribe(Request, frozen=True, kw_only=True):
    """Open a subscription in the name of an account: metered use of a service of `vertical`, at its `tariff`.

    `id` is made by the buyer (32 hex digits); the same again changes nothing. `limit_microusd` is reserved for each
    window and bounds what it can cost.
    """

    id: Id
    account: str
    vertical: Annotated[str, Meta(pattern="^[a-z]{1,20}$")]
    tariff: Tariff
    limit_microusd: Annotated[int, Meta(ge=1, le=PRICE_MICROUSD_MAX)]
    window_ms: Annotated[int, Meta(ge=1000, le=WINDOW_MS_MAX)] = WINDOW_MS_MAX
    label: Label = ""


class EarningsRef(Request, frozen=True, kw_only=True):
    """What an account earned since a moment (milliseconds since 1970)."""

    account: str
    from_ms: int


class SpendingRef(Request, frozen=True, kw_only=True):
    """What an account spent since a moment (milliseconds since 1970)."""

    account: str
    from_ms: int


class OpenSubscription(Request, frozen=True, kw_only=True):
    """What a buyer says of the subscription that he opens: the tariff is the vertical's."""

    id: Id
    vertical: Annotated[str, Meta(pattern="^[a-z]{1,20}$")]
    limit_microusd: Annotated[int, Meta(ge=1, le=PRICE_MICROUSD_MAX)]
    label: Label = ""


class SubscriptionRef(Request, frozen=True, kw_only=True):
    """A subscription of an account."""

    account: str
    id: str


class Delivery(Request, frozen=True, kw_only=True):
    """What `payee` has delivered on a meter since the subscription began, as `source` knows it.

    The quantity only grows. Each party that counts (a gateway's process, a node's boot) is a `source` of its own.
    """

    source: Annotated[str, Meta(pattern=r"^[a-z0-9.:\-]{1,80}$(?!\n)")]
    payee: str
    meter: MeterName
    quantity: Annotated[str, Meta(pattern="^[0-9]{1,39}$")]


class MeterUse(Request, frozen=True, kw_only=True):
    """A gateway reports use of one subscription. Answered with `SubscriptionView`; sending it again changes nothing."""

    account: str
    id: str
    deliveries: Annotated[list[Delivery], Meta(min_length=1, max_length=500)]


class Beat(Request, frozen=True, kw_only=True):
    """A node's sign of life: its boot number and the leases that it works on. Not a record, never archived."""

    node: str
    boot: int
    leases: list[str]


class Deliver(Request, frozen=True, kw_only=True):
    """A node hands in one signed batch. `openings` are those of its sealed fields, by index in the batch as text."""

    batch: bytes
    openings: dict[str, dict[str, Opening]] = {}


class Delivered(Request, frozen=True, kw_only=True):
    """The batch is durably stored: the network's sealed `Promise`. The same batch again gets the same answer."""

    promise: bytes


class LeaseSecrets(Request, frozen=True, kw_only=True):
    """What a lease's sealed box holds: the values for the program of this lease."""

    lease: str
    values: dict[str, str]

    def __repr__(self) -> str:
        """Leave the values out."""
        return f"LeaseSecrets(lease={self.lease!r}, values={sorted(self.values)!r})"


class Proposal(Request, frozen=True, kw_only=True, omit_defaults=True):
    """The market asks a node to take a lease. The lease starts with the node's signed accept, and not before.

    `resume` is the checkpoint (SHA-256 in hex) to go on from; `checkpoints` says that new ones are kept;
    `until_stopped` that the work is meant to run until it is told to end. A window that is open in `cut_in_ms` from now
    ends then, and so every `cuts_apart_ms` (`fallow.domain.windows`). `secrets` is a libsodium sealed box for the
    node's key, converted to X25519, around `LeaseSecrets` as MessagePack. A node that
    knows less than the network still reads what uses none of it: fields at their defaults are left out.
    """

    lease: str
    vertical: str
    work: dict[str, Any]
    item: str | None
    seed: str
    cpu_milli: int
    memory_mib: int
    disk_mib: int
    price_microusd_per_hour: int
    window_ms: int
    time_limit_s: int
    answer_by: int
    ticket: str
    resume: str | None = None
    checkpoints: bool = False
    until_stopped: bool = False
    gpus: int = 0
    secrets: bytes = b""
    cut_in_ms: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 0
    cuts_apart_ms: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 0


class RollCall(Request, frozen=True, kw_only=True):
    """The network asks a node to work for `work_ms` now with `cpu_milli` that it has free; see `domain.rollcall`.

    A node whose owner needs it, or that has sold it meanwhile, declines with the reason.
    """

    call: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    vertical: str
    cpu_milli: Annotated[int, Meta(ge=1, le=CPU_MILLI_MAX)]
    work_ms: Annotated[int, Meta(ge=1, le=10_000)]


class RollAnswer(Request, frozen=True, kw_only=True):
    """The node's sealed `domain.rollcall.Answer`."""

    sealed: Annotated[bytes, Meta(max_length=4096)]


class RollShow(Request, frozen=True, kw_only=True):
    """The node has answered: it shows these of its steps."""

    call: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    wanted: Annotated[list[Annotated[int, Meta(ge=0)]], Meta(max_length=64)]


class RollShown(Request, frozen=True, kw_only=True):
    """The steps, as the vertical writes them."""

    shown: Annotated[bytes, Meta(max_length=64 << 10)]


def roll_calls(node: str) -> str:
    """Subject on which a node answers `RollCall`s."""
    return f"node.{node}.roll_call"


def roll_shows(node: str) -> str:
    """Subject on which a node answers `RollShow`s."""
    return f"node.{node}.roll_show"


def rules_of(node: str) -> str:
    """Subject on which a node answers `TellRules` with its `RulesStanding`."""
    return f"node.{node}.rules"


def proposals(node: str) -> str:
    """Subject on which a node receives a list of `Proposal`s."""
    return f"node.{node}.propose"


def stops(node: str) -> str:
    """Subject on which a node receives a list of lease ids to end now."""
    return f"node.{node}.stop"


def vertical_question(node: str, vertical: str) -> str:
    """Subject on which the worker of a vertical on a node is asked: bytes, answered with bytes."""
    return f"node.{node}.vertical.{vertical}"


GRANTED = "granted"
"""The call by which holders of grants ask the network's side of a vertical (`Granted`)."""

ALERTS = "alerts"
"""The call (`AccountRef`) by which the network's side of a vertical tells what it knows of.

The answer is a list of `fallow.domain.alerts.Alert`, each with what it has `said` in both languages.
"""


def vertical_call(vertical: str, call: str) -> str:
    """Subject on which the network's side of a vertical answers one of its calls."""
    return f"vertical.{vertical}.{call}"


def vertical_told(node: str, vertical: str) -> str:
    """Subject of what the worker of a vertical on a node (`*`: on any) tells by itself: bytes."""
    return f"vertical.node.{node}.{vertical}"


def relay_of(node: str) -> str:
    """Subject that the relay answers on, with a `RelayAt`, which holds a node's session."""
    return f"relay.node.{node}"


def vertical_teller(subject: str) -> bytes:
    """Return which node told something on such a subject: the bus lets nobody else."""
    return bytes.fromhex(subject.split(".")[2])


def beats(node: str) -> str:
    """Subject of a node's `Beat`s."""
    return f"market.node.{node}.beat"


def standing(node: str) -> str:
    """Subject on which a node asks how the market sees it; the answer is a `StandingView`."""
    return f"market.node.{node}.standing"


def ingest(node: str) -> str:
    """Subject of a node's signed batches."""
    return f"ingest.{node}"


def join_message(token: str, node: str, account: str = "") -> bytes:
    """What a node key signs to show that it is present when its machine joins, and which account's code it follows."""
    follows = f"\0{account}" if account else ""
    return f"fallow/join/1\0{token}\0{node}{follows}".encode()


class EndEpoch(Request, frozen=True, kw_only=True):
    """Let no more records into the epoch after `after` (None: the network's first), when its time is over or `early`.

    Answered with a list of its `EpochEnd`, the same one each time; with an empty one while it goes on.
    """

    after: int | None
    early: bool = False
    by: Person | None = None


class EndNow(Request, frozen=True, kw_only=True):
    """End the open epoch before its time. Answered with its `EpochEnd`; its closing goes on by itself.

    With `after` it is the epoch after that one, and whoever asks again ends no other: the answer is the same.
    """

    after: int | None = None
    by: Person | None = None
