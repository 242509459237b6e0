# ruff: noqa: D102
"""A network's services as the control API sees them, on a bus in memory; and a clock that only tests move."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from copy import deepcopy
from types import MappingProxyType
from typing import Any

import msgspec
from litestar import Litestar
from nacl.signing import SigningKey

from fallow.adapters.archive import StoreArchive, memory_archive
from fallow.adapters.memory.blobs import MemoryBlobs
from fallow.adapters.memory.budgets import MemoryBudgetStore
from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.adapters.memory.registry import MemoryRegistryStore
from fallow.adapters.memory.sessions import MemorySessionStore
from fallow.bootstrap.settings import CORE
from fallow.bootstrap.what_if import apart
from fallow.domain import calls
from fallow.domain.alerts import Alert
from fallow.domain.api_keys import KEY_ID_BYTES, KEY_SECRET_BYTES, new_key
from fallow.domain.billing import FeePolicy
from fallow.domain.delegations import order_message, receipts_message
from fallow.domain.errors import Conflict, InsufficientFunds, NotAllowed, NotFound
from fallow.domain.fees import Fees
from fallow.domain.field_map import Tally
from fallow.domain.identity import address, verify
from fallow.domain.orders import Order
from fallow.domain.resources import Resources, Terms
from fallow.domain.tariffs import Tariffs
from fallow.domain.tickets import Ticket, prove
from fallow.domain.views.actions import ActionView, BanView, EnrolledView
from fallow.domain.views.alerts import ChannelsView, ChannelView
from fallow.domain.views.audits import LedgerCheckView
from fallow.domain.views.checks import EvidenceView, VoteView
from fallow.domain.views.jobs import CandidateView, ItemView, JobEvent, JobView, LeaseView, QuoteView
from fallow.domain.views.keys import DelegationView, KeyView, TokenView
from fallow.domain.views.market import AmountView, EndedView, MapView, MarketView, NodesOnDayView, SoldView
from fallow.domain.views.money import (
    BalanceView,
    BudgetView,
    EarningsView,
    PurseView,
    ReserveUseView,
    ReserveView,
    SpendingView,
    SubscriptionView,
)
from fallow.domain.views.network import NetworkView
from fallow.domain.views.nodes import NodeView, OwnNodeView
from fallow.domain.views.payouts import PayeeView
from fallow.domain.views.prices import PriceView, QuoteOfFeedView
from fallow.http.app import create_app
from fallow.http.gateway import Gateway
from fallow.http.limits import Limits
from fallow.ports.registry_store import NodeRow
from fallow.ports.rpc import Empty, serve
from fallow.sdk.bills import offers
from fallow.services.market.field_map import FieldMap
from fallow.services.registry.fees import FeeSetting
from fallow.services.registry.rules import Rules
from fallow.services.registry.sessions import Sessions
from fallow.services.registry.tariffs import TariffSetting
from fallow.services.settle.budgets import Budgets
from fallow.verticals.compute.plugin import VERTICAL
from fallow.verticals.storage.core.lenders import GetLenders, LenderView
from fallow.verticals.storage.core.questions import Evidence, Note
from fallow.verticals.storage.core.statements import Statement
from fallow.verticals.storage.core.tariff import TARIFF
from fallow.verticals.storage.plugin import VERTICAL as STORAGE

BUYER = "0x" + "b1" * 20
OTHER = "0x" + "b2" * 20
OPERATOR = "0x" + "0f" * 20
BUYER_KEY, OTHER_KEY, OPERATOR_KEY = "fk_buyer_secret", "fk_other_secret", "fk_operator_secret"
PROVIDER = "0x" + "e5" * 20
PROVIDER_KEY = "fk_provider_secret"
VIEWER = "0x" + "f1" * 20
VIEWER_KEY = "fk_viewer_secret"
BUDGET_TOO_SMALL = 13
NET = "lab-1"
ALERTS_CODE = "12345678"
METRICS_SECRET = "5c" * 32
NO_GATEWAYS: Mapping[str, str] = MappingProxyType({})
SESSION_MS = 12 * 3_600_000

_KEYS = {
    BUYER_KEY: calls.keys.KeyInfo(key_id="buyer", account=BUYER, scopes=["buy"]),
    OTHER_KEY: calls.keys.KeyInfo(key_id="other", account=OTHER, scopes=["buy"]),
    PROVIDER_KEY: calls.keys.KeyInfo(key_id="provider", account=PROVIDER, scopes=["withdraw"]),
    OPERATOR_KEY: calls.keys.KeyInfo(key_id="operator", account=OPERATOR, scopes=["operate"]),
    VIEWER_KEY: calls.keys.KeyInfo(key_id="viewer", account=VIEWER, scopes=["view"]),
}


class HandClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.ms = 1_000_000
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.ms + int(seconds * 1000), sleeper))
        await sleeper

    def advance(self, ms: int) -> None:
        self.ms += ms
        due = [sleeper for at, sleeper in self._sleepers if at <= self.ms]
        self._sleepers = [(at, sleeper) for at, sleeper in self._sleepers if at > self.ms]
        for sleeper in due:
            if not sleeper.done():
                sleeper.set_result(None)


class FakeNetwork:
    """Jobs stand still in `running` until a test ends their items."""

    def __init__(
        self,
        hub: MemoryHub,
        limits: Limits | None = None,
        gateways: Mapping[str, str] = NO_GATEWAYS,
        archive: StoreArchive | None = None,
    ) -> None:
        self.bus: MemoryBus = hub.connect()
        self.blobs = MemoryBlobs()
        self.clock = HandClock()
        self.signer = SigningKey(b"n" * 32)
        self.keys = dict(_KEYS)
        self.labels: dict[str, str] = {}
        self.sessions: dict[str, calls.sessions.SessionInfo] = {}
        self.session_checks = 0
        self.wallets = Sessions(
            check_key=self.check_key,
            random_bytes=random.Random(1).randbytes,
            bus=self.bus,
            clock=self.clock,
            database=MemoryDatabase(),
            registry=MemoryRegistryStore(),
            store=MemorySessionStore(),
        )
        self.enrolment = MemoryRegistryStore()
        self.database = MemoryDatabase()
        self.fees = FeeSetting(
            fees=Fees(FeePolicy(80_000)),
            bus=self.bus,
            clock=self.clock,
            database=self.database,
            store=self.enrolment,
        )
        self.tariffs = TariffSetting(
            tariffs=Tariffs({"storage": TARIFF}),
            bus=self.bus,
            clock=self.clock,
            database=self.database,
            store=self.enrolment,
        )
        self.budgets = Budgets(
            bus=self.bus,
            clock=self.clock,
            database=self.database,
            ledger=MemoryLedger(),
            store=MemoryBudgetStore(),
        )
        self.rules = Rules(bus=self.bus, clock=self.clock, database=self.database, store=self.enrolment)
        self.subscribed: list[calls.subscriptions.Subscribe] = []
        self.lenders: dict[str, list[LenderView]] = {}
        self.banned: set[str] = set()
        self.shut_out: set[str] = set()
        self.orders: dict[str, tuple[str, Order]] = {}
        self.jobs: dict[str, JobView] = {}
        self.items: dict[str, list[ItemView]] = {}
        self.leases: dict[str, list[LeaseView]] = {}
        self.signed: list[calls.delegations.SignOrder] = []
        self.mutual: set[str] = set()
        self.nodes: list[NodeView] = []
        self.owned: dict[str, list[OwnNodeView]] = {}
        self.earned: dict[str, EarningsView] = {}
        self.spent: dict[str, SpendingView] = {}
        self.actions: list[ActionView] = []
        self.logged: list[tuple[str, calls.base.Person]] = []
        self.enrolled = [enrolled_view()]
        self.bans: list[BanView] = []
        self.checks = 0
        self.job_asked: asyncio.Queue[str] = asyncio.Queue()
        self.before_job_answer: list[str] = []
        self.archive = archive or memory_archive()
        self.market = market_view()
        self.told: dict[str, Tally] = {}
        self.payees: dict[str, str] = {}
        self.lent_alerts: list[Alert] = []
        self.channels: dict[tuple[str, str], ChannelView] = {}
        self.stopped: list[str] = []
        gateway = Gateway(
            bus=hub.connect(),
            blobs=self.blobs,
            network=NetworkView(
                net=NET,
                public_key=self.signer.verify_key.encode().hex(),
                bus_url="ws://127.0.0.1",
                preset="lab",
                version="0.1.0",
                gateways=dict(gateways),
            ),
            clock=self.clock,
            verticals={"compute": VERTICAL, "storage": STORAGE},
            limits=limits,
            archive=self.archive,
            what_if=apart(archive, bytes(self.signer.verify_key)) if archive else None,
            names=["127.0.0.1", "net.example", "*.wild.example"],
            roles=CORE,
            metrics_secret=METRICS_SECRET,
            offers=offers(),
            fees=Fees(FeePolicy(80_000)),
        )
        self.app: Litestar = create_app(gateway)

    def routes(self) -> dict[str, tuple[type[Any], Any]]:
        return {
            calls.keys.CHECK_KEY: (calls.keys.CheckKey, self.check_key),
            calls.keys.SIGNING_SECRET: (calls.keys.KeyRef, self.signing_secret),
            calls.sessions.OPEN_SESSION: (calls.keys.CheckKey, self.open_session),
            calls.sessions.CHALLENGE: (calls.sessions.Challenge, self.wallets.challenge),
            calls.sessions.OPEN_BY_WALLET: (calls.sessions.OpenByWallet, self.open_by_wallet),
            calls.sessions.CHECK_SESSION: (calls.sessions.SessionRef, self.check_session),
            calls.sessions.END_SESSION: (calls.sessions.SessionRef, self.end_session),
            calls.keys.REVOKE_KEY: (calls.keys.RevokeKey, self.revoke),
            calls.keys.KEYS: (calls.base.Page, lambda _: _soon([key_view()])),
            calls.keys.OWN_KEYS: (calls.base.AccountRef, self.own_keys),
            calls.keys.TOKENS: (dict, lambda _: _soon([token_view()])),
            calls.keys.REVOKE_TOKEN: (calls.keys.RevokeToken, lambda _: _soon({})),
            calls.nodes.MAY_CONNECT: (calls.base.NodeRef, lambda ask: _soon(ask.node not in self.shut_out)),
            calls.keys.CREATE_TOKEN: (calls.keys.MakeToken, lambda _: _soon(calls.keys.Secret(secret="token"))),  # noqa: S106
            calls.keys.CREATE_KEY: (calls.keys.MakeKey, self.create_key),
            calls.nodes.JOIN: (
                calls.nodes.Join,
                lambda _: _soon(calls.nodes.Joined(net=NET, account=OTHER, account_signature="00")),
            ),
            calls.market.OFFERS: (calls.market.OffersRef, self.offers),
            calls.nodes.OWN_NODES: (calls.base.AccountRef, self.own_nodes),
            calls.verticals.vertical_call("storage", GetLenders.name): (GetLenders, self.show_lenders),
            calls.rules.RULES: (calls.rules.RulesRef, self.rules.show),
            calls.rules.ASK_RULES: (calls.rules.AskRules, self.rules.ask),
            calls.keys.OWNERS_KEY: (calls.keys.OwnersKey, lambda ask: _soon(key_view(ask.key_id))),
            calls.money.EARNINGS: (
                calls.money.EarningsRef,
                lambda ask: _soon(self.earned.get(ask.account, no_earnings(ask))),
            ),
            calls.money.SPENDING: (
                calls.money.SpendingRef,
                lambda ask: _soon(self.spent.get(ask.account, no_spending(ask))),
            ),
            calls.market.TOTALS: (dict, lambda _: _soon(self.market)),
            calls.market.MAP: (calls.market.MapRef, self.map),
            calls.payouts.PAYEE: (calls.base.AccountRef, self.payee),
            calls.alerts.ALERT_CHANNELS: (calls.base.AccountRef, self.alert_channels),
            calls.alerts.SET_CHANNEL: (calls.alerts.SetChannel, self.set_channel),
            calls.alerts.CONFIRM_CHANNEL: (calls.alerts.ConfirmChannel, self.confirm_channel),
            calls.alerts.END_CHANNEL: (calls.alerts.ChannelRef, self.end_channel),
            calls.verticals.vertical_call("storage", calls.verticals.ALERTS): (
                calls.base.AccountRef,
                lambda ask: _soon(self.lent_alerts if ask.account == PROVIDER else []),
            ),
            calls.alerts.STOP_ALERTS: (calls.alerts.StopAlerts, self.stop_alerts),
            calls.jobs.QUOTE: (calls.jobs.Enquire, lambda _: _soon(quote_view())),
            calls.jobs.SUBMIT: (calls.jobs.Submit, self.submit),
            calls.jobs.JOB: (calls.jobs.JobRef, self.job),
            calls.jobs.JOBS: (calls.base.AccountRef, self.list_jobs),
            calls.jobs.ITEMS: (calls.jobs.JobRef, self.list_items),
            calls.jobs.LEASES: (calls.jobs.JobRef, self.list_leases),
            calls.jobs.ORDER: (calls.jobs.JobRef, self.order),
            calls.delegations.DELEGATE: (
                calls.delegations.Delegate,
                lambda ask: _soon(delegation_view(ask.account, ask.key)),
            ),
            calls.delegations.DELEGATIONS: (
                calls.base.AccountRef,
                lambda ask: _soon([delegation_view(ask.account, "ab" * 32)]),
            ),
            calls.delegations.REVOKE_DELEGATION: (
                calls.delegations.DelegationRef,
                lambda ask: _soon(delegation_view(ask.account, ask.key)),
            ),
            calls.delegations.SIGN_ORDER: (calls.delegations.SignOrder, self.sign_order),
            calls.delegations.COUNTERSIGN: (calls.delegations.Countersign, self.countersign),
            calls.delegations.MUTUAL: (
                calls.delegations.MutualRef,
                lambda ask: _soon([each for each in ask.leases if each in self.mutual]),
            ),
            calls.checks.JOB_EVIDENCE: (calls.jobs.JobRef, lambda _: _soon([evidence_view()])),
            calls.jobs.CANCEL: (calls.jobs.JobRef, self.cancel),
            calls.subscriptions.SUBSCRIBE: (calls.subscriptions.Subscribe, self.subscribe),
            calls.subscriptions.SUBSCRIPTIONS: (
                calls.base.AccountRef,
                lambda ask: _soon([] if ask.after else [subscription_view(ask.account)]),
            ),
            calls.subscriptions.UNSUBSCRIBE: (
                calls.subscriptions.SubscriptionRef,
                lambda ask: _soon(subscription_view(ask.account, ask.id)),
            ),
            calls.money.BALANCE: (calls.base.AccountRef, lambda ask: _soon(balance_view(ask.account))),
            calls.money.BUDGET: (calls.base.AccountRef, self.budgets.show),
            calls.money.SET_BUDGET: (calls.money.SetBudget, self.budgets.set),
            calls.money.STATEMENT: (calls.base.AccountRef, lambda _: _soon([])),
            calls.keys.KNOWN_ACCOUNT: (calls.base.AccountRef, lambda _: _soon({})),
            calls.money.GRANT: (
                calls.money.GiveGrant,
                lambda ask: _soon(balance_view(ask.account, ask.amount_microusd)),
            ),
            calls.money.RESERVE: (dict, lambda _: _soon(reserve_view().purse)),
            calls.money.RESERVE_USES: (dict, lambda _: _soon(reserve_view().uses)),
            calls.tokens.SET_TAKE: (calls.tokens.SetTake, lambda _: _soon({})),
            calls.tariffs.TARIFFS: (Empty, self.tariffs.said),
            calls.tariffs.SET_TARIFF: (calls.tariffs.SayTariff, self.tariffs.say),
            calls.fees.FEES: (Empty, self.fees.said),
            calls.fees.SET_FEE: (calls.fees.SayFee, self.fees.say),
            calls.tokens.PRICE: (dict, lambda _: _soon(price_view())),
            calls.tokens.REPORT_PRICE: (calls.tokens.ReportPrice, lambda _: _soon(price_view())),
            calls.tokens.ACCEPT_PRICE: (calls.tokens.HoldPrice, lambda _: _soon(price_view())),
            calls.money.LEDGER_CHECK: (dict, lambda _: _soon(ledger_view())),
            calls.actions.ACT: (calls.actions.Act, lambda ask: _soon(action_view(ask))),
            calls.actions.ACTIONS: (calls.base.Page, lambda ask: _soon([] if ask.after else self.actions)),
            calls.nodes.NODES: (calls.base.Page, lambda ask: _soon([] if ask.after else self.enrolled)),
            calls.actions.BANS: (
                calls.base.Page,
                lambda ask: _soon([one for one in self.bans if one.subject > ask.after]),
            ),
        }

    async def payee(self, ask: calls.base.AccountRef) -> PayeeView:
        if ask.account not in self.payees:
            raise NotFound("account.unknown", "Nobody here has this account.")
        return PayeeView(account=ask.account, paid_to=self.payees[ask.account])

    async def alert_channels(self, ask: calls.base.AccountRef) -> ChannelsView:
        mine = [view for (account, _), view in sorted(self.channels.items()) if account == ask.account]
        return ChannelsView(channels=mine, mail=True)

    async def set_channel(self, ask: calls.alerts.SetChannel) -> ChannelView:
        view = ChannelView(kind=ask.kind, address=ask.to.address, language=ask.to.language, confirmed=False, waiting=1)
        self.channels[ask.account, ask.kind] = view
        return msgspec.structs.replace(view, secret="fw_once") if ask.kind == "webhook" else view  # noqa: S106

    async def stop_alerts(self, ask: calls.alerts.StopAlerts) -> Empty:
        if ask.token in self.stopped:
            raise NotFound("alerts.token", "There is nothing to end with this link.")
        self.stopped.append(ask.token)
        return {}

    async def confirm_channel(self, ask: calls.alerts.ConfirmChannel) -> ChannelView:
        if (ask.account, ask.kind) not in self.channels:
            raise NotFound("alerts.none", "The account names no such address.")
        if ask.code != ALERTS_CODE:
            raise NotAllowed("alerts.code", "This is not the code, or it is too old.", "Name the address again.")
        view = msgspec.structs.replace(self.channels[ask.account, ask.kind], confirmed=True)
        self.channels[ask.account, ask.kind] = view
        return view

    async def end_channel(self, ask: calls.alerts.ChannelRef) -> dict[str, str]:
        self.channels.pop((ask.account, ask.kind), None)
        return {}

    async def map(self, ask: calls.market.MapRef) -> MapView:
        return FieldMap(deepcopy(self.told), self.clock.ms).view(ask.resolution, ask.around)

    async def check_key(self, ask: calls.keys.CheckKey) -> calls.keys.KeyInfo:
        self.checks += 1
        if ask.key not in self.keys:
            raise NotAllowed("auth.key", "No such key.")
        if self.keys[ask.key].account in self.banned:
            raise NotAllowed("account.banned", "This account is banned: fraud.")
        return self.keys[ask.key]

    async def signing_secret(self, ask: calls.keys.KeyRef) -> calls.keys.SigningSecret:
        for info in self.keys.values():
            if info.key_id == ask.key_id:
                return calls.keys.SigningSecret(info=info, secret=f"secret of {ask.key_id}")
        raise NotFound("auth.no_such_key", "There is no such key.")

    async def open_session(self, ask: calls.keys.CheckKey) -> calls.sessions.SessionInfo:
        info = calls.sessions.SessionInfo(key=await self.check_key(ask), ends_at=self.clock.ms + SESSION_MS)
        secret = f"fs_{len(self.sessions)}"
        self.sessions[secret] = info
        return msgspec.structs.replace(info, secret=secret)

    async def open_by_wallet(self, ask: calls.sessions.OpenByWallet) -> calls.sessions.SessionInfo:
        info = await self.wallets.open_by_wallet(ask)
        self.sessions[info.secret] = msgspec.structs.replace(info, secret="")
        return info

    async def check_session(self, ask: calls.sessions.SessionRef) -> calls.sessions.SessionInfo:
        self.session_checks += 1
        info = self.sessions.get(ask.secret)
        if info is None or (info.key.key_id and info.key not in self.keys.values()):
            raise NotAllowed("auth.session", "This session has ended.", "Sign in again.")
        return info

    async def end_session(self, ask: calls.sessions.SessionRef) -> dict[str, str]:
        self.sessions.pop(ask.secret, None)
        return {}

    async def create_key(self, ask: calls.keys.MakeKey) -> calls.keys.Secret:
        self.logged += [("key.make", by) for by in (ask.by,) if by is not None]
        key = new_key(len(self.keys).to_bytes(KEY_ID_BYTES), bytes(KEY_SECRET_BYTES))
        self.keys[key.text] = calls.keys.KeyInfo(key_id=key.key_id, account=ask.account or OTHER, scopes=ask.scopes)
        self.labels[key.key_id] = ask.label
        return calls.keys.Secret(secret=key.text, account=ask.account)

    async def own_keys(self, ask: calls.base.AccountRef) -> list[KeyView]:
        return [
            msgspec.structs.replace(
                key_view(info.key_id, self.labels.get(info.key_id, "laptop")), account=info.account, scopes=info.scopes
            )
            for info in self.keys.values()
            if info.account == ask.account and info.key_id > ask.after
        ]

    async def revoke(self, ask: calls.keys.RevokeKey) -> dict[str, str]:
        if ask.account and all((info.key_id, info.account) != (ask.key_id, ask.account) for info in self.keys.values()):
            raise NotFound("auth.no_such_key", "There is no such key.")
        self.logged += [("key.revoke", by) for by in (ask.by,) if by is not None]
        self.keys = {key: info for key, info in self.keys.items() if info.key_id != ask.key_id}
        return {}

    async def submit(self, ask: calls.jobs.Submit) -> JobView:
        order = ask.order
        if order.budget_microusd == BUDGET_TOO_SMALL:
            raise InsufficientFunds("ledger.funds", "The account cannot pay for it.", "Add credits.")
        if self.orders.setdefault(order.id, (ask.account, order)) != (ask.account, order):
            raise Conflict("job.conflict", "Another order has this id.")
        if order.id not in self.jobs:
            self.items[order.id] = [item_view(index) for index in range(order.item_count)]
            shown = job_view(order.id, items=order.item_count)
            self.jobs[order.id] = msgspec.structs.replace(shown, secrets=sorted(ask.secrets))
        return self.jobs[order.id]

    async def job(self, ask: calls.jobs.JobRef) -> JobView:
        self._own(ask)
        job = self.jobs[ask.job]
        self.job_asked.put_nowait(ask.job)
        # Changes that happen while the answer is on its way: whoever listens already must see them.
        while self.before_job_answer:
            await self.tell(ask.job, self.before_job_answer.pop(0), item=0)
        return job

    async def list_jobs(self, ask: calls.base.AccountRef) -> list[JobView]:
        mine = [job for job in self.jobs.values() if self.orders[job.id][0] == ask.account and job.id > ask.after]
        return sorted(mine, key=lambda job: job.id)[: ask.limit]

    async def list_items(self, ask: calls.jobs.JobRef) -> list[ItemView]:
        self._own(ask)
        return [item for item in self.items[ask.job] if item.index > ask.after][: ask.limit]

    async def list_leases(self, ask: calls.jobs.JobRef) -> list[LeaseView]:
        self._own(ask)
        return self.leases.get(ask.job, [])[ask.after + 1 :][: ask.limit]

    async def sign_order(self, ask: calls.delegations.SignOrder) -> dict[str, str]:
        account, key = bytes.fromhex(ask.account[2:]), bytes.fromhex(ask.key)
        if not verify(key, order_message(NET, account, ask.body), bytes.fromhex(ask.signature)):
            raise NotAllowed("delegation.signature", "The signature does not hold.")
        self.signed.append(ask)
        return {}

    async def countersign(self, ask: calls.delegations.Countersign) -> dict[str, str]:
        account, key = bytes.fromhex(ask.account[2:]), bytes.fromhex(ask.key)
        message = receipts_message(NET, account, ask.job, ask.receipts)
        if not verify(key, message, bytes.fromhex(ask.signature)):
            raise NotAllowed("delegation.signature", "The signature does not hold.")
        self.mutual.update(receipt.lease for receipt in ask.receipts)
        return {}

    async def order(self, ask: calls.jobs.JobRef) -> Order:
        self._own(ask)
        return self.orders[ask.job][1]

    async def subscribe(self, request: calls.subscriptions.Subscribe) -> SubscriptionView:
        self.subscribed.append(request)
        return subscription_view(request.account, request.id)

    async def cancel(self, ask: calls.jobs.JobRef) -> JobView:
        self._own(ask)
        self.jobs[ask.job] = msgspec.structs.replace(self.jobs[ask.job], state="cancelled")
        return self.jobs[ask.job]

    async def tell(self, job: str, state: str, item: int | None = None) -> None:
        event = JobEvent(job=job, at=self.clock.ms, state=state, item=item)
        await self.bus.publish(calls.jobs.job_events(job), msgspec.json.encode(event))

    async def end_item(self, job: str, index: int, result: str | None, state: str = "done") -> None:
        """Let an item end, as its node and the market would; the last one ends the job."""
        self.items[job][index] = item_view(index, state, result)
        await self.tell(job, state, index)
        if all(item.state != "waiting" for item in self.items[job]):
            self.jobs[job] = msgspec.structs.replace(self.jobs[job], state=state, counts={state: index + 1})
            await self.tell(job, state)

    def ticket(self, node: SigningKey, **changes: Any) -> dict[str, str]:
        """The headers of a node that works for the buyer, with what a test wants otherwise."""
        prover = changes.pop("prover", node)
        signer = changes.pop("signer", self.signer)
        fields: dict[str, Any] = {
            "net": NET,
            "node": node.verify_key.encode(),
            "lease": b"l" * 16,
            "owner": bytes.fromhex(BUYER[2:]),
            "reads": [],
            "write_bytes_max": 100,
            "expires_at": self.clock.ms + 60_000,
        }
        sealed = Ticket(**(fields | changes)).seal(lambda message: signer.sign(message).signature)
        proof = prove(sealed, lambda message: prover.sign(message).signature)
        return {"Fallow-Ticket": _wrap(sealed), "Fallow-Proof": _wrap(proof)}

    async def enrol(self, node: str, account: str) -> None:
        """Bind a node to an account, for what the registry says of both."""
        async with self.database.transaction() as tx:
            if not await self.enrolment.has_account(tx, address(account)):
                await self.enrolment.add_account(tx, address(account), None, 0)
            await self.enrolment.add_node(tx, NodeRow(bytes.fromhex(node), address(account), "", 0, ""))

    async def own_nodes(self, ask: calls.base.AccountRef) -> list[OwnNodeView]:
        return [node for node in self.owned.get(ask.account, []) if node.node > ask.after][: ask.limit]

    async def show_lenders(self, ask: GetLenders) -> list[LenderView]:
        return [one for one in self.lenders.get(ask.account, []) if one.node > ask.after]

    async def offers(self, page: calls.base.Page) -> list[NodeView]:
        return [node for node in self.nodes if node.node > page.after][: page.limit]

    def _own(self, ask: calls.jobs.JobRef) -> None:
        if self.orders.get(ask.job, ("",))[0] != ask.account:
            raise NotFound("job.unknown", "There is no such job.")


@asynccontextmanager
async def fake_network(
    limits: Limits | None = None,
    gateways: Mapping[str, str] = NO_GATEWAYS,
    archive: StoreArchive | None = None,
    *,
    without: str = "none",
) -> AsyncIterator[FakeNetwork]:
    """One whose services answer but those whose subjects begin with `without`: the test brings them itself."""
    network = FakeNetwork(MemoryHub(), limits, gateways, archive)
    async with AsyncExitStack() as stack:
        for subject, (request, handler) in network.routes().items():
            if subject.startswith(f"{without}."):
                continue
            await stack.enter_async_context(serve(network.bus, subject, request, handler, queue="fake"))
        yield network


def job_view(job_id: str, state: str = "running", items: int = 1) -> JobView:
    return JobView(
        id=job_id,
        state=state,
        label="",
        vertical="compute",
        created_at=1_000_000,
        ended_at=None,
        counts={"waiting": items},
        used_ms=0,
        owed_microusd=0,
        reserved_microusd=0,
        reason="",
    )


def item_view(index: int, state: str = "waiting", result: str | None = None) -> ItemView:
    return ItemView(
        index=index,
        state=state,
        attempts=1,
        node="ab" * 32,
        reason="",
        result=result,
        checked=False,
        used_ms=1500,
        owed_microusd=42,
    )


def evidence_view() -> EvidenceView:
    said = [("e1" * 16, "ab" * 32, "f" * 64), ("e2" * 16, "cd" * 32, "0" * 64), ("e3" * 16, "ef" * 32, "0" * 64)]
    votes = [
        VoteView(lease=lease, node=node, account=OTHER, ok=True, reason="", result=result)
        for lease, node, result in said
    ]
    return EvidenceView(lease="e1" * 16, node="ab" * 32, at=1, code="result.wrong", votes=votes)


def delegation_view(account: str, key: str) -> DelegationView:
    return DelegationView(account=account, key=key, issued_at=0, expires_at=1, revoked_at=None, account_signature="00")


def lease_view(job: str, item: int, node: str = "ab" * 32, **changes: Any) -> LeaseView:
    whole = LeaseView(
        id=f"{item:032x}", job=job, item=item, node=node, state="ended", price_microusd_per_hour=1, proposed_at=0,
        started_at=0, ended_at=1, reason="work.done", caused_by="nobody", used_ms=1500, owed_microusd=42,
    )  # fmt: skip
    return msgspec.structs.replace(whole, **changes)


def reserve_view() -> ReserveView:
    purse = PurseView(balance={"granted": 30}, paid_in={"granted": 50}, paid_out={"granted": 20})
    use = ReserveUseView(
        account="0x" + "ab" * 20, reason="owner.paused", leases=2, refunded_microusd=8, made_good_microusd=12
    )
    return ReserveView(purse=purse, uses=[use])


def own_node_view(node: str, label: str, **changes: Any) -> OwnNodeView:
    whole = OwnNodeView(
        node=node, label=label, enrolled_at=1, offer=None, leases=[], suspended_until=0, left_alone_until=0, refused=[]
    )
    return msgspec.structs.replace(whole, **changes)


def lender_view(node: str = "01" * 32, at_ms: int = 1_000_000) -> LenderView:
    """A node that lends a disk, where an audit missed a piece."""
    key = bytes.fromhex(node)
    evidence = Evidence(piece=b"p" * 32, chunk=7, asked_ms=at_ms, took_ms=81, found="failed: storage.no_piece")
    note = Note("warning", "storage.audits_failed", "the network's words", at_ms, [evidence])
    statement = Statement(
        net=NET, node=key, at_ms=at_ms, standing="", exit="", audits=48, score_ppm=972_500, unknown_ppm=1_000_000,
        online_ppm=930_000, stored_bytes=2 * 10**9, month_ms=0, stored_byte_hours=0, egress_bytes=3 * 10**9,
        repair_bytes=4 * 10**8, earned_microusd=120_000, expected_microusd=310_000,
    )  # fmt: skip
    return LenderView(node=key, limit_bytes=5 * 10**11, seen_ms=at_ms, statement=statement, alerts=[note])


def no_earnings(ask: calls.money.EarningsRef) -> EarningsView:
    return EarningsView(hours=[], from_ms=ask.from_ms, whole=True)


def no_spending(ask: calls.money.SpendingRef) -> SpendingView:
    return SpendingView(hours=[], from_ms=ask.from_ms, whole=True)


def price_view() -> PriceView:
    quote = QuoteOfFeedView(feed=OTHER, price_microusd=250_000, doubt_microusd=0, at=1)
    return PriceView(price_microusd=250_000, why="", last_microusd=250_000, quotes=[quote], waiting=2)


def quote_view() -> QuoteView:
    return QuoteView(
        candidates=[CandidateView(node="ab" * 32, price_microusd_per_hour=20_000, trust="new", country="DE")],
        nodes_total=2,
        why_not={"memory": 1},
        deposit_microusd=333,
        price_microusd_per_hour=20_000,
        plain_data="The node's owner can read the data.",
    )


def subscription_view(account: str, id_: str = "5" * 32) -> SubscriptionView:
    return SubscriptionView(
        id=id_,
        state="active",
        label=account,
        vertical="storage",
        tariff=TARIFF,
        opened_at=1,
        ended_at=None,
        window=0,
        window_ends_at=2,
        limit_microusd=10,
        left_microusd=10,
        owed_microusd=0,
        settled_microusd=0,
        reason="",
    )


def balance_view(account: str, granted: int = 5_000_000) -> BalanceView:
    return BalanceView(account=account, spendable={"granted": granted}, reserved={}, earned={})


def budget_view() -> BudgetView:
    """None is set, and nothing spent."""
    return BudgetView(
        month="2001-09",
        ends_at=1_001_894_400_000,
        budget_microusd=None,
        spent_microusd=0,
        reserved_microusd=0,
        reached=False,
    )


def action_view(ask: calls.actions.Act) -> ActionView:
    done = ask.action
    return ActionView(
        id=done.id,
        at=1,
        account=ask.account,
        key_id=ask.key_id,
        what=done.what,
        subject=done.subject,
        reason=done.reason,
    )


def market_view() -> MarketView:
    return MarketView(
        at=1_000_000,
        nodes={"busy": 1, "idle": 2, "offline": 1},
        owners=2,
        countries={"DE": 1, "JP": 2},
        offered=AmountView(cpu_milli=12_000, memory_mib=40_960),
        sold=AmountView(cpu_milli=3_000, memory_mib=10_240),
        jobs_open=1,
        leases_open=1,
        sold_to={"compute": SoldView(nodes=1, leases=1, sold=AmountView(cpu_milli=3_000, memory_mib=10_240))},
        jobs_ended={
            "done": EndedView(ever=4_096, month=600, day=20),
            "failed": EndedView(ever=31, month=7, day=0),
            "cancelled": EndedView(ever=12, month=2, day=1),
        },
        nodes_by_day=[NodesOnDayView(at=0, nodes=2), NodesOnDayView(at=2 * 86_400_000, nodes=3)],
    )


def node_view(node: str = "ab" * 32, label: str = "barn", **changes: Any) -> NodeView:
    whole = NodeView(
        node=node, label=label, account=OTHER, state="idle", total=Resources(cpu_milli=4_000, memory_mib=8_192),
        free=Resources(cpu_milli=4_000, memory_mib=8_192), terms=Terms(price_microusd_per_core_hour=20_000),
        attributes={"os": "linux"}, country="JP", trust="new", confirmed=0, wrong=0, leases=0, last_seen_at=1_000_000,
    )  # fmt: skip
    return msgspec.structs.replace(whole, **changes)


def key_view(key_id: str = "k1", label: str = "laptop") -> KeyView:
    return KeyView(key_id=key_id, account=BUYER, scopes=["buy"], label=label, revoked_at=None)


def token_view() -> TokenView:
    return TokenView(token_id="ab" * 8, uses_left=2, expires_at=0)


def enrolled_view() -> EnrolledView:
    return EnrolledView(node="ab" * 32, label="attic", account=OTHER, enrolled_at=1_000_000, banned_reason="sent spam")


def ledger_view() -> LedgerCheckView:
    return LedgerCheckView(ok=True, at=1_700_000_000_000, sums={"granted": 0}, transfers=7, problems=[])


def _wrap(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


async def _soon(value: Any) -> Any:
    return value
