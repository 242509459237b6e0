"""What crosses a process boundary to be shown to people and programs. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fallow.domain.billing import FeePolicy
from fallow.domain.delegations import OPERATOR_ATTESTED
from fallow.domain.idle_rules import IdleRules, RulesStanding
from fallow.domain.resources import Resources, Terms

TEST_CLASS: Final = "granted"
"""The class of credits that nothing backs."""


class View(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Base of what is shown."""


class ContractsView(View, frozen=True, kw_only=True):
    """Addresses of a network's contracts. `block` is the number of the block after which all of them were there.

    `operator` is the account that made them, `chain_id` the number of the chain that they are on.
    """

    block: int
    settlement: str
    token: str
    distributor: str
    validators: str
    vault: str
    timelock: str
    operator: str = ""
    chain_id: int = 0


class NetworkView(View, frozen=True, kw_only=True):
    """How to reach a network and check its signatures. `public_key` (hex) signs promises and tickets.

    `url` is what other machines reach it by. `install_sha256` is of the script that installs its agent; "" where it
    hands out none. `chain_url` is the JSON-RPC of its chain, `chain_id` the chain's number; "" and 0 where it has none.
    `contracts` are on that chain. `gateways` are the URLs of verticals' own gateways by their roles, such as `s3`.
    `fee_ppm` is what it keeps of each price, in millionths; a network that does not say so keeps what is usual.
    """

    net: str
    public_key: str
    bus_url: str
    preset: str
    version: str
    url: str = ""
    install_sha256: str = ""
    chain_url: str = ""
    chain_id: int = 0
    contracts: ContractsView | None = None
    gateways: dict[str, str] = {}
    fee_ppm: int = FeePolicy().fee_ppm


class SigningSecretView(View, frozen=True, kw_only=True):
    """What requests are signed with where an API key itself does not travel: S3's access key and secret key."""

    access_key: str
    secret: str

    def __repr__(self) -> str:
        """Leave the secret out."""
        return f"SigningSecretView(access_key={self.access_key!r})"


class LinksView(View, frozen=True, kw_only=True):
    """Addresses in the order of what was asked for; they end at `ends_at` (milliseconds since 1970)."""

    urls: list[str]
    ends_at: int


class ItemView(View, frozen=True, kw_only=True):
    """One item of a job.

    `reason` says why it is in a final or waiting state; empty when all is well. `checked` says that nodes of more
    than one owner gave the same result. `trust` is its node's trust level now, as its buyer sees it; "" for a node
    that is gone. `checkpoint` is the SHA-256 of the archive that its next lease goes on from.
    `running_ms` is how long leases run now that its buyer pays for; `used_ms` is what ended ones used.
    """

    index: int
    state: str
    attempts: int
    node: str | None
    reason: str
    result: str | None
    checked: bool
    used_ms: int
    owed_microusd: int
    checkpoint: str | None = None
    trust: str = ""
    running_ms: int = 0


class JobView(View, frozen=True, kw_only=True):
    """One job. `counts` maps each item state to its number; `budget_microusd` is the most that it may cost.

    `trust` maps each trust level to how many of its items are, or were last, with a node of that level now. `secrets`
    are the names of the secret values that came with it; the values are deleted when it ends. `running_ms` is how long
    leases run now that its buyer pays for, one added to the other; `used_ms` is what ended ones used.
    """

    id: str
    state: str
    label: str
    vertical: str
    created_at: int
    ended_at: int | None
    counts: dict[str, int]
    used_ms: int
    owed_microusd: int
    reserved_microusd: int
    reason: str
    budget_microusd: int | None = None
    secrets: list[str] = []
    trust: dict[str, int] = {}
    running_ms: int = 0


class SubscriptionView(View, frozen=True, kw_only=True):
    """One subscription. `left_microusd` is what its open window can still cost."""

    id: str
    state: str
    label: str
    vertical: str
    opened_at: int
    ended_at: int | None
    window: int
    window_ends_at: int
    limit_microusd: int
    left_microusd: int
    owed_microusd: int
    settled_microusd: int
    reason: str


class LeaseView(View, frozen=True, kw_only=True):
    """One lease, open or ended. `reason` and `caused_by` (buyer, provider, owner, network or nobody) say why it ended.

    It has run for `running_ms`, if it does now; `used_ms` is what was reported. What it did in its first `saved_ms` is
    in a checkpoint. `receipt` says who stands for its use: the buyer signed for it (mutual), or the operator alone does
    (operator-attested).

    The reserve gave `refunded_microusd` of what is owed back to the buyer, for a result that decides nothing, or
    `made_good_microusd` to the provider, for lost work; `reserve_short` says why not all of it. `unbacked_microusd` was
    paid for work that no checkpoint holds yet, and is kept until it is of use.
    """

    id: str
    job: str
    item: int
    node: str
    state: str
    price_microusd_per_hour: int
    proposed_at: int
    started_at: int | None
    ended_at: int | None
    reason: str
    caused_by: str
    used_ms: int
    owed_microusd: int
    saved_ms: int = 0
    spot: bool = False
    refunded_microusd: int = 0
    made_good_microusd: int = 0
    reserve_short: str = ""
    unbacked_microusd: int = 0
    receipt: str = OPERATOR_ATTESTED
    running_ms: int = 0


class DelegationView(View, frozen=True, kw_only=True):
    """A key (hex) that signs orders and receipts for an account; `account_signature` is the account's over that."""

    account: str
    key: str
    issued_at: int
    expires_at: int
    revoked_at: int | None
    account_signature: str


class JobEvent(View, frozen=True, kw_only=True):
    """A change of a job or of one of its items (`item` is None when it is about the job)."""

    job: str
    at: int
    state: str
    item: int | None = None
    node: str | None = None
    reason: str = ""


class CandidateView(View, frozen=True, kw_only=True):
    """A node that an order could run on now."""

    node: str
    price_microusd_per_hour: int
    trust: str
    country: str
    cell: str = ""


class QuoteView(View, frozen=True, kw_only=True):
    """What an order would cost and where it could run, before any money moves.

    `why_not` maps each requirement that turns nodes away to how many; with no candidates it is the answer to "why
    not". `plain_data` is the sentence about who can read the data. Beside the price as ordered stand the lowest ones on
    demand and as spot; None where nobody can take it so now. `replicas` is how many results of each item the buyer
    pays for, and `compare` how they compare: exact, tolerance or none. `owners` is how many owners, each on a network
    of his own, could give one now: with fewer than `replicas` those results decide that are to be had, if they agree.
    """

    candidates: list[CandidateView]
    nodes_total: int
    why_not: dict[str, int]
    deposit_microusd: int
    price_microusd_per_hour: int | None
    plain_data: str
    on_demand_microusd_per_hour: int | None = None
    spot_microusd_per_hour: int | None = None
    replicas: int = 1
    compare: str = "none"
    owners: int = 0


class NodeView(View, frozen=True, kw_only=True):
    """An enrolled node as the public sees it.

    `confirmed` counts its results that another owner's node confirmed since it was last found wrong, `wrong` how often
    it was, and `why` is the code of the last time. `missed` counts roll calls, see `fallow.domain.verification`.
    """

    node: str
    label: str
    account: str
    state: str
    total: Resources | None
    free: Resources | None
    terms: Terms | None
    attributes: dict[str, str]
    country: str
    trust: str
    confirmed: int
    wrong: int
    leases: int
    last_seen_at: int | None
    spot: Terms | None = None
    cell: str = ""
    why: str = ""
    missed: int = 0


class AmountView(View, frozen=True, kw_only=True):
    """What many machines have together: thousandths of a core, MiB, and whole graphics processors."""

    cpu_milli: int = 0
    memory_mib: int = 0
    disk_mib: int = 0
    gpus: int = 0


class SoldView(View, frozen=True, kw_only=True):
    """What one vertical holds of the capacity of all: on how many `nodes`, by how many `leases`, and how much."""

    nodes: int
    leases: int
    sold: AmountView


class MarketView(View, frozen=True, kw_only=True):
    """All nodes and open jobs together, as the market sees them `at` a moment (milliseconds since 1970).

    `nodes` counts them by state, as in `NodeView`. The rest is about those that are busy or idle: how many `owners`
    (accounts) they have, how many say which country (two letters, their owners' word) they are in, what they have
    `offered`, and what of it is `sold`: held by `leases_open`. A machine's offer is to all verticals that take orders;
    `sold_to` says which of them holds what of it.
    """

    at: int
    nodes: dict[str, int]
    owners: int
    countries: dict[str, int]
    offered: AmountView
    sold: AmountView
    jobs_open: int
    leases_open: int
    sold_to: dict[str, SoldView] = {}


class CellView(View, frozen=True, kw_only=True):
    """Nodes in a cell of H3: how many are `open` for work, how many are `busy` with it, and thousandths of cores."""

    cell: str
    nodes: int
    open: int
    busy: int
    cpu_milli: int
    sold_milli: int


class MapView(View, frozen=True, kw_only=True):
    """Where the nodes are that can be reached `at` a moment (milliseconds since 1970), as their owners say.

    `cells` are of `resolution`, or coarser where fewer than `owners_min` accounts have nodes. The `rest` is on no cell:
    they tell no place, or are too few anywhere. `countries` is how many of the rest say which country they are in.
    """

    at: int
    resolution: int
    owners_min: int
    cells: list[CellView]
    rest: int
    countries: dict[str, int]


class EnrolledView(View, frozen=True, kw_only=True):
    """An enrolled node as the operator sees it.

    `banned_reason` is empty unless it, or its account, is banned, `vouched_reason` unless its owner is vouched for.
    """

    node: str
    label: str
    account: str
    enrolled_at: int
    banned_reason: str
    vouched_reason: str = ""


class BanView(View, frozen=True, kw_only=True):
    """A node (its id) or an account (0x...) that is banned itself, and why. An account's machines are, with it."""

    subject: str
    reason: str


class KeyView(View, frozen=True, kw_only=True):
    """An API key as the operator sees it: its public part, and whose it is."""

    key_id: str
    account: str
    scopes: list[str]
    label: str
    revoked_at: int | None


class TokenView(View, frozen=True, kw_only=True):
    """A join token that still lets machines in, by the beginning of the SHA-256 that is kept of it."""

    token_id: str
    uses_left: int
    expires_at: int


class ActionView(View, frozen=True, kw_only=True):
    """What a person did: the account that acted, by which of its API keys, to which node or account, and why.

    `subject` is empty where it was done to neither. `about` is what else it was about: a key's public part, the
    beginning of a join token's SHA-256, an epoch, micro-US-dollars, a job.
    """

    id: str
    at: int
    account: str
    key_id: str
    what: str
    subject: str
    reason: str
    about: str = ""


class RefusalView(View, frozen=True, kw_only=True):
    """A record of a node that changed nothing, and the code that says why."""

    boot: int
    seq: int
    code: str
    at: int


class OwnLeaseView(View, frozen=True, kw_only=True):
    """What a node works on now, told to its owner: never whose it is. `owed_microusd` is what ended windows came to."""

    id: str
    vertical: str
    price_microusd_per_hour: int
    started_at: int | None
    running_ms: int
    spot: bool
    owed_microusd: int


class OwnNodeView(View, frozen=True, kw_only=True):
    """A node as its owner's account sees it; `offer` is None as long as the market has none of it.

    `suspended_until`, `left_alone_until` and `refused` are as in `StandingView`, the reasons as in `EnrolledView`.
    """

    node: str
    label: str
    enrolled_at: int
    offer: NodeView | None
    leases: list[OwnLeaseView]
    suspended_until: int
    left_alone_until: int
    refused: list[RefusalView]
    banned_reason: str = ""
    vouched_reason: str = ""


class RulesEventView(View, frozen=True, kw_only=True):
    """A line of the log of what was asked of a node: `what` is asked, taken or refused, and `code` then says why."""

    id: str
    at: int
    account: str
    key_id: str
    what: str
    code: str
    rules: IdleRules


class OwnRulesView(View, frozen=True, kw_only=True):
    """A node's rules, as it says them itself just now, and the latest of what was asked of it, the last first.

    `standing` is None where it says nothing; `trouble` then tells why.
    """

    standing: RulesStanding | None
    trouble: ErrorView | None
    log: list[RulesEventView]


class EarnedView(View, frozen=True, kw_only=True):
    """What an account earned from buyers in the hour that began `at`, by class of credits, in micro-US-dollars."""

    at: int
    earned: dict[str, int]


class EarningsView(View, frozen=True, kw_only=True):
    """Hours in which something was earned, the latest first, back to `from_ms`: earlier ones are not `whole`."""

    hours: list[EarnedView]
    from_ms: int
    whole: bool


class StandingView(View, frozen=True, kw_only=True):
    """How the market sees a node, told to itself.

    `state` is as in `NodeView`, or `unknown` as long as it has no offer of it. `suspended_until` is when it may work
    again after it was found wrong, `why` the code of the last time, and `left_alone_until` when it is asked again
    after it turned work down; 0: now. `refused` are its latest records that changed nothing. `usage_microusd` is what
    its account has earned from buyers, with all its nodes, by class of credits.
    """

    state: str
    trust: str
    confirmed: int
    wrong: int
    suspended_until: int
    left_alone_until: int
    refused: list[RefusalView]
    usage_microusd: dict[str, int]
    why: str = ""


class BalanceView(View, frozen=True, kw_only=True):
    """An account's credits by class, in micro-US-dollars.

    `reserved` is held for open windows. `kept` was paid for its machines' work that no checkpoint backs yet: it becomes
    earned with the next checkpoint or the end of the work, less the fee, or goes back to the buyer. `spent` is what
    ever left the account, for work or withdrawn; what came back later is not taken off.
    """

    account: str
    spendable: dict[str, int]
    reserved: dict[str, int]
    earned: dict[str, int]
    kept: dict[str, int] = {}
    spent: dict[str, int] = {}

    @property
    def pays_with_test(self) -> bool:
        """Whether it never had anything but TEST credits, which nothing backs, to pay with. They are spent first."""
        parts = (self.spendable, self.reserved, self.spent)
        return not any(amount for part in parts for name, amount in part.items() if name != TEST_CLASS)


class PayeeView(View, frozen=True, kw_only=True):
    """To whom an account's earnings go now, and to whom from `effective_at` on, beginning with the epoch after.

    `pending` is "" where no change waits.
    """

    account: str
    paid_to: str
    pending: str = ""
    effective_at: int = 0


class AlertView(View, frozen=True, kw_only=True):
    """What an account should look at, in words; see `fallow.domain.alerts.Alert` for `id`, `subject` and `values`."""

    id: str
    code: str
    subject: str
    name: str
    text: str
    values: dict[str, str | int] = {}


class ChannelView(View, frozen=True, kw_only=True):
    """Where an account is told: `email` or `webhook`. Nothing but the way to confirm it goes there before `confirmed`.

    `waiting` is how many messages are still to be sent, `failure` what went wrong when the last one was tried, at
    `failed_at`. `secret` signs what a webhook gets: it is told once, when the address is named.
    """

    kind: str
    address: str
    language: str
    confirmed: bool
    waiting: int = 0
    failed_at: int | None = None
    failure: str = ""
    secret: str = ""

    def __repr__(self) -> str:
        """Leave the secret and the address out."""
        return f"ChannelView(kind={self.kind!r})"


class ChannelsView(View, frozen=True, kw_only=True):
    """All of an account's; whether this network can send mails at all."""

    channels: list[ChannelView]
    mail: bool


class RedirectionView(View, frozen=True, kw_only=True):
    """An account's signature (hex) that lets claims of its own be paid to `recipient`."""

    account: str
    recipient: str
    signature: str


class WithdrawalView(View, frozen=True, kw_only=True):
    """Paid credits that have left an account. The root of the epoch in which it is recorded owes them to `to`.

    `transfer` is the ledger's own id of it, which its record in the archive names.
    """

    id: str
    account: str
    to: str
    amount_microusd: int
    transfer: str


class StatementLine(View, frozen=True, kw_only=True):
    """One movement of an account. `amount_microusd` is positive when it came in.

    What is reserved or given back stays the account's: `held_microusd` is by how much that part of it grew, or shrank.
    """

    id: str
    at: int
    kind: str
    credit_class: str
    amount_microusd: int
    ref: str
    held_microusd: int = 0


class PurseView(View, frozen=True, kw_only=True):
    """One of the network's own purses by credit class: what is in it, and what went in and out of it ever."""

    balance: dict[str, int]
    paid_in: dict[str, int]
    paid_out: dict[str, int]


class QuoteOfFeedView(View, frozen=True, kw_only=True):
    """What a feed said last of a token's price, in micro-US-dollars, and when (milliseconds since 1970)."""

    feed: str
    price_microusd: int
    doubt_microusd: int
    at: int


class PriceView(View, frozen=True, kw_only=True):
    """The price that burned tokens are credited at; None where there is no sound one, and `why` not.

    `last_microusd` is the last one that held (0: none yet). `waiting` burns are credited once there is a price.
    """

    price_microusd: int | None
    why: str
    last_microusd: int
    quotes: list[QuoteOfFeedView]
    waiting: int


class MeterPriceView(View, frozen=True, kw_only=True):
    """What a vertical's subscriptions pay: `microusd` for `per` of what a meter counts."""

    vertical: str
    meter: str
    microusd: int
    per: int


class PricesView(View, frozen=True, kw_only=True):
    """What the network itself takes: its fee in millionths of usage, and what of that goes to the reserve.

    `meters` are prices that a vertical has for everybody. Where it has none, providers name their own.
    """

    fee_ppm: int
    reserve_ppm: int
    meters: list[MeterPriceView]


class ReserveUseView(View, frozen=True, kw_only=True):
    """What the reserve paid about a provider's leases that ended for one reason.

    `refunded_microusd` went to their buyers, for results that decide nothing, `made_good_microusd` to the provider, for
    lost work.
    """

    account: str
    reason: str
    leases: int
    refunded_microusd: int
    made_good_microusd: int


class ReserveView(View, frozen=True, kw_only=True):
    """The network's reserve, and what it was used for; `uses` has the largest sums first."""

    purse: PurseView
    uses: list[ReserveUseView]


class BlobsView(View, frozen=True, kw_only=True):
    """What this gateway last found when it looked for blobs that nobody needs: times in milliseconds since 1970.

    `kept` and `kept_bytes` stayed, `removed` and `removed_bytes` went. `looked_at` is None before the first look is
    over; `trouble` says why the latest one came to nothing.
    """

    keep_days: int
    looked_at: int | None = None
    kept: int = 0
    kept_bytes: int = 0
    removed: int = 0
    removed_bytes: int = 0
    trouble: str = ""


class MishapView(View, frozen=True, kw_only=True):
    """How often something failed unexpectedly at a place in a role's process, since that started: each is a bug."""

    role: str
    place: str
    count: int


class ProcessView(View, frozen=True, kw_only=True):
    """A process of the network that is heard, the roles that it runs, and how long ago it was heard (milliseconds).

    In 99 of 100 looks since its start its event loop was at most `late_ms` late; None where that is not told.
    """

    name: str
    copy: int
    roles: list[str]
    silent_ms: int
    late_ms: int | None = None


class NumberView(View, frozen=True, kw_only=True):
    """A number that a process tells of itself, named as at `/metrics`; `process` has its copy behind it."""

    name: str
    process: str
    labels: dict[str, str]
    value: float


class RunningView(View, frozen=True, kw_only=True):
    """Which roles run, in how many processes each (0: one that should and does not), and what these tell of themselves.

    Histograms are at `/metrics` alone.
    """

    roles: dict[str, int]
    processes: list[ProcessView]
    numbers: list[NumberView]


class NodesAtView(View, frozen=True, kw_only=True):
    """How many nodes were in each state at a time (milliseconds since 1970)."""

    at: int
    states: dict[str, int]


class ChangeView(View, frozen=True, kw_only=True):
    """A call that waits in the contracts' timelock, and from when it can be carried out (milliseconds since 1970)."""

    id: str
    ready_at: int
    contract: str
    call: str
    data: str


class GovernanceView(View, frozen=True, kw_only=True):
    """Parameters of the contracts by contract and name, as the chain has them, and what is about to change."""

    parameters: dict[str, dict[str, str]]
    pending: list[ChangeView]


class HolderView(View, frozen=True, kw_only=True):
    """An account that holds some of the network's token: `amount` in its smallest unit, as text."""

    account: str
    amount: str


class GovernedView(GovernanceView, frozen=True, kw_only=True):
    """The same for everybody, as it was `at` a moment (milliseconds since 1970), with who holds most of the token.

    `holders_total` accounts hold some.
    """

    at: int
    holders: list[HolderView]
    holders_total: int


class LedgerCheckView(View, frozen=True, kw_only=True):
    """The ledger's own audit. `sums` has debits minus credits per credit class and is zero everywhere when `ok`."""

    ok: bool
    sums: dict[str, int]
    transfers: int
    problems: list[str]


class AuditBegunView(View, frozen=True, kw_only=True):
    """An audit that begins at `asked_at` or later is the one that was asked for."""

    asked_at: int


class DifferenceView(View, frozen=True, kw_only=True):
    """Something that does not agree: `code` says of which kind, `subject` names the item.

    `here` is what the ledger or the statement has, `there` what the archive or the chain has; "" is nothing.
    """

    code: str
    subject: str
    here: str
    there: str
    detail: str


class AuditView(View, frozen=True, kw_only=True):
    """The ledger held against the archive and the chain. Amounts are micro-US-dollars of paid credits.

    `deposited` is what came in; of it `circulation` is still credits, and `owed` was paid out or withdrawn. The chain
    says that `claimed` of it were, and what the distributor `held` then; None where there is no chain. `differences`
    are the first of `found`. Where the audit could not be done, `trouble` says why.
    """

    began_at: int
    ended_at: int
    ok: bool
    transfers: int = 0
    epochs: int = 0
    deposited: int = 0
    circulation: int = 0
    owed: int = 0
    claimed: int | None = None
    held: int | None = None
    found: int = 0
    differences: list[DifferenceView] = []
    trouble: str = ""


class VoteView(View, frozen=True, kw_only=True):
    """One node's word on what an item gives; `result` is the hash (hex) of its outcome document."""

    lease: str
    node: str
    account: str
    ok: bool
    reason: str
    result: str | None


class RerunView(View, frozen=True, kw_only=True):
    """What running an item again has shown: two nodes gave the same bytes, or did not, which proves nothing.

    `lease` is the first node's. `program` names what an `account` had run. `suspects` are those of the two nodes at
    which all re-runs of the program hint now.
    """

    lease: str
    at: int
    account: str
    program: str
    nodes: list[str]
    same: bool
    suspects: list[str]


class EvidenceView(View, frozen=True, kw_only=True):
    """Why a node was refused its pay: what it said, and beside it what the others said of the same item."""

    lease: str
    node: str
    at: int
    code: str
    votes: list[VoteView]


class SeedPartView(View, frozen=True, kw_only=True):
    """What a validator adds to a seed: its signed `pledge` (hex), and its `part` (hex) once it has shown it."""

    validator: str
    pledge: str
    part: str | None


class SeedPartsView(View, frozen=True, kw_only=True):
    """Who adds to the seed of an epoch of draws. A part is shown before the epoch begins, or does not count."""

    number: int
    parts: list[SeedPartView]


class SeedView(View, frozen=True, kw_only=True):
    """An epoch of draws.

    `commitment` (hex) is a `Commitment`, signed by the network's key. `seed` (hex) is the operator's part, shown once
    the epoch is over: all that is drawn from, unless validators added parts.
    """

    number: int
    commitment: str
    opened_at: int | None
    closed_at: int | None
    seed: str | None


class SaidView(View, frozen=True, kw_only=True):
    """What came of one node's part in a roll call.

    `reason` is empty when it answered well, `answer` is what it signed (hex). `per_mille` is how fast it was, where a
    thousand is what it does alone.
    """

    node: str
    cpu_milli: int
    reason: str
    units: int
    elapsed_ms: int
    per_mille: int | None
    answer: str


class RollCallView(View, frozen=True, kw_only=True):
    """A moment at which nodes had to show what they have free. `found` are nodes that it convicts, with the code.

    `kind`: `group` was drawn, `again` are those who were slow in one, `alone` is a node by itself.
    """

    id: str
    at: int
    kind: str
    said: list[SaidView]
    found: dict[str, str]


class DrawView(View, frozen=True, kw_only=True):
    """One draw about a lease: whether its result is checked, or whether its node is given known work next."""

    number: int
    lease: str
    purpose: str
    node: str
    at: int
    one_in: int
    hit: bool


class ErrorView(View, frozen=True, kw_only=True):
    """What an API answers when it cannot do what was asked."""

    kind: str
    code: str
    message: str
    hint: str = ""
    details: dict[str, Any] = {}


class EpochFileView(View, frozen=True, kw_only=True):
    """A file of an epoch: bytes, SHA-256 (hex), and how many batches or records are in it."""

    name: str
    size: int
    sha256: str
    count: int


class NetworkLineView(View, frozen=True, kw_only=True):
    """The network's own line of an epoch: usage and incentives apart, what it earned and what it issued for that.

    Amounts of the token are texts, in its smallest unit: `minted` for providers, `burned`, `net` of both, and the
    `supply` after it. `revenue_microusd` are fees in credits that somebody paid for; `coverage_ppm` is that over what
    was minted, at `price_microusd` for 10^18 units; None where nothing was. `held`, `vesting` and `forfeited` are sums
    until then. Of burned credits, `unsound_microusd` follow from no burn at a price that held: there must be none.
    Buyers paid `bought_microusd` in credits that are worth something, fees included, and `test_microusd` in TEST ones.
    """

    usage_microusd: int
    revenue_microusd: int
    minted: str
    burned: str
    net: str
    supply: str
    price_microusd: int
    coverage_ppm: int | None
    held_usage_microusd: int
    forfeited_usage_microusd: int
    held: str
    vesting: str
    forfeited: str
    delegated: str = "0"
    burned_credits_microusd: int = 0
    unsound_microusd: int = 0
    bought_microusd: int = 0
    test_microusd: int = 0


class SumsView(View, frozen=True, kw_only=True):
    """What some lines of epochs earned, and what of that and of earlier pay became owed meanwhile.

    What is earned and not owed is held, or vests. Amounts of the token are texts, in its smallest unit.
    """

    usage_microusd: int
    usage_owed_microusd: int
    incentive: str
    incentive_owed: str


class GroupView(View, frozen=True, kw_only=True):
    """A vertical, or an account: what it earned, and what it would have earned under other rules."""

    name: str
    was: SumsView
    then: SumsView


class WhatIfEpochView(View, frozen=True, kw_only=True):
    """A closed epoch as it was, and as it would have been had other rules held from the first one asked for on."""

    epoch: int
    until_ms: int
    was: NetworkLineView
    then: NetworkLineView
    verticals: list[GroupView]


class WhatIfView(View, frozen=True, kw_only=True):
    """What other rules come to over all epochs that were asked for.

    `accounts` are those with the largest differences, of the `accounts_changed` that have any. `file` holds these rules
    for the setting `rewards`. `mint_max` is how many units of the token they can come to owe in an epoch at most.
    """

    accounts: list[GroupView]
    accounts_changed: int
    file: str
    mint_max: str


class PolicyView(View, frozen=True, kw_only=True):
    """A rule that an epoch was closed under. `digest` fits one released version of its code and no other.

    Numbers among its `parameters` are text.
    """

    name: str
    version: int
    digest: str
    parameters: dict[str, Any] = {}


class EpochView(View, frozen=True, kw_only=True):
    """A closed epoch. Hashes are in hex: `statement` of its signed statement, `previous` of the one before.

    `previous` is "" where there is none, `root` where nobody is owed anything by it; `network` is the network's own
    line. All of this is a convenience: what counts is the statement itself.
    Where that or the manifest is damaged, `damaged` says how, and nothing else is said.
    """

    epoch: int
    from_ms: int
    until_ms: int
    statement: str
    manifest: str
    previous: str
    root: str
    batches: int
    records: int
    files: list[EpochFileView]
    damaged: str = ""
    network: NetworkLineView | None = None
    policies: list[PolicyView] = []


class ProofView(View, frozen=True, kw_only=True):
    """What an account is owed of an asset since the beginning, in its smallest unit, and the way to the root (hex)."""

    asset: str
    cumulative: str
    proof: list[str]


class RootView(View, frozen=True, kw_only=True):
    """What became of a closed epoch's root. `root` is "" while it is not on the chain, and `why` says why.

    Claims count on it from `active_at` (milliseconds since 1970) on. `transaction` is "" where others have sent it.
    """

    root: str
    active_at: int = 0
    transaction: str = ""
    why: str = ""


class WrongVoteView(View, frozen=True, kw_only=True):
    """A validator that signed another root than the one that is stated, and how they differ."""

    validator: str
    differences: list[str]


class VotesView(View, frozen=True, kw_only=True):
    """How validators voted about an epoch. `decided` says that a `quorum` signed the root that is stated.

    Who `equivocated` signed two roots, and counts for neither; both are in the file `evidence/<address>`. `published`
    says what became of the root on the network's chain, where it has one.
    """

    epoch: int
    validators: list[str]
    quorum: int
    signed: list[str]
    wrong: list[WrongVoteView]
    equivocated: list[str]
    decided: bool
    published: RootView | None = None


class EpochEndView(View, frozen=True, kw_only=True):
    """An epoch that is over, and its real bounds. Its closing goes on by itself."""

    epoch: int
    from_ms: int
    until_ms: int
